//! A step between its plan and its commit.

use maitre_model::StepTicket;
use maitre_scheduler::{StepPlan, Time};
use maitre_speculative::Drafted;

use crate::step::layout::Layout;
use crate::step::result::Failure;
use crate::step::runner::Sequences;
use crate::step::sequence::Sequence;

/// Where a step that was planned stands.
#[derive(Debug)]
pub(crate) enum Stage {
    /// The executor has it.
    Submitted(StepTicket),
    /// The executor did not take it.
    Refused(Failure),
    /// The same, while it had others.
    RefusedBehind(Failure),
    /// Its block copies failed: what the blocks hold is unknown.
    NotMoved(Failure),
}

/// A step that was planned and has no result yet.
#[derive(Debug)]
pub(crate) struct StepInFlight {
    pub(crate) plan: StepPlan,
    /// What was drafted, one list per span.
    pub(crate) drafts: Vec<Vec<Drafted>>,
    pub(crate) layout: Layout,
    pub(crate) stage: Stage,
    /// When it was planned.
    pub(crate) began: Time,
    /// When it was submitted.
    pub(crate) submitted: Time,
    /// Time spent copying blocks.
    pub(crate) moving: Time,
    /// Whether all requests that it samples for can be in a step behind it.
    pub(crate) leaves_none_behind: bool,
}

impl StepInFlight {
    /// Whether a step may be submitted behind it: its tokens will be known where the next step needs them, and no
    /// request has to stay behind.
    pub(crate) fn may_be_followed(&self) -> bool {
        let is_known = matches!(self.stage, Stage::Submitted(_)) && !self.layout.needs_host();
        is_known && self.leaves_none_behind
    }
}

impl StepInFlight {
    /// Lets constraints say what may come behind drafts, while the step is computed.
    pub(crate) fn look_at_drafts(&self, sequences: &mut Sequences) {
        let pairs = self.plan.spans.iter().zip(&self.drafts);
        for (span, drafts) in pairs.filter(|(_, drafts)| !drafts.is_empty()) {
            let sequence = sequences.get_mut(&span.request);
            if let Some(constraint) = sequence.and_then(|it| it.constraint.as_mut()) {
                constraint.look(drafts);
            }
        }
    }

    /// Notes in the sequences that the step samples for them.
    pub(crate) fn note_samples(&self, sequences: &mut Sequences) {
        let ticket = match self.stage {
            Stage::Submitted(ticket) => Some(ticket),
            _ => None,
        };
        for span in self.plan.spans.iter().filter(|span| span.samples) {
            if let Some(sequence) = sequences.get_mut(&span.request) {
                sequence.ahead += 1;
                sequence.newest_row = None;
            }
        }
        // The last row of a span that samples without drafts is what it samples from.
        for (row, owner) in self.layout.owners.iter().enumerate() {
            let Some(span) = self.plan.spans.get(owner.span).filter(|span| span.samples) else {
                continue;
            };
            let is_last = owner.offset + 1 == span.tokens.len();
            if let Some(sequence) = sequences.get_mut(&span.request).filter(|_| is_last) {
                sequence.newest_row = ticket.map(|ticket| (ticket, row as u32));
            }
        }
    }

    /// The step is not in flight any more.
    pub(crate) fn forget_samples(&self, sequences: &mut Sequences) {
        for span in self.plan.spans.iter().filter(|span| span.samples) {
            if let Some(sequence) = sequences.get_mut(&span.request) {
                sequence.ahead = sequence.ahead.saturating_sub(1);
            }
        }
    }
}

/// Whether each request that the step samples for may be in the next one before its token is known. One that may not
/// would be left out of every second step.
pub(crate) fn goes_ahead(step: &StepInFlight, sequences: &Sequences) -> bool {
    let mut spans = step.plan.spans.iter().filter(|span| span.samples);
    let drafts = step.drafts.iter().any(|drafts| !drafts.is_empty());
    !drafts
        && spans.all(|span| {
            let sequence = sequences.get(&span.request);
            sequence.is_none_or(Sequence::goes_ahead)
        })
}
