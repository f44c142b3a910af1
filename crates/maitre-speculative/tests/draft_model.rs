//! The draft model's cache beside the target's, under everything that happens to blocks: whatever was shared,
//! copied, moved, used again or left behind, each token is drafted from exactly the tokens before it.
//!
//! The model here keeps the tokens themselves as its "keys and values" and drafts a hash of what it reads back
//! through the block table, so any stale or missing position changes what it proposes.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests")]

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use maitre_model::{Batch, CacheMove, CacheMoves, Forward, Heartbeat, Logits, ModelError};
use maitre_sampling::{SamplingParams, TokenCounts};
use maitre_speculative::{
    Acceptance, DraftModel, DraftModelConfig, DraftRequest, Drafted, Rules, Speculate, Speculator,
    SpeculatorConfig,
};
use proptest::prelude::*;

const VOCAB: usize = 7;
const BLOCK: usize = 3;
const BLOCKS: usize = 24;

/// What a model drafts after these tokens.
fn after(tokens: impl Iterator<Item = u32>) -> u32 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for token in tokens {
        hash = (hash ^ u64::from(token + 1)).wrapping_mul(0x0100_0000_01b3);
    }
    ((hash >> 20) % VOCAB as u64) as u32
}

struct Toy {
    slots: Vec<u32>,
    rows: Vec<u32>,
    logits: Vec<f32>,
}

impl Forward for Toy {
    fn vocab_size(&self) -> usize {
        VOCAB
    }

    fn logits_tile(&self) -> usize {
        2
    }

    fn heartbeat(&self) -> Heartbeat {
        Heartbeat::default()
    }

    fn move_blocks(&mut self, moves: &CacheMoves<'_>) -> Result<(), ModelError> {
        assert!(moves.swap_out.is_empty() && moves.swap_in.is_empty());
        for moved in moves.copies {
            let from = moved.from as usize * BLOCK;
            self.slots
                .copy_within(from..from + BLOCK, moved.to as usize * BLOCK);
        }
        Ok(())
    }

    fn forward(&mut self, batch: &Batch) -> Result<(), ModelError> {
        let group = &batch.groups[0];
        let mut written = BTreeSet::new();
        for (&slot, &token) in group.slots.iter().zip(&batch.tokens) {
            assert!(written.insert(slot), "slot {slot} written twice");
            self.slots[slot as usize] = token;
        }
        self.rows.clear();
        for &row in &batch.output_rows {
            let row = row as usize;
            let of_row = |span: &maitre_model::Span| {
                (span.first_token..span.first_token + span.num_tokens).contains(&row)
            };
            let index = batch.spans.iter().position(of_row).unwrap();
            let table = &group.tables.tables[index];
            let read = (0..=batch.positions[row] as usize).map(|position| {
                self.slots[table[position / BLOCK] as usize * BLOCK + position % BLOCK]
            });
            self.rows.push(after(read));
        }
        Ok(())
    }

    fn logits(&mut self, rows: Range<usize>) -> Result<Logits<'_>, ModelError> {
        self.logits.clear();
        for &next in &self.rows[rows] {
            let row = (0..VOCAB as u32).map(|token| f32::from(u8::from(token == next)));
            self.logits.extend(row);
        }
        Ok(Logits {
            values: &self.logits,
            peaks: &[],
        })
    }
}

/// One sequence of the target.
#[derive(Debug, Clone)]
struct Sequence {
    id: u64,
    tokens: Vec<u32>,
    table: Vec<u32>,
}

/// The target's side: which sequence holds which block, and what is in it.
struct World {
    speculator: Speculator,
    sequences: Vec<Sequence>,
    holders: Vec<usize>,
    next_id: u64,
    drafted: usize,
    params: SamplingParams,
}

impl World {
    fn new(max_batched_tokens: usize) -> Self {
        let toy = Toy {
            slots: vec![u32::MAX - 1; BLOCKS * BLOCK],
            rows: Vec::new(),
            logits: Vec::new(),
        };
        let config = DraftModelConfig {
            num_blocks: BLOCKS,
            block_size: BLOCK,
            max_batched_tokens,
            max_context_len: 1000,
            vocab_size: VOCAB,
        };
        let config = (
            DraftModel::new(Box::new(toy), config),
            SpeculatorConfig {
                speculate: Speculate::Draft,
                draft_tokens: 4,
                acceptance: Acceptance::Coupling,
                vocab_size: VOCAB,
                draft_share: 0.1,
            },
        );
        Self {
            speculator: Speculator::new(config.1, Some(Box::new(config.0))),
            sequences: Vec::new(),
            holders: vec![0; BLOCKS],
            next_id: 0,
            drafted: 0,
            params: SamplingParams {
                temperature: 0.0,
                ..SamplingParams::default()
            },
        }
    }

