//! Planning ahead and taking back, case by case.

use expect_test::expect;
use maitre_kv::KvConfig;
use maitre_scheduler::{
    NewRequest, Outcome, RequestId, Scheduler, SchedulerConfig, SchedulerError, StepId, StepPlan,
    Time, TokenRef, replay,
};

use crate::world::{Mishaps, World, request};

/// Blocks of four tokens.
fn config(steps_in_flight: usize, num_blocks: u32) -> SchedulerConfig {
    SchedulerConfig {
        steps_in_flight,
        ..SchedulerConfig::new(4, 16, 40, KvConfig::new(num_blocks, 4))
    }
}

fn ahead(id: u64, prompt: &[u32], max_tokens: usize) -> NewRequest {
    NewRequest {
        plan_ahead: true,
        ..request(id, prompt, max_tokens)
    }
}

/// First positions and tokens of all spans.
fn spans(plan: &StepPlan) -> Vec<(u64, usize, Vec<TokenRef>)> {
    let spans = plan.spans.iter();
    spans
        .map(|span| (span.request.0, span.first_position, span.tokens.clone()))
        .collect()
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

/// Request 1 is planned ahead, as far as its four tokens go; request 2 is not.
#[test]
fn the_text_of_a_plan_says_which_step_samples_a_token() {
    let mut world = World::new(config(3, 10));
    world.pipelined = true;
    world.add(ahead(1, &[11, 12, 13], 4)).unwrap();
    world.add(request(2, &[21, 22], 3)).unwrap();
    world.fill();
    while world.scheduler.has_work() {
        world.commit(&Mishaps::default());
        world.fill();
    }
    expect![[r#"
        step 0: tokens 5
          admitted request 1: cached 0 of 3
          admitted request 2: cached 0 of 2
          run request 1 positions 0..3 tokens [11, 12, 13] blocks 0+[0] slots [0..3] output 2..3 samples
          run request 2 positions 0..2 tokens [21, 22] blocks 0+[1] slots [4..6] output 1..2 samples
        step 1: tokens 1
          run request 1 positions 3..4 tokens [@0] blocks 1+[] slots [3] output 0..1 samples
        step 2: tokens 1
          run request 1 positions 4..5 tokens [@1] blocks 1+[2] slots [8] output 0..1 samples
        step 3: tokens 2
          run request 1 positions 5..6 tokens [@2] blocks 2+[] slots [9] output 0..1 samples
          run request 2 positions 2..3 tokens [503] blocks 1+[] slots [6] output 0..1 samples
        step 4: tokens 0
        step 5: tokens 0
        step 6: tokens 1
          run request 2 positions 3..4 tokens [470] blocks 1+[] slots [7] output 0..1 samples
        step 7: tokens 0
        step 8: tokens 0
    "#]].assert_eq(&world.log);
    let calls: String = world.calls.iter().map(|call| format!("{call}\n")).collect();
    assert_eq!(replay(config(3, 10), &calls), Ok(world.log));
}

#[test]
fn a_token_that_is_sampled_is_named_by_its_step() {
    let mut scheduler = Scheduler::new(config(2, 10)).unwrap();
    scheduler.add(ahead(1, &[1, 2, 3], 8)).unwrap();
    let first = scheduler.schedule(Time::ZERO);
    let second = scheduler.schedule(Time::ZERO);
    let step = first.step_id;
    assert_eq!(spans(&second), [(1, 3, vec![TokenRef::Sampled { step }])]);
    assert!(scheduler.schedule(Time::ZERO).is_empty(), "the limit");
    scheduler.commit(step, &[outcome(1, &[9])]).unwrap();
    let third = scheduler.schedule(Time::ZERO);
    let step = second.step_id;
    assert_eq!(
        spans(&third),
        [(1, 4, vec![TokenRef::Sampled { step }])],
        "the token of the second step is still to come"
    );
    scheduler.retract(third.step_id).unwrap();
    scheduler.commit(step, &[outcome(1, &[8])]).unwrap();
    let fourth = scheduler.schedule(Time::ZERO);
    assert_eq!(spans(&fourth), [(1, 4, vec![TokenRef::Known(8)])]);
}

#[test]
fn drafts_are_not_planned_over() {
    let mut scheduler = Scheduler::new(config(2, 10)).unwrap();
    scheduler.add(ahead(1, &[1, 2, 3], 12)).unwrap();
    let first = scheduler.schedule(Time::ZERO);
    let wish = Outcome {
        next_drafts: 2,
        ..outcome(1, &[9])
    };
    scheduler.commit(first.step_id, &[wish]).unwrap();
    let second = scheduler.schedule(Time::ZERO);
    assert_eq!(second.num_drafts(), 2);
    assert!(scheduler.schedule(Time::ZERO).is_empty());
    let none = outcome(1, &[9, 9]);
    scheduler.commit(second.step_id, &[none]).unwrap();
    assert!(!scheduler.schedule(Time::ZERO).is_empty());
    assert!(!scheduler.schedule(Time::ZERO).is_empty());
}

/// What a request that has ended would have computed later needs no outcome, and its blocks are free after it.
#[test]
fn steps_that_were_planned_in_vain_are_ignored() {
    for left_out in [false, true] {
        let mut scheduler = Scheduler::new(config(3, 10)).unwrap();
        scheduler.add(ahead(1, &[1, 2, 3], 8)).unwrap();
        let steps: Vec<StepId> = (0..3)
            .map(|_| scheduler.schedule(Time::ZERO).step_id)
            .collect();
        let last = Outcome {
            finished: true,
            ..outcome(1, &[9])
        };
        scheduler.commit(steps[0], &[last]).unwrap();
        assert!(!scheduler.has_work());
        assert_eq!(scheduler.kv_usage().used, 2, "still written to");
        let outcomes = match left_out {
            true => vec![],
            false => vec![outcome(1, &[5])],
        };
        scheduler.commit(steps[1], &outcomes).unwrap();
        assert_eq!(scheduler.kv_usage().used, 2);
        scheduler.commit(steps[2], &outcomes).unwrap();
        assert_eq!(scheduler.kv_usage().used, 0);
    }
}

#[test]
fn only_the_newest_step_can_be_taken_back() {
    let mut scheduler = Scheduler::new(config(2, 10)).unwrap();
    let none = SchedulerError::NotNewestStep {
        step: StepId(0),
        newest: None,
    };
    assert_eq!(scheduler.retract(StepId(0)), Err(none));
    scheduler.add(ahead(1, &[1, 2, 3], 8)).unwrap();
    let first = scheduler.schedule(Time::ZERO).step_id;
    let second = scheduler.schedule(Time::ZERO).step_id;
    let older = SchedulerError::NotNewestStep {
        step: first,
        newest: Some(second),
    };
    assert_eq!(scheduler.retract(first), Err(older));
    scheduler.retract(second).unwrap();
    scheduler.retract(first).unwrap();
    let again = scheduler.schedule(Time::ZERO);
    assert_eq!(again.spans[0].first_position, 0);
    assert!(again.admitted.is_empty(), "it has been admitted");
    scheduler
        .commit(again.step_id, &[outcome(1, &[9])])
        .unwrap();
}

/// Request 2 starts from a copy of a block of request 1, request 3 too, and both steps are taken back.
#[test]
fn copies_come_again_in_order_unless_no_request_needs_them() {
    for cancelled in [None, Some(2), Some(3)] {
        let mut world = World::new(config(2, 10));
        let prompt = [1, 2, 3, 4, 5, 6, 7, 8, 9];
        world.add(request(1, &prompt, 2)).unwrap();
        world.run_to_quiescence();
        let mut copies = Vec::new();
        for (id, kept) in [(2, 6), (3, 7)] {
            let mut own = prompt[..kept].to_vec();
            own.push(50 + id as u32);
            world.add(request(id, &own, 4)).unwrap();
            copies.push(world.schedule().moves.copies);
        }
        assert_eq!(copies.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1]);
        world.retract();
        world.retract();
        if let Some(id) = cancelled {
            world.cancel(RequestId(id));
            copies.remove(id as usize - 2);
        }
        let plan = world.schedule();
        assert_eq!(plan.moves.copies, copies.concat());
        world.run_to_quiescence();
    }
}

/// A block that comes from the host tier goes back there if its request leaves before the copy.
#[test]
fn a_block_of_the_host_tier_is_not_lost_with_a_step_that_is_taken_back() {
    let kv = KvConfig {
        num_host_pages: 4,
        events: true,
        ..KvConfig::new(5, 4)
    };
    let mut world = World::new(SchedulerConfig::new(2, 20, 20, kv));
    let prompt = [1, 2, 3, 4, 5, 6, 7, 8, 9];
    world.add(request(1, &prompt, 1)).unwrap();
    world.run_to_quiescence();
    world.add(request(2, &[7; 19], 1)).unwrap();
    world.run_to_quiescence();
    let in_host = world.scheduler.kv_usage().host;
    assert!(in_host >= 2, "{in_host}");
    world.add(request(3, &prompt, 1)).unwrap();
    let moves = world.schedule().moves;
    assert_eq!(moves.swap_in.len(), 2);
    world.retract();
    world.cancel(RequestId(3));
    world.add(request(4, &prompt, 1)).unwrap();
    let plan = world.schedule();
    assert_eq!(plan.admitted[0].cached_tokens, 8);
    assert_eq!(plan.moves.swap_in.len(), 2);
    world.run_to_quiescence();
}

/// Two requests compute the same; the second one gives its block up for that of the first, but not before the
/// step in flight that reads it is done.
#[test]
fn a_block_that_is_read_in_flight_is_not_given_away() {
    let mut scheduler = Scheduler::new(config(2, 10)).unwrap();
    for id in [1, 2] {
        scheduler.add(ahead(id, &[1, 2, 3, 4], 8)).unwrap();
    }
    let first = scheduler.schedule(Time::ZERO);
    let second = scheduler.schedule(Time::ZERO);
    let both = [outcome(1, &[9]), outcome(2, &[9])];
    scheduler.commit(first.step_id, &both).unwrap();
    assert_eq!(scheduler.counts().kv.merged, 1, "named while in flight");
    assert_eq!(scheduler.kv_usage().used, 4, "and held while read");
    let third = scheduler.schedule(Time::ZERO);
    assert_eq!(third.spans[1].groups[0].table.keep, 0, "the table changed");
    assert_eq!(
        third.spans[1].groups[0].table.blocks[0],
        first.spans[0].groups[0].table.blocks[0]
    );
    scheduler.commit(second.step_id, &both).unwrap();
    assert_eq!(scheduler.kv_usage().used, 3);
}

/// A pool that is too small for both: the pipeline runs empty, then one of them is preempted.
#[test]
fn a_full_pool_drains_the_pipeline_and_goes_on() {
    for depth in 1..=3 {
        let mut world = World::new(config(depth, 6));
        world.pipelined = true;
        for id in 1..=3 {
            world.add(ahead(id, &[id as u32; 5], 14)).unwrap();
        }
        world.run_to_quiescence();
        assert_eq!(world.completed.len(), 3, "with {depth} steps in flight");
        assert!(world.scheduler.counts().preemptions > 0);
    }
}

/// Request 3 was admitted by a step that was taken back. The next step makes its copy, but has no tokens left for
/// it. Its blocks are not free before that step is done, however it ends.
#[test]
fn what_a_step_copies_for_a_request_that_it_does_not_run_is_held() {
    for planned_once_more in [false, true] {
        let mut world = World::new(SchedulerConfig {
            max_batched_tokens: 8,
            reorder_within: Time::ZERO,
            ..config(3, 12)
        });
        world.add(request(1, &[1, 2, 3, 4, 5, 6, 7, 8], 1)).unwrap();
        world.run_to_quiescence();
        world.add(request(2, &[70; 12], 4)).unwrap();
        world.add(request(3, &[1, 2, 3, 4, 5, 6, 50], 4)).unwrap();
        world.schedule();
        assert_eq!(world.schedule().moves.copies.len(), 1);
        world.retract();
        world.retract();
        let plan = world.schedule();
        assert_eq!((plan.spans.len(), plan.moves.copies.len()), (1, 1));
        if planned_once_more {
            assert_eq!(world.schedule().spans.len(), 2);
        }
        let used = world.scheduler.kv_usage().used;
        world.cancel(RequestId(3));
        if planned_once_more {
            world.retract();
        }
        assert_eq!(world.scheduler.kv_usage().used, used);
        world.commit(&Mishaps::default());
        assert_eq!(world.scheduler.kv_usage().used, 4);
        world.run_to_quiescence();
    }
}
