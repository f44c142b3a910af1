//! A step between its plan and its commit.

use maitre_model::StepTicket;
use maitre_scheduler::{StepPlan, Time};
use maitre_speculative::Drafted;

use crate::step::layout::Layout;
use crate::step::result::Failure;

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
