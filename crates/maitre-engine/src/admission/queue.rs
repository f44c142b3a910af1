//! How long the queue may get, and how long the wait in it.
//!
//! Refusing at once is a service: a client that is refused can try another server, and a request that is let in
//! is served within the promised time. So the queue is bounded in sequences, in prompt tokens and, where the
//! operator or the request says so, in the wait that is expected at the recent pace.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use maitre_scheduler::{NewRequest, PolicyKind, TenantId, Time};

use crate::EngineError;
use crate::admission::queue_rate::{QueueRate, bounded};

/// The bounds of the queue.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QueueBounds {
    pub(crate) max_queue: usize,
    pub(crate) max_queued_tokens: usize,
    pub(crate) max_wait: Option<Duration>,
    /// `None` is a policy that the engine knows nothing of.
    pub(crate) policy: Option<PolicyKind>,
}

/// A sequence that waits for its first step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Queued {
    /// Its place in the order of entering; given when it enters.
    serial: u64,
    tokens: usize,
    tenant: TenantId,
    entered: Time,
    /// How many were in front of it then.
    ahead: usize,
}

impl Queued {
    pub(crate) fn of(request: &NewRequest) -> Self {
        Self {
            tokens: request.prompt.len(),
            tenant: request.tenant,
            entered: request.arrival,
            ..Self::default()
        }
    }
}

/// What one tenant, or all tenants together, have in the queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Share {
    places: usize,
    tokens: usize,
}

impl Share {
    fn of(sequences: &[Queued]) -> Self {
        Self {
            places: sequences.len(),
            tokens: sequences.iter().map(|one| one.tokens).sum(),
        }
    }
}

/// Sequences between submission and their first step.
#[derive(Debug)]
pub(crate) struct Queue {
    bounds: QueueBounds,
    waiting: Share,
    /// When each of them entered, the oldest first.
    entered: BTreeMap<u64, Time>,
    next_serial: u64,
    /// Only tenants who wait are here.
    by_tenant: HashMap<TenantId, Share>,
    /// Sequences that wait for blocks they had before. They go first.
    preempted: usize,
    rate: QueueRate,
}

impl Queue {
    pub(crate) fn new(bounds: QueueBounds) -> Self {
        Self {
            bounds,
            waiting: Share::default(),
            entered: BTreeMap::new(),
            next_serial: 0,
            by_tenant: HashMap::new(),
            preempted: 0,
            rate: QueueRate::default(),
        }
    }

    /// Sequences and prompt tokens that wait for their first step.
    pub(crate) fn size(&self) -> (usize, usize) {
        (self.waiting.places, self.waiting.tokens)
    }

    /// How many wait for blocks they had before.
    pub(crate) fn set_preempted(&mut self, preempted: usize) {
        self.preempted = preempted;
    }

    /// Takes places for all of a request's sequences, or for none.
    pub(crate) fn enter(
        &mut self,
        sequences: &mut [Queued],
        patience: Option<Duration>,
    ) -> Result<(), EngineError> {
        let new = Share::of(sequences);
        let Some(now) = sequences.first().map(|first| first.entered) else {
            return Ok(());
        };
        let tenant = sequences[0].tenant;
        self.check_places(new, tenant)?;
        self.check_tokens(new, tenant)?;
        self.check_wait(now, patience)?;
        for sequence in sequences {
            sequence.serial = self.next_serial;
            sequence.ahead = self.waiting.places + self.preempted;
            self.next_serial += 1;
            self.entered.insert(sequence.serial, sequence.entered);
            self.waiting.places += 1;
            self.waiting.tokens += sequence.tokens;
            let own = self.by_tenant.entry(tenant).or_default();
            own.places += 1;
            own.tokens += sequence.tokens;
        }
        Ok(())
    }

    /// One sequence left, to run (`started`) or for good.
    pub(crate) fn leave(&mut self, sequence: Queued, started: Option<Time>) {
        if self.entered.remove(&sequence.serial).is_none() {
            return;
        }
        self.waiting.places -= 1;
        self.waiting.tokens -= sequence.tokens;
        if let Some(own) = self.by_tenant.get_mut(&sequence.tenant) {
            own.places -= 1;
            own.tokens -= sequence.tokens;
            if own.places == 0 {
                self.by_tenant.remove(&sequence.tenant);
            }
        }
        if let Some(now) = started {
            self.rate
                .started(now, now.saturating_sub(sequence.entered), sequence.ahead);
        }
    }

    /// How long a new request would wait at `now`, at the recent pace; `None` where that is unknown: there is
    /// no history yet, or turns do not follow arrival.
    pub(crate) fn estimated_wait(&self, now: Time) -> Option<Duration> {
        if self.bounds.policy != Some(PolicyKind::Fcfs) {
            return None;
        }
        let ahead = self.waiting.places + self.preempted;
        let Some((_, &oldest)) = self.entered.first_key_value() else {
            return Some(Duration::ZERO);
        };
        self.rate.wait(now, oldest, ahead)
    }

