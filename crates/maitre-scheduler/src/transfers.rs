//! Transfers: blocks whose contents come from elsewhere, such as another process or a disk, while others run.
//!
//! A request may say that the beginning of its prompt can be had from somewhere ([`BlockSource`]). What the prefix
//! cache has of it is taken from there. For the rest its admission takes blocks, and the plan asks for a transfer
//! into them ([`PlannedTransfer`]). The request then awaits them: it takes part in no step, but it counts in
//! [`max_seqs`](crate::SchedulerConfig::max_seqs) and in the blocks that admission leaves free, so that it can run when
//! they are there. [`Scheduler::settle_transfer`] says how much came. What did not is computed.
//!
//! A block that a transfer writes to belongs to its request until the transfer is settled, even if the request has
//! ended by then. So the caller, who moves the bytes, has to settle every transfer, a lost one too.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use maitre_kv::BlockId;

use crate::policy::Service;
use crate::request::{Place, Request};
use crate::schedule::Sketch;
use crate::{RequestId, Scheduler, SchedulerError};

/// One transfer, numbered in the order of the plans that asked for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransferId(pub u64);

impl fmt::Display for TransferId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "transfer {}", self.0)
    }
}

/// Where the keys and values of a prompt's beginning can be had. It is asked at most once, at the first admission: after
/// a preemption, or if the transfer fails, they are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockSource {
    /// The caller's number for the place.
    pub source: u64,
    /// How many tokens of the prompt, from the first on, it has.
    pub tokens: usize,
}

/// Blocks to be filled from elsewhere. It may begin at once, before the plan's step and whether it has spans or not:
/// no step in flight and no planned copy reads or writes these blocks. A step that was taken back must have been discarded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedTransfer {
    /// To be named when it is settled.
    pub id: TransferId,
    /// For whom.
    pub request: RequestId,
    /// [`BlockSource::source`].
    pub source: u64,
    /// Which positions of the prompt. They begin with a block.
    pub positions: Range<usize>,
    /// In each KV group the blocks that they fill, in order; perhaps not the whole last one. All groups have all of them:
    /// where the tables of windowed groups could not take what there is, less is asked for.
    pub blocks: Vec<Vec<BlockId>>,
}

/// What a live request is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It is in the queue, or was preempted and is there again.
    Waiting,
    /// It was admitted, and blocks of it are on their way.
    AwaitingBlocks(TransferId),
    /// It takes part in steps; or its blocks have come, and it will with the next plan that has tokens left.
    Running,
}

/// A request that was admitted and does not run yet.
#[derive(Debug, Clone)]
pub(crate) struct Awaiting {
    pub(crate) request: Request,
    pub(crate) transfer: TransferId,
    /// The positions that it is for; the prefix cache had those before them.
    positions: Range<usize>,
    /// How many of them have come; `None` as long as the transfer is under way.
    pub(crate) received: Option<usize>,
    /// How many of them the tenant has yet to pay for, if they do not come.
    unpaid: usize,
}

impl Awaiting {
    /// Positions that need no computing, if the transfer is settled.
    pub(crate) fn arrived(&self) -> Option<usize> {
        Some(self.positions.start + self.received?)
    }

    /// The request with what is there of it.
    pub(crate) fn into_request(self) -> Request {
        Request {
            committed: self.arrived().unwrap_or_default(),
            ..self.request
        }
    }
}

/// The transfers that are not settled, with what they fill. Their requests may have ended.
#[derive(Debug, Clone, Default)]
pub(crate) struct Transfers {
    next: u64,
    under_way: BTreeMap<TransferId, (Place, Range<usize>)>,
}

impl Transfers {
    fn begin(&mut self, place: Place, positions: Range<usize>) -> TransferId {
        let id = TransferId(self.next);
        self.next += 1;
        self.under_way.insert(id, (place, positions));
        id
    }

    /// Owners of the blocks that transfers fill.
    pub(crate) fn places(&self) -> impl Iterator<Item = Place> {
        self.under_way.values().map(|(place, _)| *place)
    }
}

