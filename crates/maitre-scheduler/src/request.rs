//! A request as the scheduler sees it: known tokens, how many of them are computed, and its limits.

use std::fmt;

use maitre_kv::{HashChain, HashKey, Namespace, SeqId};

use crate::policy::Waiting;
use crate::{BlockSource, StepId};

/// Preemptions after which a request's next admission reserves blocks beyond those it needs at once.
pub(crate) const PREEMPTIONS_BEFORE_RESERVATION: u32 = 2;

/// How many, the first time.
const RESERVED_BLOCKS: usize = 8;

/// Time since the engine started, by the caller's clock. This crate has none of its own.
pub type Time = std::time::Duration;

/// One request, numbered by the caller. The number may be reused once the request has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "request {}", self.0)
    }
}

/// On whose account a request runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TenantId(pub u64);

/// A request to be queued by [`Scheduler::add`](crate::Scheduler::add).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRequest {
    /// The caller's number for it; no live request has the same.
    pub id: RequestId,
    /// Prompt tokens, at least one.
    pub prompt: Vec<u32>,
    /// Most tokens to generate, at least one. A request that has them is finished, whatever its
    /// outcome says.
    pub max_tokens: usize,
    /// The higher, the later it is preempted (but under [`PolicyKind::Deadline`](crate::PolicyKind)), and under
    /// [`PolicyKind::Priority`](crate::PolicyKind) the earlier its prompt is admitted and computed.
    pub priority: i32,
    /// On whose account it runs, which matters to fair policies.
    pub tenant: TenantId,
    /// The tenant's share relative to others', at least 1.
    pub weight: u32,
    /// When it arrived. Earlier arrivals go first, equal ones in the order they were added.
    pub arrival: Time,
    /// When it ends unanswered, waiting or running.
    pub deadline: Option<Time>,
    /// When it ends if it has not been admitted by then. A preempted request was admitted.
    pub queue_deadline: Option<Time>,
    /// Whether logits are wanted for every prompt position, not just for the last one. Such a request
    /// computes its whole prompt and finds nothing in the prefix cache.
    pub prompt_logits: bool,
    /// Whose blocks it may share.
    pub namespace: Namespace,
    /// Whether it starts from what the prefix cache has.
    pub read_cache: bool,
    /// Whether others may start from what it computes.
    pub write_cache: bool,
    /// A live request with the same prompt, whose prompt blocks it shares once they are computed
    /// (parallel sampling). One that is gone or has another prompt is ignored.
    pub fork_of: Option<RequestId>,
    /// Where the keys and values of the beginning of its prompt can be had, if they can. With `prompt_logits` they are
    /// computed in any case.
    pub source: Option<BlockSource>,
    /// Whether its next step may be planned before the tokens of steps in flight are known, because whatever
    /// computes the steps samples them by itself and puts them in.
    pub plan_ahead: bool,
}

impl NewRequest {
    /// A request that arrives at the beginning of time, has the default of everything, and shares what it
    /// computes with all others that say nothing else either.
    pub fn new(id: u64, prompt: Vec<u32>, max_tokens: usize) -> Self {
        Self {
            id: RequestId(id),
            prompt,
            max_tokens,
            priority: 0,
            tenant: TenantId::default(),
            weight: 1,
            arrival: Time::ZERO,
            deadline: None,
            queue_deadline: None,
            prompt_logits: false,
            namespace: Namespace::new(&HashKey::default(), &[]),
            read_cache: true,
            write_cache: true,
            fork_of: None,
            source: None,
            plan_ahead: false,
        }
    }
}

/// A request's place in the order of service: by arrival, then by the order of the `add` calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    arrival: Time,
    serial: u64,
}

impl Place {
    /// `serial` is unique among all requests ever added.
    pub(crate) fn new(arrival: Time, serial: u64) -> Self {
        Self { arrival, serial }
    }

    /// When the request arrived.
    pub fn arrival(self) -> Time {
        self.arrival
    }

    /// The owner of the request's blocks. Unlike a [`RequestId`] it is never reused, so a request that
    /// is still leaving cannot be taken for a new one of the same id.
    pub(crate) fn sequence(self) -> SeqId {
        SeqId(self.serial)
    }
}

/// What a request that was preempted before holds beyond what it needs at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reservation {
    /// Nothing.
    None,
    /// Some blocks.
    Some,
    /// All it may ever need.
    All,
}

/// A live request.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) id: RequestId,
    /// Known tokens: the prompt, then what was generated.
    pub(crate) tokens: Vec<u32>,
    pub(crate) prompt_len: usize,
    /// Known tokens at which generation ends.
    pub(crate) full_len: usize,
    pub(crate) priority: i32,
    pub(crate) tenant: TenantId,
    pub(crate) weight: u32,
    pub(crate) prompt_logits: bool,
    pub(crate) read_cache: bool,
    pub(crate) write_cache: bool,
    pub(crate) plan_ahead: bool,
    pub(crate) deadline: Option<Time>,
    /// Cleared by the first admission.
    pub(crate) queue_deadline: Option<Time>,
    /// The hashes of the full blocks of `tokens`.
    pub(crate) chain: HashChain,
    /// Whose prompt it shares, until it is admitted.
    pub(crate) fork_of: Option<Place>,
    /// Where the beginning of its prompt is, until that is asked for.
    pub(crate) source: Option<BlockSource>,
    /// Known tokens when it was last admitted: what prefill has to compute before decoding starts.
    pub(crate) prefill_len: usize,
    /// Positions that were there when it was last admitted. They are not written again.
    pub(crate) cached: usize,
    /// Tokens that need no computing or that planned steps compute, since the last admission. One step in
    /// flight samples the token at each position from the end of `tokens` to this one, both included.
    pub(crate) scheduled: usize,
    /// The newest planned step that samples a token of it, which only matters while that step is in flight.
    pub(crate) sampled_in: Option<StepId>,
    /// Tokens that need no computing or that committed steps computed, since the last admission.
    pub(crate) committed: usize,
    /// Full blocks that were offered to the prefix cache, since the last admission.
    pub(crate) remembered: usize,
    /// Positions whose logits were delivered by a committed step; a preemption does not undo that.
    pub(crate) delivered: usize,
    /// Known tokens that its tenant has paid for.
    pub(crate) paid: usize,
    /// Tokens that its next step may draft.
    pub(crate) next_drafts: usize,
    /// How often it lost its blocks.
    pub(crate) preemptions: u32,
}

