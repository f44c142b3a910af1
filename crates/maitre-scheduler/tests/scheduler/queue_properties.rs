//! What holds of the bounded queue in any order of calls, and while it drains.

use std::collections::VecDeque;

use maitre_scheduler::queue::{
    BoundedQueue, Newcomer, QueueBounds, QueueEntry, QueueRefusal, QueueUnit,
};
use maitre_scheduler::{QueueOrder, TenantId, Time};
use proptest::prelude::*;

use crate::queue::{BOUNDS, newcomer, queue};

const AT: fn(u64) -> Time = Time::from_millis;

#[derive(Debug, Clone)]
enum Op {
    Join(Newcomer),
    /// Of the entries ever given, those that have started or left included.
    Start(usize),
    Leave(usize),
    Preempted(usize),
    Pass(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let join = (0..4usize, 0..60usize, 0..3u64, prop::option::of(0..400u64)).prop_map(
        |(sequences, tokens, tenant, timeout)| {
            Op::Join(Newcomer {
                sequences,
                queue_timeout: timeout.map(AT),
                ..newcomer(tenant, tokens)
            })
        },
    );
    prop_oneof![
        5 => join,
        3 => (0..1000usize).prop_map(Op::Start),
        1 => (0..1000usize).prop_map(Op::Leave),
        1 => (0..4usize).prop_map(Op::Preempted),
        3 => (0..200u64).prop_map(Op::Pass),
    ]
}

fn bounds() -> impl Strategy<Value = QueueBounds> {
    let order = prop_oneof![
        Just(QueueOrder::Arrival),
        Just(QueueOrder::TenantShares),
        Just(QueueOrder::Overtaking),
    ];
    (1..12usize, 1..300usize, prop::option::of(0..500u64), order).prop_map(
        |(max_queue, max_queued_tokens, max_wait, order)| QueueBounds {
            max_queue,
            max_queued_tokens,
            max_wait: max_wait.map(AT),
            order,
        },
    )
}

/// What the queue should count, said a second time: a list of all that wait.
struct Books {
    queue: BoundedQueue,
    bounds: QueueBounds,
    now: Time,
    preempted: usize,
    waiting: Vec<(QueueEntry, Newcomer)>,
    /// Every entry ever given.
    given: Vec<QueueEntry>,
}

impl Books {
    fn tokens(&self, of: impl Fn(&Newcomer) -> bool) -> usize {
        let waiting = self.waiting.iter().filter(|(_, one)| of(one));
        waiting.map(|(_, one)| one.prompt_tokens).sum()
    }

    /// The bounds of places and tokens, from scratch: what the refusal must be, without its delay.
    fn expected(&self, new: &Newcomer) -> Option<QueueRefusal> {
        let retry_after = Time::ZERO;
        let (limit, waiting) = (self.bounds.max_queue, self.waiting.len() + self.preempted);
        let (places, tokens) = (new.sequences, new.sequences * new.prompt_tokens);
        if waiting + places > limit {
            return Some(QueueRefusal::Full {
                waiting,
                new: places,
                limit,
                retry_after,
            });
        }
        let own = |one: &Newcomer| one.tenant == new.tenant;
        let own_places = self.waiting.iter().filter(|(_, one)| own(one)).count();
        let fair = self.bounds.order == QueueOrder::TenantShares;
        let tenant_full = |own: usize, new: usize, free: usize, unit| {
            let full = fair && own_places > 0 && own + new > free;
            full.then_some(QueueRefusal::TenantFull {
                own,
                new,
                free,
                unit,
                retry_after,
            })
        };
        let full = tenant_full(own_places, places, limit - waiting, QueueUnit::Sequences);
        let (limit, waiting) = (self.bounds.max_queued_tokens, self.tokens(|_| true));
        let free = limit.saturating_sub(waiting);
        let own_tokens = self.tokens(own);
        let full = full.or_else(|| tenant_full(own_tokens, tokens, free, QueueUnit::PromptTokens));
        let all_full = !fair && waiting > 0 && tokens > free;
        full.or(all_full.then_some(QueueRefusal::TokensFull {
            waiting,
            new: tokens,
            limit,
            retry_after,
        }))
    }

