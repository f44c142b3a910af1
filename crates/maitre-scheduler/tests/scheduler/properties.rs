//! Random lives of a scheduler. [`World`] checks every plan; here are the events and what must hold
//! at the end.

use std::cell::RefCell;

use maitre_kv::KvConfig;
use maitre_scheduler::{NewRequest, RequestId, Scheduler, SchedulerConfig, Time};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::world::{Call, Mishaps, Tally, World};

#[derive(Debug, Clone)]
enum Event {
    Add(Shape),
    Cancel(usize),
    Schedule,
    Commit(Mishaps),
    /// So many plans and commits in turn; a step that was in flight before stays one step ahead.
    Rounds(usize),
    Wait(u64),
}

/// What a random request looks like; times are relative to its arrival.
#[derive(Debug, Clone)]
struct Shape {
    prompt: Vec<u32>,
    max_tokens: usize,
    prompt_logits: bool,
    late_ms: u64,
    deadline_ms: Option<u64>,
    queue_deadline_ms: Option<u64>,
}

impl Shape {
    fn request(&self, id: u64, now: Time) -> NewRequest {
        let after = |ms: Option<u64>| ms.map(|ms| now + Time::from_millis(ms));
        NewRequest {
            id: RequestId(id),
            prompt: self.prompt.clone(),
            max_tokens: self.max_tokens,
            priority: 0,
            arrival: now.saturating_sub(Time::from_millis(self.late_ms)),
            deadline: after(self.deadline_ms),
            queue_deadline: after(self.queue_deadline_ms),
            prompt_logits: self.prompt_logits,
        }
    }
}

fn shapes() -> impl Strategy<Value = Shape> {
    (
        prop::collection::vec(0..1000u32, 0..12),
        0..32usize,
        any::<bool>(),
        prop_oneof![3 => Just(0), 1 => 0..10u64],
        prop::option::weighted(0.2, 0..60u64),
        prop::option::weighted(0.2, 0..30u64),
    )
        .prop_map(
            |(prompt, max_tokens, prompt_logits, late_ms, deadline_ms, queue_deadline_ms)| Shape {
                prompt,
                max_tokens,
                prompt_logits,
                late_ms,
                deadline_ms,
                queue_deadline_ms,
            },
        )
}

fn mishaps() -> impl Strategy<Value = Mishaps> {
    let index = || prop::option::weighted(0.1, 0..8usize);
    (index(), index(), any::<bool>()).prop_map(|(fail, finish, reversed)| Mishaps {
        fail,
        finish,
        reversed,
    })
}

fn events(len: usize) -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        6 => shapes().prop_map(Event::Add),
        1 => (0..16usize).prop_map(Event::Cancel),
        4 => Just(Event::Schedule),
        3 => mishaps().prop_map(Event::Commit),
        3 => (1..8usize).prop_map(Event::Rounds),
        2 => (1..10u64).prop_map(Event::Wait),
    ];
    prop::collection::vec(event, 1..len)
}

/// Pools that barely hold the longest request, so that blocks run out all the time.
fn configs() -> impl Strategy<Value = SchedulerConfig> {
    (
        1..6usize,
        0..12usize,
        2..10usize,
        8..48usize,
        0..6u32,
        1..6u32,
    )
        .prop_map(
            |(max_seqs, spare, max_queue, max_model_len, spare_blocks, block_size)| {
                SchedulerConfig {
                    max_seqs,
                    max_batched_tokens: max_seqs + spare,
                    max_queue,
                    max_model_len,
                    kv: KvConfig {
                        num_blocks: (max_model_len as u32).div_ceil(block_size) + spare_blocks - 1,
                        block_size,
                    },
                }
            },
        )
}

fn live(config: SchedulerConfig, events: &[Event]) -> World {
    let mut world = World::new(config);
    for (id, event) in (0..).zip(events) {
        match event {
            // Refusals are part of life here; their table is elsewhere.
            Event::Add(shape) => drop(world.add(shape.request(id, world.now))),
            Event::Cancel(index) => {
                let ids: Vec<RequestId> = world.live.keys().copied().collect();
                if let Some(&id) = ids.get(index % ids.len().max(1)) {
                    world.cancel(id);
                }
            }
            Event::Schedule => drop(world.schedule()),
            Event::Commit(mishaps) => world.commit(mishaps),
            Event::Rounds(rounds) => {
                for _ in 0..*rounds {
                    world.schedule();
                    world.commit(&Mishaps::default());
                }
            }
            Event::Wait(ms) => world.now += Time::from_millis(*ms),
        }
    }
    world.run_to_quiescence();
    world
}