impl Scheduler {
    /// Learns that a transfer has ended: the first `tokens` of its positions have arrived, and nothing writes to its
    /// blocks any more. 0 = it was lost. The request goes on with the next plan.
    ///
    /// # Errors
    ///
    /// [`SchedulerError::UnknownTransfer`] or [`SchedulerError::TooMuchReceived`]. Nothing has changed then.
    pub fn settle_transfer(
        &mut self,
        transfer: TransferId,
        tokens: usize,
    ) -> Result<(), SchedulerError> {
        let under_way = self.transfers.under_way.get(&transfer);
        let Some((place, positions)) = under_way.cloned() else {
            return Err(SchedulerError::UnknownTransfer { transfer });
        };
        if tokens > positions.len() {
            return Err(SchedulerError::TooMuchReceived {
                transfer,
                tokens,
                expected: positions.len(),
            });
        }
        self.transfers.under_way.remove(&transfer);
        match self.awaiting.get_mut(&place) {
            Some(awaiting) => awaiting.received = Some(tokens),
            None => self.release(place, false),
        }
        debug_assert_eq!(self.check_invariants(), Ok(()));
        Ok(())
    }

    /// Transfers that are not settled, those of requests that have ended among them.
    pub fn num_transfers(&self) -> usize {
        self.transfers.under_way.len()
    }

    /// Requests that were admitted and take part in no step yet: their blocks are on their way, or have come since the
    /// last plan.
    pub fn num_awaiting(&self) -> usize {
        self.awaiting.len()
    }

    /// What a live request is about.
    pub fn phase(&self, request: RequestId) -> Option<Phase> {
        let place = self.places.get(&request)?;
        let awaiting = self.awaiting.get(place);
        let on_its_way = awaiting.filter(|it| it.received.is_none());
        Some(match on_its_way {
            Some(awaiting) => Phase::AwaitingBlocks(awaiting.transfer),
            None if self.waiting.contains_key(place) => Phase::Waiting,
            None => Phase::Running,
        })
    }

    /// The positions that are worth a transfer for a request that has `cached` of them already, a number of whole
    /// blocks; empty if there are none. Not the last of the prompt, which is computed in any case.
    pub(crate) fn worth_a_transfer(request: &Request, cached: usize) -> Range<usize> {
        let source = request.source.filter(|_| !request.prompt_logits);
        let tokens = source.map_or(0, |source| source.tokens.min(request.prompt_len - 1));
        cached..tokens.max(cached)
    }

    /// Asks for `positions` of a request that left the queue and has blocks for all it needs.
    pub(crate) fn await_blocks(
        &mut self,
        place: Place,
        mut request: Request,
        positions: Range<usize>,
        sketch: &mut Sketch,
    ) {
        let block_size = self.config.kv.block_size as usize;
        let (sequence, kv) = (place.sequence(), &self.kv);
        let filled = positions.start / block_size..positions.end.div_ceil(block_size);
        let of_group = |group| {
            let table = kv.block_table(sequence, group).iter().copied();
            let behind = filled.start - kv.first_block(sequence, group).min(filled.start);
            table.skip(behind).take(filled.len()).collect()
        };
        let blocks = (0..kv.num_groups()).map(of_group).collect();
        let transfer = self.transfers.begin(place, positions.clone());
        sketch.plan.transfers.push(PlannedTransfer {
            id: transfer,
            request: request.id,
            source: request.source.take().map_or(0, |source| source.source),
            positions: positions.clone(),
            blocks,
        });
        request.prefill_len = request.tokens.len();
        let unpaid = positions.end - positions.end.min(request.paid.max(positions.start));
        self.charge(&mut request, positions.end);
        let awaiting = Awaiting {
            request,
            transfer,
            positions,
            received: None,
            unpaid,
        };
        self.awaiting.insert(place, awaiting);
    }

    /// Starts a request whose transfer is settled, if the budget has anything left. Returns whether it did.
    pub(crate) fn start_arrived(&mut self, place: Place, sketch: &mut Sketch) -> bool {
        let arrived = self.awaiting.get(&place).and_then(|it| it.received);
        let Some(received) = arrived.filter(|_| sketch.budget > 0) else {
            return false;
        };
        let awaiting = self.awaiting.remove(&place);
        if let Some(awaiting) = awaiting {
            let lost = awaiting.positions.len() - received;
            self.policy.served(Service {
                tenant: awaiting.request.tenant,
                weight: awaiting.request.weight,
                prompt_tokens: awaiting.unpaid.min(lost),
                output_tokens: 0,
            });
            let found = Found {
                cached: awaiting.positions.start,
                received,
                forked: 0,
            };
            self.begin(place, awaiting.request, found, sketch);
        }
        true
    }
}

/// Positions that a request which begins to run need not compute, in this order.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Found {
    /// From the prefix cache.
    pub(crate) cached: usize,
    /// From elsewhere.
    pub(crate) received: usize,
    /// From its parent.
    pub(crate) forked: usize,
}

impl Found {
    pub(crate) fn tokens(self) -> usize {
        self.cached + self.received + self.forked
    }
}