    fn join(&mut self, new: &Newcomer) {
        let before = self.queue.estimated_wait(self.now);
        let expected = self.expected(new).filter(|_| new.sequences > 0);
        match self.queue.join(new, self.now) {
            Ok(entries) => {
                assert_eq!(expected, None, "a bound is exceeded");
                assert_eq!(entries.len(), new.sequences);
                let limits = [self.bounds.max_wait, new.queue_timeout];
                let in_time = |wait| limits.iter().flatten().all(|limit| wait <= *limit);
                assert!(new.sequences == 0 || before.is_none_or(in_time), "too late");
                self.waiting.extend(entries.iter().map(|&it| (it, *new)));
                self.given.extend(entries);
                // What is behind others waits no less than they do.
                assert_no_less(self.queue.estimated_wait(self.now), before);
            }
            Err(refusal) => {
                let delay = refusal.retry_after();
                assert!((AT(50)..=AT(30_000)).contains(&delay), "{delay:?}");
                match refusal {
                    QueueRefusal::WaitTooLong {
                        estimate, limit, ..
                    } => {
                        assert_eq!(expected, None, "places and tokens come first");
                        assert!(estimate > limit && !self.waiting.is_empty());
                        assert_eq!(Some(estimate), before);
                        let limits = [self.bounds.max_wait, new.queue_timeout];
                        assert_eq!(limits.into_iter().flatten().min(), Some(limit));
                    }
                    other => assert_eq!(Some(without_delay(other)), expected),
                }
                assert_eq!(
                    self.queue.estimated_wait(self.now),
                    before,
                    "a trace is left"
                );
            }
        }
    }

    fn end(&mut self, index: usize, starts: bool) {
        let Some(&entry) = self.given.get(index % self.given.len().max(1)) else {
            return;
        };
        let before = self.queue.estimated_wait(self.now);
        let waits = self.waiting.iter().any(|(it, _)| *it == entry);
        self.waiting.retain(|(it, _)| *it != entry);
        match starts {
            true => self.queue.start(entry, self.now),
            false => self.queue.leave(entry),
        }
        let after = self.queue.estimated_wait(self.now);
        assert!(waits || after == before, "it was gone before");
        // A start may show that the queue is slower than was thought; one that leaves does not.
        if !starts {
            assert_no_less(before, after);
        }
    }

