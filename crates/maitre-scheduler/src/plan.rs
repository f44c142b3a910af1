//! Plans and outcomes: plain data between the scheduler and whoever runs the steps.
//!
//! A plan is complete: with it and the weights, the step can be computed. Its [`Display`](fmt::Display)
//! form shows every field, is stable, and is what logs, replays and snapshot tests compare.

use std::fmt;
use std::ops::Range;

use maitre_kv::BlockId;

use crate::RequestId;

/// One step, numbered in the order of the plans.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StepId(pub u64);

impl fmt::Display for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "step {}", self.0)
    }
}

/// What one step computes, and what was decided on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepPlan {
    /// To be named in the commit.
    pub step_id: StepId,
    /// What to compute: decodes, then prefills in progress, then the newly admitted, each group by
    /// arrival. A plan without spans is not in flight and must not be committed.
    pub spans: Vec<PlannedSpan>,
    /// Requests that lost their blocks and wait again, in the order it happened.
    pub preempted: Vec<Preemption>,
    /// Requests that ended because their time was up, earliest first. They are gone.
    pub expired: Vec<Expired>,
}

impl StepPlan {
    /// Whether there is nothing to compute, and so nothing to commit.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Tokens over all spans; never more than the budget.
    pub fn num_tokens(&self) -> usize {
        self.spans.iter().map(|span| span.tokens.len()).sum()
    }
}

/// The tokens that one request computes in a step: a prefill chunk or a decode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedSpan {
    /// Whose tokens.
    pub request: RequestId,
    /// Position of the first token in its sequence; the others follow without a gap.
    pub first_position: usize,
    /// `[num_tokens]`, at least one.
    pub tokens: Vec<u32>,
    /// Length of the sequence's KV after this step's writes: `first_position + tokens.len()`.
    pub context_len: usize,
    /// The blocks of positions `0..context_len`, in order.
    pub block_table: Vec<BlockId>,
    /// `[num_tokens]`: where each token's KV is written, `block * block_size + offset`.
    pub slots: Vec<u32>,
    /// Offsets within the span whose logits are needed: the last token if the span `samples`; with
    /// `prompt_logits` every position that no committed step has delivered. May be empty (`0..0`).
    pub output_positions: Range<usize>,
    /// Whether the logits of the last token yield the request's next token.
    pub samples: bool,
}

/// A request that lost its blocks to an earlier arrival. It waits at its old place in the order and
/// will compute its prompt and what it had generated again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preemption {
    /// Who lost them: the latest arrival among the running.
    pub request: RequestId,
    /// Who needed a block; the same request if it was itself the latest arrival.
    pub needed_by: RequestId,
    /// Computed tokens that are lost.
    pub lost_tokens: usize,
    /// Blocks that became free.
    pub freed_blocks: usize,
}

/// A request whose time was up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expired {
    /// Which one.
    pub request: RequestId,
    /// Which time.
    pub why: ExpiredWhy,
}

/// Which of a request's times was up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ExpiredWhy {
    /// The deadline of the whole request.
    Deadline,
    /// The deadline of its first admission.
    QueueTimeout,
}

/// What came of one span.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Whose span.
    pub request: RequestId,
    /// The new token if the span samples, nothing otherwise. An outcome that ends the request may
    /// leave it out.
    pub tokens: Vec<u32>,
    /// Whether the request ends here: a stop condition was met.
    pub finished: bool,
    /// Whether its computation failed, which ends the request too; its tokens do not count.
    pub failed: bool,
}

impl fmt::Display for StepPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: tokens {}", self.step_id, self.num_tokens())?;
        for expired in &self.expired {
            writeln!(f, "  expired {expired}")?;
        }
        for preemption in &self.preempted {
            writeln!(f, "  preempted {preemption}")?;
        }
        for span in &self.spans {
            writeln!(f, "  run {span}")?;
        }
        Ok(())
    }
}

impl fmt::Display for PlannedSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let blocks: Vec<u32> = self.block_table.iter().map(|block| block.0).collect();
        write!(
            f,
            "{} positions {}..{} tokens {:?} blocks [{}] slots [{}] output {:?}{}",
            self.request,
            self.first_position,
            self.context_len,
            self.tokens,
            Runs(&blocks),
            Runs(&self.slots),
            self.output_positions,
            if self.samples { " samples" } else { "" },
        )
    }
}

impl fmt::Display for Preemption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} for {}: lost tokens {}, freed blocks {}",
            self.request, self.needed_by, self.lost_tokens, self.freed_blocks
        )
    }
}

impl fmt::Display for Expired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match self.why {
            ExpiredWhy::Deadline => "deadline",
            ExpiredWhy::QueueTimeout => "queue timeout",
        };
        write!(f, "{}: {why}", self.request)
    }
}

/// Numbers with consecutive ones drawn together: `0..4 7 9..11`.
struct Runs<'a>(&'a [u32]);

impl fmt::Display for Runs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for run in self.0.chunk_by(|a, b| a.checked_add(1) == Some(*b)) {
            match run {
                [one] => write!(f, "{separator}{one}")?,
                [first, .., last] => write!(f, "{separator}{first}..{}", u64::from(*last) + 1)?,
                [] => {}
            }
            separator = " ";
        }
        Ok(())
    }
}
