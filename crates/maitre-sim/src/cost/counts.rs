//! What there is to do in a step, counted in its plan.

use maitre_scheduler::{PlannedSpan, RequestId, StepPlan};

/// What there is to do in a step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StepWork {
    /// Sequences with at least one token in the step.
    pub sequences: u64,
    /// Of them, those with tokens of their prompt, or of what a preemption lost. A rest of one token counts as a decode.
    pub chunks: u64,
    /// Tokens over all sequences.
    pub tokens: u64,
    /// Rows of logits.
    pub rows: u64,
    /// Positions whose keys and values are read or written, over all sequences: each sequence's once, since the tokens of a chunk
    /// share what they read.
    pub kv_positions: u64,
    /// Pairs of a token and a position that it attends to.
    pub attention_pairs: u64,
    /// The same positions, as far as layers with a window read them.
    pub window_positions: u64,
    /// The same pairs, as far as layers with a window have them.
    pub window_pairs: u64,
    /// Blocks that are copied before the step.
    pub copied_blocks: u64,
}

impl StepWork {
    /// The work of a plan for a model, some of whose layers may have a window of so many tokens.
    #[must_use]
    pub fn of(plan: &StepPlan, window: Option<u32>) -> Self {
        let mut work = Self {
            copied_blocks: plan.moves.len() as u64,
            ..Self::default()
        };
        for span in &plan.spans {
            let tokens = (span.tokens.len() + span.drafts) as u64;
            let before = span.first_position as u64;
            work.sequences += 1;
            work.chunks += u64::from(Self::is_chunk(span));
            work.rows += (span.output_positions.len() + span.drafts) as u64;
            work.add(before, tokens, window);
        }
        work
    }

    /// Whether a span has tokens of a prompt, or of what a preemption lost. A rest of one token counts as a decode.
    pub(crate) fn is_chunk(span: &PlannedSpan) -> bool {
        span.tokens.len() > 1 || !span.samples
    }

    /// The work of a draft model in one of its steps for a plan, counted from 0: one token of each sequence that drafts so far, and
    /// in the first step the prompts' tokens and those that it is `behind` of the sequences that draft.
    pub(crate) fn of_drafts(
        plan: &StepPlan,
        step: usize,
        window: Option<u32>,
        behind: impl Fn(RequestId) -> u64,
    ) -> Self {
        let mut work = Self::default();
        for span in &plan.spans {
            let before = span.first_position as u64;
            if span.drafts > step {
                let late = match step {
                    0 => behind(span.request).min(before),
                    _ => 0,
                };
                work.sequences += 1;
                work.rows += 1;
                work.add(before + step as u64 - late, 1 + late, window);
            } else if step == 0 && Self::is_chunk(span) {
                work.sequences += 1;
                work.chunks += 1;
                work.add(before, span.tokens.len() as u64, window);
            }
        }
        work
    }

    /// Adds tokens of one sequence that has so many before them.
    pub(super) fn add(&mut self, before: u64, tokens: u64, window: Option<u32>) {
        self.tokens += tokens;
        self.kv_positions += before + tokens;
        // The token at position p attends to p + 1 positions.
        self.attention_pairs += tokens * before + tokens * (tokens + 1) / 2;
        let Some(window) = window.map(u64::from) else {
            return;
        };
        self.window_positions += (before + tokens).min(window + tokens - 1);
        // Tokens whose whole context lies in the window, and the others.
        let whole = window.saturating_sub(before).min(tokens);
        self.window_pairs += whole * before + whole * (whole + 1) / 2 + (tokens - whole) * window;
    }

    /// The work of the next step, if this one has one token of each sequence, no layer has a window, and the next one has the same
    /// sequences.
    pub(crate) fn one_further(&self) -> Self {
        Self {
            kv_positions: self.kv_positions + self.sequences,
            attention_pairs: self.attention_pairs + self.sequences,
            copied_blocks: 0,
            ..*self
        }
    }

    /// A step in which each of so many sequences of this length has its next token, and so many tokens of prompts, of which they
    /// have half before them on average. For estimates; a simulation prices plans.
    pub(crate) fn mixed(sequences: u64, length: u64, prompt: u64, window: Option<u32>) -> Self {
        let mut work = Self {
            sequences,
            rows: sequences,
            chunks: u64::from(prompt > 0),
            ..Self::default()
        };
        for _ in 0..sequences {
            work.add(length, 1, window);
        }
        if prompt > 0 {
            work.add(0, prompt, window);
        }
        work
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Position by position, as the definition has it.
    fn counted(before: u64, tokens: u64, window: u64) -> (u64, u64) {
        let pairs = (before..before + tokens).map(|position| (position + 1).min(window));
        let first_read = (before + 1).saturating_sub(window);
        (before + tokens - first_read, pairs.sum())
    }

    #[test]
    fn windows_are_counted_as_position_by_position() {
        for window in [1, 2, 5, 8, 100] {
            for before in [0, 1, 4, 7, 9, 60] {
                for tokens in [1, 2, 5, 30] {
                    let mut work = StepWork::default();
                    work.add(before, tokens, Some(window));
                    let found = (work.window_positions, work.window_pairs);
                    assert_eq!(
                        found,
                        counted(before, tokens, u64::from(window)),
                        "{before} {tokens} {window}"
                    );
                }
            }
        }
    }
}
