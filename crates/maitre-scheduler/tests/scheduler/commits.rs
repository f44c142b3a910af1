//! What lies between a plan and its commit: cancels, wrong answers, a second step.

use maitre_kv::KvConfig;
use maitre_scheduler::{
    NewRequest, Outcome, RequestId, Scheduler, SchedulerConfig, SchedulerError, StepId, StepPlan,
    Time,
};

use crate::world::{Mishaps, World, request};

fn config() -> SchedulerConfig {
    SchedulerConfig::new(4, 8, 40, KvConfig::new(10, 4))
}

/// A scheduler with request 1 sampling and request 2 in the middle of its prompt.
fn one_step_in_flight() -> (Scheduler, StepPlan) {
    let mut scheduler = Scheduler::new(config()).unwrap();
    scheduler.add(request(1, &[1, 2, 3], 4)).unwrap();
    scheduler.add(request(2, &[5; 9], 4)).unwrap();
    let plan = scheduler.schedule(Time::ZERO);
    assert_eq!(
        plan.spans
            .iter()
            .map(|span| span.samples)
            .collect::<Vec<_>>(),
        [true, false]
    );
    (scheduler, plan)
}

fn outcome(request: u64, tokens: &[u32]) -> Outcome {
    Outcome {
        request: RequestId(request),
        tokens: tokens.to_vec(),
        next_drafts: 0,
        finished: false,
        failed: false,
        deferred: false,
    }
}

#[test]
fn a_commit_that_does_not_answer_its_plan_changes_nothing() {
    let (step, request) = (StepId(0), RequestId(1));
    let cases: [(StepId, Vec<Outcome>, SchedulerError); 8] = [
        (
            StepId(1),
            vec![],
            SchedulerError::UnexpectedStep {
                step: StepId(1),
                expected: Some(step),
            },
        ),
        (
            step,
            vec![outcome(2, &[])],
            SchedulerError::MissingOutcome { step, request },
        ),
        (
            step,
            vec![outcome(1, &[9]), outcome(2, &[]), outcome(3, &[])],
            SchedulerError::UnplannedOutcome {
                step,
                request: RequestId(3),
            },
        ),
        (
            step,
            vec![outcome(1, &[9]), outcome(2, &[]), outcome(1, &[9])],
            SchedulerError::DuplicateOutcome { step, request },
        ),
        (
            step,
            vec![outcome(1, &[]), outcome(2, &[])],
            SchedulerError::WrongTokenCount {
                step,
                request,
                expected: 1..=1,
                got: 0,
            },
        ),
        (
            step,
            vec![outcome(1, &[9, 9]), outcome(2, &[])],
            SchedulerError::WrongTokenCount {
                step,
                request,
                expected: 1..=1,
                got: 2,
            },
        ),
        (
            step,
            vec![outcome(1, &[9]), outcome(2, &[9])],
            SchedulerError::WrongTokenCount {
                step,
                request: RequestId(2),
                expected: 0..=0,
                got: 1,
            },
        ),
        (
            step,
            vec![
                Outcome {
                    failed: true,
                    ..outcome(1, &[9, 9])
                },
                outcome(2, &[]),
            ],
            SchedulerError::WrongTokenCount {
                step,
                request,
                expected: 1..=1,
                got: 2,
            },
        ),
    ];
    for (step, outcomes, expected) in cases {
        let (mut scheduler, plan) = one_step_in_flight();
        let before = scheduler.kv_usage();
        assert_eq!(scheduler.commit(step, &outcomes), Err(expected));
        assert_eq!(scheduler.kv_usage(), before);
        assert_eq!(scheduler.tokens(request), Some(&[1, 2, 3][..]));
        scheduler
            .commit(plan.step_id, &[outcome(1, &[9]), outcome(2, &[])])
            .unwrap();
        assert_eq!(scheduler.tokens(request), Some(&[1, 2, 3, 9][..]));
    }
}

