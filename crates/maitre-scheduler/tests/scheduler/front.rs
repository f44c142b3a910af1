//! The bounded queue in front of a [`World`]'s scheduler, as an engine has it: each request asks it first, and it
//! hears of each first step and of each end before that.

use std::collections::BTreeMap;

use maitre_scheduler::queue::{BoundedQueue, Newcomer, QueueBounds, QueueEntry, QueueRefusal};
use maitre_scheduler::{NewRequest, RequestId, Time};

use crate::world::World;

pub(crate) struct Front {
    queue: BoundedQueue,
    max_queue: usize,
    entries: BTreeMap<RequestId, QueueEntry>,
}

impl Front {
    pub(crate) fn new(bounds: QueueBounds) -> Self {
        Self {
            queue: BoundedQueue::new(bounds).unwrap(),
            max_queue: bounds.max_queue,
            entries: BTreeMap::new(),
        }
    }
}

impl World {
    /// Adds a request if it may join the queue. Its arrival is the time, so that a replay of the calls, in which
    /// those that were refused are missing, meets the same queue.
    pub(crate) fn submit(&mut self, request: NewRequest) {
        let timeout = request.queue_deadline;
        let newcomer = Newcomer {
            sequences: 1,
            prompt_tokens: request.prompt.len(),
            tenant: request.tenant,
            queue_timeout: timeout.map(|at| at.saturating_sub(request.arrival)),
        };
        let (id, now) = (request.id, request.arrival);
        let Some(front) = &mut self.front else {
            // A request that can't run is part of a life.
            let _ = self.add(request);
            return;
        };
        match front.queue.join(&newcomer, now) {
            Ok(entries) => {
                front.entries.insert(id, entries[0]);
                if self.add(request).is_err() {
                    self.leave_queue(id);
                }
            }
            Err(QueueRefusal::Full { .. }) => self.tally.queue_full += 1,
            Err(QueueRefusal::TokensFull { .. }) => self.tally.queue_tokens_full += 1,
            Err(QueueRefusal::TenantFull { .. }) => self.tally.tenant_queue_full += 1,
            Err(QueueRefusal::WaitTooLong { .. }) => self.tally.wait_too_long += 1,
        }
    }

    /// A request was admitted. Only the first time it leaves the queue.
    pub(crate) fn start_in_queue(&mut self, id: RequestId, now: Time) {
        if let Some(front) = &mut self.front
            && let Some(entry) = front.entries.remove(&id)
        {
            front.queue.start(entry, now);
        }
    }

    /// A request ended. Nothing, unless it still waits for its first step.
    pub(crate) fn leave_queue(&mut self, id: RequestId) {
        if let Some(front) = &mut self.front
            && let Some(entry) = front.entries.remove(&id)
        {
            front.queue.leave(entry);
        }
    }

    /// The queue counts what waits in the scheduler, and no more than the bounds allow.
    pub(crate) fn check_front(&mut self) {
        let Some(front) = &mut self.front else {
            return;
        };
        front.queue.set_preempted(self.scheduler.num_preempted());
        let waiting = self
            .live
            .values()
            .filter(|entry| !entry.was_admitted && !entry.transferred);
        let tokens = waiting.clone().map(|entry| entry.request.prompt.len());
        let counted = (front.queue.waiting(), front.queue.waiting_tokens());
        assert_eq!(counted, (waiting.count(), tokens.sum()));
        assert!(front.queue.waiting() <= front.max_queue);
        let all = front.queue.waiting() + self.scheduler.num_preempted();
        assert_eq!(all, self.scheduler.num_waiting());
        // What was preempted has joined before, when no more than `max_queue` waited.
        let most = front.max_queue + self.scheduler.config().max_seqs;
        assert!(all <= most, "bounded queue");
    }
}