    /// Under a fair policy a tenant may have no more places than are left to all others together, so
    /// that a tenant that floods the queue cannot close it to the rest (Choudhury and Hahne 1998, "Dynamic
    /// queue length thresholds for shared-memory packet switches").
    fn check_places(&self, new: Share, tenant: TenantId) -> Result<(), EngineError> {
        let limit = self.bounds.max_queue;
        let free = limit.saturating_sub(self.waiting.places + self.preempted);
        let retry_after = self.rate.retry_after(new.places);
        if new.places > free {
            return Err(EngineError::QueueFull { limit, retry_after });
        }
        match self.own_share(tenant) {
            Some(own) if own.places + new.places > free => Err(EngineError::TenantQueueFull {
                own: own.places,
                free,
                unit: "sequences",
                retry_after,
            }),
            _ => Ok(()),
        }
    }

    /// The same for prompt tokens. A single request may be longer than the limit, and a tenant that has
    /// nothing in a fair queue may bring one in any case: it must be able to run some time.
    fn check_tokens(&self, new: Share, tenant: TenantId) -> Result<(), EngineError> {
        let limit = self.bounds.max_queued_tokens;
        let free = limit.saturating_sub(self.waiting.tokens);
        let mean = (self.waiting.tokens / self.waiting.places.max(1)).max(1);
        let retry_after = |over: usize| self.rate.retry_after(over.div_ceil(mean));
        if self.bounds.policy == Some(PolicyKind::Fair) {
            return match self.own_share(tenant) {
                Some(own) if own.tokens + new.tokens > free => Err(EngineError::TenantQueueFull {
                    own: own.tokens,
                    free,
                    unit: "prompt tokens",
                    retry_after: retry_after(own.tokens + new.tokens - free),
                }),
                _ => Ok(()),
            };
        }
        if self.waiting.tokens == 0 || new.tokens <= free {
            return Ok(());
        }
        Err(EngineError::QueueTokensFull {
            queued_tokens: self.waiting.tokens,
            new_tokens: new.tokens,
            limit,
            retry_after: retry_after(new.tokens - free),
        })
    }

    /// What a tenant has in a fair queue, if it has anything.
    fn own_share(&self, tenant: TenantId) -> Option<Share> {
        let fair = self.bounds.policy == Some(PolicyKind::Fair);
        self.by_tenant.get(&tenant).copied().filter(|_| fair)
    }

