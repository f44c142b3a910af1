//! The bounded queue: who may join it, how long the wait would be, and what a refusal says.

use expect_test::expect;
use maitre_scheduler::queue::{
    BoundedQueue, Newcomer, QueueBounds, QueueEntry, QueueRefusal, QueueUnit, WaitLimit,
};
use maitre_scheduler::{Policy, QueueOrder, SchedulerError, TenantId, Time};

const AT: fn(u64) -> Time = Time::from_millis;

pub(crate) const BOUNDS: QueueBounds = QueueBounds {
    max_queue: 8,
    max_queued_tokens: 1000,
    max_wait: None,
    order: QueueOrder::Arrival,
};

pub(crate) fn queue(bounds: QueueBounds) -> BoundedQueue {
    BoundedQueue::new(bounds).unwrap()
}

/// A request for one answer to so many tokens.
pub(crate) fn newcomer(tenant: u64, prompt_tokens: usize) -> Newcomer {
    Newcomer {
        sequences: 1,
        prompt_tokens,
        tenant: TenantId(tenant),
        queue_timeout: None,
    }
}

/// One that is ready to wait so long.
fn patient(queue_timeout: Time) -> Newcomer {
    Newcomer {
        queue_timeout: Some(queue_timeout),
        ..newcomer(1, 1)
    }
}

fn join(queue: &mut BoundedQueue, newcomer: Newcomer, at: u64) -> Result<QueueEntry, QueueRefusal> {
    queue.join(&newcomer, AT(at)).map(|entries| entries[0])
}

/// `left` sequences that joined at second 10 wait in a queue that moved by one every 100 ms.
fn moving(bounds: QueueBounds, left: usize) -> BoundedQueue {
    let mut queue = queue(bounds);
    for i in 0..80 {
        let one = join(&mut queue, newcomer(9, 1), 100 * i).unwrap();
        queue.start(one, AT(100 * i + 100));
    }
    for _ in 0..left {
        join(&mut queue, newcomer(9, 1), 10_000).unwrap();
    }
    queue
}

#[test]
fn the_wait_is_the_queue_at_its_rate_and_too_long_a_one_is_refused_at_once() {
    let now = AT(10_000);
    assert_eq!(moving(BOUNDS, 0).estimated_wait(now), Some(Time::ZERO));
    let mut queue = moving(BOUNDS, 5);
    assert_eq!(queue.estimated_wait(now), Some(AT(600)));
    join(&mut queue, patient(AT(600)), 10_000).unwrap();
    assert!(join(&mut queue, patient(AT(699)), 10_000).is_err());
    let refused = join(&mut queue, patient(AT(550)), 10_000).unwrap_err();
    assert_eq!(
        refused,
        QueueRefusal::WaitTooLong {
            estimate: AT(700),
            limit: AT(550),
            limited_by: WaitLimit::QueueTimeout,
            retry_after: AT(150),
        }
    );
    let max_wait = Some(AT(400));
    let mut strict = moving(QueueBounds { max_wait, ..BOUNDS }, 3);
    let own = AT(800);
    join(&mut strict, patient(own), 10_000).unwrap();
    assert!(matches!(
        join(&mut strict, patient(own), 10_000),
        Err(QueueRefusal::WaitTooLong {
            limited_by: WaitLimit::Queue,
            ..
        })
    ));
    let overtaking = QueueBounds {
        order: QueueOrder::Overtaking,
        max_wait,
        ..BOUNDS
    };
    let mut queue = moving(overtaking, 7);
    assert_eq!(queue.estimated_wait(now), None);
    join(&mut queue, patient(own), 10_000).unwrap();
}

