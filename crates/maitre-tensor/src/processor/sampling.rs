//! The choice of tokens where their logits are.

use super::{Processor, floats};
use crate::operators::Sampling;
use crate::portable::sampling::sample;
use crate::tiles::RowBlocks;
use crate::{SampleRows, TensorError};

impl Sampling for Processor {
    fn sample_rows(&self, args: SampleRows<'_>) -> Result<(), TensorError> {
        let (rows, vocab) = (args.rows, args.vocab);
        let logits = floats(args.logits, rows.len() * vocab)?;
        let blocks = RowBlocks::new(args.out, 1, 1);
        self.for_each_tile("sample_rows", blocks, |block, _| {
            let row = &logits[block.first * vocab..][..args.choosable];
            let outcome = rows[block.first].map(|request| sample(row, &request));
            block.data.fill(outcome.unwrap_or_default());
        })
    }
}
