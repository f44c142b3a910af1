//! Memory that kernels work in, and space for a step's lists.

use super::Device;
use crate::operators::Reservation;
use crate::{LargestAttention, LargestStep, TensorError};

impl Reservation for Device {
    fn reserve(&self, largest: LargestStep<'_>) -> Result<(), TensorError> {
        let LargestStep { cache, rows, .. } = largest;
        let scratch = self.most_scratch(&LargestAttention {
            format: cache.format(),
            heads: largest.heads,
            kv_heads: cache.kv_heads(),
            head_dim: cache.head_dim(),
            rows,
            context_len: largest.context_len,
        });
        let list_words = largest.list_words.max(self.most_single_list(rows));
        self.turn().reserve(list_words, scratch)
    }
}
