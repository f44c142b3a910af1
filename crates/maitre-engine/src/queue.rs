//! How long the queue may get, and how long the wait in it.
//!
//! Refusing in time is a service: whoever is told at once can go elsewhere, and whoever is let in is served
//! within what was promised. So the queue is bounded in sequences, in prompt tokens and, where the operator or
//! the request says so, in the time that the wait would take at the pace of late.

use std::collections::HashMap;
use std::time::Duration;

use maitre_scheduler::{NewRequest, PolicyKind, TenantId, Time};

use crate::EngineError;

const SHORTEST_RETRY: Duration = Duration::from_millis(50);
const LONGEST_RETRY: Duration = Duration::from_secs(30);
const RETRY_WITHOUT_HISTORY: Duration = Duration::from_secs(1);

/// The bounds of the queue.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    pub(crate) max_queue: usize,
    pub(crate) max_queued_tokens: usize,
    pub(crate) max_wait: Option<Duration>,
    pub(crate) policy: PolicyKind,
}

/// What a sequence counts for while it waits for its first step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Queued {
    tokens: usize,
    tenant: TenantId,
}

impl Queued {
    pub(crate) fn of(request: &NewRequest) -> Self {
        Self {
            tokens: request.prompt.len(),
            tenant: request.tenant,
        }
    }
}

/// Sequences between submission and their first step.
#[derive(Debug)]
pub(crate) struct Queue {
    rules: Rules,
    waiting: usize,
    tokens: usize,
    /// Per tenant, how many of them are its own. Only tenants who wait are here.
    by_tenant: HashMap<TenantId, usize>,
    pace: Pace,
}

impl Queue {
    pub(crate) fn new(rules: Rules) -> Self {
        Self {
            rules,
            waiting: 0,
            tokens: 0,
            by_tenant: HashMap::new(),
            pace: Pace::default(),
        }
    }

    /// Sequences and prompt tokens that wait.
    pub(crate) fn size(&self) -> (usize, usize) {
        (self.waiting, self.tokens)
    }

    /// Takes places for all of a request's sequences, or for none.
    pub(crate) fn enter(
        &mut self,
        sequences: &[Queued],
        patience: Option<Duration>,
    ) -> Result<(), EngineError> {
        self.check_places(sequences)?;
        self.check_tokens(sequences)?;
        self.check_wait(patience)?;
        for sequence in sequences {
            self.waiting += 1;
            self.tokens += sequence.tokens;
            *self.by_tenant.entry(sequence.tenant).or_default() += 1;
        }
        Ok(())
    }

    /// One sequence left, to run (`started`) or for good.
    pub(crate) fn leave(&mut self, sequence: Queued, started: Option<Time>) {
        let others_wait = self.waiting > 1;
        self.waiting = self.waiting.saturating_sub(1);
        self.tokens = self.tokens.saturating_sub(sequence.tokens);
        if let Some(own) = self.by_tenant.get_mut(&sequence.tenant) {
            *own -= 1;
            if *own == 0 {
                self.by_tenant.remove(&sequence.tenant);
            }
        }
        if let Some(now) = started {
            self.pace.start(now, others_wait);
        }
    }

    /// How long a newcomer would wait at the pace of late. Nobody waits: not at all. No history: unknown.
    pub(crate) fn estimated_wait(&self) -> Option<Duration> {
        if self.waiting == 0 {
            return Some(Duration::ZERO);
        }
        Some(self.pace.mean_gap? * u32::try_from(self.waiting).unwrap_or(u32::MAX))
    }