    /// Where turns follow arrival, the wait can be estimated. Under other policies a new request may
    /// overtake all others, so there is no estimate. A request that finds the queue empty is always let in: it
    /// shows what the pace is by now.
    fn check_wait(&self, now: Time, patience: Option<Duration>) -> Result<(), EngineError> {
        let Some(estimate) = self
            .estimated_wait(now)
            .filter(|_| !self.entered.is_empty())
        else {
            return Ok(());
        };
        let all = self
            .bounds
            .max_wait
            .map(|limit| (limit, "this server allows"));
        let own = patience.map(|limit| (limit, "its queue_timeout allows"));
        match all.into_iter().chain(own).min_by_key(|(limit, _)| *limit) {
            Some((limit, whose)) if estimate > limit => Err(EngineError::Overloaded {
                estimate,
                limit,
                whose,
                retry_after: bounded(estimate - limit),
            }),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: fn(u64) -> Time = Time::from_millis;

    fn rules() -> QueueBounds {
        QueueBounds {
            max_queue: 8,
            max_queued_tokens: 1000,
            max_wait: None,
            policy: Some(PolicyKind::Fcfs),
        }
    }

    fn of(tenant: u64, tokens: usize, at: u64) -> Queued {
        Queued {
            tokens,
            tenant: TenantId(tenant),
            entered: AT(at),
            ..Queued::default()
        }
    }

    fn enter(
        queue: &mut Queue,
        one: Queued,
        patience: Option<Time>,
    ) -> Result<Queued, EngineError> {
        let mut sequences = [one];
        queue.enter(&mut sequences, patience).map(|()| sequences[0])
    }

    /// `left` sequences that entered at second 10 wait in a queue that moved by one every 100 ms.
    fn moving(bounds: QueueBounds, left: usize) -> Queue {
        let mut queue = Queue::new(bounds);
        for i in 0..80 {
            let one = enter(&mut queue, of(9, 1, 100 * i), None).unwrap();
            queue.leave(one, Some(AT(100 * i + 100)));
        }
        for _ in 0..left {
            enter(&mut queue, of(9, 1, 10_000), None).unwrap();
        }
        queue
    }

    #[test]
    fn the_wait_is_the_queue_at_its_pace_and_too_long_a_one_is_refused_at_once() {
        let now = AT(10_000);
        assert_eq!(moving(rules(), 0).estimated_wait(now), Some(Duration::ZERO));
        let mut queue = moving(rules(), 5);
        assert_eq!(queue.estimated_wait(now), Some(AT(600)));
        enter(&mut queue, of(1, 1, 10_000), Some(AT(600))).unwrap();
        let refused = enter(&mut queue, of(1, 1, 10_000), Some(AT(550))).unwrap_err();
        let (estimate, limit, retry_after) = (AT(700), AT(550), AT(150));
        assert_eq!(
            refused,
            EngineError::Overloaded {
                estimate,
                limit,
                whose: "its queue_timeout allows",
                retry_after
            }
        );
        let max_wait = Some(AT(400));
        let mut strict = moving(
            QueueBounds {
                max_wait,
                ..rules()
            },
            3,
        );
        let own = Some(AT(800));
        enter(&mut strict, of(1, 1, 10_000), own).unwrap();
        assert!(matches!(
            enter(&mut strict, of(1, 1, 10_000), own),
            Err(EngineError::Overloaded {
                whose: "this server allows",
                ..
            })
        ));
        let priority = QueueBounds {
            policy: Some(PolicyKind::Priority),
            max_wait,
            ..rules()
        };
        let mut queue = moving(priority, 7);
        assert_eq!(queue.estimated_wait(now), None);
        enter(&mut queue, of(1, 1, 10_000), own).unwrap();
    }

    /// A slow hour must not spoil the estimate for ever: a request that finds the queue empty is let in, and
    /// soon the estimate is right again, without another request waiting.
    #[test]
    fn a_slow_spell_is_forgotten_and_a_stall_is_seen() {
        let strict = QueueBounds {
            max_wait: Some(AT(500)),
            ..rules()
        };
        let mut queue = Queue::new(strict);
        for i in 0..10 {
            let one = enter(&mut queue, of(1, 1, 20_000 * i), None).unwrap();
            queue.leave(one, Some(AT(20_000 * i + 10_000)));
        }
        let mut refused = 0;
        for i in 0..100 {
            let at = 1_000_000 + 10 * i;
            let first = enter(&mut queue, of(1, 1, at), None).unwrap();
            refused += u64::from(match enter(&mut queue, of(1, 1, at), None) {
                Ok(second) => {
                    queue.leave(second, Some(AT(at + 2)));
                    false
                }
                Err(_) => true,
            });
            queue.leave(first, Some(AT(at + 1)));
        }
        assert!((1..40).contains(&refused), "{refused} of 100");
        let held = enter(&mut queue, of(1, 1, 2_000_000), None).unwrap();
        assert!(
            enter(&mut queue, of(1, 1, 2_000_400), None).is_err(),
            "no start for 400 ms"
        );
        queue.leave(held, None);
        assert_eq!(queue.size(), (0, 0));
    }

    #[test]
    fn places_and_tokens_are_bounded_and_the_delay_says_when_there_is_space() {
        let mut queue = moving(rules(), 7);
        let retry_after = AT(200);
        assert_eq!(
            queue.enter(&mut [of(1, 1, 10_000); 2], None),
            Err(EngineError::QueueFull {
                limit: 8,
                retry_after
            })
        );
        queue.set_preempted(1);
        assert!(
            enter(&mut queue, of(1, 1, 10_000), None).is_err(),
            "the preempted wait too"
        );
        queue.set_preempted(0);
        enter(&mut queue, of(1, 1, 10_000), None).unwrap();
        let mut queue = moving(rules(), 0);
        let long = enter(&mut queue, of(1, 5000, 10_000), None).unwrap();
        assert!(matches!(
            enter(&mut queue, of(1, 1, 10_000), None),
            Err(EngineError::QueueTokensFull {
                queued_tokens: 5000,
                new_tokens: 1,
                limit: 1000,
                ..
            })
        ));
        queue.leave(long, None);
        enter(&mut queue, of(1, 1, 10_000), None).unwrap();
        assert_eq!(queue.size(), (1, 1));
    }

    #[test]
    fn a_flood_leaves_places_for_others_where_service_is_fair() {
        let fair = QueueBounds {
            policy: Some(PolicyKind::Fair),
            ..rules()
        };
        let mut queue = Queue::new(fair);
        while enter(&mut queue, of(1, 1, 0), None).is_ok() {}
        assert_eq!(queue.size().0, 4, "half of the places");
        enter(&mut queue, of(2, 1, 0), None).unwrap();
        enter(&mut queue, of(3, 1, 0), None).unwrap();
        assert!(matches!(
            enter(&mut queue, of(1, 1, 0), None),
            Err(EngineError::TenantQueueFull {
                own: 4,
                free: 2,
                unit: "sequences",
                ..
            })
        ));
        let mut open = Queue::new(rules());
        while enter(&mut open, of(1, 1, 0), None).is_ok() {}
        assert_eq!(open.size().0, 8, "all of them where it is not");

        let mut queue = Queue::new(QueueBounds {
            max_queue: 100,
            ..fair
        });
        while enter(&mut queue, of(1, 100, 0), None).is_ok() {}
        assert_eq!(queue.size().1, 500, "half of the tokens");
        for _ in 0..4 {
            enter(&mut queue, of(2, 50, 0), None).unwrap();
        }
        enter(&mut queue, of(3, 5000, 0), None).unwrap();
    }
}
