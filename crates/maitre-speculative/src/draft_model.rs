//! A smaller model of the same vocabulary that runs ahead (Leviathan et al. 2023, section 2).
//!
//! Its cache has the target's blocks and slots, so whatever the target's block tables say holds for it too:
//! sharing, forks, preemption and copies need no bookkeeping of its own. What it has computed of a sequence is
//! known block by block; the rest it computes when it is asked for a token, as many tokens as
//! one forward takes, all sequences together.

use maitre_model::{Batch, BlockTables, CacheMoves, Forward, KvGroup, Span};
use maitre_sampling::{Logits, Sampler};

use crate::coverage::Coverage;
use crate::drafter::{DraftError, DraftRequest, Drafter, Drafting};
use crate::{Acceptance, Drafted};

/// What a draft model is run with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DraftModelConfig {
    /// Blocks in the target's cache and in the draft's.
    pub num_blocks: usize,
    /// Tokens per block.
    pub block_size: usize,
    /// The most tokens in one forward, at least [`DraftModel::LEAST_BATCHED_TOKENS`].
    pub max_batched_tokens: usize,
    /// The longest context the draft was made for.
    pub max_context_len: usize,
    /// Tokens of the target's vocabulary: what the draft may propose.
    pub vocab_size: usize,
}

/// Drafts with a model of its own.
pub struct DraftModel {
    executor: Box<dyn Forward>,
    config: DraftModelConfig,
    sampler: Sampler,
    coverage: Coverage,
    batch: Batch,
    /// Per span of the batch: whose it is, and its positions.
    feeds: Vec<Feed>,
}

/// What one sequence feeds to a forward.
#[derive(Debug, Clone, Copy)]
struct Feed {
    /// Which of the draftings.
    index: usize,
    start: usize,
    end: usize,
    /// Whether its newest token is among them, so that a token can be drafted.
    arrives: bool,
}

impl DraftModel {
    /// Tokens that one forward must take for a draft to get ahead: where all it drafted was accepted it has
    /// seen neither the last of these nor the target's own token behind it.
    pub const LEAST_BATCHED_TOKENS: usize = 2;

    /// A draft model over `executor`, whose cache has the target's blocks.
    #[must_use]
    pub fn new(executor: Box<dyn Forward>, config: DraftModelConfig) -> Self {
        let tables = BlockTables {
            first_blocks: Vec::new(),
            tables: Vec::new(),
            block_size: config.block_size,
        };
        Self {
            executor,
            config,
            sampler: Sampler::new(),
            coverage: Coverage::new(config.num_blocks, config.block_size),
            batch: Batch {
                tokens: Vec::new(),
                positions: Vec::new(),
                spans: Vec::new(),
                groups: vec![KvGroup {
                    tables,
                    slots: Vec::new(),
                }],
                output_rows: Vec::new(),
            },
            feeds: Vec::new(),
        }
    }

