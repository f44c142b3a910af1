//! Plans and outcomes: plain data between the scheduler and the step loop.
//!
//! A plan is complete: with it and the weights, the step can be computed. Its [`Display`](fmt::Display)
//! form shows every field, is stable, and is what logs, replays and snapshot tests compare.

use std::fmt;
use std::ops::Range;

use maitre_kv::{BlockId, BlockMoves, StateSpan, TableDelta};
use smallvec::SmallVec;

use crate::{PlannedTransfer, RequestId};

/// One step, numbered in the order of the plans.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StepId(pub u64);

impl fmt::Display for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "step {}", self.0)
    }
}

/// A token of a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenRef {
    /// A token that is known.
    Known(u32),
    /// The token that the same request's span of this step samples. The step is in flight when the plan is made.
    Sampled {
        /// The step that samples it.
        step: StepId,
    },
}

impl TokenRef {
    /// The token, if it is known.
    pub fn known(self) -> Option<u32> {
        match self {
            Self::Known(token) => Some(token),
            Self::Sampled { .. } => None,
        }
    }
}

impl fmt::Display for TokenRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(token) => write!(f, "{token}"),
            Self::Sampled { step } => write!(f, "@{}", step.0),
        }
    }
}

/// What one step computes, and what was decided on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepPlan {
    /// To be named in the commit.
    pub step_id: StepId,
    /// Blocks to be copied before anything is computed: once, even if the step is computed again, and
    /// even if all of its requests are cancelled meanwhile. None if there are no spans. Those of a step that
    /// was [taken back](crate::Scheduler::retract) come again with the next step.
    pub moves: BlockMoves,
    /// Blocks to be filled from elsewhere, for requests that have left the queue with this plan. Each is to be [settled](crate::Scheduler::settle_transfer), even if the plan
    /// has no spans or its step is taken back.
    pub transfers: Vec<PlannedTransfer>,
    /// What to compute: decodes by arrival, then prompts by the policy's
    /// [`prompt_rank`](crate::Policy::prompt_rank): of equals those in progress by arrival, then the newly admitted. A plan without spans is not in flight and must not be committed.
    pub spans: Vec<PlannedSpan>,
    /// Requests whose first step since they waited this is, in the order of their admission.
    pub admitted: Vec<Admitted>,
    /// Requests that lost their blocks and wait again, in the order it happened.
    pub preempted: Vec<Preemption>,
    /// Requests that ended because their time was up, earliest first. They are gone.
    pub expired: Vec<Expired>,
}

impl StepPlan {
    /// Whether there is nothing to compute, and so nothing to commit. There may be transfers to begin.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Tokens over all spans, without drafts.
    pub fn num_tokens(&self) -> usize {
        self.spans.iter().map(|span| span.tokens.len()).sum()
    }

    /// Places for drafted tokens over all spans; together with the tokens never more than the budget.
    pub fn num_drafts(&self) -> usize {
        self.spans.iter().map(|span| span.drafts).sum()
    }
}

/// The tokens that one request computes in a step: a prefill chunk or a decode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedSpan {
    /// Whose tokens.
    pub request: RequestId,
    /// Position of the first token in its sequence; the others follow without a gap.
    pub first_position: usize,
    /// `[num_tokens]`, at least one. All are known, unless the span is a decode that is planned before its token
    /// is sampled ([`NewRequest::plan_ahead`](crate::NewRequest::plan_ahead)).
    pub tokens: Vec<TokenRef>,
    /// Length of the sequence's KV after this step's writes: `first_position + tokens.len()`.
    pub context_len: usize,
    /// Where its keys and values are, in each KV group.
    pub groups: SmallVec<[GroupSpan; 2]>,
    /// Offsets within the span whose logits are needed: the last token if the span `samples`; with
    /// `prompt_logits` every position that no committed step has delivered. May be empty (`0..0`). Those of
    /// drafted tokens come on top.
    pub output_positions: Range<usize>,
    /// Whether the logits of the last token yield the request's next token.
    pub samples: bool,
    /// Positions after `context_len` for which tokens may be drafted: any number of them, each verified by the
    /// logits before it. 0 unless the span is a decode, which is one token that samples.
    pub drafts: usize,
}