/// A slow hour must not spoil the estimate for ever: a request that finds the queue empty is let in, and
/// soon the estimate is right again, without another request waiting.
#[test]
fn a_slow_spell_is_forgotten_and_a_stall_is_seen() {
    let mut queue = queue(QueueBounds {
        max_wait: Some(AT(500)),
        ..BOUNDS
    });
    for i in 0..10 {
        let one = join(&mut queue, newcomer(1, 1), 20_000 * i).unwrap();
        queue.start(one, AT(20_000 * i + 10_000));
    }
    let mut refused = 0;
    for i in 0..100 {
        let at = 1_000_000 + 10 * i;
        let first = join(&mut queue, newcomer(1, 1), at).unwrap();
        match join(&mut queue, newcomer(1, 1), at) {
            Ok(second) => queue.start(second, AT(at + 2)),
            Err(_) => refused += 1,
        }
        queue.start(first, AT(at + 1));
    }
    assert!((1..40).contains(&refused), "{refused} of 100");
    let held = join(&mut queue, newcomer(1, 1), 2_000_000).unwrap();
    assert!(
        join(&mut queue, newcomer(1, 1), 2_000_400).is_err(),
        "no start for 400 ms"
    );
    queue.leave(held);
    assert_eq!((queue.waiting(), queue.waiting_tokens()), (0, 0));
}

#[test]
fn places_and_tokens_are_bounded_and_the_delay_says_when_there_is_space() {
    let mut queue = moving(BOUNDS, 7);
    let two = Newcomer {
        sequences: 2,
        ..newcomer(1, 1)
    };
    assert_eq!(
        queue.join(&two, AT(10_000)),
        Err(QueueRefusal::Full {
            waiting: 7,
            new: 2,
            limit: 8,
            retry_after: AT(200)
        })
    );
    queue.set_preempted(1);
    assert!(
        join(&mut queue, newcomer(1, 1), 10_000).is_err(),
        "the preempted wait too"
    );
    queue.set_preempted(0);
    join(&mut queue, newcomer(1, 1), 10_000).unwrap();
    let mut queue = moving(BOUNDS, 0);
    let long = join(&mut queue, newcomer(1, 5000), 10_000).unwrap();
    assert!(matches!(
        join(&mut queue, newcomer(1, 1), 10_000),
        Err(QueueRefusal::TokensFull {
            waiting: 5000,
            new: 1,
            limit: 1000,
            ..
        })
    ));
    queue.leave(long);
    join(&mut queue, newcomer(1, 1), 10_000).unwrap();
    assert_eq!((queue.waiting(), queue.waiting_tokens()), (1, 1));
}

#[test]
fn a_full_queue_refuses_until_a_sequence_starts_or_leaves() {
    let mut queue = queue(QueueBounds {
        max_queue: 2,
        ..BOUNDS
    });
    let first = join(&mut queue, newcomer(1, 1), 0).unwrap();
    let second = join(&mut queue, newcomer(1, 1), 0).unwrap();
    assert!(join(&mut queue, newcomer(1, 1), 0).is_err());
    queue.leave(second);
    join(&mut queue, newcomer(1, 1), 0).unwrap();
    assert!(join(&mut queue, newcomer(1, 1), 0).is_err());
    queue.start(first, AT(1));
    queue.start(first, AT(2));
    join(&mut queue, newcomer(1, 1), 0).unwrap();
    assert!(join(&mut queue, newcomer(1, 1), 0).is_err());
}

#[test]
fn a_flood_leaves_places_for_others_where_service_is_fair() {
    let fair = QueueBounds {
        order: QueueOrder::TenantShares,
        ..BOUNDS
    };
    let mut flooded = queue(fair);
    while join(&mut flooded, newcomer(1, 1), 0).is_ok() {}
    assert_eq!(flooded.waiting(), 4, "half of the places");
    join(&mut flooded, newcomer(2, 1), 0).unwrap();
    join(&mut flooded, newcomer(3, 1), 0).unwrap();
    assert!(matches!(
        join(&mut flooded, newcomer(1, 1), 0),
        Err(QueueRefusal::TenantFull {
            own: 4,
            free: 2,
            unit: QueueUnit::Sequences,
            ..
        })
    ));
    let mut open = queue(BOUNDS);
    while join(&mut open, newcomer(1, 1), 0).is_ok() {}
    assert_eq!(open.waiting(), 8, "all of them where it is not");

    let mut flooded = queue(QueueBounds {
        max_queue: 100,
        ..fair
    });
    while join(&mut flooded, newcomer(1, 100), 0).is_ok() {}
    assert_eq!(flooded.waiting_tokens(), 500, "half of the tokens");
    for _ in 0..4 {
        join(&mut flooded, newcomer(2, 50), 0).unwrap();
    }
    join(&mut flooded, newcomer(3, 5000), 0).unwrap();
}

