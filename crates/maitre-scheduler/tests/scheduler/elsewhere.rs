//! What transfers must not change: fair service, the order of prompts, who is preempted, what is computed, and that
//! others go on.

use std::collections::BTreeSet;

use maitre_scheduler::{
    BlockSource, KvConfig, KvSpec, NewRequest, OUTPUT_TOKEN_COST, PROMPT_TOKEN_COST, Phase, Place,
    Policy, PolicyKind, RequestId, Scheduler, SchedulerConfig, TenantId, Time, TransferId, Waiting,
};

use crate::flow::Flow;

fn source(tokens: usize) -> Option<BlockSource> {
    Some(BlockSource { source: 5, tokens })
}

fn prompt(first: u32, len: u32) -> Vec<u32> {
    (first..first + len).collect()
}

/// The bound of fair service holds for tenants whose prompts begin elsewhere.
#[test]
fn fair_service_keeps_its_bound_where_prompts_begin_elsewhere() {
    fair_bound(4);
}

#[test]
fn fair_service_keeps_its_bound_where_they_do_not() {
    fair_bound(0);
}

fn fair_bound(elsewhere: usize) {
    let (max_seqs, longest) = (16, 200);
    let kv = KvConfig {
        prefix_cache: false,
        ..KvConfig::new(4000, 4)
    };
    let config = SchedulerConfig {
        policy: PolicyKind::Fair,
        ..SchedulerConfig::new(max_seqs, 256, 256, kv)
    };
    let mut flow = Flow::new(config);
    let mut served = [0_u64; 2];
    for id in 0..200_u64 {
        // All of tenant 0 come a moment before all of tenant 1.
        let tenant = u64::from(id >= 100);
        let request = NewRequest {
            tenant: TenantId(tenant),
            arrival: Time::from_nanos(tenant),
            source: if tenant == 0 { source(elsewhere) } else { None },
            ..NewRequest::new(id, prompt(id as u32 * 1000, longest), 1)
        };
        flow.scheduler.add(request).unwrap();
    }
    let most = u64::from(longest) * PROMPT_TOKEN_COST + max_seqs as u64 * OUTPUT_TOKEN_COST;
    let bound = 2 * most;
    let (mut worst, mut steps) = (0_i64, 0);
    // Both have requests waiting all the time.
    while flow.scheduler.num_waiting() > 60 && steps < 200 {
        steps += 1;
        let plan = flow.step(|_| Time::from_millis(1));
        for transfer in &plan.transfers {
            flow.scheduler
                .settle_transfer(transfer.id, transfer.positions.len())
                .unwrap();
        }
        // A prompt is charged when its request leaves the queue.
        for it in &plan.transfers {
            served[0] += u64::from(longest) - it.positions.len() as u64;
        }
        for it in plan.admitted.iter().filter(|it| it.received_tokens == 0) {
            let found = it.cached_tokens + it.received_tokens;
            served[usize::from(it.request.0 >= 100)] += (it.known_tokens - found) as u64;
        }
        for span in plan.spans.iter().filter(|span| span.samples) {
            served[usize::from(span.request.0 >= 100)] += OUTPUT_TOKEN_COST;
        }
        worst = worst.max((served[0] as i64 - served[1] as i64).abs());
    }
    assert!(worst <= bound as i64, "{worst} ahead, bound {bound}");
}

/// To the queue all are equal, and short prompts get the tokens first.
#[derive(Debug, Default)]
struct ShortPromptsFirst(BTreeSet<Place>);

impl Policy for ShortPromptsFirst {
    fn enter(&mut self, request: &Waiting) {
        self.0.insert(request.place);
    }
    fn leave(&mut self, request: &Waiting) {
        self.0.remove(&request.place);
    }
    fn next(&self, limit: usize) -> Vec<Place> {
        self.0.iter().take(limit).copied().collect()
    }
    fn prompt_rank(&self, request: &Waiting) -> i128 {
        request.prompt_tokens as i128
    }
}