/// Where the keys and values of a span are in one KV group, or its states.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupSpan {
    /// How the request's block table changed since its last span. Afterwards it has one block for
    /// each `block_size` of the positions up to `context_len + drafts`, in order, from
    /// [`first_block`](TableDelta::first_block) on: those before it lie behind the group's window or before its chunk, for each
    /// of the span's tokens.
    pub table: TableDelta,
    /// `[num_tokens + drafts]`: where each token's KV is written, `block * block_size + offset`, or
    /// [`NO_SLOT`] if it is there already, in a block that others may hold too. A drafted token's never is.
    pub slots: SmallVec<[u32; 4]>,
    /// In a group that keeps states: which one the span reads and which ones it writes, the one behind its last token among
    /// them, one behind each place for a draft, and one for each checkpoint that it passes. The group has no blocks and no slots.
    pub state: Option<Box<StateSpan>>,
}

/// The slot of a token whose keys and values are there already: compute, do not write.
pub const NO_SLOT: u32 = u32::MAX;

/// A request that was admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admitted {
    /// Who.
    pub request: RequestId,
    /// Known tokens whose keys and values the prefix cache had, of `known_tokens`.
    pub cached_tokens: usize,
    /// Known tokens behind these whose keys and values came from its [source](crate::BlockSource).
    pub received_tokens: usize,
    /// Known tokens whose keys and values it shares with the request that it is a fork of.
    pub forked_tokens: usize,
    /// Its prompt, and after a preemption what it had generated.
    pub known_tokens: usize,
    /// Whether it had been admitted before and lost its blocks.
    pub again: bool,
}

/// A request that lost its blocks because another needed one and none was left. It waits at its old place
/// and will compute again what is no longer there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preemption {
    /// Who lost them: among the running that the policy ranks lowest, the one with the least work to lose.
    pub request: RequestId,
    /// Who needed a block; the same request if it had the least to lose itself.
    pub needed_by: RequestId,
    /// Computed tokens that it has no hold on any more.
    pub lost_tokens: usize,
    /// Pages that became free. Those with a name are kept until they are needed.
    pub freed_blocks: usize,
    /// How often it has been preempted now. From the second time on, its next admission reserves blocks
    /// beyond those it needs at once.
    pub times: u32,
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
    /// The new tokens if the span samples, nothing otherwise: the drafted tokens that were accepted, none to
    /// all of them, and the one that is sampled behind them. So at least one; an outcome that ends the request
    /// may leave out any of them.
    pub tokens: Vec<u32>,
    /// How many tokens the request's next step may draft, if it is a decode and budget and blocks allow. 0
    /// turns it off until the next outcome.
    pub next_drafts: usize,
    /// Whether the request ends here: a stop condition was met.
    pub finished: bool,
    /// Whether its computation failed, which ends the request too; its tokens do not count.
    pub failed: bool,
    /// Whether the span's token was not taken, because what decides over it was not known in time (a constraint's
    /// mask). What the span computed stands, but for its last token, which is computed again by the request's next
    /// span, into the same slot: so the logits come once more. Only for a span that samples, without tokens, and only
    /// of a request that is not [planned ahead](crate::NewRequest::plan_ahead). `finished` and `failed` go before it.
    ///
    /// Both spans count in their steps' budgets, since both are computed. The tenant pays once: policies are told of
    /// tokens that a request got, not of how often they were computed.
    pub deferred: bool,
}

impl Outcome {
    /// A request that goes on, with these new tokens: none of a span that does not sample.
    pub fn of(request: RequestId, tokens: Vec<u32>) -> Self {
        Self {
            request,
            tokens,
            next_drafts: 0,
            finished: false,
            failed: false,
            deferred: false,
        }
    }

    /// Whether the request ends with it.
    pub fn ends(&self) -> bool {
        self.finished || self.failed
    }
}

