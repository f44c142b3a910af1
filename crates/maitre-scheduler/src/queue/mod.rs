//! Admission control: whether a request may join the queue, and how long it would wait there.
//!
//! Refusing at once is a service: a client that is refused can try another server, and a request that is let in
//! is served within the promised time. So the queue is bounded in sequences, in prompt tokens and, where the
//! operator or the request says so, in the wait that is expected at the recent rate.
//!
//! A [`BoundedQueue`] holds no requests. It counts those on their way to the [`Scheduler`](crate::Scheduler) and
//! those that wait there for their first step, so that its caller can keep it behind a lock of its own and refuse
//! a request while a step is planned. It is as pure as the scheduler: time is an argument, and the same calls
//! give the same answers.
//!
//! # Examples
//!
//! ```
//! use maitre_scheduler::queue::{BoundedQueue, Newcomer, QueueBounds, QueueRefusal};
//! use maitre_scheduler::{PolicyKind, TenantId, Time};
//!
//! let mut queue = BoundedQueue::new(QueueBounds {
//!     max_queue: 2,
//!     max_queued_tokens: 1000,
//!     max_wait: None,
//!     order: PolicyKind::Fcfs.build().queue_order(),
//! })?;
//! let request = Newcomer {
//!     sequences: 2,
//!     prompt_tokens: 100,
//!     tenant: TenantId(1),
//!     queue_timeout: None,
//! };
//! let answers = queue.join(&request, Time::ZERO)?;
//! assert!(matches!(queue.join(&request, Time::ZERO), Err(QueueRefusal::Full { .. })));
//!
//! // One has its first step after 10 ms, the other is cancelled.
//! queue.start(answers[0], Time::from_millis(10));
//! queue.leave(answers[1]);
//! assert_eq!((queue.waiting(), queue.waiting_tokens()), (0, 0));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod bounds;
mod rate;
mod refusal;

use std::collections::{BTreeMap, HashMap};

pub use bounds::{Newcomer, QueueBounds};
pub use refusal::{QueueRefusal, QueueUnit, WaitLimit};

use crate::policy::QueueOrder;
use crate::queue::bounds::Share;
use crate::queue::rate::{QueueRate, bounded};
use crate::{SchedulerError, TenantId, Time};

/// One sequence in the queue, from [`BoundedQueue::join`] to [`BoundedQueue::start`] or [`BoundedQueue::leave`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct QueueEntry(u64);

/// What is known of a sequence that waits for its first step.
#[derive(Debug, Clone, Copy)]
struct Entry {
    tokens: usize,
    tenant: TenantId,
    joined: Time,
    /// How many were in front of it then.
    ahead: usize,
}

/// The sequences between submission and their first step, and the bounds they have to keep to.
#[derive(Debug, Clone)]
pub struct BoundedQueue {
    bounds: QueueBounds,
    waiting: Share,
    /// In the order of joining.
    entries: BTreeMap<u64, Entry>,
    next_entry: u64,
    /// Only tenants with sequences that wait are here. Only looked up, never iterated: its order is random.
    by_tenant: HashMap<TenantId, Share>,
    /// Sequences that wait for blocks they had before. They go first.
    preempted: usize,
    rate: QueueRate,
}

impl BoundedQueue {
    /// An empty queue.
    ///
    /// # Errors
    ///
    /// What [`QueueBounds::validate`] refuses.
    pub fn new(bounds: QueueBounds) -> Result<Self, SchedulerError> {
        bounds.validate()?;
        Ok(Self {
            bounds,
            waiting: Share::default(),
            entries: BTreeMap::new(),
            next_entry: 0,
            by_tenant: HashMap::new(),
            preempted: 0,
            rate: QueueRate::default(),
        })
    }

    /// Takes places for all of a request's sequences, in their order, or for none.
    ///
    /// # Errors
    ///
    /// The first bound that the request does not keep to: places, then prompt tokens, then the wait.
    pub fn join(
        &mut self,
        newcomer: &Newcomer,
        now: Time,
    ) -> Result<Vec<QueueEntry>, QueueRefusal> {
        if newcomer.sequences == 0 {
            return Ok(Vec::new());
        }
        let new = Share::of(newcomer);
        self.check_places(new, newcomer.tenant)?;
        self.check_tokens(new, newcomer.tenant)?;
        self.check_wait(newcomer.queue_timeout, now)?;
        let sequences = 0..newcomer.sequences;
        Ok(sequences.map(|_| self.add(newcomer, now)).collect())
    }

    fn add(&mut self, newcomer: &Newcomer, now: Time) -> QueueEntry {
        let entry = QueueEntry(self.next_entry);
        self.next_entry += 1;
        let (tokens, tenant) = (newcomer.prompt_tokens, newcomer.tenant);
        let ahead = self.ahead();
        self.entries.insert(
            entry.0,
            Entry {
                tokens,
                tenant,
                joined: now,
                ahead,
            },
        );
        self.waiting.add(tokens);
        self.by_tenant.entry(tenant).or_default().add(tokens);
        entry
    }

    /// A sequence has its first step, which shows how fast the queue moves. Nothing if it left before.
    pub fn start(&mut self, entry: QueueEntry, now: Time) {
        if let Some(started) = self.remove(entry) {
            let waited = now.saturating_sub(started.joined);
            self.rate.started(now, waited, started.ahead);
        }
    }

