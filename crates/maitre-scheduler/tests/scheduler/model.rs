//! The toy model: the next token is a hash of the whole prefix, and the KV memory keeps, for each position, a
//! hash of everything up to it, read back through the block tables the plans tell.
//!
//! A recurrent group keeps the last of these hashes alone, on all pages of a state: it goes on from the one that is read, and writes it
//! where the plan says.
//!
//! Where tokens may be drafted there is garbage until they are accepted. So a wrong slot, a wrong table, a token computed twice or not at all, a block given to two requests, or a
//! prefix shared that is not the same prefix, or not in the same namespace, is seen by the next read.

use std::collections::HashSet;

use maitre_scheduler::{
    BlockId, BlockMove, BlockMoves, GroupSpan, KvSpec, NO_SLOT, PlannedSpan, SchedulerConfig,
    StateRef, StateSpan, TableDelta,
};

/// The token that follows `prefix`.
pub(crate) fn next_token(prefix: &[u32]) -> u32 {
    let hash = prefix.iter().fold(0, |hash, &token| cell(hash, token));
    (hash >> 32) as u32 % 1000
}

/// Whether the toy model ends its answer with `token`.
pub(crate) fn is_end(token: u32) -> bool {
    token.is_multiple_of(32)
}

/// Prompt and answer of a request that nothing disturbs.
pub(crate) fn undisturbed(prompt: &[u32], max_tokens: usize) -> Vec<u32> {
    let mut tokens = prompt.to_vec();
    for _ in 0..max_tokens {
        let token = next_token(&tokens);
        tokens.push(token);
        if is_end(token) {
            break;
        }
    }
    tokens
}

/// A block table, as far as plans have told it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Table {
    /// The block that its first entry is for.
    pub(crate) first_block: usize,
    pub(crate) blocks: Vec<BlockId>,
}

impl Table {
    pub(crate) fn apply(&mut self, delta: &TableDelta) {
        delta.apply(&mut self.first_block, &mut self.blocks);
    }

    /// Each block with its index.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, BlockId)> {
        (self.first_block..).zip(self.blocks.iter().copied())
    }

    pub(crate) fn get(&self, index: usize) -> Option<BlockId> {
        let entry = index.checked_sub(self.first_block)?;
        self.blocks.get(entry).copied()
    }

    /// The block behind its last one.
    pub(crate) fn end(&self) -> usize {
        self.first_block + self.blocks.len()
    }

    pub(crate) fn truncate(&mut self, end: usize) {
        self.blocks.truncate(end.saturating_sub(self.first_block));
    }
}

/// What a group of the KV memory has before the first position of a sequence: no two groups have the same.
pub(crate) fn root_in(root: u64, group: usize) -> u64 {
    root ^ (group as u64).wrapping_mul(0x5851_f42d_4c95_7f2d)
}

/// What a group of the KV memory has at each position of `tokens`.
pub(crate) fn cells(root: u64, group: usize, tokens: &[u32]) -> Vec<u64> {
    let cells = tokens.iter().scan(root_in(root, group), |hash, &token| {
        *hash = cell(*hash, token);
        Some(*hash)
    });
    cells.collect()
}

/// The "keys and values" of a token after those of the position before it.
fn cell(before: u64, token: u32) -> u64 {
    (before ^ 0xcbf2_9ce4_8422_2325 ^ u64::from(token))
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .rotate_left(23)
}

/// What page `part` of a state holds, and back again.
fn part_of(state: u64, part: usize) -> u64 {
    state ^ (part as u64).wrapping_mul(0x2545_f491_4f6c_dd1d)
}

/// What a wrong draft leaves behind: of no token after any other.
const GARBAGE: u64 = 0x0bad_0bad_0bad_0bad;

/// The KV memory of the toy model, and its host tier.
pub(crate) struct Memory {
    pool: Vec<Option<u64>>,
    host: Vec<Option<u64>>,
    block_size: usize,
    groups: Vec<KvSpec>,
}

impl Memory {
    pub(crate) fn new(config: &SchedulerConfig) -> Self {
        let block_size = config.kv.block_size as usize;
        Self {
            pool: vec![None; config.kv.num_slots()],
            host: vec![None; config.kv.num_host_pages as usize * block_size],
            block_size,
            groups: config.kv.groups.clone(),
        }
    }

    /// Copies blocks: out, in, then within the pool.
    pub(crate) fn make(&mut self, moves: &BlockMoves) {
        for list in [&moves.swap_out, &moves.swap_in] {
            check_unordered(list, false);
        }
        check_unordered(&moves.copies, true);
        for moved in &moves.swap_out {
            let from = self.range(moved.from);
            let to = self.range(moved.to);
            self.host[to].copy_from_slice(&self.pool[from]);
        }
        for moved in &moves.swap_in {
            let from = self.range(moved.from);
            let to = self.range(moved.to);
            self.pool[to].copy_from_slice(&self.host[from]);
        }
        for moved in &moves.copies {
            let (from, to) = (self.range(moved.from), self.range(moved.to));
            self.pool.copy_within(from, to.start);
        }
    }

    /// Writes `cells` to the beginning of a run of blocks, and garbage to the rest.
    pub(crate) fn fill(&mut self, blocks: &[BlockId], cells: &[u64]) {
        let mut cells = cells.iter();
        for block in blocks {
            let range = self.range(block.0);
            for slot in &mut self.pool[range] {
                *slot = Some(cells.next().copied().unwrap_or(GARBAGE));
            }
        }
    }

    fn range(&self, block: u32) -> std::ops::Range<usize> {
        let start = block as usize * self.block_size;
        start..start + self.block_size
    }