    /// Under a fair policy a tenant may have no more places than are left to all others together, so
    /// that whoever floods the queue cannot close it to the rest (Choudhury and Hahne 1998, "Dynamic
    /// queue length thresholds for shared-memory packet switches").
    fn check_places(&self, sequences: &[Queued]) -> Result<(), EngineError> {
        let places = sequences.len();
        let free = self.rules.max_queue - self.waiting.min(self.rules.max_queue);
        let own = sequences
            .first()
            .and_then(|first| self.by_tenant.get(&first.tenant))
            .copied()
            .unwrap_or(0);
        let fair = self.rules.policy == PolicyKind::Fair && own > 0;
        let (limit, full) = if fair {
            (own.min(free), own + places > free)
        } else {
            (self.rules.max_queue, places > free)
        };
        if full {
            return Err(EngineError::QueueFull {
                limit,
                retry_after: self.retry_after(places),
            });
        }
        Ok(())
    }

    fn check_tokens(&self, sequences: &[Queued]) -> Result<(), EngineError> {
        let new_tokens: usize = sequences.iter().map(|one| one.tokens).sum();
        let limit = self.rules.max_queued_tokens;
        // A single request may be longer than the limit: it must be able to run some time.
        if self.tokens == 0 || self.tokens.saturating_add(new_tokens) <= limit {
            return Ok(());
        }
        let over = self.tokens + new_tokens - limit;
        let mean = (self.tokens / self.waiting.max(1)).max(1);
        Err(EngineError::QueueTokensFull {
            queued_tokens: self.tokens,
            new_tokens,
            limit,
            retry_after: self.retry_after(over.div_ceil(mean)),
        })
    }

    /// Where turns follow arrival, the wait can be told beforehand. Under other policies a newcomer may
    /// overtake everybody, so nothing is said.
    fn check_wait(&self, patience: Option<Duration>) -> Result<(), EngineError> {
        let in_line = matches!(self.rules.policy, PolicyKind::Fcfs);
        let Some(estimate) = self.estimated_wait().filter(|_| in_line) else {
            return Ok(());
        };
        let house = self
            .rules
            .max_wait
            .map(|limit| (limit, "this server allows"));
        let own = patience.map(|limit| (limit, "its queue_timeout allows"));
        match house.into_iter().chain(own).min_by_key(|(limit, _)| *limit) {
            Some((limit, whose)) if estimate > limit => Err(EngineError::Overloaded {
                estimate,
                limit,
                whose,
                retry_after: bounded(estimate - limit),
            }),
            _ => Ok(()),
        }
    }

    /// When so many places should be free.
    fn retry_after(&self, places: usize) -> Duration {
        let places = u32::try_from(places).unwrap_or(u32::MAX);
        self.pace.mean_gap.map_or(RETRY_WITHOUT_HISTORY, |gap| {
            bounded(gap.saturating_mul(places))
        })
    }
}

fn bounded(wait: Duration) -> Duration {
    wait.clamp(SHORTEST_RETRY, LONGEST_RETRY)
}

/// How fast the queue moves: a moving average of the time between two starts while somebody waits.
#[derive(Debug, Default)]
struct Pace {
    last_start: Option<Time>,
    mean_gap: Option<Duration>,
}