    /// A sequence ended before its first step. Nothing if it has started or left before.
    pub fn leave(&mut self, entry: QueueEntry) {
        self.remove(entry);
    }

    fn remove(&mut self, entry: QueueEntry) -> Option<Entry> {
        let entry = self.entries.remove(&entry.0)?;
        self.waiting.remove(entry.tokens);
        if let Some(own) = self.by_tenant.get_mut(&entry.tenant) {
            own.remove(entry.tokens);
            if own.places == 0 {
                self.by_tenant.remove(&entry.tenant);
            }
        }
        Some(entry)
    }

    /// Says how many sequences wait for blocks they had before ([`Scheduler::num_preempted`]). They are in front of
    /// all others and take places.
    ///
    /// [`Scheduler::num_preempted`]: crate::Scheduler::num_preempted
    pub fn set_preempted(&mut self, preempted: usize) {
        self.preempted = preempted;
    }

    /// Sequences that wait for their first step.
    pub fn waiting(&self) -> usize {
        self.waiting.places
    }

    /// Their prompt tokens.
    pub fn waiting_tokens(&self) -> usize {
        self.waiting.tokens
    }

    /// How long a request that joins at `now` would wait for its first step, at the recent rate; `None` where
    /// that is unknown: there is no history yet, or turns do not follow arrival.
    pub fn estimated_wait(&self, now: Time) -> Option<Time> {
        if self.bounds.order != QueueOrder::Arrival {
            return None;
        }
        let Some((_, oldest)) = self.entries.first_key_value() else {
            return Some(Time::ZERO);
        };
        self.rate.wait(now, oldest.joined, self.ahead())
    }

    /// Everything that goes before a sequence which joins now.
    fn ahead(&self) -> usize {
        self.waiting.places.saturating_add(self.preempted)
    }

    /// Under a fair policy a tenant may have no more places than are left to all others together, so
    /// that a tenant that floods the queue cannot close it to the rest (Choudhury and Hahne 1998, "Dynamic
    /// queue length thresholds for shared-memory packet switches").
    fn check_places(&self, new: Share, tenant: TenantId) -> Result<(), QueueRefusal> {
        let (waiting, limit) = (self.ahead(), self.bounds.max_queue);
        let free = limit.saturating_sub(waiting);
        let retry_after = self.rate.retry_after(new.places);
        if new.places > free {
            return Err(QueueRefusal::Full {
                waiting,
                new: new.places,
                limit,
                retry_after,
            });
        }
        match self.own_share(tenant) {
            Some(own) if own.places.saturating_add(new.places) > free => {
                Err(QueueRefusal::TenantFull {
                    own: own.places,
                    new: new.places,
                    free,
                    unit: QueueUnit::Sequences,
                    retry_after,
                })
            }
            _ => Ok(()),
        }
    }

    /// The same for prompt tokens. A single request may be longer than the limit, and a tenant that has
    /// nothing in a fair queue may bring one in any case: it must be able to run some time.
    fn check_tokens(&self, new: Share, tenant: TenantId) -> Result<(), QueueRefusal> {
        let (waiting, limit) = (self.waiting.tokens, self.bounds.max_queued_tokens);
        let free = limit.saturating_sub(waiting);
        if self.bounds.order == QueueOrder::TenantShares {
            let Some(own) = self.own_share(tenant) else {
                return Ok(());
            };
            let wanted = own.tokens.saturating_add(new.tokens);
            if wanted <= free {
                return Ok(());
            }
            return Err(QueueRefusal::TenantFull {
                own: own.tokens,
                new: new.tokens,
                free,
                unit: QueueUnit::PromptTokens,
                retry_after: self.tokens_free_after(wanted - free),
            });
        }
        if waiting == 0 || new.tokens <= free {
            return Ok(());
        }
        Err(QueueRefusal::TokensFull {
            waiting,
            new: new.tokens,
            limit,
            retry_after: self.tokens_free_after(new.tokens - free),
        })
    }

    /// When sequences with so many prompt tokens should have started, if they are of the usual length.
    fn tokens_free_after(&self, tokens: usize) -> Time {
        let mean = (self.waiting.tokens / self.waiting.places.max(1)).max(1);
        self.rate.retry_after(tokens.div_ceil(mean))
    }

    /// What a tenant has in a fair queue, if it has anything.
    fn own_share(&self, tenant: TenantId) -> Option<Share> {
        let fair = self.bounds.order == QueueOrder::TenantShares;
        self.by_tenant.get(&tenant).copied().filter(|_| fair)
    }

    /// Where turns follow arrival, the wait can be estimated. Under other policies a new request may
    /// overtake all others, so there is no estimate. A request that finds the queue empty is always let in, as its
    /// estimate is zero: it shows what the rate is by now.
    fn check_wait(&self, queue_timeout: Option<Time>, now: Time) -> Result<(), QueueRefusal> {
        let Some(estimate) = self.estimated_wait(now) else {
            return Ok(());
        };
        let all = self.bounds.max_wait.map(|limit| (limit, WaitLimit::Queue));
        let own = queue_timeout.map(|limit| (limit, WaitLimit::QueueTimeout));
        match all.into_iter().chain(own).min_by_key(|(limit, _)| *limit) {
            Some((limit, limited_by)) if estimate > limit => Err(QueueRefusal::WaitTooLong {
                estimate,
                limit,
                limited_by,
                retry_after: bounded(estimate - limit),
            }),
            _ => Ok(()),
        }
    }
}
