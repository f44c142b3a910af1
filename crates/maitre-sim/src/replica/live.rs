//! The requests that a replica has not answered yet, found by their number without hashing.

use maitre_scheduler::queue::QueueEntry;
use maitre_scheduler::{RequestId, Time};

use crate::Answered;
use crate::workload::Request;

/// What is known of a request from its arrival to its last token.
#[derive(Debug, Clone)]
pub(crate) struct Live {
    pub(crate) request: Request,
    /// When it joined the queue of the replica that has it now.
    pub(super) joined: Time,
    /// Its place in the queue, until its first step is planned.
    pub(super) queued: Option<QueueEntry>,
    started: Time,
    first_token: Time,
    last_token: Time,
    cached_tokens: u32,
    /// Tokens of its answer that are there.
    pub(super) generated: u32,
    /// Tokens of its answer with which it leaves the replica.
    pub(super) leaves_with: u32,
    /// Tokens before the one that is known which a draft model, if there is one, has not computed.
    pub(super) draft_behind: u64,
}

impl Live {
    /// One that comes from outside.
    pub(crate) fn new(request: Request) -> Self {
        Self {
            joined: request.arrival,
            leaves_with: request.output_tokens,
            request,
            queued: None,
            started: Time::ZERO,
            first_token: Time::ZERO,
            last_token: Time::ZERO,
            cached_tokens: 0,
            generated: 0,
            draft_behind: 0,
        }
    }

    /// Its replica is gone, and all that was computed: it begins anew. Returns the tokens that are lost.
    pub(crate) fn restart(&mut self) -> u32 {
        *self = Self {
            generated: self.generated,
            ..Self::new(self.request.clone())
        };
        std::mem::take(&mut self.generated)
    }

    /// Its first step is planned, with so many tokens of its prompt from the prefix cache.
    pub(super) fn start(&mut self, now: Time, cached_tokens: u32) {
        self.started = now;
        self.cached_tokens = cached_tokens;
    }

    /// Since its first token.
    pub(super) fn since_first_token(&self, now: Time) -> Time {
        now.saturating_sub(self.first_token)
    }

    /// So many further tokens, at least one, came at the end of steps of which the first ended at `first` and the last at `last`.
    /// Returns the time since its last token before, if it had one.
    pub(super) fn take_tokens(&mut self, count: u32, first: Time, last: Time) -> Option<Time> {
        let gap = (self.generated > 0).then(|| first.saturating_sub(self.last_token));
        if gap.is_none() {
            self.first_token = first;
        }
        self.last_token = last;
        self.generated += count;
        gap
    }

    /// Whether it has all its tokens.
    pub(super) fn is_answered(&self) -> bool {
        self.generated >= self.request.output_tokens
    }

    /// Whether it has all tokens that it gets here.
    pub(super) fn is_done_here(&self) -> bool {
        self.generated >= self.leaves_with
    }

    pub(super) fn answered(&self, replica: usize) -> Answered {
        Answered {
            number: self.request.number,
            replica,
            user: self.request.user,
            arrival: self.request.arrival,
            started: self.started,
            first_token: self.first_token,
            ended: self.last_token,
            prompt_tokens: self.request.prompt_tokens,
            cached_tokens: self.cached_tokens,
            output_tokens: self.generated,
        }
    }
}

/// Live requests in slots that are used again. A slot is the number that the scheduler knows a request by.
#[derive(Debug, Default)]
pub(super) struct Lives {
    slots: Vec<Option<Live>>,
    free: Vec<usize>,
}

impl Lives {
    /// Puts a request into a free slot and returns which one.
    pub(super) fn insert(&mut self, live: Live) -> u64 {
        let slot = self.free.pop().unwrap_or(self.slots.len());
        match self.slots.get_mut(slot) {
            Some(place) => *place = Some(live),
            None => self.slots.push(Some(live)),
        }
        slot as u64
    }

    pub(super) fn get(&self, id: RequestId) -> Option<&Live> {
        self.slots.get(id.0 as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, id: RequestId) -> Option<&mut Live> {
        self.slots.get_mut(id.0 as usize)?.as_mut()
    }

    pub(super) fn remove(&mut self, id: RequestId) -> Option<Live> {
        let slot = id.0 as usize;
        let live = self.slots.get_mut(slot).and_then(Option::take)?;
        self.free.push(slot);
        Some(live)
    }

    /// All of them, in the order of their arrival.
    pub(super) fn into_all(self) -> Vec<Live> {
        let mut all: Vec<Live> = self.slots.into_iter().flatten().collect();
        all.sort_by_key(|live| (live.request.arrival, live.request.number));
        all
    }
}
