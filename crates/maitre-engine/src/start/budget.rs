//! How the memory there is is split; decided once, before anything is allocated.

use maitre_scheduler::{Ahead, KvConfig};

use crate::StartError;

const MIB: u64 = 1024 * 1024;
/// The KV pool takes at most this unless the operator says otherwise: enough for a busy small
/// model, and modest beside whatever else runs on the machine.
const DEFAULT_KV_CEILING: u64 = 4096 * MIB;

/// A GPU's pool holds at most this many times `max_seqs` whole sequences.
const GPU_SEQUENCE_SETS: u64 = 8;

/// What the KV pool's size depends on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KvDemand<'a> {
    /// The groups that share the pool, and the tokens of a block. Its size is to be found.
    pub(crate) kv: &'a KvConfig,
    /// Bytes of a page: of a block in one of the groups.
    pub(crate) page_bytes: u64,
    /// Positions of a sequence that steps in flight compute at most.
    pub(crate) ahead: Ahead,
    pub(crate) max_model_len: usize,
    pub(crate) max_seqs: usize,
    /// The operator's choice; `None` = ours.
    pub(crate) given_bytes: Option<u64>,
    /// What is left once the weights are loaded.
    pub(crate) left: Left,
}

/// Memory that is left where the KV pool goes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Left {
    /// Of the host; `None` where it can't be read.
    Host(Option<u64>),
    /// Of a GPU: what may be spent, less what activations will take.
    Gpu(u64),
}

impl Left {
    /// How many bytes, where that is known.
    pub(crate) fn bytes(self) -> Option<u64> {
        match self {
            Self::Host(left) => left,
            Self::Gpu(left) => Some(left),
        }
    }

    /// The pool takes at most this unless the operator says otherwise.
    fn ceiling(self) -> u64 {
        match self {
            Self::Host(None) => DEFAULT_KV_CEILING,
            Self::Host(Some(left)) => (left / 4).min(DEFAULT_KV_CEILING),
            Self::Gpu(left) => left,
        }
    }

    /// How many times `max_seqs` whole sequences the pool holds if there is memory for it. A GPU has nothing else
    /// to spend memory on, so the further blocks keep prefixes.
    fn holds(self) -> u64 {
        match self {
            Self::Host(_) => 1,
            Self::Gpu(_) => GPU_SEQUENCE_SETS,
        }
    }
}

impl KvDemand<'_> {
    /// Pages in the pool.
    ///
    /// Ours: space for `max_seqs` whole sequences, but no more than a quarter of the memory that is
    /// left and no more than 4 GiB (on a GPU: eight times as many, but no more than is left), and never less
    /// than one whole sequence.
    pub(crate) fn num_pages(&self) -> Result<u32, StartError> {
        let page_bytes = self.page_bytes.max(1);
        let per_sequence = self.kv.pages_for(self.max_model_len, self.ahead) as u64;
        let blocks = if let Some(bytes) = self.given_bytes {
            bytes / page_bytes
        } else {
            let wanted = per_sequence.saturating_mul(self.max_seqs as u64);
            let wanted = wanted.saturating_mul(self.left.holds());
            wanted
                .min(self.left.ceiling() / page_bytes)
                .max(per_sequence)
        };
        if blocks < per_sequence {
            return Err(StartError::KvBudgetTooSmall {
                flag: "--kv-cache-bytes",
                given: self.given_bytes.unwrap_or_default(),
                holds_tokens: self.tokens_in(blocks),
                needed_tokens: self.max_model_len,
                at_least: per_sequence * page_bytes,
            });
        }
        // Slots are numbered in 32 bits, and the largest number means "no slot".
        let most = u64::from(u32::MAX - 1) / u64::from(self.kv.block_size);
        Ok(u32::try_from(blocks.min(most)).unwrap_or(u32::MAX))
    }

    /// Tokens of the longest sequence in so many pages.
    fn tokens_in(&self, pages: u64) -> usize {
        let pool = KvConfig {
            num_pages: u32::try_from(pages).unwrap_or(u32::MAX),
            ..self.kv.clone()
        };
        pool.longest_sequence(self.ahead)
    }
}

#[cfg(test)]
mod tests {
    use maitre_scheduler::KvSpec;

    use super::*;

    fn one_group() -> &'static KvConfig {
        Box::leak(Box::new(KvConfig::new(1, 16)))
    }

    fn demand(given_bytes: Option<u64>, available: Option<u64>) -> KvDemand<'static> {
        KvDemand {
            kv: one_group(),
            page_bytes: 16 * 1024,
            ahead: Ahead {
                positions: 32,
                steps: 1,
            },
            max_model_len: 100,
            max_seqs: 4,
            given_bytes,
            left: Left::Host(available),
        }
    }

    #[test]
    fn the_default_pool_holds_every_sequence_unless_memory_is_short() {
        assert_eq!(demand(None, None).num_pages().unwrap(), 28);
        assert_eq!(
            demand(None, Some(4 * 10 * 16 * 1024)).num_pages().unwrap(),
            10
        );
        assert_eq!(
            demand(None, Some(0)).num_pages().unwrap(),
            7,
            "one sequence always fits"
        );
    }

    #[test]
    fn windowed_groups_take_no_more_than_their_windows() {
        let kv = KvConfig {
            groups: vec![KvSpec::Window(32), KvSpec::Full, KvSpec::Window(32)],
            ..KvConfig::new(1, 16)
        };
        let demand = |given_bytes| KvDemand {
            kv: &kv,
            max_model_len: 1600,
            ..demand(given_bytes, None)
        };
        assert_eq!(demand(None).num_pages().unwrap(), 4 * (100 + 2 * 5));
        let Err(StartError::KvBudgetTooSmall { holds_tokens, .. }) =
            demand(Some(40 * 16 * 1024)).num_pages()
        else {
            panic!("40 pages are too few");
        };
        assert_eq!(holds_tokens, 30 * 16);
    }

    #[test]
    fn a_gpu_spends_what_it_has() {
        let gpu = |left| KvDemand {
            left: Left::Gpu(left),
            ..demand(None, None)
        };
        assert_eq!(gpu(10 * 16 * 1024).num_pages().unwrap(), 10);
        assert_eq!(gpu(1 << 40).num_pages().unwrap(), 8 * 28, "enough");
    }

    #[test]
    fn a_pool_too_small_for_one_sequence_is_refused_with_a_value_that_works() {
        let refused = demand(Some(6 * 16 * 1024), None).num_pages().unwrap_err();
        let StartError::KvBudgetTooSmall {
            at_least,
            holds_tokens,
            ..
        } = refused
        else {
            panic!("{refused}")
        };
        assert_eq!(holds_tokens, 96);
        assert_eq!(demand(Some(at_least), None).num_pages().unwrap(), 7);
    }
}
