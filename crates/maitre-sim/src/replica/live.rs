//! The requests that a replica has not answered yet, found by their number without hashing.

use maitre_scheduler::queue::QueueEntry;
use maitre_scheduler::{RequestId, Time};

use super::Answered;
use crate::workload::Request;

/// What is known of a request from its arrival to its last token.
#[derive(Debug, Clone)]
pub(super) struct Live {
    number: u64,
    user: Option<u32>,
    pub(super) arrival: Time,
    /// Its place in the queue, until its first step is planned.
    pub(super) queued: Option<QueueEntry>,
    pub(super) started: Time,
    pub(super) first_token: Time,
    pub(super) last_token: Time,
    prompt_tokens: u32,
    pub(super) cached_tokens: u32,
    pub(super) output_tokens: u32,
    pub(super) generated: u32,
}

impl Live {
    pub(super) fn new(request: &Request, queued: Option<QueueEntry>) -> Self {
        Self {
            number: request.number,
            user: request.user,
            arrival: request.arrival,
            queued,
            started: Time::ZERO,
            first_token: Time::ZERO,
            last_token: Time::ZERO,
            prompt_tokens: request.prompt_tokens,
            cached_tokens: 0,
            output_tokens: request.output_tokens,
            generated: 0,
        }
    }

    pub(super) fn answered(&self, replica: usize) -> Answered {
        Answered {
            number: self.number,
            replica,
            user: self.user,
            arrival: self.arrival,
            started: self.started,
            first_token: self.first_token,
            ended: self.last_token,
            prompt_tokens: self.prompt_tokens,
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

    pub(super) fn get_mut(&mut self, id: RequestId) -> Option<&mut Live> {
        self.slots.get_mut(id.0 as usize)?.as_mut()
    }

    pub(super) fn remove(&mut self, id: RequestId) {
        let slot = id.0 as usize;
        if self.slots.get_mut(slot).and_then(Option::take).is_some() {
            self.free.push(slot);
        }
    }
}
