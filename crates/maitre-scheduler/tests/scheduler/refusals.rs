//! Bad configurations and bad requests: each is refused with its own error, in words that help.

use expect_test::expect;
use maitre_kv::{KvConfig, KvError};
use maitre_scheduler::{
    NewRequest, Refusal, RequestId, Scheduler, SchedulerConfig, SchedulerError, StepId, Time,
};

use crate::world::{World, request};

fn good() -> SchedulerConfig {
    SchedulerConfig::new(2, 8, 24, KvConfig::new(5, 4))
}

#[test]
fn a_configuration_that_cannot_work_is_refused() {
    let cases = [
        (
            SchedulerConfig {
                kv: KvConfig::new(0, 4),
                ..good()
            },
            SchedulerError::Kv(KvError::ZeroPages),
        ),
        (
            SchedulerConfig {
                kv: KvConfig::new(4, 0),
                ..good()
            },
            SchedulerError::Kv(KvError::ZeroBlockSize),
        ),
        (
            SchedulerConfig {
                max_seqs: 0,
                ..good()
            },
            SchedulerError::ZeroMaxSeqs,
        ),
        (
            SchedulerConfig {
                max_batched_tokens: 1,
                ..good()
            },
            SchedulerError::BudgetBelowMaxSeqs {
                max_batched_tokens: 1,
                max_seqs: 2,
            },
        ),
        (
            SchedulerConfig {
                itl_target: Some(Time::ZERO),
                ..good()
            },
            SchedulerError::ZeroItlTarget,
        ),
        (
            SchedulerConfig {
                steps_in_flight: 0,
                ..good()
            },
            SchedulerError::ZeroStepsInFlight,
        ),
        (
            SchedulerConfig {
                max_model_len: 0,
                ..good()
            },
            SchedulerError::MaxModelLenTooSmall { max_model_len: 0 },
        ),
        (
            SchedulerConfig {
                max_model_len: 1,
                ..good()
            },
            SchedulerError::MaxModelLenTooSmall { max_model_len: 1 },
        ),
    ];
    for (config, expected) in cases {
        assert_eq!(
            Scheduler::new(config.clone()).err(),
            Some(expected),
            "{config:?}"
        );
    }
    assert!(Scheduler::new(good()).is_ok());
}

#[test]
fn a_request_that_cannot_run_is_refused() {
    let cases = [
        (request(1, &[], 4), Refusal::EmptyPrompt),
        (request(1, &[7], 0), Refusal::ZeroMaxTokens),
        (
            request(1, &[7; 20], 5),
            Refusal::TooLong {
                needed_tokens: 25,
                max_model_len: 24,
            },
        ),
        (
            request(1, &[7; 20], usize::MAX),
            Refusal::TooLong {
                needed_tokens: usize::MAX,
                max_model_len: 24,
            },
        ),
        (
            request(1, &[7; 20], 1),
            Refusal::NeverFits {
                needed_tokens: 21,
                capacity_tokens: 20,
            },
        ),
        (
            request(9, &[7], 1),
            Refusal::DuplicateId {
                request: RequestId(9),
            },
        ),
    ];
    for (request, expected) in cases {
        let mut world = World::new(good());
        world.add(crate::world::request(9, &[1, 2], 2)).unwrap();
        assert_eq!(world.add(request), Err(expected));
        world.run_to_quiescence();
        assert_eq!(world.completed.len(), 1, "the others do not notice");
    }
    let mut world = World::new(good());
    world.add(request(1, &[7; 19], 1)).unwrap();
    world.run_to_quiescence();
}

#[test]
fn an_id_is_free_again_when_its_request_has_ended() {
    let mut world = World::new(good());
    world.add(request(1, &[7], 1)).unwrap();
    world.run_to_quiescence();
    assert_eq!(world.add(request(1, &[7], 1)), Ok(()));
}

#[test]
fn a_deadline_in_the_past_is_noticed_by_the_next_plan() {
    let mut world = World::new(good());
    world.now = Time::from_secs(10);
    let late = NewRequest {
        deadline: Some(Time::from_secs(9)),
        ..request(1, &[7], 1)
    };
    world.add(late).unwrap();
    assert_eq!(world.schedule().expired.len(), 1);
}

#[test]
fn messages_say_what_to_do() {
    let (request, step) = (RequestId(7), StepId(3));
    let refusals = [
        Refusal::NeverFits {
            needed_tokens: 21,
            capacity_tokens: 20,
        },
        Refusal::TooLong {
            needed_tokens: 25,
            max_model_len: 24,
        },
        Refusal::EmptyPrompt,
        Refusal::ZeroMaxTokens,
        Refusal::DuplicateId { request },
    ]
    .map(|refusal| refusal.to_string());
    let errors = [
        SchedulerError::ZeroMaxSeqs,
        SchedulerError::BudgetBelowMaxSeqs {
            max_batched_tokens: 1,
            max_seqs: 2,
        },
        SchedulerError::ZeroMaxQueue,
        SchedulerError::ZeroItlTarget,
        SchedulerError::MaxModelLenTooSmall { max_model_len: 1 },
        SchedulerError::ZeroStepsInFlight,
        SchedulerError::NotNewestStep {
            step,
            newest: Some(StepId(4)),
        },
        SchedulerError::UnexpectedStep {
            step,
            expected: Some(StepId(2)),
        },
        SchedulerError::UnexpectedStep {
            step,
            expected: None,
        },
        SchedulerError::MissingOutcome { step, request },
        SchedulerError::UnplannedOutcome { step, request },
        SchedulerError::DuplicateOutcome { step, request },
        SchedulerError::WrongTokenCount {
            step,
            request,
            expected: 1..=1,
            got: 2,
        },
        SchedulerError::WrongTokenCount {
            step,
            request,
            expected: 1..=4,
            got: 5,
        },
    ]
    .map(|error| error.to_string());
    expect![[r#"
        the request may need KV space for 21 tokens (prompt and max_tokens), but the whole pool holds 20; shorten the prompt, lower max_tokens or enlarge the KV pool
        the request may grow to 25 tokens (prompt and max_tokens), but sequences end at 24; shorten the prompt or lower max_tokens
        the prompt is empty; it needs at least one token
        max_tokens is 0; it must allow at least one token
        request 7 is already waiting or running; ids may be reused only after the request ended
        max_seqs is 0; at least 1 request must be able to run
        max_batched_tokens (1) is below max_seqs (2), so some requests would get no token in a step; raise the token budget to at least 2 or lower max_seqs
        max_queue or max_queued_tokens is 0; at least 1 request must be able to wait for its first step
        itl_target is 0; give it the time that a step may take, or leave it out
        max_model_len is 1; it needs at least 2, one token of prompt and one of output
        steps_in_flight is 0; at least 1 step must be able to be planned before its commit
        step 3 cannot be taken back now; expected step 4, the newest step in flight
        step 3 cannot be committed now; expected step 2, the oldest step in flight
        step 3 cannot be committed now; expected none, as no step is in flight
        step 3 is committed without an outcome for request 7; every span needs one
        step 3 did not run request 7, but got an outcome for it; commit the plan's requests only
        step 3 got two outcomes for request 7; each span has one
        step 3 got 2 new tokens for request 7, expected 1: 1 from a span that samples (an outcome that ends the request may leave it out) and up to 1 more for each of its drafts, 0 from any other
        step 3 got 5 new tokens for request 7, expected 1 to 4: 1 from a span that samples (an outcome that ends the request may leave it out) and up to 1 more for each of its drafts, 0 from any other"#]].assert_eq(&[&refusals[..], &errors[..]].concat().join("\n"));
}