    fn allocate(&mut self, table: &mut Vec<u32>, positions: usize) -> bool {
        let needed = positions.div_ceil(BLOCK).saturating_sub(table.len());
        let free: Vec<u32> = (0..BLOCKS as u32)
            .rev()
            .filter(|&block| self.holders[block as usize] == 0)
            .take(needed)
            .collect();
        if free.len() < needed {
            return false;
        }
        for &block in &free {
            self.holders[block as usize] += 1;
        }
        table.extend(free);
        true
    }

    /// A sequence that shares the first `shared` tokens of another, whole blocks as they are and the rest of
    /// a block as a copy, and goes on with tokens of its own.
    fn arrive(&mut self, like: usize, shared: usize, own: &[u32]) {
        let base = match self.sequences.is_empty() {
            true => None,
            false => Some(self.sequences[like % self.sequences.len()].clone()),
        };
        let (mut tokens, mut table, mut copy) = (Vec::new(), Vec::new(), None);
        if let Some(base) = base {
            // The keys and values of a sequence's last token are not computed yet.
            let shared = shared.min(base.tokens.len() - 1);
            tokens.extend_from_slice(&base.tokens[..shared]);
            table.extend_from_slice(&base.table[..shared / BLOCK]);
            table
                .iter()
                .for_each(|&block| self.holders[block as usize] += 1);
            copy = (!shared.is_multiple_of(BLOCK)).then(|| base.table[shared / BLOCK]);
        }
        let (there, whole) = (tokens.len(), table.len());
        tokens.extend_from_slice(own);
        if !self.allocate(&mut table, tokens.len() + 1) {
            table
                .iter()
                .for_each(|&block| self.holders[block as usize] -= 1);
            return;
        }
        if let Some(from) = copy {
            let moved = [CacheMove {
                from,
                to: table[whole],
            }];
            self.speculator.moved(&CacheMoves {
                copies: &moved,
                ..CacheMoves::default()
            });
        }
        let id = self.next_id;
        self.next_id += 1;
        self.speculator.open(id, &tokens);
        self.speculator.written(&table, there, tokens.len());
        // The prompt's last row yields the first token of the answer.
        let first = after(tokens.iter().copied());
        self.speculator.said(id, &[first]);
        tokens.push(first);
        self.sequences.push(Sequence { id, tokens, table });
    }

    fn leave(&mut self, which: usize) {
        if !self.sequences.is_empty() {
            let sequence = self.sequences.remove(which % self.sequences.len());
            sequence
                .table
                .iter()
                .for_each(|&block| self.holders[block as usize] -= 1);
            self.speculator.close(sequence.id);
        }
    }

    /// A sequence gets a free block, copied in from elsewhere, with tokens that the draft has not seen.
    fn swap(&mut self, which: usize) {
        let Some(index) = which.checked_rem(self.sequences.len()) else {
            return;
        };
        let old = self.sequences[index].table[0];
        let free = (0..BLOCKS as u32).find(|&block| self.holders[block as usize] == 0);
        if let Some(to) = free.filter(|_| self.holders[old as usize] == 1) {
            self.holders[old as usize] = 0;
            self.holders[to as usize] = 1;
            self.sequences[index].table[0] = to;
            let moved = [CacheMove { from: 0, to }];
            self.speculator.moved(&CacheMoves {
                swap_in: &moved,
                ..CacheMoves::default()
            });
        }
    }