    fn happen(&mut self, op: &Op) {
        match op {
            Op::Join(new) => self.join(new),
            Op::Start(index) => self.end(*index, true),
            Op::Leave(index) => self.end(*index, false),
            Op::Preempted(preempted) => {
                let before = self.queue.estimated_wait(self.now);
                self.queue.set_preempted(*preempted);
                let after = self.queue.estimated_wait(self.now);
                match *preempted >= self.preempted {
                    true => assert_no_less(after, before),
                    false => assert_no_less(before, after),
                }
                self.preempted = *preempted;
            }
            Op::Pass(ms) => {
                let before = self.queue.estimated_wait(self.now);
                self.now += AT(*ms);
                // A queue that stands still does not get faster.
                assert_no_less(self.queue.estimated_wait(self.now), before);
            }
        }
        let counted = (self.queue.waiting(), self.queue.waiting_tokens());
        assert_eq!(counted, (self.waiting.len(), self.tokens(|_| true)));
        assert!(self.waiting.len() <= self.bounds.max_queue);
    }
}

/// An empty queue has an estimate even if nothing was learnt; that one says nothing about the next.
fn assert_no_less(longer: Option<Time>, shorter: Option<Time>) {
    if let (Some(longer), Some(shorter)) = (longer, shorter) {
        assert!(longer >= shorter, "{longer:?} is less than {shorter:?}");
    }
}

fn without_delay(mut refusal: QueueRefusal) -> QueueRefusal {
    match &mut refusal {
        QueueRefusal::Full { retry_after, .. }
        | QueueRefusal::TokensFull { retry_after, .. }
        | QueueRefusal::TenantFull { retry_after, .. }
        | QueueRefusal::WaitTooLong { retry_after, .. } => *retry_after = Time::ZERO,
    }
    refusal
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Counts never drift, bounds are never exceeded, a request that keeps to them is let in, and what is refused
    /// leaves no trace.
    #[test]
    fn the_queue_counts_what_waits_and_keeps_its_bounds(
        bounds in bounds(),
        ops in prop::collection::vec(op(), 1..120),
    ) {
        let mut books = Books {
            queue: queue(bounds),
            bounds,
            now: Time::ZERO,
            preempted: 0,
            waiting: Vec::new(),
            given: Vec::new(),
        };
        for op in &ops {
            books.happen(op);
        }
        while let Some((entry, _)) = books.waiting.pop() {
            books.queue.leave(entry);
        }
        prop_assert_eq!((books.queue.waiting(), books.queue.waiting_tokens()), (0, 0));
    }
}

/// A server that starts one sequence every 20 ms, and clients that come twice as fast. A client that is refused
/// comes again when it was told to.
#[test]
fn a_queue_that_drains_at_a_steady_rate_keeps_what_it_promises() {
    const SERVICE_MS: u64 = 20;
    let limit = AT(200);
    let mut queue = queue(QueueBounds {
        max_queue: 64,
        max_wait: Some(limit),
        ..BOUNDS
    });
    let mut waiting: VecDeque<(QueueEntry, Time)> = VecDeque::new();
    let mut again: Vec<Time> = Vec::new();
    let (mut started, mut refused, mut longest) = (0, 0, Time::ZERO);
    for ms in 0..20_000 {
        let now = AT(ms);
        let due = again.iter().filter(|at| **at <= now).count();
        again.retain(|at| *at > now);
        let new = u64::from(ms < 10_000 && ms % (SERVICE_MS / 2) == 0) as usize;
        for _ in 0..due + new {
            match queue.join(&newcomer(0, 1), now) {
                Ok(entries) => waiting.extend(entries.into_iter().map(|entry| (entry, now))),
                Err(refusal) => {
                    refused += 1;
                    again.push(now + refusal.retry_after());
                }
            }
        }
        if ms % SERVICE_MS == 0
            && let Some((entry, joined)) = waiting.pop_front()
        {
            queue.start(entry, now);
            started += 1;
            // Until the rate is known, more are let in than can be served in time.
            if ms > 2000 {
                longest = longest.max(now - joined);
            }
        }
    }
    assert!(refused > 100, "{refused} were refused");
    assert_eq!(
        (started, queue.waiting()),
        (1000, 0),
        "every client is served in the end"
    );
    assert!(longest > limit / 2, "the server idles beside a short queue");
    assert!(longest <= limit + AT(2 * SERVICE_MS), "{longest:?}");
}

/// The estimate for the last of a queue comes true when the queue goes on at its rate.
#[test]
fn the_estimate_of_a_steady_queue_comes_true() {
    let mut queue = queue(QueueBounds {
        max_queue: 100,
        ..BOUNDS
    });
    for ms in (0..1000).step_by(10) {
        let entry = queue.join(&newcomer(0, 1), AT(ms)).unwrap()[0];
        queue.start(entry, AT(ms + 10));
    }
    let all = Newcomer {
        sequences: 50,
        tenant: TenantId(1),
        ..newcomer(1, 10)
    };
    let entries = queue.join(&all, AT(1000)).unwrap();
    assert_eq!(queue.estimated_wait(AT(1000)), Some(AT(510)));
    for (index, entry) in (1..).zip(entries) {
        queue.start(entry, AT(1000 + 10 * index));
        let left = 50 - index;
        let expected = if left == 0 { 0 } else { 10 * (left + 1) };
        assert_eq!(
            queue.estimated_wait(AT(1000 + 10 * index)),
            Some(AT(expected))
        );
    }
}