/// What a fresh scheduler plans when it gets the same calls.
fn replay(config: SchedulerConfig, calls: &[Call]) -> String {
    let mut scheduler = Scheduler::new(config).unwrap();
    let mut log = String::new();
    for call in calls {
        match call {
            Call::Add(request) => drop(scheduler.add(request.clone())),
            Call::Cancel(request) => assert!(scheduler.cancel(*request)),
            Call::Schedule(now) => log += &scheduler.schedule(*now).to_string(),
            Call::Commit(step, outcomes) => scheduler.commit(*step, outcomes).unwrap(),
        }
    }
    log
}

#[test]
fn any_life_keeps_the_invariants_and_comes_to_rest() {
    let total = RefCell::new(Tally::default());
    let mut runner = TestRunner::new(ProptestConfig {
        source_file: Some(file!()),
        ..ProptestConfig::with_cases(400)
    });
    let result = runner.run(&(configs(), events(120)), |(config, events)| {
        let tally = live(config, &events).tally;
        let mut total = total.borrow_mut();
        total.preempted += tally.preempted;
        total.expired += tally.expired;
        total.failed += tally.failed;
        total.cancelled_in_flight += tally.cancelled_in_flight;
        total.stalled += tally.stalled;
        Ok(())
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
    let total = total.into_inner();
    let rarest = total.preempted.min(total.expired).min(total.failed);
    assert!(
        rarest > 20 && total.cancelled_in_flight > 20 && total.stalled > 0,
        "{total:?}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn the_same_calls_replay_to_the_byte(config in configs(), events in events(80)) {
        let world = live(config, &events);
        prop_assert_eq!(replay(config, &world.calls), world.log);
    }

    /// No crowd, chunking or preemption changes an answer. [`World`] compares each token with the
    /// undisturbed answer; here everybody completes, in worlds as different as a request alone with
    /// room for everything and a crowd in a pool that barely holds one.
    #[test]
    fn answers_depend_on_the_request_alone(
        prompts in prop::collection::vec((prop::collection::vec(0..1000u32, 1..20), 1..12usize), 1..12),
        max_seqs in 1..6usize,
        spare in 0..10usize,
        block_size in 1..6u32,
        spare_blocks in 0..6u32,
    ) {
        let config = SchedulerConfig {
            max_seqs,
            max_batched_tokens: max_seqs + spare,
            max_queue: prompts.len(),
            max_model_len: 32,
            kv: KvConfig { num_blocks: 32_u32.div_ceil(block_size) + spare_blocks, block_size },
        };
        let mut crowd = World::new(config);
        for (id, (prompt, max_tokens)) in (0..).zip(&prompts) {
            crowd.add(crate::world::request(id, prompt, *max_tokens)).unwrap();
        }
        crowd.run_to_quiescence();
        let roomy = SchedulerConfig {
            max_batched_tokens: 64,
            kv: KvConfig { num_blocks: 64, block_size: 16 },
            ..config
        };
        for (id, (prompt, max_tokens)) in (0..).zip(&prompts) {
            let mut alone = World::new(roomy);
            alone.add(crate::world::request(id, prompt, *max_tokens)).unwrap();
            alone.run_to_quiescence();
            prop_assert_eq!(&alone.completed[&RequestId(id)], &crowd.completed[&RequestId(id)]);
        }
        prop_assert_eq!(crowd.completed.len(), prompts.len());
    }
}

/// One long life: hundreds of requests through a pool that holds three of them, so the
/// properties are also known to be tested under preemption.
#[test]
fn a_long_life_in_a_tiny_pool_preempts_often_and_loses_nobody() {
    let config = SchedulerConfig {
        max_seqs: 8,
        max_batched_tokens: 16,
        max_queue: 512,
        max_model_len: 48,
        kv: KvConfig {
            num_blocks: 16,
            block_size: 4,
        },
    };
    let mut world = World::new(config);
    for id in 0..400 {
        let prompt: Vec<u32> = (0..1 + id as u32 % 23)
            .map(|i| i * 31 + id as u32)
            .collect();
        world
            .add(crate::world::request(id, &prompt, 1 + id as usize % 25))
            .unwrap();
    }
    world.run_to_quiescence();
    assert_eq!(world.completed.len(), 400);
    assert!(
        world.scheduler.preemptions() > 50,
        "only {} preemptions",
        world.scheduler.preemptions()
    );
}
