//! The toy model: the next token is a hash of the whole prefix, read back from a KV memory through the
//! plan's block table.
//!
//! So a wrong slot, a wrong table, a token computed twice or not at all, or a block given to two
//! requests changes some answer.

use maitre_scheduler::{Outcome, PlannedSpan, SchedulerConfig, StepPlan};

/// The token that follows `prefix`.
pub(crate) fn next_token(prefix: &[u32]) -> u32 {
    let hash = prefix
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, &token| {
            (hash ^ u64::from(token))
                .wrapping_mul(0x0100_0000_01b3)
                .rotate_left(23)
        });
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

/// The KV memory of the toy model: the token of each slot.
pub(crate) struct Memory {
    slots: Vec<Option<u32>>,
    block_size: usize,
}

impl Memory {
    pub(crate) fn new(config: &SchedulerConfig) -> Self {
        let slots = vec![None; config.kv.capacity_tokens()];
        Self {
            slots,
            block_size: config.kv.block_size as usize,
        }
    }

    /// Runs a step: all of its writes, then a token for each span that samples.
    pub(crate) fn compute(&mut self, plan: &StepPlan) -> Vec<Outcome> {
        for span in &plan.spans {
            for (&slot, &token) in span.slots.iter().zip(&span.tokens) {
                self.slots[slot as usize] = Some(token);
            }
        }
        plan.spans.iter().map(|span| self.outcome(span)).collect()
    }

    fn outcome(&self, span: &PlannedSpan) -> Outcome {
        let token = span.samples.then(|| next_token(&self.prefix(span)));
        Outcome {
            request: span.request,
            tokens: token.into_iter().collect(),
            finished: token.is_some_and(is_end),
            failed: false,
        }
    }

    fn prefix(&self, span: &PlannedSpan) -> Vec<u32> {
        let slot = |position: usize| {
            let block = span.block_table[position / self.block_size].0 as usize;
            block * self.block_size + position % self.block_size
        };
        let read = |position| self.slots[slot(position)].expect("written before it is read");
        (0..span.context_len).map(read).collect()
    }
}
