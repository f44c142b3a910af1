//! Steps that are planned but not committed, and what has to wait for them.

use std::collections::VecDeque;

use maitre_kv::{BlockMoves, SeqId};

use crate::request::Place;
use crate::{RequestId, StepId};

/// What the scheduler remembers of one span until its outcome comes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SpanInFlight {
    pub(crate) place: Place,
    pub(crate) request: RequestId,
    pub(crate) num_tokens: usize,
    /// Places behind them that may hold drafted tokens.
    pub(crate) drafts: usize,
    pub(crate) samples: bool,
}

/// One planned step.
#[derive(Debug, Clone)]
pub(crate) struct StepInFlight {
    pub(crate) step: StepId,
    pub(crate) spans: Vec<SpanInFlight>,
    /// What it copies first, and so what has to stay as it is until the commit.
    pub(crate) moves: BlockMoves,
    /// Sequences that ended meanwhile. Their blocks are still read and written until the commit.
    pub(crate) release_after: Vec<SeqId>,
}

/// The steps in flight, oldest first; they are committed in this order.
#[derive(Debug, Clone, Default)]
pub(crate) struct StepsInFlight(VecDeque<StepInFlight>);

impl StepsInFlight {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &StepInFlight> {
        self.0.iter()
    }

    pub(crate) fn launch(&mut self, step: StepId, spans: Vec<SpanInFlight>, moves: BlockMoves) {
        self.0.push_back(StepInFlight {
            step,
            spans,
            moves,
            release_after: Vec::new(),
        });
    }

    pub(crate) fn oldest(&self) -> Option<&StepInFlight> {
        self.0.front()
    }

    pub(crate) fn complete_oldest(&mut self) -> Option<StepInFlight> {
        self.0.pop_front()
    }

    /// Keeps `sequence`'s blocks until the newest step is committed: no later step can touch them.
    /// Returns whether there is a step to wait for.
    pub(crate) fn release_after_newest(&mut self, sequence: SeqId) -> bool {
        match self.0.back_mut() {
            Some(newest) => {
                newest.release_after.push(sequence);
                true
            }
            None => false,
        }
    }
}
