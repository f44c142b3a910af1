//! Random growth, shrinking and release against the simplest model there is: a length per sequence.

#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::{BTreeMap, HashSet};

use maitre_kv::{BlockId, KvConfig, KvError, KvManager, SeqId};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Call {
    Grow {
        sequence: u64,
        tokens: usize,
    },
    Shrink {
        sequence: u64,
        tokens: usize,
    },
    Release {
        sequence: u64,
    },
    /// A mirror of the table asks for the changes in the first so many positions.
    Tell {
        sequence: u64,
        tokens: usize,
    },
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let grow = (0..6u64, 0..40usize).prop_map(|(sequence, tokens)| Call::Grow { sequence, tokens });
    let shrink =
        (0..6u64, 0..40usize).prop_map(|(sequence, tokens)| Call::Shrink { sequence, tokens });
    let release = (0..6u64).prop_map(|sequence| Call::Release { sequence });
    let tell = (0..6u64, 0..40usize).prop_map(|(sequence, tokens)| Call::Tell { sequence, tokens });
    let call = prop_oneof![6 => grow, 3 => shrink, 2 => release, 4 => tell];
    prop::collection::vec(call, 1..200)
}

/// The manager, what it should have, blocks per sequence, and the tables as they were told.
struct Checked {
    kv: KvManager,
    expected: BTreeMap<u64, usize>,
    told: BTreeMap<u64, Vec<BlockId>>,
}

impl Checked {
    fn new(config: KvConfig) -> Self {
        Self {
            kv: KvManager::new(config).unwrap(),
            expected: BTreeMap::new(),
            told: BTreeMap::new(),
        }
    }

    fn blocks(&self, sequence: u64) -> usize {
        self.expected.get(&sequence).copied().unwrap_or(0)
    }

    fn apply(&mut self, call: &Call) {
        match *call {
            Call::Grow { sequence, tokens } => {
                let before = self.kv.block_table(SeqId(sequence)).to_vec();
                let target = tokens.div_ceil(self.kv.config().block_size as usize);
                let needed = target.saturating_sub(self.blocks(sequence));
                let free = self.kv.free_blocks();
                let result = self.kv.grow(SeqId(sequence), tokens);
                if needed > free {
                    assert_eq!(result, Err(KvError::OutOfBlocks { needed, free }));
                    assert_eq!(
                        self.kv.block_table(SeqId(sequence)),
                        before,
                        "all or nothing"
                    );
                    assert_eq!(self.kv.free_blocks(), free, "all or nothing");
                } else {
                    assert_eq!(result, Ok(()));
                    assert!(self.kv.block_table(SeqId(sequence)).starts_with(&before));
                    *self.expected.entry(sequence).or_default() += needed;
                }
            }
            Call::Shrink { sequence, tokens } => {
                let before = self.kv.block_table(SeqId(sequence)).to_vec();
                let kept = tokens.div_ceil(self.kv.config().block_size as usize).max(1);
                let gone = before.len().saturating_sub(kept);
                assert_eq!(self.kv.shrink(SeqId(sequence), tokens), gone);
                assert!(before.starts_with(self.kv.block_table(SeqId(sequence))));
                if let Some(blocks) = self.expected.get_mut(&sequence) {
                    *blocks -= gone;
                }
            }
            Call::Tell { sequence, tokens } => {
                let delta = self.kv.take_delta(SeqId(sequence), tokens);
                let table = self.kv.block_table(SeqId(sequence));
                let reach = tokens.div_ceil(self.kv.config().block_size as usize);
                let told = self.told.entry(sequence).or_default();
                told.truncate(delta.keep);
                told.extend(delta.blocks);
                // A table that does not reach so far is none to be asked for.
                if reach <= table.len() {
                    assert_eq!(told[..], table[..reach]);
                }
            }
            Call::Release { sequence } => {
                self.told.remove(&sequence);
                let held = self.expected.remove(&sequence).unwrap_or(0);
                assert_eq!(self.kv.release(SeqId(sequence)), held);
            }
        }
        self.check();
    }