impl Request {
    pub(crate) fn new(request: NewRequest, fork_of: Option<Place>) -> Self {
        Self {
            id: request.id,
            prompt_len: request.prompt.len(),
            full_len: request.prompt.len().saturating_add(request.max_tokens),
            tokens: request.prompt,
            priority: request.priority,
            tenant: request.tenant,
            weight: request.weight,
            prompt_logits: request.prompt_logits,
            read_cache: request.read_cache && !request.prompt_logits,
            write_cache: request.write_cache,
            plan_ahead: request.plan_ahead,
            deadline: request.deadline,
            queue_deadline: request.queue_deadline,
            chain: HashChain::new(request.namespace),
            fork_of,
            source: request.source,
            prefill_len: 0,
            cached: 0,
            scheduled: 0,
            sampled_in: None,
            committed: 0,
            remembered: 0,
            delivered: 0,
            paid: 0,
            next_drafts: 0,
            preemptions: 0,
        }
    }

    /// What the policy needs to know of it.
    pub(crate) fn waiting(&self, place: Place) -> Waiting {
        Waiting {
            place,
            priority: self.priority,
            deadline: self.deadline,
            tenant: self.tenant,
            weight: self.weight,
            prompt_tokens: self.prompt_len,
            output_tokens: self.tokens.len() - self.prompt_len,
            max_tokens: self.full_len - self.prompt_len,
            preemptions: self.preemptions,
        }
    }

    /// How much of what it may ever need a running request holds for sure.
    pub(crate) fn reservation(&self, block_size: usize) -> Reservation {
        if self.preemptions < PREEMPTIONS_BEFORE_RESERVATION {
            Reservation::None
        } else if self.reserved(block_size) < self.full_len {
            Reservation::Some
        } else {
            Reservation::All
        }
    }

    /// Positions that its last admission took blocks for.
    pub(crate) fn reserved(&self, block_size: usize) -> usize {
        self.reserve(self.prefill_len, block_size)
    }

    /// Positions that an admission with `known` tokens takes blocks for: these and the next one, and with a
    /// reservation some blocks more, twice as many after each further preemption, until they are all it
    /// may ever need. All of them at once would keep others out for a length that few answers reach.
    pub(crate) fn reserve(&self, known: usize, block_size: usize) -> usize {
        let next = known + 1;
        let Some(doublings) = self.preemptions.checked_sub(PREEMPTIONS_BEFORE_RESERVATION) else {
            return next;
        };
        let blocks = RESERVED_BLOCKS.saturating_mul(1 << doublings.min(usize::BITS / 2));
        next.saturating_add(blocks.saturating_mul(block_size))
            .min(self.full_len.max(next))
    }

    /// Known tokens that no planned step computes yet. None while the next token is being sampled.
    pub(crate) fn unscheduled(&self) -> usize {
        self.tokens.len().saturating_sub(self.scheduled)
    }

    /// Whether a decode can be planned: of a known token, or of one that a step in flight samples.
    pub(crate) fn is_ready(&self) -> bool {
        self.is_decoding() && (self.unscheduled() > 0 || self.may_go_ahead())
    }

    /// Whether a decode may be planned whose token a step in flight samples. Only if each step in flight yields
    /// exactly one token, so not with drafts, which `next_drafts` asked for; if the token that this decode
    /// would sample is not one too many; and if no logits of the prompt are still to come.
    fn may_go_ahead(&self) -> bool {
        self.plan_ahead
            && self.next_drafts == 0
            && self.scheduled + 1 < self.full_len
            && (!self.prompt_logits || self.delivered >= self.prompt_len)
    }

    /// Whether prefill is planned to its end, so that each further step computes one token.
    pub(crate) fn is_decoding(&self) -> bool {
        self.scheduled >= self.prefill_len
    }

    /// Whether some of the tokens that prefill has to compute are not planned yet.
    pub(crate) fn is_in_prompt(&self) -> bool {
        !self.is_decoding() && self.unscheduled() > 0
    }

    /// Whether a step in flight computes some of its tokens.
    pub(crate) fn is_in_flight(&self) -> bool {
        self.scheduled > self.committed
    }

    /// Forgets what was computed, and returns how much that was.
    pub(crate) fn restart(&mut self) -> usize {
        self.scheduled = 0;
        self.cached = 0;
        self.remembered = 0;
        std::mem::take(&mut self.committed)
    }
}