impl fmt::Display for StepPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: tokens {}", self.step_id, self.num_tokens())?;
        match self.num_drafts() {
            0 => writeln!(f)?,
            drafts => writeln!(f, " drafts {drafts}")?,
        }
        for expired in &self.expired {
            writeln!(f, "  expired {expired}")?;
        }
        for (name, moves) in [
            ("out", &self.moves.swap_out),
            ("in", &self.moves.swap_in),
            ("copy", &self.moves.copies),
        ] {
            for moved in moves {
                writeln!(f, "  {name} block {} to {}", moved.from, moved.to)?;
            }
        }
        for transfer in &self.transfers {
            writeln!(f, "  {transfer}")?;
        }
        for admitted in &self.admitted {
            writeln!(f, "  admitted {admitted}")?;
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
        write!(
            f,
            "{} positions {}..{} tokens [{}]",
            self.request,
            self.first_position,
            self.context_len,
            List(&self.tokens),
        )?;
        match self.groups.as_slice() {
            [group] => write!(f, " {group}")?,
            groups => {
                for (number, group) in groups.iter().enumerate() {
                    write!(f, " group {number} {group}")?;
                }
            }
        }
        let samples = if self.samples { " samples" } else { "" };
        write!(f, " output {:?}{samples}", self.output_positions)?;
        match self.drafts {
            0 => Ok(()),
            drafts => write!(f, " drafts {drafts}"),
        }
    }
}

impl fmt::Display for GroupSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TableDelta {
            first_block,
            keep,
            blocks,
        } = &self.table;
        if let Some(state) = &self.state {
            let read = state.read.as_ref().map_or(&[][..], |state| state.pages());
            write!(f, "state [{}] to", Blocks(read))?;
            return state
                .writes
                .iter()
                .try_for_each(|write| write!(f, " {}:[{}]", write.row, Blocks(write.to.pages())));
        }
        let (blocks, slots) = (Blocks(blocks), Runs(&self.slots));
        match first_block {
            0 => write!(f, "blocks {keep}+[{blocks}] slots [{slots}]"),
            first => write!(f, "blocks from {first} {keep}+[{blocks}] slots [{slots}]"),
        }
    }
}

impl fmt::Display for Admitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let again = if self.again { " again" } else { "" };
        let (word, tokens) = match self.forked_tokens {
            0 => ("cached", self.cached_tokens),
            forked => ("forked", forked),
        };
        write!(
            f,
            "{}{again}: {word} {tokens} of {}",
            self.request, self.known_tokens
        )?;
        match self.received_tokens {
            0 => Ok(()),
            received => write!(f, " received {received}"),
        }
    }
}

impl fmt::Display for PlannedTransfer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (positions, source) = (&self.positions, self.source);
        write!(
            f,
            "{} for {}: positions {positions:?} from {source} to",
            self.id, self.request
        )?;
        match self.blocks.as_slice() {
            [blocks] => write!(f, " blocks [{}]", Blocks(blocks)),
            groups => groups.iter().enumerate().try_for_each(|(number, blocks)| {
                write!(f, " group {number} blocks [{}]", Blocks(blocks))
            }),
        }
    }
}

impl fmt::Display for Preemption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} for {}: lost tokens {}, freed blocks {}, times {}",
            self.request, self.needed_by, self.lost_tokens, self.freed_blocks, self.times
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

/// Tokens between commas.
struct List<'a>(&'a [TokenRef]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for token in self.0 {
            write!(f, "{separator}{token}")?;
            separator = ", ";
        }
        Ok(())
    }
}

/// Blocks as [`Runs`].
struct Blocks<'a>(&'a [BlockId]);

impl fmt::Display for Blocks<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let blocks: Vec<u32> = self.0.iter().map(|block| block.0).collect();
        write!(f, "{}", Runs(&blocks))
    }
}

/// Numbers with consecutive ones drawn together: `0..4 7 9..11`; `none` for [`NO_SLOT`].
struct Runs<'a>(&'a [u32]);

impl fmt::Display for Runs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for run in self.0.chunk_by(|a, b| a.checked_add(1) == Some(*b)) {
            match run {
                [NO_SLOT] => write!(f, "{separator}none")?,
                [one] => write!(f, "{separator}{one}")?,
                [first, .., last] => write!(f, "{separator}{first}..{}", u64::from(*last) + 1)?,
                [] => {}
            }
            separator = " ";
        }
        Ok(())
    }
}