/// Only a request with a smaller `prompt_rank` goes before a prompt in progress.
#[test]
fn an_equal_with_a_cached_prefix_goes_before_a_prompt_in_progress_only_by_its_rank() {
    let config = SchedulerConfig::new(4, 8, 256, KvConfig::new(200, 4));
    let mut flow = Flow::new(config.clone());
    flow.scheduler = Scheduler::with_policy(config, Box::<ShortPromptsFirst>::default()).unwrap();
    // Leaves a cached prefix behind.
    let shared = prompt(0, 16);
    flow.scheduler
        .add(NewRequest::new(1, shared.clone(), 1))
        .unwrap();
    while flow.scheduler.has_work() {
        flow.step(|_| Time::from_millis(1));
    }
    // In progress: 50 tokens.
    flow.scheduler
        .add(NewRequest::new(2, prompt(1000, 50), 1))
        .unwrap();
    flow.step(|_| Time::from_millis(1));
    // First in the queue: 3 tokens. Its equal with a cached prefix: 100 tokens.
    let now = flow.now;
    let short = NewRequest {
        arrival: now,
        ..NewRequest::new(3, prompt(2000, 3), 1)
    };
    let mut long = shared;
    long.extend(prompt(3000, 84));
    let long = NewRequest {
        arrival: now,
        ..NewRequest::new(4, long, 1)
    };
    flow.scheduler.add(short).unwrap();
    flow.scheduler.add(long).unwrap();
    let plan = flow.scheduler.schedule(flow.now);
    let ran: Vec<u64> = plan.spans.iter().map(|span| span.request.0).collect();
    assert_eq!(
        ran.first(),
        Some(&3),
        "the 100-token prompt took the tokens of the 50-token prompt"
    );
}

/// A request of the lowest priority is the victim, also if its blocks have come and it has not started.
#[test]
fn blocks_that_have_come_for_a_low_priority_go_to_an_urgent_request() {
    let config = SchedulerConfig {
        policy: PolicyKind::Priority,
        steps_in_flight: 1,
        ..SchedulerConfig::new(4, 4, 120, KvConfig::new(27, 4))
    };
    let mut flow = Flow::new(config);
    let low = NewRequest {
        source: source(24),
        ..NewRequest::new(1, prompt(0, 24), 4)
    };
    flow.scheduler.add(low).unwrap();
    let plan = flow.scheduler.schedule(flow.now);
    assert_eq!(plan.transfers.len(), 1);
    flow.scheduler.settle_transfer(TransferId(0), 23).unwrap();
    for (id, first, len, out) in [(2, 1000, 4, 60), (3, 2000, 60, 4)] {
        let request = NewRequest {
            priority: 1,
            ..NewRequest::new(id, prompt(first, len), out)
        };
        flow.scheduler.add(request).unwrap();
    }
    for _ in 0..24 {
        let plan = flow.scheduler.schedule(flow.now);
        flow.commit(&plan);
        if let Some(preemption) = plan.preempted.first() {
            assert_eq!(
                preemption.request,
                RequestId(1),
                "an urgent request is preempted"
            );
        }
    }
}