    /// Which sequence feeds which tokens: first sequences that are one token behind, then the others while the
    /// batch has space. If two sequences share a block that is to be written, only one of them feeds it.
    fn choose_feeds(&mut self, draftings: &[&mut Drafting<'_>]) {
        self.feeds.clear();
        let mut space = self
            .config
            .max_batched_tokens
            .max(Self::LEAST_BATCHED_TOKENS);
        let mut late = Vec::new();
        for (index, drafting) in draftings.iter().enumerate() {
            let end = drafting.text.len() + drafting.drafts.len();
            if end > self.config.max_context_len || end == 0 {
                continue;
            }
            let start = self
                .coverage
                .reach(drafting.request.table, end)
                .min(end - 1);
            let feed = Feed {
                index,
                start,
                end,
                arrives: true,
            };
            if end - start > 1 {
                late.push(feed);
            } else if space > 0 {
                space -= 1;
                self.feeds.push(feed);
            }
        }
        // Sequences that can draft in this round come before those that are far behind.
        late.sort_by_key(|feed| feed.end - feed.start);
        let mut claimed: Vec<u32> = Vec::new();
        for feed in late {
            let end = feed.end.min(feed.start + space);
            let table = draftings[feed.index].request.table;
            let blocks = self.blocks(table, feed.start, end);
            if blocks.is_empty() || blocks.iter().any(|block| claimed.contains(block)) {
                continue;
            }
            claimed.extend_from_slice(blocks);
            space -= end - feed.start;
            self.feeds.push(Feed {
                end,
                arrives: end == feed.end,
                ..feed
            });
        }
    }

    /// The blocks of positions `start..end`; none if the table does not reach so far.
    fn blocks<'t>(&self, table: &'t [u32], start: usize, end: usize) -> &'t [u32] {
        let size = self.config.block_size;
        table
            .get(start / size..end.div_ceil(size))
            .filter(|_| start < end)
            .unwrap_or(&[])
    }

    fn fill_batch(&mut self, draftings: &[&mut Drafting<'_>]) {
        let size = self.config.block_size;
        let batch = &mut self.batch;
        let group = &mut batch.groups[0];
        batch.tokens.clear();
        batch.positions.clear();
        batch.spans.clear();
        batch.output_rows.clear();
        group.slots.clear();
        let tables = &mut group.tables.tables;
        tables.resize_with(self.feeds.len(), Vec::new);
        for (feed, copy) in self.feeds.iter().zip(tables) {
            let drafting = &draftings[feed.index];
            let table = drafting.request.table;
            copy.clear();
            copy.extend_from_slice(&table[..feed.end.div_ceil(size).min(table.len())]);
            batch.spans.push(Span {
                first_token: batch.tokens.len(),
                num_tokens: feed.end - feed.start,
                context_len: feed.end,
            });
            for position in feed.start..feed.end {
                batch.tokens.push(token_at(drafting, position));
                batch.positions.push(position as u32);
                let block = table.get(position / size).copied().unwrap_or(u32::MAX);
                let first = block.saturating_mul(size as u32);
                group
                    .slots
                    .push(first.saturating_add((position % size) as u32));
            }
            if feed.arrives {
                batch.output_rows.push((batch.tokens.len() - 1) as u32);
            }
        }
    }

    /// As [`choose_tokens`](Self::choose_tokens) for the rows of `tile` from `first` on, where the device that has the
    /// logits can choose them all; whether it did.
    fn draw_tokens(
        &mut self,
        draftings: &mut [&mut Drafting<'_>],
        tile: &[usize],
        first: usize,
        acceptance: Acceptance,
    ) -> Result<bool, DraftError> {
        let draw = |&index: &usize| {
            let drafting = &draftings[index];
            let rules = drafting.request.rules;
            (acceptance == Acceptance::Coupling)
                .then(|| rules.draw(drafting.position()))
                .flatten()
        };
        let draws: Vec<_> = tile.iter().map(draw).collect();
        if draws.iter().any(Option::is_none) {
            return Ok(false);
        }
        let drawn = self.executor.draw(first, &draws, self.config.vocab_size);
        let drawn = drawn.map_err(|error| failed(&error))?;
        let all_drawn = drawn.and_then(|drawn| drawn.into_iter().collect::<Option<Vec<_>>>());
        let Some(drawn) = all_drawn else {
            return Ok(false);
        };
        for (&index, drawn) in tile.iter().zip(drawn) {
            let drafted = Drafted {
                token: drawn.token,
                distribution: None,
            };
            draftings[index].push(drafted, drawn.logprob.exp());
        }
        Ok(true)
    }

    /// One token for each that arrived.
    fn choose_tokens(
        &mut self,
        draftings: &mut [&mut Drafting<'_>],
        acceptance: Acceptance,
    ) -> Result<(), DraftError> {
        let arrived: Vec<usize> = self
            .feeds
            .iter()
            .filter(|feed| feed.arrives)
            .map(|feed| feed.index)
            .collect();
        let width = self.executor.vocab_size();
        for (tile_index, tile) in arrived.chunks(self.executor.logits_tile()).enumerate() {
            let first = tile_index * self.executor.logits_tile();
            if self.draw_tokens(draftings, tile, first, acceptance)? {
                continue;
            }
            let logits = self.executor.logits(first..first + tile.len());
            let logits = logits.map_err(|error| failed(&error))?;
            let blocks = logits.peaks.len() / tile.len();
            for (row, &index) in tile.iter().enumerate() {
                let values = &logits.values[row * width..][..width.min(self.config.vocab_size)];
                let peaks = &logits.peaks[row * blocks..][..blocks];
                let row = Logits { values, peaks };
                choose(&mut self.sampler, row, draftings[index], acceptance);
            }
        }
        Ok(())
    }
}

/// Adds the token that `row` yields. A row may yield none, because its numbers are broken or nothing is
/// left to choose: that ends this sequence's draft and no other.
fn choose(
    sampler: &mut Sampler,
    row: Logits<'_>,
    drafting: &mut Drafting<'_>,
    acceptance: Acceptance,
) {
    let rules = drafting.request.rules;
    let counts = drafting.counts.as_ref().unwrap_or(rules.counts);
    let position = drafting.position();
    let drafted = rules.draft(sampler, row, counts, position, acceptance);
    let Ok(drafted) = drafted else {
        return;
    };
    let scored = sampler.token_logprobs(row, drafted.token, 0);
    let probability = scored.map_or(f32::NAN, |scored| scored.logprob.exp());
    drafting.push(drafted, probability);
}

impl Drafter for DraftModel {
    fn behind(&self, request: &DraftRequest<'_>, text: &[u32]) -> Option<usize> {
        let known = text.len().checked_sub(1)?;
        let has_space = text.len() < self.config.max_context_len;
        has_space.then(|| known - self.coverage.reach(request.table, known))
    }

    fn draft(
        &mut self,
        draftings: &mut [&mut Drafting<'_>],
        acceptance: Acceptance,
    ) -> Result<(), DraftError> {
        self.choose_feeds(draftings);
        if self.feeds.is_empty() {
            return Ok(());
        }
        self.fill_batch(draftings);
        for feed in &self.feeds {
            // Until it is known to have succeeded, the forward has destroyed what it was to write.
            let table = draftings[feed.index].request.table;
            self.coverage.cut(table, feed.start, feed.end);
        }
        let computed = self.executor.forward(&self.batch);
        computed.map_err(|error| failed(&error))?;
        for feed in &self.feeds {
            let table = draftings[feed.index].request.table;
            self.coverage.gain(table, feed.end);
        }
        self.choose_tokens(draftings, acceptance)
    }

    fn moved(&mut self, moves: &CacheMoves<'_>) -> Result<(), DraftError> {
        for moved in moves.swap_in {
            self.coverage.forget(moved.to);
        }
        for moved in moves.copies {
            self.coverage.copied(moved.from, moved.to);
        }
        let copies = CacheMoves {
            copies: moves.copies,
            ..CacheMoves::default()
        };
        let moved = match moves.copies {
            [] => Ok(()),
            _ => self.executor.move_blocks(&copies),
        };
        moved.map_err(|error| {
            for moved in moves.copies {
                self.coverage.forget(moved.to);
            }
            failed(&error)
        })
    }

    fn written(&mut self, table: &[u32], kept: usize, end: usize) {
        self.coverage.cut(table, kept, end);
    }
}

/// The token at `position` of a text that goes on with what was drafted.
fn token_at(drafting: &Drafting<'_>, position: usize) -> u32 {
    let known = drafting.text.len();
    let drafted = || {
        let draft: Option<&Drafted> = drafting.drafts.get(position - known);
        draft.map(|draft| draft.token)
    };
    let token = match drafting.text.get(position) {
        Some(&token) => Some(token),
        None => drafted(),
    };
    token.unwrap_or_default()
}

fn failed(error: &maitre_model::ModelError) -> DraftError {
    DraftError {
        message: error.to_string(),
    }
}
