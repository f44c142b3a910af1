//! What the step loop remembers of a sequence.

use maitre_model::{SampledToken, StepTicket};
use maitre_sampling::{TokenCounts, TokenLogprobs};
use maitre_scheduler::queue::QueueEntry;
use maitre_scheduler::{GroupSpan, RequestId};
use maitre_speculative::{Rules, Speculator};
use smallvec::SmallVec;

use crate::FinishReason;
use crate::admission::command::Choice;
use crate::step::constraint::Constrained;

/// A sequence's blocks in one KV group.
#[derive(Debug, Default)]
pub(crate) struct Table {
    /// The block that the first entry is for.
    pub(crate) first_block: usize,
    pub(crate) blocks: Vec<u32>,
}

/// What decides a sequence's tokens, and where its keys and values are.
#[derive(Debug)]
pub(crate) struct Sequence {
    pub(crate) choice: Choice,
    pub(crate) counts: TokenCounts,
    pub(crate) generated: u32,
    /// The prompt, kept where its log-probabilities are asked for; empty otherwise.
    pub(crate) scored_prompt: Vec<u32>,
    pub(crate) prompt_logprobs: Vec<TokenLogprobs>,
    pub(crate) started: bool,
    /// What it counted for in the bounds of the queue while it had not started.
    pub(crate) queued: QueueEntry,
    /// Its block table in each KV group, kept up to date by the deltas of the plans.
    pub(crate) tables: SmallVec<[Table; 1]>,
    /// Its newest token: what its next step computes.
    pub(crate) newest: u32,
    /// Whether the executor can draw each of its tokens.
    pub(crate) draws_every_token: bool,
    /// Tokens that its next step was allowed to draft.
    pub(crate) wish: usize,
    /// Steps in flight that sample for it.
    pub(crate) ahead: u64,
    /// The output row that the newest of them samples from.
    pub(crate) newest_row: Option<(StepTicket, u32)>,
    /// What its tokens have to be like.
    pub(crate) constraint: Option<Constrained>,
}

impl Sequence {
    /// What decides its next tokens beside the logits, as far as it is known before the step.
    pub(crate) fn rules(&self) -> Rules<'_> {
        Rules {
            params: &self.choice.params,
            counts: &self.counts,
            generated: u64::from(self.generated),
            stop_tokens: &self.choice.stop_tokens,
            min_tokens: u64::from(self.choice.min_tokens),
            max_tokens: u64::from(self.choice.max_tokens),
            constraint: self.constraint.as_ref().map(Constrained::for_drafts),
        }
    }

    /// The same for the token behind those that steps in flight will sample.
    pub(crate) fn rules_ahead(&self) -> Rules<'_> {
        Rules {
            generated: u64::from(self.generated) + self.ahead,
            ..self.rules()
        }
    }

    /// Whether its next step can be planned before the token is known that a step in flight samples.
    pub(crate) fn goes_ahead(&self) -> bool {
        self.draws_every_token && self.wish == 0
    }

    /// Where the token comes from that the newest step in flight samples, for row `row` of a batch.
    pub(crate) fn sampled(&self, row: u32) -> Option<SampledToken> {
        let (step, output) = self.newest_row?;
        Some(SampledToken { row, step, output })
    }

    /// Whether `token`, the newest, ends it, and why.
    pub(crate) fn finish_of(&self, token: u32) -> Option<FinishReason> {
        if self.choice.stop_tokens.contains(&token) {
            return Some(FinishReason::Stop);
        }
        (self.generated >= self.choice.max_tokens).then_some(FinishReason::Length)
    }

    /// Tells its constraint, if it has one, that it goes on with `tokens`, and asks what may follow.
    pub(crate) fn ask_constraint(
        &mut self,
        request: RequestId,
        speculator: &mut Speculator,
        tokens: &[u32],
    ) {
        let Some(constraint) = &mut self.constraint else {
            return;
        };
        // One more than the next step drafts: what is known too late for it is left for the step behind it.
        let most = match speculator.knows(request.0) {
            true => speculator.config().draft_tokens + 1,
            false => 0,
        };
        constraint.advance(tokens, speculator.guess(request.0, most), most);
    }

    /// How many tokens its next step should let be drafted. Where a constraint may say what has to come, that is known
    /// too late to ask for places.
    pub(crate) fn next_wish(&self, request: RequestId, speculator: &Speculator) -> usize {
        match self.constraint {
            Some(_) if speculator.knows(request.0) => speculator.config().draft_tokens,
            _ => speculator.wish(request.0),
        }
    }

    /// Follows the changes of its block tables.
    pub(crate) fn follow(&mut self, groups: &[GroupSpan]) {
        if self.tables.len() < groups.len() {
            self.tables.resize_with(groups.len(), Table::default);
        }
        for (table, group) in self.tables.iter_mut().zip(groups) {
            group.table.apply(&mut table.first_block, &mut table.blocks);
        }
    }

    /// The pages of all its blocks in a group, which is one under full attention; none if there is no such group.
    pub(crate) fn whole_table(&self, group: Option<usize>) -> &[u32] {
        let table = group.and_then(|group| self.tables.get(group));
        table.map_or(&[], |table| &table.blocks)
    }
}