/// A source is asked once, at the first admission: after a preemption the rest is computed.
fn preempted_with_a_source(fork: bool) {
    let config = SchedulerConfig {
        steps_in_flight: 1,
        ..SchedulerConfig::new(
            4,
            64,
            120,
            KvConfig {
                prefix_cache: true,
                ..KvConfig::new(14, 4)
            },
        )
    };
    let mut flow = Flow::new(config);
    let step = |flow: &mut Flow| flow.step(|_| Time::from_millis(1));
    if !fork {
        // So that all is cached when 2 is admitted.
        flow.scheduler
            .add(NewRequest::new(1, prompt(0, 13), 1))
            .unwrap();
        while flow.scheduler.has_work() {
            step(&mut flow);
        }
    } else {
        flow.scheduler
            .add(NewRequest::new(1, prompt(0, 13), 2))
            .unwrap();
    }
    let request = NewRequest {
        source: source(13),
        fork_of: fork.then_some(RequestId(1)),
        ..NewRequest::new(2, prompt(0, 13), 30)
    };
    flow.scheduler.add(request).unwrap();
    flow.scheduler
        .add(NewRequest {
            priority: 1,
            ..NewRequest::new(3, prompt(500, 8), 40)
        })
        .unwrap();
    let (mut preempted, mut asked) = (false, false);
    for _ in 0..120 {
        let plan = step(&mut flow);
        preempted |= plan.preempted.iter().any(|it| it.request == RequestId(2));
        asked |= !plan.transfers.is_empty();
        assert!(preempted || !asked, "asked at the first admission");
        assert!(!(preempted && asked), "asked after a preemption:\n{plan}");
        if !flow.scheduler.has_work() {
            break;
        }
    }
    assert!(preempted, "the test has to preempt");
}

#[test]
fn a_source_that_was_not_needed_is_not_asked_after_a_preemption() {
    preempted_with_a_source(false);
}

#[test]
fn nor_is_that_of_a_fork() {
    preempted_with_a_source(true);
}

/// A source does not make a request compute more than it would without.
#[test]
fn a_source_makes_no_request_compute_more() {
    let computed = |source| {
        let mut flow = Flow::new(SchedulerConfig::new(4, 64, 64, KvConfig::new(32, 16)));
        flow.scheduler
            .add(NewRequest::new(1, prompt(0, 33), 1))
            .unwrap();
        while flow.scheduler.has_work() {
            flow.step(|_| Time::from_millis(1));
        }
        // Agrees with the cached 32 tokens in 31.
        let mut tokens = prompt(0, 31);
        tokens.extend([777, 778, 779]);
        flow.scheduler
            .add(NewRequest {
                source,
                ..NewRequest::new(2, tokens, 1)
            })
            .unwrap();
        let mut plan = flow.scheduler.schedule(flow.now);
        let transferred = plan.transfers.len();
        if let Some(it) = plan.transfers.first() {
            flow.scheduler
                .settle_transfer(it.id, it.positions.len())
                .unwrap();
            plan = flow.scheduler.schedule(flow.now);
        }
        (transferred, plan.num_tokens())
    };
    let (without, with) = (computed(None), computed(source(17)));
    assert!(
        with.1 <= without.1,
        "with a source {with:?}, without {without:?} (transfers, tokens)"
    );
}

