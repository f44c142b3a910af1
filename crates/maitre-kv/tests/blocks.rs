//! Random growth, shrinking and release against the simplest model there is: a range of blocks per sequence and group.

#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use maitre_kv::{BlockId, KvConfig, KvError, KvManager, KvSpec, SeqId};
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
    /// The window moves on to this position.
    Move {
        sequence: u64,
        position: usize,
    },
    /// Mirrors of the tables ask for the changes in the first so many positions.
    Tell {
        sequence: u64,
        tokens: usize,
    },
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let place = || (0..6u64, 0..40usize);
    let grow = place().prop_map(|(sequence, tokens)| Call::Grow { sequence, tokens });
    let shrink = place().prop_map(|(sequence, tokens)| Call::Shrink { sequence, tokens });
    let release = (0..6u64).prop_map(|sequence| Call::Release { sequence });
    let go_on = place().prop_map(|(sequence, position)| Call::Move { sequence, position });
    let tell = place().prop_map(|(sequence, tokens)| Call::Tell { sequence, tokens });
    let call = prop_oneof![6 => grow, 3 => shrink, 2 => release, 3 => go_on, 4 => tell];
    prop::collection::vec(call, 1..200)
}

/// The manager, what it should have, the blocks of each table, and the tables as they were told.
struct Checked {
    kv: KvManager,
    expected: BTreeMap<u64, Vec<Range<usize>>>,
    told: BTreeMap<(u64, usize), (usize, Vec<BlockId>)>,
}

impl Checked {
    fn new(config: KvConfig) -> Self {
        Self {
            kv: KvManager::new(config).unwrap(),
            expected: BTreeMap::new(),
            told: BTreeMap::new(),
        }
    }

    fn groups(&self) -> Range<usize> {
        0..self.kv.num_groups()
    }

    fn blocks(&self, sequence: u64) -> Vec<Range<usize>> {
        let none = || vec![0..0; self.kv.num_groups()];
        self.expected.get(&sequence).cloned().unwrap_or_else(none)
    }

    fn tables(&self, sequence: u64) -> Vec<Vec<BlockId>> {
        let groups = self.groups();
        let table = |group| self.kv.block_table(SeqId(sequence), group).to_vec();
        groups.map(table).collect()
    }

    fn blocks_for(&self, tokens: usize) -> usize {
        tokens.div_ceil(self.kv.config().block_size as usize)
    }

    fn apply(&mut self, call: &Call) {
        match *call {
            Call::Grow { sequence, tokens } => self.grow(sequence, tokens),
            Call::Shrink { sequence, tokens } => {
                let kept = self.blocks_for(tokens).max(1);
                let mut blocks = self.blocks(sequence);
                let mut gone = 0;
                for range in &mut blocks {
                    let end = range.end.min(kept.max(range.start));
                    gone += range.end - end;
                    range.end = end;
                }
                assert_eq!(self.kv.shrink(SeqId(sequence), tokens), gone);
                if let Some(expected) = self.expected.get_mut(&sequence) {
                    *expected = blocks;
                }
            }
            Call::Move { sequence, position } => {
                let block_size = self.kv.config().block_size as usize;
                let mut blocks = self.blocks(sequence);
                let mut gone = 0;
                for (spec, range) in self.kv.config().groups.iter().zip(&mut blocks) {
                    let first = spec.first_read(position) / block_size;
                    let first = first.clamp(range.start, range.end);
                    gone += first - range.start;
                    range.start = first;
                }
                assert_eq!(self.kv.release_behind(SeqId(sequence), position), gone);
                if let Some(expected) = self.expected.get_mut(&sequence) {
                    *expected = blocks;
                }
            }
            Call::Tell { sequence, tokens } => self.tell(sequence, tokens),
            Call::Release { sequence } => {
                self.told.retain(|(told, _), _| *told != sequence);
                let held = self.expected.remove(&sequence).unwrap_or_default();
                let held: usize = held.into_iter().map(|range| range.len()).sum();
                assert_eq!(self.kv.release(SeqId(sequence)), held);
            }
        }
        self.check();
    }

    fn grow(&mut self, sequence: u64, tokens: usize) {
        let before = self.tables(sequence);
        let target = self.blocks_for(tokens);
        let blocks = self.blocks(sequence);
        let grown = blocks
            .iter()
            .map(|range| range.start..range.end.max(target));
        let grown: Vec<Range<usize>> = grown.collect();
        let len = |ranges: &[Range<usize>]| ranges.iter().map(|range| range.len()).sum::<usize>();
        let needed = len(&grown) - len(&blocks);
        let free = self.kv.free_pages();
        let result = self.kv.grow(SeqId(sequence), tokens);
        if needed > free {
            assert_eq!(result, Err(KvError::OutOfPages { needed, free }));
            assert_eq!(self.tables(sequence), before, "all or nothing");
            assert_eq!(self.kv.free_pages(), free, "all or nothing");
        } else {
            assert_eq!(result, Ok(()));
            for (table, before) in self.tables(sequence).iter().zip(&before) {
                assert!(table.starts_with(before));
            }
            if needed > 0 {
                self.expected.insert(sequence, grown);
            }
        }
    }

