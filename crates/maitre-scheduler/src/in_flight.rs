//! Steps that are planned but not committed, and what has to wait for them.

use std::collections::{HashSet, VecDeque};

use maitre_kv::{BlockId, BlockMoves};

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
    /// Whether its outcome may be deferred.
    pub(crate) deferrable: bool,
    /// The newest step before this one that samples a token of the request.
    pub(crate) sampled_before: Option<StepId>,
}

/// One planned step.
#[derive(Debug, Clone)]
pub(crate) struct StepInFlight {
    pub(crate) step: StepId,
    pub(crate) spans: Vec<SpanInFlight>,
    /// What it copies first, and so what has to stay as it is until the commit.
    pub(crate) moves: BlockMoves,
    /// Requests that ended meanwhile. Their blocks are still read and written until the commit.
    pub(crate) release_after: Vec<Place>,
    /// Blocks that were replaced by equal ones in the tables of requests, and that it or a step before it still
    /// reads.
    pub(crate) replaced: Vec<(Place, BlockId)>,
}

impl StepInFlight {
    /// Whether its commit does nothing but to take its outcomes: it copies nothing, and no block waits for it.
    pub(crate) fn leaves_nothing_behind(&self) -> bool {
        self.moves.is_empty() && self.release_after.is_empty() && self.replaced.is_empty()
    }

    /// Whether it computes something of a request.
    fn runs(&self, place: Place) -> bool {
        self.spans.iter().any(|span| span.place == place)
    }
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
            replaced: Vec::new(),
        });
    }

    pub(crate) fn oldest(&self) -> Option<&StepInFlight> {
        self.0.front()
    }

    pub(crate) fn newest(&self) -> Option<&StepInFlight> {
        self.0.back()
    }

    pub(crate) fn complete_oldest(&mut self) -> Option<StepInFlight> {
        self.0.pop_front()
    }

    /// The newest step is another one with the same spans, behind step `before`.
    pub(crate) fn renew(&mut self, step: StepId, before: StepId) {
        if let Some(newest) = self.0.back_mut() {
            newest.step = step;
            for span in &mut newest.spans {
                span.sampled_before = Some(before);
            }
        }
    }

    pub(crate) fn retract_newest(&mut self) -> Option<StepInFlight> {
        self.0.pop_back()
    }

    /// Whether a step computes something of a request.
    pub(crate) fn runs(&self, place: Place) -> bool {
        self.0.iter().any(|step| step.runs(place))
    }

    /// Whether a step copies one of these pages to the host tier.
    pub(crate) fn copies_out_of(&self, pages: impl Iterator<Item = BlockId>) -> bool {
        let moves = self.0.iter().flat_map(|step| &step.moves.swap_out);
        let read: HashSet<u32> = moves.map(|moved| moved.from).collect();
        !read.is_empty() && pages.into_iter().any(|page| read.contains(&page.0))
    }

    /// Keeps the blocks of a request until the newest step is committed: no later step can touch them.
    /// Returns whether there is a step to wait for.
    pub(crate) fn release_after_newest(&mut self, place: Place) -> bool {
        match self.0.back_mut() {
            Some(newest) => {
                newest.release_after.push(place);
                true
            }
            None => false,
        }
    }

    /// Keeps blocks that were in the table of a request until the newest step that runs it is committed: later
    /// ones get the table as it is now. Returns them if no step runs it.
    pub(crate) fn keep_for(&mut self, place: Place, replaced: Vec<BlockId>) -> Vec<BlockId> {
        if replaced.is_empty() {
            return replaced;
        }
        match self.0.iter_mut().rev().find(|step| step.runs(place)) {
            Some(newest) => {
                let replaced = replaced.into_iter().map(|block| (place, block));
                newest.replaced.extend(replaced);
                Vec::new()
            }
            None => replaced,
        }
    }
}
