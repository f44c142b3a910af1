//! A waiting request is served in the end, under each policy that promises so.
//!
//! One request, `X`, has nothing that a policy likes; an endless stream of others has. Requests last three
//! steps of a millisecond and run one at a time, so the bounds are exact: under FCFS and fair service `X` may
//! be overtaken for `reorder_within`, then those who came before it go, then it goes. Under deadlines, a
//! request without one counts as having a minute, and only requests with an earlier deadline go before it.

use maitre_scheduler::{
    KvConfig, NewRequest, PolicyKind, RequestId, SchedulerConfig, TenantId, Time,
};

use crate::flow::Flow;

/// Steps that a request of the stream takes.
const LIFE: u32 = 3;

/// Requests of the stream that wait at any time.
const DEPTH: usize = 8;

const STEP: Time = Time::from_millis(1);

/// When `X`, which comes first thing after the stream has begun, is admitted, if that is before `patience`.
fn wait_of_x(
    policy: PolicyKind,
    reorder_within: Time,
    step: Time,
    patience: Time,
    stream: impl Fn(&mut NewRequest),
) -> Option<Time> {
    let config = SchedulerConfig {
        policy,
        reorder_within,
        ..SchedulerConfig::new(1, 64, 64, KvConfig::new(32, 4))
    };
    let mut flow = Flow::new(config);
    // What the stream begins with is in the cache; what X begins with is not.
    let (shared, own): (Vec<u32>, Vec<u32>) = ((0..16).collect(), (50..66).collect());
    let x = RequestId(u64::MAX);
    let mut arrival = None;
    while flow.now < patience {
        while flow.scheduler.num_waiting() < DEPTH {
            let id = flow.next_id();
            let mut prompt = shared.clone();
            prompt.push(1000 + id as u32);
            let mut request = NewRequest::new(id, prompt, LIFE as usize);
            request.arrival = flow.now;
            stream(&mut request);
            flow.scheduler.add(request).unwrap();
        }
        let plan = flow.step(|_| step);
        if plan.admitted.iter().any(|admitted| admitted.request == x) {
            return arrival.map(|arrival| flow.now - step - arrival);
        }
        if arrival.is_none() && flow.now > 10 * step {
            let request = NewRequest {
                arrival: flow.now,
                tenant: TenantId(9),
                ..NewRequest::new(x.0, own.clone(), 1)
            };
            flow.scheduler.add(request).unwrap();
            arrival = Some(flow.now);
        }
    }
    None
}

/// Those before it and the one that runs.
fn turns_ahead() -> Time {
    STEP * LIFE * (DEPTH as u32 + 1)
}

#[test]
fn cached_prefixes_go_first_only_for_a_while() {
    let within = Time::from_millis(200);
    let wait = |reorder_within| {
        let patience = Time::from_secs(5);
        wait_of_x(PolicyKind::Fcfs, reorder_within, STEP, patience, |_| {})
    };
    let waited = wait(within).unwrap();
    assert!(waited >= within, "no request overtook it: {waited:?}");
    assert!(waited <= within + turns_ahead(), "{waited:?}");
    assert!(wait(Time::ZERO).unwrap() <= turns_ahead());
    assert_eq!(
        wait(Time::MAX),
        None,
        "without a limit it would wait for ever"
    );
}

#[test]
fn a_tenant_with_one_request_does_not_wait_for_the_stream_of_another() {
    let patience = Time::from_secs(5);
    let waited = wait_of_x(PolicyKind::Fair, Time::MAX, STEP, patience, |_| {});
    // The one that runs, and one more of a tenant that was served as much so far.
    assert!(waited.unwrap() <= 2 * STEP * LIFE, "{waited:?}");
}

#[test]
fn a_request_without_a_deadline_is_served_after_a_minute() {
    let step = Time::from_millis(50);
    let patience = Time::from_secs(80);
    let waited = wait_of_x(
        PolicyKind::Deadline,
        Time::ZERO,
        step,
        patience,
        |request| {
            request.deadline = Some(request.arrival + Time::from_secs(5));
        },
    );
    let waited = waited.unwrap();
    assert!(
        waited >= Time::from_secs(50),
        "no request was more urgent: {waited:?}"
    );
    assert!(waited <= Time::from_secs(60) + step * LIFE * (DEPTH as u32 + 1));
}