    fn tell(&mut self, sequence: u64, tokens: usize) {
        let reach = self.blocks_for(tokens);
        // Tables that do not reach so far, or that begin behind it, are none to be asked for.
        let reaches = |range: &Range<usize>| range.start <= reach && reach <= range.end;
        if !self.blocks(sequence).iter().all(reaches) {
            return;
        }
        let deltas = self.kv.take_deltas(SeqId(sequence), tokens, 0..0);
        let deltas: Vec<_> = deltas.map(|(delta, _)| delta).collect();
        for (group, delta) in deltas.into_iter().enumerate() {
            let (first_block, told) = self.told.entry((sequence, group)).or_default();
            delta.apply(first_block, told);
            let first = self.kv.first_block(SeqId(sequence), group);
            assert_eq!(*first_block, first);
            let table = self.kv.block_table(SeqId(sequence), group);
            assert_eq!(told[..], table[..reach - first]);
        }
    }

    fn check(&self) {
        assert_eq!(self.kv.check_invariants(), Ok(()));
        let ranges = self.expected.values().flatten();
        let used: usize = ranges.map(|range| range.len()).sum();
        assert_eq!(self.kv.used_pages(), used);
        let pages = self.kv.config().num_pages as usize;
        assert_eq!(self.kv.free_pages() + used, pages);
        let block_size = self.kv.config().block_size as usize;
        let mut slots = HashSet::new();
        for (&sequence, ranges) in &self.expected {
            let ends = ranges.iter().map(|range| range.end);
            let covered = ends.min().unwrap_or(0) * block_size;
            assert_eq!(self.kv.covered(SeqId(sequence)), covered);
            for (group, range) in ranges.iter().enumerate() {
                let table = self.kv.block_table(SeqId(sequence), group);
                assert_eq!(table.len(), range.len());
                assert_eq!(self.kv.first_block(SeqId(sequence), group), range.start);
                let positions = range.start * block_size..range.end * block_size;
                let own = self
                    .kv
                    .slots(SeqId(sequence), group, positions.start..usize::MAX);
                let own: Vec<u32> = own.collect();
                assert_eq!(own.len(), positions.len(), "every position has a slot");
                for (position, slot) in positions.zip(own) {
                    let known = self.kv.slot(SeqId(sequence), group, position);
                    assert_eq!(known, Some(slot));
                    assert!((slot as usize) < self.kv.config().num_slots());
                    assert!(slots.insert(slot), "slot {slot} belongs to two positions");
                }
                let behind = range.start * block_size;
                let before = behind.checked_sub(1);
                let slot = |position| self.kv.slot(SeqId(sequence), group, position);
                assert_eq!(before.and_then(slot), None);
                assert_eq!(slot(range.end * block_size), None);
            }
        }
    }
}

fn groups() -> impl Strategy<Value = Vec<KvSpec>> {
    let spec = prop_oneof![Just(KvSpec::Full), (1..12u32).prop_map(KvSpec::Window)];
    prop::collection::vec(spec, 1..5)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn blocks_are_neither_lost_nor_shared(
        num_pages in 1..40u32,
        block_size in 1..6u32,
        groups in groups(),
        calls in calls(),
    ) {
        let mut checked = Checked::new(KvConfig { groups, ..KvConfig::new(num_pages, block_size) });
        calls.iter().for_each(|call| checked.apply(call));
        for sequence in 0..6 {
            checked.apply(&Call::Release { sequence });
        }
        prop_assert_eq!(checked.kv.free_pages(), num_pages as usize);
        prop_assert_eq!(checked.kv.num_sequences(), 0);
    }

    #[test]
    fn the_same_calls_give_the_same_blocks(groups in groups(), calls in calls()) {
        let tables = |calls: &[Call]| -> Vec<Vec<Vec<BlockId>>> {
            let groups = groups.clone();
            let mut checked = Checked::new(KvConfig { groups, ..KvConfig::new(24, 4) });
            calls.iter().for_each(|call| checked.apply(call));
            (0..6).map(|sequence| checked.tables(sequence)).collect()
        };
        prop_assert_eq!(tables(&calls), tables(&calls));
    }
}

#[test]
fn a_sequence_that_never_grew_holds_nothing() {
    let mut kv = KvManager::new(KvConfig::new(2, 4)).unwrap();
    assert_eq!(kv.grow(SeqId(1), 0), Ok(()));
    assert_eq!(kv.num_sequences(), 0);
    assert_eq!(kv.slot(SeqId(1), 0, 0), None);
    assert_eq!(kv.release(SeqId(1)), 0);
}

#[test]
fn errors_say_what_to_do() {
    expect_test::expect![[r#"
        the KV pool has 0 pages; it needs at least 1
        the KV block size is 0 tokens; it needs at least 1, usually 16
        the KV pool has 0 groups of layers; it needs 1 to 65536, one for each kind of attention
        1073741824 KV pages of 16 tokens have more slots than 32 bits can number (4294967295); use fewer pages
        3 more KV pages needed, 2 free; release a sequence first
        the attention window or chunk of KV group 1 is 0 positions; it needs at least 1, or full attention
        a host tier needs the prefix cache; enable it or set the host tier to 0 pages
        SeqId(3) already holds blocks; release it first
        SeqId(3) does not hold in KV group 1 what is read behind its first 9 positions, so it cannot be forked there"#]]
    .assert_eq(
        &[
            KvError::ZeroPages,
            KvError::ZeroBlockSize,
            KvError::WrongGroupCount { groups: 0 },
            KvError::TooManySlots { num_pages: 1 << 30, block_size: 16 },
            KvError::OutOfPages { needed: 3, free: 2 },
            KvError::ZeroWindow { group: 1 },
            KvError::HostTierAlone,
            KvError::AlreadyHolds { sequence: SeqId(3) },
            KvError::CannotFork { parent: SeqId(3), group: 1, tokens: 9 },
        ]
        .map(|error| error.to_string())
        .join("\n"),
    );
}