impl Pace {
    /// A request started; `others_wait` tells whether the next start follows as soon as it can. A
    /// gap in which nobody waited says nothing about how fast the queue moves.
    fn start(&mut self, now: Time, others_wait: bool) {
        if let Some(last) = self.last_start {
            let gap = now.saturating_sub(last);
            // A sixteenth of the newest gap: several start in one step, so single gaps mean little.
            self.mean_gap = Some(self.mean_gap.map_or(gap, |mean| (mean * 15 + gap) / 16));
        }
        self.last_start = others_wait.then_some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: fn(u64) -> Time = Time::from_millis;

    fn rules() -> Rules {
        Rules {
            max_queue: 8,
            max_queued_tokens: 1000,
            max_wait: None,
            policy: PolicyKind::Fcfs,
        }
    }

    fn of(tenant: u32, tokens: usize) -> Queued {
        Queued {
            tokens,
            tenant: TenantId(tenant),
        }
    }

    /// A queue of `left` sequences that moved by one every 100 ms.
    fn moving(rules: Rules, left: usize) -> Queue {
        let mut queue = Queue::new(rules);
        for start in 0..4 {
            for _ in 0..2 {
                queue.enter(&[of(9, 1)], None).unwrap();
            }
            queue.leave(of(9, 1), Some(AT(100 * start)));
            queue.leave(of(9, 1), None);
            queue.pace.last_start = Some(AT(100 * start));
        }
        for _ in 0..left {
            queue.enter(&[of(9, 1)], None).unwrap();
        }
        queue
    }

    #[test]
    fn only_gaps_in_which_somebody_waited_count() {
        let mut pace = Pace::default();
        pace.start(AT(0), true);
        pace.start(AT(1600), false);
        assert_eq!(pace.mean_gap, Some(AT(1600)));
        pace.start(AT(3_600_000), true);
        assert_eq!(pace.mean_gap, Some(AT(1600)), "an idle hour says nothing");
        pace.start(AT(3_603_200), true);
        assert_eq!(pace.mean_gap, Some(AT(1700)));
    }

    #[test]
    fn the_wait_is_the_queue_at_its_pace_and_too_long_a_one_is_refused_at_once() {
        assert_eq!(moving(rules(), 0).estimated_wait(), Some(Duration::ZERO));
        let mut queue = moving(rules(), 5);
        assert_eq!(queue.estimated_wait(), Some(AT(500)));
        queue.enter(&[of(1, 1)], Some(AT(500))).unwrap();
        let refused = queue.enter(&[of(1, 1)], Some(AT(450))).unwrap_err();
        let (estimate, limit, retry_after) = (AT(600), AT(450), AT(150));
        assert_eq!(
            refused,
            EngineError::Overloaded {
                estimate,
                limit,
                whose: "its queue_timeout allows",
                retry_after
            }
        );
        let max_wait = Some(AT(300));
        let mut strict = moving(
            Rules {
                max_wait,
                ..rules()
            },
            3,
        );
        let own = Some(AT(800));
        strict.enter(&[of(1, 1)], own).unwrap();
        assert!(matches!(
            strict.enter(&[of(1, 1)], own),
            Err(EngineError::Overloaded {
                whose: "this server allows",
                ..
            })
        ));
        let priority = Rules {
            policy: PolicyKind::Priority,
            max_wait,
            ..rules()
        };
        moving(priority, 7).enter(&[of(1, 1)], own).unwrap();
    }

    #[test]
    fn places_and_tokens_are_bounded_and_the_delay_says_when_there_is_room() {
        let mut queue = moving(rules(), 7);
        let retry_after = AT(200);
        assert_eq!(
            queue.enter(&[of(1, 1); 2], None),
            Err(EngineError::QueueFull {
                limit: 8,
                retry_after
            })
        );
        queue.enter(&[of(1, 1)], None).unwrap();
        let mut queue = moving(rules(), 0);
        queue.enter(&[of(1, 5000)], None).unwrap();
        let refused = queue.enter(&[of(1, 1)], None).unwrap_err();
        assert!(matches!(
            refused,
            EngineError::QueueTokensFull {
                queued_tokens: 5000,
                new_tokens: 1,
                limit: 1000,
                ..
            }
        ));
        queue.leave(of(1, 5000), None);
        queue.enter(&[of(1, 1)], None).unwrap();
        assert_eq!(queue.size(), (1, 1));
    }

    #[test]
    fn a_flood_leaves_places_for_others_where_service_is_fair() {
        let mut queue = Queue::new(Rules {
            policy: PolicyKind::Fair,
            ..rules()
        });
        while queue.enter(&[of(1, 1)], None).is_ok() {}
        assert_eq!(queue.size().0, 4, "half of the places");
        queue.enter(&[of(2, 1)], None).unwrap();
        queue.enter(&[of(3, 1)], None).unwrap();
        assert!(queue.enter(&[of(1, 1)], None).is_err());
        let mut open = Queue::new(rules());
        while open.enter(&[of(1, 1)], None).is_ok() {}
        assert_eq!(open.size().0, 8, "all of them where it is not");
    }
}