#[test]
fn the_policy_says_what_can_be_promised() {
    #[derive(Debug)]
    struct Silent;
    impl Policy for Silent {
        fn enter(&mut self, _: &maitre_scheduler::Waiting) {}
        fn leave(&mut self, _: &maitre_scheduler::Waiting) {}
        fn next(&self, _: usize) -> Vec<maitre_scheduler::Place> {
            Vec::new()
        }
    }
    assert_eq!(Silent.queue_order(), QueueOrder::Overtaking);
}

#[test]
fn bounds_that_let_no_request_in_are_refused() {
    let error = |bounds| BoundedQueue::new(bounds).err();
    let no_place = QueueBounds {
        max_queue: 0,
        ..BOUNDS
    };
    let no_token = QueueBounds {
        max_queued_tokens: 0,
        ..BOUNDS
    };
    assert_eq!(error(no_place), Some(SchedulerError::ZeroMaxQueue));
    assert_eq!(error(no_token), Some(SchedulerError::ZeroMaxQueue));
    assert_eq!(error(BOUNDS), None);
}

#[test]
fn a_request_without_sequences_takes_no_place() {
    let mut queue = moving(BOUNDS, 8);
    let empty = Newcomer {
        sequences: 0,
        ..newcomer(1, 1)
    };
    assert_eq!(queue.join(&empty, Time::ZERO), Ok(Vec::new()));
}

#[test]
fn refusals_say_what_was_found_and_when_to_try_again() {
    let retry_after = AT(200);
    let refusals = [
        QueueRefusal::Full {
            waiting: 7,
            new: 2,
            limit: 8,
            retry_after,
        },
        QueueRefusal::TokensFull {
            waiting: 900,
            new: 200,
            limit: 1000,
            retry_after,
        },
        QueueRefusal::TenantFull {
            own: 4,
            new: 1,
            free: 2,
            unit: QueueUnit::Sequences,
            retry_after,
        },
        QueueRefusal::TenantFull {
            own: 500,
            new: 100,
            free: 500,
            unit: QueueUnit::PromptTokens,
            retry_after,
        },
        QueueRefusal::WaitTooLong {
            estimate: AT(700),
            limit: AT(550),
            limited_by: WaitLimit::QueueTimeout,
            retry_after,
        },
        QueueRefusal::WaitTooLong {
            estimate: AT(700),
            limit: AT(550),
            limited_by: WaitLimit::Queue,
            retry_after,
        },
    ];
    assert!(refusals.iter().all(|it| it.retry_after() == retry_after));
    let texts = refusals.map(|refusal| refusal.to_string());
    expect![[r#"
        7 sequences wait and the request brings 2, but the limit is 8; try again in 200 ms
        900 prompt tokens wait and the request brings 200, but the limit is 1000; try again in 200 ms
        the tenant has 4 sequences waiting and the request brings 1, but 2 are left for all tenants; try again in 200 ms
        the tenant has 500 prompt tokens waiting and the request brings 100, but 500 are left for all tenants; try again in 200 ms
        the request would wait about 700 ms for its first step, but its queue_timeout allows 550 ms; try again in 200 ms
        the request would wait about 700 ms for its first step, but the queue allows 550 ms; try again in 200 ms"#]]
    .assert_eq(&texts.join("\n"));
}
