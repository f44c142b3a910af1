//! The capacity of engines of known behaviour, in virtual time: its number, and which resource is named.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod stepping;
mod virtual_time;

use maitre_bench::{
    BenchError, Capacity, Dimension, Progress, Resource, Settings, Stop, Workload, find_capacity,
};
use stepping::{Behaviour, ROOMY, SteppingEngine};
use virtual_time::VirtualClock;

fn settings(input_tokens: u32, slo: &str) -> Settings {
    Settings {
        slo: slo.parse().unwrap(),
        ..Settings::closed_loop(Workload::of(input_tokens, 40), &[])
    }
}

fn capacity(behaviour: Behaviour, settings: &Settings, dimension: Dimension) -> Capacity {
    let clock = VirtualClock::default();
    let target = SteppingEngine::new(&clock, behaviour);
    let stop = Stop::default();
    let searching = find_capacity(&target, &clock, settings, (dimension, 0.9), &stop, |_| {});
    clock.run(searching).unwrap()
}

#[track_caller]
fn assert_bent(found: &Capacity, resource: Resource) {
    let bent = found.bent.as_ref().unwrap();
    assert_eq!(bent.resource, resource, "{found}");
    assert!(!bent.because.is_empty() && !bent.moves.is_empty());
}

#[test]
fn the_users_that_steps_have_time_for_are_found() {
    // A step of n sequences takes 2 + 0.25 n ms, and with a prompt of 10 tokens 0.1 ms more: at 12 ms these are 40.
    let found = capacity(ROOMY, &settings(10, "tpot=12ms"), Dimension::Users);
    let (low, high) = (found.interval.0.unwrap(), found.interval.1.unwrap());
    assert!(
        (36.0..=40.0).contains(&low) && (37.0..=44.0).contains(&high),
        "{found}"
    );
    assert!(found.is_narrow, "{found}");
    assert_bent(&found, Resource::Compute);
    let said = found.to_string();
    assert!(said.contains("what bends first: compute"), "{said}");
    assert!(said.contains("TPOT is what breaks"), "{said}");
}

#[test]
fn a_server_that_is_slower_by_some_ms_a_step_bears_less_and_steps_are_named() {
    let slowed = Behaviour {
        step_ms: ROOMY.step_ms + 5.0,
        ..ROOMY
    };
    let found = capacity(slowed, &settings(10, "tpot=12ms"), Dimension::Users);
    assert!((17.0..=20.0).contains(&found.capacity.unwrap()), "{found}");
    assert_bent(&found, Resource::Compute);
    // What the slowed step costs with one user already is told, too.
    let because = &found.bent.unwrap().because;
    assert!(
        because
            .iter()
            .any(|line| line.contains("7.25 ms of which it takes with 1.0")),
        "{because:?}"
    );
}

#[test]
fn a_rate_has_an_interval_of_ten_percent() {
    let found = capacity(ROOMY, &settings(10, "ttft=50ms,tpot=12ms"), Dimension::Rate);
    // 40 sequences of about 40 steps of 12 ms: some 80 a second.
    assert!((60.0..100.0).contains(&found.capacity.unwrap()), "{found}");
    let (low, high) = (found.interval.0.unwrap(), found.interval.1.unwrap());
    assert!(high / low <= 1.2101, "{found}");
    assert_bent(&found, Resource::Compute);
}

#[test]
fn halved_kv_is_named_as_memory() {
    // Ten requests of 140 tokens fit, and with a tenth of the memory one.
    let whole = Behaviour {
        kv_tokens: 1400,
        ..ROOMY
    };
    let halved = Behaviour {
        kv_tokens: 700,
        ..whole
    };
    let settings = settings(100, "ttft=60ms");
    let (whole, halved) = (
        capacity(whole, &settings, Dimension::Users),
        capacity(halved, &settings, Dimension::Users),
    );
    assert_bent(&whole, Resource::KvMemory);
    assert_bent(&halved, Resource::KvMemory);
    let ratio = whole.capacity.unwrap() / halved.capacity.unwrap();
    assert!((1.6..2.5).contains(&ratio), "{whole}{halved}");
}

#[test]
fn places_are_named_where_steps_could_hold_more() {
    let few = Behaviour {
        places: 4,
        sequence_ms: 0.05,
        ..ROOMY
    };
    let found = capacity(few, &settings(10, "ttft=60ms"), Dimension::Users);
    assert_bent(&found, Resource::Queue);
    assert!(found.bent.unwrap().moves[0].contains("--max-seqs"));
}