/// With one transfer that never ends, all others still come to their end, if they fit.
#[test]
fn a_hung_transfer_does_not_stop_the_others() {
    for seed in 0..400_u64 {
        let mut random = crate::life::Random(seed);
        let policy = PolicyKind::ALL[random.below(PolicyKind::ALL.len())];
        let host = random.below(2) as u32 * 4;
        let kv = KvConfig {
            num_host_pages: host,
            ..KvConfig::new(6 + 5 + 1 + random.below(6) as u32, 4)
        };
        let mut flow = Flow::new(SchedulerConfig {
            policy,
            steps_in_flight: 1 + random.below(3),
            ..SchedulerConfig::new(2 + random.below(4), 8, 24, kv)
        });
        flow.scheduler
            .add(NewRequest {
                source: source(16),
                ..NewRequest::new(1000, prompt(0, 17), 3)
            })
            .unwrap();
        assert_eq!(flow.scheduler.schedule(flow.now).transfers.len(), 1);
        for id in 0..40_u64 {
            let len = 1 + random.below(12) as u32;
            let request = NewRequest {
                arrival: Time::from_millis(id),
                priority: random.below(3) as i32,
                tenant: TenantId(random.below(3) as u64),
                plan_ahead: id % 2 == 0,
                source: if id % 3 == 0 {
                    source(len as usize)
                } else {
                    None
                },
                fork_of: (id % 5 == 0).then_some(RequestId(1000)),
                ..NewRequest::new(
                    id,
                    prompt(random.below(3) as u32 * 100, len),
                    1 + random.below(12),
                )
            };
            flow.scheduler.add(request).unwrap();
        }
        let mut steps = 0;
        while (0..40).any(|id| flow.scheduler.phase(RequestId(id)).is_some()) {
            steps += 1;
            assert!(
                steps < 5000,
                "seed {seed} {policy}: {} wait",
                flow.scheduler.num_waiting()
            );
            let mut plans = Vec::new();
            for _ in 0..flow.scheduler.config().steps_in_flight {
                let plan = flow.scheduler.schedule(flow.now);
                for it in plan.transfers.iter() {
                    flow.scheduler
                        .settle_transfer(it.id, it.positions.len() / (1 + random.below(3)))
                        .unwrap();
                }
                plans.push(plan);
            }
            for plan in plans {
                flow.commit(&plan);
            }
            flow.now += Time::from_millis(1);
        }
        assert_eq!(
            flow.scheduler.phase(RequestId(1000)),
            Some(Phase::AwaitingBlocks(TransferId(0)))
        );
        flow.scheduler.cancel(RequestId(1000));
        flow.scheduler.settle_transfer(TransferId(0), 0).unwrap();
        assert_eq!(flow.scheduler.kv_usage().used, 0);
    }
}

/// An id that is used again while the transfer of the request that had it is under way.
#[test]
fn an_id_is_used_again_while_the_old_transfer_is_under_way() {
    use crate::world::{World, request};
    let mut world = World::new(SchedulerConfig::new(4, 32, 64, KvConfig::new(32, 4)));
    let with = |id, tokens| NewRequest {
        source: source(tokens),
        ..request(id, &prompt(0, 12), 4)
    };
    world.add(with(1, 11)).unwrap();
    world.schedule();
    world.cancel(RequestId(1));
    world.add(with(1, 7)).unwrap();
    assert_eq!(world.schedule().transfers.len(), 1);
    world.settle(TransferId(0), 11);
    assert_eq!(
        world.scheduler.phase(RequestId(1)),
        Some(Phase::AwaitingBlocks(TransferId(1)))
    );
    world.settle(TransferId(1), 3);
    world.run_to_quiescence();
}

/// A fork of one that awaits; the parent is cancelled, expires or is settled; the cache is reset meanwhile; windows.
#[test]
fn forks_of_one_that_awaits() {
    use crate::world::{World, request};
    for (kind, window) in (0..4).flat_map(|kind| [(kind, None), (kind, Some(6))]) {
        let kv = KvConfig {
            groups: vec![window.map_or(KvSpec::Full, KvSpec::Window)],
            ..KvConfig::new(32, 4)
        };
        let mut world = World::new(SchedulerConfig::new(4, 32, 64, kv));
        let parent = NewRequest {
            source: source(12),
            deadline: (kind == 1).then_some(Time::from_millis(5)),
            ..request(1, &prompt(0, 13), 4)
        };
        world.add(parent).unwrap();
        world.schedule();
        for id in [2, 3] {
            world
                .add(NewRequest {
                    fork_of: Some(RequestId(1)),
                    source: source(9),
                    ..request(id, &prompt(0, 13), 4)
                })
                .unwrap();
        }
        assert!(world.schedule().transfers.is_empty(), "they are parked");
        match kind {
            0 => world.cancel(RequestId(1)),
            1 => {
                world.now += Time::from_millis(9);
                world.schedule();
            }
            2 => world.settle(TransferId(0), 12),
            _ => {
                world.reset_prefix_cache();
                world.settle(TransferId(0), 5);
            }
        }
        world.run_to_quiescence();
    }
}