    /// One step: those chosen decode with drafts, and the target disagrees with the draft after `agree`
    /// tokens.
    fn step(&mut self, chosen: &[bool], most: usize, agree: usize) {
        let mut sequences: Vec<Sequence> = Vec::new();
        for (index, sequence) in self.sequences.clone().into_iter().enumerate() {
            let mut sequence = sequence;
            let wanted = chosen.get(index).copied().unwrap_or(false);
            if wanted && self.allocate(&mut sequence.table, sequence.tokens.len() + most) {
                self.sequences[index].table.clone_from(&sequence.table);
                sequences.push(sequence);
            }
        }
        let counts = TokenCounts::default();
        let params = self.params.clone();
        let slots = vec![0; 1 + most];
        let requests: Vec<DraftRequest<'_>> = sequences
            .iter()
            .map(|sequence| DraftRequest {
                id: sequence.id,
                most,
                rules: Rules {
                    params: &params,
                    counts: &counts,
                    generated: 0,
                    stop_tokens: &[],
                    min_tokens: 0,
                    max_tokens: 1000,
                    constraint: None,
                },
                table: &sequence.table,
                slots: &slots,
            })
            .collect();
        let drafts = self.speculator.propose(&requests, 0, 0, &|| Duration::ZERO);
        for (request, drafts) in requests.iter().zip(&drafts) {
            let sequence = self
                .sequences
                .iter_mut()
                .find(|it| it.id == request.id)
                .unwrap();
            let known = sequence.tokens.len();
            check(&sequence.tokens, drafts);
            self.drafted += drafts.len();
            let accepted = agree.min(drafts.len());
            let mut came: Vec<u32> = drafts[..accepted].iter().map(|it| it.token).collect();
            let right = after(sequence.tokens.iter().chain(&came).copied());
            // The target's own token: the draft's if all were accepted, another if not.
            came.push((right + u32::from(accepted < drafts.len())) % VOCAB as u32);
            sequence.tokens.extend_from_slice(&came);
            self.speculator
                .verified(request, known, drafts.len(), &came, accepted);
        }
        self.speculator
            .ran(requests.len(), 0, requests.len(), Duration::from_micros(1));
    }
}

/// Each token was drafted from exactly those before it.
fn check(known: &[u32], drafts: &[Drafted]) {
    let mut text = known.to_vec();
    for drafted in drafts {
        assert_eq!(drafted.token, after(text.iter().copied()), "after {text:?}");
        text.push(drafted.token);
    }
}

#[derive(Debug, Clone)]
enum Deed {
    Arrive(usize, usize, Vec<u32>),
    Leave(usize),
    Swap(usize),
    Step(Vec<bool>, usize, usize),
}

fn deed() -> impl Strategy<Value = Deed> {
    let tokens = prop::collection::vec(0..VOCAB as u32, 1..8);
    prop_oneof![
        3 => (0..5_usize, 0..20_usize, tokens).prop_map(|(a, b, c)| Deed::Arrive(a, b, c)),
        1 => (0..5_usize).prop_map(Deed::Leave),
        1 => (0..5_usize).prop_map(Deed::Swap),
        8 => (prop::collection::vec(prop::bool::weighted(0.7), 6), 0..5_usize, 0..5_usize)
            .prop_map(|(a, b, c)| Deed::Step(a, b, c)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn every_token_is_drafted_from_exactly_those_before_it(
        deeds in prop::collection::vec(deed(), 1..60),
        max_batched_tokens in DraftModel::LEAST_BATCHED_TOKENS..20,
    ) {
        let mut world = World::new(max_batched_tokens);
        for deed in deeds {
            match deed {
                Deed::Arrive(like, shared, own) => world.arrive(like, shared, &own),
                Deed::Leave(which) => world.leave(which),
                Deed::Swap(which) => world.swap(which),
                Deed::Step(chosen, most, agree) => world.step(&chosen, most, agree),
            }
        }
        prop_assert!(world.speculator.has_drafter());
    }
}

/// One who decodes alone, all of whose drafts come true, is never left behind: not even by a draft that reads no
/// more in a forward than it must, and is told that it may read less.
#[test]
fn the_least_batch_is_enough_to_get_ahead() {
    for max_batched_tokens in 1..4 {
        let mut world = World::new(max_batched_tokens);
        world.arrive(0, 0, &[0]);
        for most in [1, 1, 2, 3, 1, 4, 1, 1, 1] {
            let before = world.drafted;
            world.step(&[true], most, most);
            assert_eq!(world.drafted - before, most, "{max_batched_tokens}");
        }
        assert!(world.speculator.has_drafter());
    }
}

#[test]
fn a_late_draft_catches_up_and_then_drafts() {
    let mut world = World::new(4);
    world.arrive(0, 0, &[1, 2, 3, 4, 5, 6, 0, 1, 2, 3]);
    world.step(&[true], 3, 3);
    assert_eq!(world.drafted, 0, "ten tokens behind, four at a time");
    for _ in 0..3 {
        world.step(&[true], 3, 3);
    }
    assert!(world.drafted >= 3, "{}", world.drafted);
    let before = world.drafted;
    // A sequence with the same beginning finds that the draft has seen it.
    world.arrive(0, 9, &[5]);
    world.step(&[false, true], 3, 1);
    assert_eq!(world.drafted, before + 3);
}