    /// Writes what a span computes, and garbage where it drafts; the position before the first of a sequence
    /// is `root`. Where a chunk begins, the position before it need not be there: `expected` has what was.
    pub(crate) fn write(
        &mut self,
        span: &PlannedSpan,
        tokens: &[u32],
        tables: &[Table],
        root: u64,
        expected: Option<&[Vec<u64>]>,
    ) {
        for (group, (of_group, table)) in span.groups.iter().zip(tables).enumerate() {
            let root = root_in(root, group);
            match &of_group.state {
                Some(state) => self.write_states(state, tokens, root),
                None => {
                    let first = span.first_position;
                    let is_read = self.groups[group].first_read(first) < first;
                    let known = expected.and_then(|all| Some(all[group][first.checked_sub(1)?]));
                    let before = match first {
                        0 => Some(root),
                        _ if is_read => self.pool[self.slot(table, first - 1)],
                        _ => known,
                    };
                    self.write_in(of_group, tokens, before);
                }
            }
        }
    }

    fn write_in(&mut self, span: &GroupSpan, tokens: &[u32], mut before: Option<u64>) {
        for (&slot, &token) in span.slots.iter().zip(tokens) {
            before = before.map(|before| cell(before, token));
            if slot != NO_SLOT {
                self.pool[slot as usize] = before;
            }
        }
        for &slot in &span.slots[tokens.len()..] {
            self.pool[slot as usize] = Some(GARBAGE);
        }
    }

    fn write_states(&mut self, span: &StateSpan, tokens: &[u32], root: u64) {
        let mut state = match &span.read {
            Some(read) => self.state(read),
            None => Some(root),
        };
        let mut behind = Vec::new();
        for &token in tokens {
            state = state.map(|before| cell(before, token));
            behind.push(state);
        }
        for write in &span.writes {
            let state = behind.get(write.row).copied().unwrap_or(Some(GARBAGE));
            self.set_state(&write.to, state);
        }
    }

    /// What a state is, if all of its pages agree.
    fn state(&self, at: &StateRef) -> Option<u64> {
        let pages = at.pages().iter().enumerate();
        let mut parts = pages.map(|(part, page)| {
            let start = self.range(page.0).start;
            self.pool[start].map(|it| part_of(it, part))
        });
        let state = parts.next()??;
        parts.all(|part| part == Some(state)).then_some(state)
    }

    fn set_state(&mut self, at: &StateRef, state: Option<u64>) {
        for (part, page) in at.pages().iter().enumerate() {
            let range = self.range(page.0);
            self.pool[range].fill(state.map(|it| part_of(it, part)));
        }
    }

    /// The first `accepted` drafts of a span were right: what was computed for them is what is `expected` there, in
    /// each group.
    pub(crate) fn accept(&mut self, span: &PlannedSpan, accepted: usize, expected: &[Vec<u64>]) {
        for (group, expected) in span.groups.iter().zip(expected) {
            if let Some(state) = &group.state {
                let drafted = span.tokens.len()..span.tokens.len() + accepted;
                for write in state.writes.iter().filter(|it| drafted.contains(&it.row)) {
                    self.set_state(&write.to, Some(expected[span.first_position + write.row]));
                }
                continue;
            }
            let slots = group.slots[span.tokens.len()..].iter().take(accepted);
            for (&slot, &cell) in slots.zip(&expected[span.context_len..]) {
                self.pool[slot as usize] = Some(cell);
            }
        }
    }

    /// Loses what a span wrote: its computation failed halfway.
    pub(crate) fn spoil(&mut self, span: &PlannedSpan) {
        let slots = span.groups.iter().flat_map(|group| &group.slots);
        for &slot in slots.filter(|&&slot| slot != NO_SLOT) {
            self.pool[slot as usize] = None;
        }
        let states = span.groups.iter().filter_map(|group| group.state.as_ref());
        for write in states.flat_map(|state| &state.writes) {
            self.set_state(&write.to, None);
        }
    }

    /// Reads whatever the tokens of a span read, which has to be what is `expected` in each group.
    pub(crate) fn check_reads(&self, span: &PlannedSpan, tables: &[Table], expected: &[Vec<u64>]) {
        for (group, spec) in self.groups.iter().enumerate() {
            let first = spec.first_read(span.first_position);
            let (table, cells) = (&tables[group], &expected[group]);
            if let Some(state) = &span.groups[group].state {
                self.check_states(span, state, cells);
                continue;
            }
            let positions = cells.iter().enumerate().take(span.context_len);
            for (position, &expected) in positions.skip(first) {
                let found = self.pool[self.slot(table, position)];
                let request = span.request;
                assert_eq!(found, Some(expected), "{request} at {position} in {group}");
            }
        }
    }

    fn check_states(&self, span: &PlannedSpan, state: &StateSpan, cells: &[u64]) {
        let (request, first) = (span.request, span.first_position);
        if let Some(read) = &state.read {
            assert_eq!(
                self.state(read),
                Some(cells[first - 1]),
                "{request} behind {first}"
            );
        }
        for write in state.writes.iter().filter(|it| it.row < span.tokens.len()) {
            let behind = first + write.row;
            assert_eq!(
                self.state(&write.to),
                Some(cells[behind]),
                "{request} at {behind}"
            );
        }
    }

    fn slot(&self, table: &Table, position: usize) -> usize {
        let block = table.get(position / self.block_size);
        let block = block.expect("what is read is in the table");
        block.0 as usize * self.block_size + position % self.block_size
    }
}

/// The moves of one list can be made in any order.
fn check_unordered(list: &[BlockMove], same_pool: bool) {
    let written: HashSet<u32> = list.iter().map(|moved| moved.to).collect();
    assert_eq!(written.len(), list.len(), "a block is written twice");
    let read = list.iter().any(|moved| written.contains(&moved.from));
    assert!(!(same_pool && read), "a block is written that is read");
}