#[test]
fn a_step_is_committed_once_and_an_empty_plan_never() {
    let (mut scheduler, plan) = one_step_in_flight();
    let outcomes = [outcome(1, &[9]), outcome(2, &[])];
    scheduler.commit(plan.step_id, &outcomes).unwrap();
    let error = SchedulerError::UnexpectedStep {
        step: plan.step_id,
        expected: None,
    };
    assert_eq!(scheduler.commit(plan.step_id, &outcomes), Err(error));

    let mut idle = Scheduler::new(config()).unwrap();
    let empty = idle.schedule(Time::ZERO);
    assert!(empty.is_empty());
    let error = SchedulerError::UnexpectedStep {
        step: empty.step_id,
        expected: None,
    };
    assert_eq!(idle.commit(empty.step_id, &[]), Err(error));
}

#[test]
fn blocks_of_a_request_cancelled_in_flight_are_free_with_the_commit() {
    let mut world = World::new(config());
    world.add(request(1, &[1, 2, 3], 4)).unwrap();
    world.schedule();
    world.cancel(RequestId(1));
    assert!(!world.scheduler.has_work());
    assert_eq!(
        world.scheduler.kv_usage().used,
        1,
        "the step in flight still writes there"
    );
    world.commit(&Mishaps::default());
    assert_eq!(world.scheduler.kv_usage().used, 0);
}

#[test]
fn a_waiting_request_is_cancelled_at_once() {
    let mut world = World::new(SchedulerConfig {
        max_seqs: 1,
        ..config()
    });
    world.add(request(1, &[1, 2, 3], 4)).unwrap();
    world.add(request(2, &[4, 5, 6], 4)).unwrap();
    world.schedule();
    world.cancel(RequestId(2));
    assert_eq!(world.scheduler.num_waiting(), 0);
    world.run_to_quiescence();
}

/// The old request's outcome, and its blocks, must not be taken for the new one's.
#[test]
fn an_id_reused_while_its_first_owner_is_in_flight_is_a_new_request() {
    let mut scheduler = Scheduler::new(config()).unwrap();
    scheduler.add(request(1, &[1, 2, 3], 4)).unwrap();
    let first = scheduler.schedule(Time::ZERO);
    assert!(scheduler.cancel(RequestId(1)));
    scheduler.add(request(1, &[7, 8], 4)).unwrap();
    let second = scheduler.schedule(Time::ZERO);
    assert_ne!(
        first.spans[0].groups[0].table,
        second.spans[0].groups[0].table
    );
    scheduler
        .commit(first.step_id, &[outcome(1, &[100])])
        .unwrap();
    assert_eq!(scheduler.tokens(RequestId(1)), Some(&[7, 8][..]));
    assert_eq!(
        scheduler.kv_usage().used,
        1,
        "only the new request's block is left"
    );
    scheduler
        .commit(second.step_id, &[outcome(1, &[200])])
        .unwrap();
    assert_eq!(scheduler.tokens(RequestId(1)), Some(&[7, 8, 200][..]));
    assert_eq!(scheduler.kv_usage().used, 1);
}

#[test]
fn a_failed_request_is_gone_and_the_others_go_on() {
    let mut world = World::new(config());
    world.add(request(1, &[1, 2, 3], 4)).unwrap();
    world.add(request(2, &[4, 5, 6], 4)).unwrap();
    world.schedule();
    world.commit(&Mishaps {
        fail: Some(0),
        ..Mishaps::default()
    });
    assert_eq!(world.scheduler.tokens(RequestId(1)), None);
    assert_eq!(world.scheduler.num_running(), 1);
    world.run_to_quiescence();
    assert!(world.completed.contains_key(&RequestId(2)));
}

#[test]
fn a_request_with_all_its_tokens_ends_whatever_the_outcome_says() {
    let mut scheduler = Scheduler::new(config()).unwrap();
    scheduler.add(request(1, &[1, 2, 3], 1)).unwrap();
    let plan = scheduler.schedule(Time::ZERO);
    scheduler.commit(plan.step_id, &[outcome(1, &[9])]).unwrap();
    assert!(!scheduler.has_work());
    assert_eq!(scheduler.kv_usage().used, 0);
}