    fn check(&self) {
        assert_eq!(self.kv.check_invariants(), Ok(()));
        let used: usize = self.expected.values().sum();
        assert_eq!(self.kv.used_blocks(), used);
        assert_eq!(
            self.kv.free_blocks() + used,
            self.kv.config().num_blocks as usize
        );
        let block_size = self.kv.config().block_size as usize;
        let mut slots = HashSet::new();
        for (&sequence, &blocks) in &self.expected {
            assert_eq!(self.kv.block_table(SeqId(sequence)).len(), blocks);
            let own: Vec<u32> = self.kv.slots(SeqId(sequence), 0..usize::MAX).collect();
            assert_eq!(
                own.len(),
                blocks * block_size,
                "every covered position has a slot"
            );
            for (position, slot) in own.into_iter().enumerate() {
                assert_eq!(self.kv.slot(SeqId(sequence), position), Some(slot));
                assert!((slot as usize) < self.kv.capacity_tokens());
                assert!(slots.insert(slot), "slot {slot} belongs to two positions");
            }
            assert_eq!(self.kv.slot(SeqId(sequence), blocks * block_size), None);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn blocks_are_neither_lost_nor_shared(
        num_blocks in 1..20u32,
        block_size in 1..6u32,
        calls in calls(),
    ) {
        let mut checked = Checked::new(KvConfig::new(num_blocks, block_size));
        calls.iter().for_each(|call| checked.apply(call));
        for sequence in 0..6 {
            checked.apply(&Call::Release { sequence });
        }
        prop_assert_eq!(checked.kv.free_blocks(), num_blocks as usize);
        prop_assert_eq!(checked.kv.num_sequences(), 0);
    }

    #[test]
    fn the_same_calls_give_the_same_blocks(calls in calls()) {
        let tables = |calls: &[Call]| -> Vec<Vec<BlockId>> {
            let mut checked = Checked::new(KvConfig::new(12, 4));
            calls.iter().for_each(|call| checked.apply(call));
            (0..6).map(|sequence| checked.kv.block_table(SeqId(sequence)).to_vec()).collect()
        };
        prop_assert_eq!(tables(&calls), tables(&calls));
    }
}

#[test]
fn a_sequence_that_never_grew_holds_nothing() {
    let mut kv = KvManager::new(KvConfig::new(2, 4)).unwrap();
    assert_eq!(kv.grow(SeqId(1), 0), Ok(()));
    assert_eq!(kv.num_sequences(), 0);
    assert_eq!(kv.slot(SeqId(1), 0), None);
    assert_eq!(kv.release(SeqId(1)), 0);
}

#[test]
fn errors_say_what_to_do() {
    expect_test::expect![[r#"
        the KV pool has 0 blocks; it needs at least 1
        the KV block size is 0 tokens; it needs at least 1, usually 16
        a KV block of 0 bytes: the model must keep at least one byte per block
        1073741824 KV blocks of 16 tokens have more slots than 32 bits can number (4294967295); use fewer blocks
        a KV budget of 10 bytes does not hold one block of 64 bytes; raise it to at least 64 bytes
        3 more KV blocks needed, 2 free; release a sequence first
        the attention window is 0 positions; it needs at least 1, or leave it out
        a host tier needs the prefix cache; enable it or set the host tier to 0 blocks
        a host tier does not go with sliding-window attention (window 8); set the host tier to 0 blocks
        SeqId(3) already holds blocks; release it first
        SeqId(3) does not hold its first 9 positions, so it cannot be forked there"#]]
    .assert_eq(
        &[
            KvError::ZeroBlocks,
            KvError::ZeroBlockSize,
            KvError::ZeroBytesPerBlock,
            KvError::TooManySlots { num_blocks: 1 << 30, block_size: 16 },
            KvError::BudgetTooSmall { budget_bytes: 10, bytes_per_block: 64 },
            KvError::OutOfBlocks { needed: 3, free: 2 },
            KvError::ZeroWindow,
            KvError::HostTierAlone,
            KvError::HostTierWithWindow { window: 8 },
            KvError::AlreadyHolds { sequence: SeqId(3) },
            KvError::CannotFork { parent: SeqId(3), tokens: 9 },
        ]
        .map(|error| error.to_string())
        .join("\n"),
    );
}
