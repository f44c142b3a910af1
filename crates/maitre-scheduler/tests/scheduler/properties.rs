//! What must hold at the end of any life, and between two lives.

use maitre_kv::KvConfig;
use maitre_scheduler::{BlockSource, NewRequest, RequestId, SchedulerConfig, replay};
use proptest::prelude::*;

use crate::drafting::Drafting;
use crate::life::Case;
use crate::world::World;

#[test]
fn the_same_calls_replay_to_the_byte() {
    for seed in 0..150 {
        let case = Case::random(seed, 100);
        let world = case.run();
        let calls: String = world.calls.iter().map(|call| format!("{call}\n")).collect();
        assert_eq!(replay(case.config.clone(), &calls), Ok(world.log));
    }
}

/// A tiny pool with everything that shares, moves or copies blocks.
fn crowded(max_seqs: usize, spare: usize, kv: KvConfig) -> SchedulerConfig {
    SchedulerConfig::new(max_seqs, max_seqs + spare, 32, kv)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// No crowd, chunking, preemption, shared prefix, fork, transfer, draft or deferral changes an answer. [`World`] compares each
    /// token with the undisturbed answer. Here all requests complete, in runs as different as one request alone
    /// in a large pool and many requests in a pool that barely holds one.
    #[test]
    fn answers_depend_on_the_request_alone(
        prompts in prop::collection::vec((0..3usize, 0..12usize, prop::collection::vec(0..3u32, 1..8), 1..12usize), 1..12),
        max_seqs in 1..6usize,
        spare in 0..10usize,
        block_size in 1..6u32,
        spare_blocks in 0..6u32,
        num_host_blocks in 0..4u32,
        seed in any::<u64>(),
        steps_in_flight in 1..4usize,
        eager in any::<bool>(),
        deferring in any::<bool>(),
    ) {
        let prompts: Vec<(Vec<u32>, usize)> = prompts
            .into_iter()
            .map(|(base, shared, tail, max_tokens)| {
                let base = (0..shared).map(|i| (base * 100 + i) as u32);
                (base.chain(tail).collect(), max_tokens)
            })
            .collect();
        let kv = KvConfig {
            num_host_pages: num_host_blocks,
            ..KvConfig::new(32_u32.div_ceil(block_size) + spare_blocks, block_size)
        };
        let mut crowd = World::new(SchedulerConfig {
            steps_in_flight,
            ..crowded(max_seqs, spare, kv)
        });
        (crowd.eager, crowd.pipelined) = (eager, true);
        crowd.deferring = deferring;
        crowd.drafting = Some(Drafting { seed, lucky: true });
        for (id, (prompt, max_tokens)) in (0_u64..).zip(&prompts) {
            let plan_ahead = !id.is_multiple_of(3);
            let request = crate::world::request(id, prompt, *max_tokens);
            let source = BlockSource { source: 1, tokens: prompt.len() };
            let source = id.is_multiple_of(4).then_some(source);
            crowd.add(NewRequest { plan_ahead, source, ..request }).unwrap();
            let fork = NewRequest {
                plan_ahead,
                fork_of: Some(RequestId(id)),
                ..crate::world::request(id + 100, prompt, *max_tokens)
            };
            crowd.add(fork).unwrap();
        }
        crowd.run_to_quiescence();
        let roomy = SchedulerConfig {
            max_batched_tokens: 64,
            ..crowded(1, 0, KvConfig { prefix_cache: false, ..KvConfig::new(64, 16) })
        };
        for (id, (prompt, max_tokens)) in (0_u64..).zip(&prompts) {
            let mut alone = World::new(roomy.clone());
            alone.add(crate::world::request(id, prompt, *max_tokens)).unwrap();
            alone.run_to_quiescence();
            let answer = &alone.completed[&RequestId(id)];
            prop_assert_eq!(answer, &crowd.completed[&RequestId(id)]);
            prop_assert_eq!(answer, &crowd.completed[&RequestId(id + 100)]);
        }
        prop_assert_eq!(crowd.completed.len(), 2 * prompts.len());
    }
}

/// One long life: hundreds of requests through a pool that holds three of them, so the
/// properties are also known to be tested under preemption.
#[test]
fn a_long_life_in_a_tiny_pool_preempts_often_and_loses_nobody() {
    let drafting = Some(Drafting {
        seed: 0,
        lucky: true,
    });
    let kinds = [(0, None), (8, None), (0, drafting), (8, drafting)];
    for (kind, steps_in_flight) in (0..4).flat_map(|kind| [(kind, 1), (kind, 2), (kind, 3)]) {
        let (host, drafting) = kinds[kind];
        let kv = KvConfig {
            num_host_pages: host,
            ..KvConfig::new(16, 4)
        };
        let mut world = World::new(SchedulerConfig {
            steps_in_flight,
            ..SchedulerConfig::new(8, 16, 48, kv)
        });
        world.drafting = drafting;
        (world.eager, world.pipelined) = (true, true);
        for id in 0..400_u64 {
            let prompt: Vec<u32> = (0..1 + id as u32 % 23)
                .map(|i| i * 31 + id as u32)
                .collect();
            world
                .add(NewRequest {
                    plan_ahead: !id.is_multiple_of(3),
                    ..crate::world::request(id, &prompt, 1 + id as usize % 25)
                })
                .unwrap();
        }
        world.run_to_quiescence();
        assert_eq!(world.completed.len(), 400);
        let counts = world.scheduler.counts();
        assert!(counts.preemptions > 50, "{counts:?}");
        assert!(host == 0 || counts.kv.swapped_in > 50, "{counts:?}");
    }
}
