//! Which share of a model a rank holds (Shoeybi et al. 2019, arXiv 1909.08053, section 3).
//!
//! ```text
//! query, key, value    by heads                each rank has whole heads, and caches its own
//! gate, up             by MLP features
//! output, down         by input features       each rank has a part of every sum; the parts are added up
//! all else             whole on every rank
//! ```

use std::ops::Range;

use crate::config::ModelConfig;
use crate::error::ModelError;
use crate::spec::HeadNorm;

/// The share of one of `of` ranks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shard {
    rank: usize,
    of: usize,
}

impl Default for Shard {
    fn default() -> Self {
        Self::WHOLE
    }
}

impl Shard {
    /// The whole model.
    pub const WHOLE: Self = Self { rank: 0, of: 1 };

    /// The share of `rank`, counted from 0, among `of`; `None` if there is no such rank.
    #[must_use]
    pub const fn new(rank: usize, of: usize) -> Option<Self> {
        match rank < of {
            true => Some(Self { rank, of }),
            false => None,
        }
    }

    /// Ranks that share the model.
    #[must_use]
    pub const fn ranks(self) -> usize {
        self.of
    }

    /// Whether this is the first rank, which adds what is added once.
    pub(crate) const fn is_first(self) -> bool {
        self.rank == 0
    }

    /// This rank's part of a range that ranks divide evenly.
    pub(crate) fn part_of(self, range: &Range<usize>) -> Range<usize> {
        let len = range.len() / self.of;
        let start = range.start + self.rank * len;
        start..start + len
    }
}

impl ModelConfig {
    /// The sizes of a rank's share.
    ///
    /// # Errors
    /// [`ModelError::Shard`] for sizes that the ranks do not divide, or norms of rows that no rank has whole.
    pub(crate) fn share(&self, shard: Shard) -> Result<Self, ModelError> {
        let ranks = shard.of;
        let refused = |what, found: usize| ModelError::Shard { what, found, ranks };
        let whole_rows = |norm: HeadNorm| norm == HeadNorm::WholeRow;
        let mut norms = self.layers.iter().map(|layer| layer.attention.head_norm);
        if ranks > 1 && norms.any(whole_rows) {
            return Err(refused(
                "the length of norms of whole rows",
                self.query_size(),
            ));
        }
        for (what, size) in [
            ("num_attention_heads", self.num_heads),
            ("num_key_value_heads", self.num_kv_heads),
            ("intermediate_size", self.intermediate_size),
        ] {
            if !size.is_multiple_of(ranks) {
                return Err(refused(what, size));
            }
        }
        Ok(Self {
            num_heads: self.num_heads / ranks,
            num_kv_heads: self.num_kv_heads / ranks,
            intermediate_size: self.intermediate_size / ranks,
            ..self.clone()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_lie_side_by_side() {
        let parts: Vec<_> = (0..3)
            .map(|rank| Shard::new(rank, 3).unwrap().part_of(&(10..22)))
            .collect();
        assert_eq!(parts, [10..14, 14..18, 18..22]);
        assert_eq!(Shard::WHOLE.part_of(&(3..8)), 3..8);
        assert_eq!(Shard::new(2, 2), None);
    }
}