#[test]
fn a_second_step_goes_on_with_prompts_but_not_with_tokens_nobody_knows_yet() {
    let mut scheduler = Scheduler::new(config()).unwrap();
    scheduler.add(request(1, &[1, 2, 3], 4)).unwrap();
    scheduler.add(request(2, &[5; 20], 4)).unwrap();
    let first = scheduler.schedule(Time::ZERO);
    let second = scheduler.schedule(Time::ZERO);
    let spans: Vec<_> = second
        .spans
        .iter()
        .map(|span| (span.request, span.first_position))
        .collect();
    assert_eq!(spans, [(RequestId(2), 5)]);
    assert!(
        scheduler.schedule(Time::ZERO).is_empty(),
        "two steps in flight are the limit here"
    );

    let error = SchedulerError::UnexpectedStep {
        step: second.step_id,
        expected: Some(first.step_id),
    };
    assert_eq!(
        scheduler.commit(second.step_id, &[outcome(2, &[])]),
        Err(error)
    );
    scheduler
        .commit(first.step_id, &[outcome(1, &[9]), outcome(2, &[])])
        .unwrap();
    scheduler
        .commit(second.step_id, &[outcome(2, &[])])
        .unwrap();
    assert_eq!(
        scheduler.schedule(Time::ZERO).num_tokens(),
        8,
        "one decode, seven of the prompt"
    );
}

#[test]
fn a_deferred_span_computes_its_last_token_again_into_the_same_slot() {
    let config = SchedulerConfig::new(2, 8, 32, KvConfig::new(16, 4));
    let mut scheduler = Scheduler::new(config).unwrap();
    scheduler
        .add(NewRequest::new(1, vec![4, 5, 6, 7, 8], 4))
        .unwrap();
    let deferred = || Outcome {
        deferred: true,
        ..outcome(1, &[])
    };
    let last = |scheduler: &mut Scheduler, outcome: Outcome| {
        let plan = scheduler.schedule(Time::ZERO);
        let span = &plan.spans[0];
        let last = (
            span.context_len,
            span.groups[0].slots.last().copied(),
            span.samples,
        );
        scheduler.commit(plan.step_id, &[outcome]).unwrap();
        (span.tokens.len(), last)
    };
    let (tokens, prompt) = last(&mut scheduler, deferred());
    assert_eq!(tokens, 5);
    assert_eq!(last(&mut scheduler, deferred()), (1, prompt));
    assert_eq!(last(&mut scheduler, outcome(1, &[9])), (1, prompt));
    let (_, decode) = last(&mut scheduler, deferred());
    assert_ne!(decode, prompt);
    assert_eq!(last(&mut scheduler, outcome(1, &[9])), (1, decode));
    assert_eq!(
        scheduler.tokens(RequestId(1)),
        Some(&[4, 5, 6, 7, 8, 9, 9][..])
    );
}

#[test]
fn only_a_span_that_samples_for_a_request_that_is_not_planned_ahead_is_deferred() {
    let config = SchedulerConfig::new(2, 4, 32, KvConfig::new(16, 4));
    let refused = |plan_ahead, steps, tokens: &[u32]| {
        let mut scheduler = Scheduler::new(config.clone()).unwrap();
        let request = NewRequest::new(1, vec![4, 5, 6, 7, 8], 4);
        scheduler
            .add(NewRequest {
                plan_ahead,
                ..request
            })
            .unwrap();
        for _ in 1..steps {
            let plan = scheduler.schedule(Time::ZERO);
            scheduler.commit(plan.step_id, &[outcome(1, &[])]).unwrap();
        }
        let step = scheduler.schedule(Time::ZERO).step_id;
        let deferred = Outcome {
            deferred: true,
            ..outcome(1, tokens)
        };
        let request = RequestId(1);
        let refusal = SchedulerError::NotDeferrable { step, request };
        match scheduler.commit(step, &[deferred]) {
            Err(error) => {
                assert_eq!(error, refusal);
                true
            }
            Ok(()) => false,
        }
    };
    assert!(refused(false, 1, &[]), "a chunk of a prompt");
    assert!(!refused(false, 2, &[]));
    assert!(refused(false, 2, &[7]), "a token was taken");
    assert!(refused(true, 2, &[]), "planned ahead");
}