#[test]
fn prompts_that_hold_up_answers_are_named() {
    // A prompt of 400 tokens makes a step 40 ms longer.
    let slow_prompts = Behaviour {
        prompt_token_ms: 0.1,
        sequence_ms: 0.01,
        ..ROOMY
    };
    let found = capacity(slow_prompts, &settings(400, "tpot=12ms"), Dimension::Users);
    assert_bent(&found, Resource::PrefillInterference);
}

#[test]
fn a_slow_client_is_named_and_not_the_server() {
    // A message keeps it busy for as long as eight sequences keep the server.
    let slow_client = Behaviour {
        client_ms: 2.0,
        ..ROOMY
    };
    for dimension in [Dimension::Users, Dimension::Rate] {
        let found = capacity(slow_client, &settings(10, "tpot=12ms"), dimension);
        assert_bent(&found, Resource::Client);
    }
}

#[test]
fn a_server_that_tells_nothing_leaves_the_wait_unexplained() {
    let silent = Behaviour {
        places: 4,
        is_open: false,
        ..ROOMY
    };
    let found = capacity(silent, &settings(10, "ttft=60ms"), Dimension::Users);
    assert_bent(&found, Resource::Unknown);
}

#[test]
fn what_cannot_be_met_or_always_is_said() {
    let never = capacity(ROOMY, &settings(10, "tpot=1ms"), Dimension::Users);
    assert_eq!((never.capacity, never.interval.0), (None, None));
    let said = never.to_string();
    assert!(
        said.contains("the SLO tpot=1ms is not met even by the least load"),
        "{said}"
    );
    let json: serde_json::Value = serde_json::from_str(&never.to_json()).unwrap();
    assert_eq!(json["schema"], "maitre.capacity/1");
    assert_eq!(json["bent"]["resource"], "compute");
}

#[test]
fn impossible_questions_are_refused_and_an_early_end_is_told() {
    let clock = VirtualClock::default();
    let target = SteppingEngine::new(&clock, ROOMY);
    let stop = Stop::default();
    let good = settings(10, "tpot=12ms");
    let mut bad = good.clone();
    bad.slo = maitre_bench::workload::Slo::default();
    for (settings, share) in [(&bad, 0.9), (&good, 1.0), (&good, 0.1)] {
        let asked = (Dimension::Users, share);
        let refused = clock.run(find_capacity(
            &target,
            &clock,
            settings,
            asked,
            &stop,
            |_| {},
        ));
        assert!(matches!(refused, Err(BenchError::Setting(_))));
    }
    let asked = (Dimension::Users, 0.9);
    let searching = find_capacity(&target, &clock, &good, asked, &stop, |progress| {
        if let Progress::Finished(run) = progress
            && run.concurrency == Some(4)
        {
            stop.stop();
        }
    });
    let found = clock.run(searching).unwrap();
    assert!(
        found.interrupted && found.to_string().contains("interrupted"),
        "{found}"
    );
}

#[test]
fn an_end_before_anything_is_known_blames_no_slo() {
    let clock = VirtualClock::default();
    let target = SteppingEngine::new(&clock, ROOMY);
    let (stop, good) = (Stop::default(), settings(10, "tpot=12ms"));
    stop.stop();
    let asked = (Dimension::Users, 0.9);
    let found = clock.run(find_capacity(&target, &clock, &good, asked, &stop, |_| {}));
    let said = found.unwrap().to_string();
    assert!(
        said.contains("capacity: not found") && said.contains("interrupted"),
        "{said}"
    );
    assert!(!said.contains("not met"), "{said}");
}

#[test]
fn all_users_asking_at_the_first_moment_count_for_nothing() {
    // The first prompts of n users take n x 10 ms together, and no others come so close: answers are of many lengths.
    let slow_prompts = Behaviour {
        prompt_token_ms: 0.1,
        sequence_ms: 0.01,
        ..ROOMY
    };
    let mut varied = settings(100, "ttft=60ms");
    varied.workload.output_tokens = "20..400".parse().unwrap();
    let found = capacity(slow_prompts, &varied, Dimension::Users);
    assert!(found.capacity.unwrap() > 8.0, "{found}");
}
