//! Random lives of a scheduler, drawn from a seed: a configuration, then events. [`World`] checks every plan.
//!
//! Prompts begin like others, pools are tiny or large, tenants are greedy, and everything that can happen at a
//! time happens at every time: cancels, deadlines, failures, cache resets, further steps in flight, steps taken back,
//! drafts, tokens that are not taken, blocks that come from elsewhere or do not.

use std::panic::{AssertUnwindSafe, catch_unwind};

use maitre_scheduler::queue::QueueBounds;
use maitre_scheduler::{
    BlockSource, HashKey, KvConfig, KvSpec, Namespace, NewRequest, PolicyKind, RequestId,
    SchedulerConfig, TenantId, Time,
};

use crate::drafting::Drafting;
use crate::front::Front;
use crate::world::{Mishaps, World};

/// A stream of random numbers (SplitMix64: Steele et al. 2014).
#[derive(Debug, Clone)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// One of `0..end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    pub(crate) fn chance(&mut self, of_a_hundred: usize) -> bool {
        self.below(100) < of_a_hundred
    }

    fn perhaps(&mut self, of_a_hundred: usize, end: usize) -> Option<usize> {
        let value = self.below(end);
        self.chance(of_a_hundred).then_some(value)
    }
}

#[derive(Debug, Clone)]
pub(crate) enum Event {
    Add(Shape),
    Cancel(usize),
    Schedule,
    Commit(Mishaps),
    /// So many plans and commits in turn; a step that was in flight before stays one step ahead.
    Rounds(usize),
    /// So many commits, each with as many steps in flight as there may be.
    Pipeline(usize),
    /// So many of the newest steps are taken back, and perhaps what the newest one admitted is cancelled.
    Retract(usize, bool),
    /// The oldest step is run again, after all later ones are taken back.
    RunAgain(Mishaps),
    Wait(u64),
    /// One of the transfers under way ends, and so many of a hundred tokens have come.
    Settle(usize, usize),
    Reset,
    /// Nanoseconds per token, and per moved block.
    Observe(u64, u64),
}

/// What a random request looks like; times are relative to its arrival.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    request: NewRequest,
    late_ms: u64,
    deadline_ms: Option<u64>,
    queue_deadline_ms: Option<u64>,
    /// Which of the live requests it forks, with that one's prompt.
    fork_of: Option<usize>,
}

impl Shape {
    fn random(random: &mut Random) -> Self {
        let mut prompt = Vec::new();
        if random.chance(75) {
            let (base, len) = (random.below(3) as u32, random.below(20) as u32);
            prompt.extend((0..len).map(|i| base * 100 + i));
        }
        let tail = random.below(9);
        prompt.extend((0..tail).map(|_| random.below(3) as u32));
        let tenant = random.below(4);
        let namespace = match random.below(4) {
            0 => Namespace::new(&HashKey::default(), &[b"other"]),
            _ => Namespace::new(&HashKey::default(), &[]),
        };
        let source = random.perhaps(25, 24);
        let source = source.map(|tokens| BlockSource { source: 5, tokens });
        let request = NewRequest {
            source,
            priority: random.below(3) as i32 - 1,
            tenant: TenantId(tenant as u64),
            weight: 1 + tenant as u32 % 3,
            prompt_logits: random.chance(15),
            namespace,
            read_cache: !random.chance(10),
            write_cache: !random.chance(10),
            plan_ahead: random.chance(60),
            ..NewRequest::new(0, prompt, random.below(32))
        };
        Self {
            request,
            late_ms: random.perhaps(25, 10).unwrap_or(0) as u64,
            deadline_ms: random.perhaps(15, 60).map(|ms| ms as u64),
            queue_deadline_ms: random.perhaps(15, 30).map(|ms| ms as u64),
            fork_of: random.perhaps(25, 16),
        }
    }

    fn request(&self, id: u64, world: &World) -> NewRequest {
        let after = |ms: Option<u64>| ms.map(|ms| world.now + Time::from_millis(ms));
        let mut request = NewRequest {
            id: RequestId(id),
            arrival: world.now.saturating_sub(Time::from_millis(self.late_ms)),
            deadline: after(self.deadline_ms),
            queue_deadline: after(self.queue_deadline_ms),
            ..self.request.clone()
        };
        let parents: Vec<_> = world.live.values().collect();
        if let Some(index) = self.fork_of
            && let Some(parent) = parents.get(index % parents.len().max(1))
        {
            request.fork_of = Some(parent.request.id);
            request.prompt = parent.request.prompt.clone();
            // Mostly, a fork is another answer to the same question; sometimes it only says so.
            if index % 8 != 0 {
                request.namespace = parent.request.namespace;
                request.write_cache = parent.request.write_cache;
            }
        }
        request
    }
}

impl Mishaps {
    fn random(random: &mut Random) -> Self {
        Self {
            fail: random.perhaps(10, 8),
            fail_all: random.chance(2),
            finish: random.perhaps(10, 24),
            reversed: random.chance(50),
        }
    }
}

/// What happens how often, out of the sum.
struct Mix {
    add: usize,
    cancel: usize,
    reset: usize,
}

impl Event {
    fn random(random: &mut Random, mix: &Mix) -> Self {
        let kinds = [mix.add, mix.cancel, mix.reset, 4, 3, 3, 2, 3, 3, 2, 2, 1];
        let mut left = random.below(kinds.iter().sum());
        let kind = kinds.iter().position(|&weight| {
            let here = left < weight;
            left = left.saturating_sub(weight);
            here
        });
        match kind {
            Some(0) => Self::Add(Shape::random(random)),
            Some(1) => Self::Cancel(random.below(16)),
            Some(2) => Self::Reset,
            Some(3) => Self::Schedule,
            Some(4) => Self::Commit(Mishaps::random(random)),
            Some(5) => Self::Rounds(1 + random.below(8)),
            Some(6) => Self::Wait(1 + random.below(10) as u64),
            Some(7) => Self::Pipeline(1 + random.below(8)),
            Some(8) => Self::Retract(1 + random.below(3), random.chance(40)),
            Some(9) => Self::RunAgain(Mishaps::random(random)),
            Some(10) => Self::Settle(random.below(8), [0, 50, 100, 100][random.below(4)]),
            _ => Self::Observe(
                random.below(2_000_000) as u64,
                random.below(4_000_000) as u64,
            ),
        }
    }
}

/// A configuration and what happens to it.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) config: SchedulerConfig,
    pub(crate) bounds: QueueBounds,
    pub(crate) drafting: Option<Drafting>,
    pub(crate) eager: bool,
    pub(crate) deferring: bool,
    pub(crate) events: Vec<Event>,
}

impl Case {
    /// The case of a seed, with at most `len` events.
    pub(crate) fn random(seed: u64, len: usize) -> Self {
        let mut random = Random(seed);
        let (config, bounds) = random_config(&mut random);
        let mix = Mix {
            add: 1 + random.below(12),
            cancel: random.below(3),
            reset: random.below(2),
        };
        let len = 1 + random.below(len);
        let events = (0..len).map(|_| Event::random(&mut random, &mix));
        Self {
            config,
            bounds,
            events: events.collect(),
            eager: seed.is_multiple_of(2),
            deferring: seed % 3 != 1,
            drafting: (!seed.is_multiple_of(4)).then_some(Drafting { seed, lucky: true }),
        }
    }

    /// Lives it to the end.
    pub(crate) fn run(&self) -> World {
        let mut world = self.world();
        self.live(&mut world);
        world
    }

    pub(crate) fn world(&self) -> World {
        let mut world = World::new(self.config.clone());
        world.front = Some(Front::new(self.bounds));
        world.drafting = self.drafting;
        world.eager = self.eager;
        world.deferring = self.deferring;
        world.pipelined = true;
        world
    }

    fn live(&self, world: &mut World) {
        for (id, event) in (0..).zip(&self.events) {
            happen(world, id, event);
        }
        world.run_to_quiescence();
    }

    /// What was wrong and the calls that led to it, if anything was.
    fn failure(&self) -> Option<Failure> {
        let mut world = self.world();
        let message = message_of(|| self.live(&mut world))?;
        let calls = world.calls.iter().map(|call| format!("{call}\n"));
        Some(Failure {
            message,
            calls: calls.collect(),
        })
    }

    /// If the case fails: the failure of the shortest case that is left when everything is dropped, first in
    /// long runs, then one by one, that it fails without.
    pub(crate) fn shrunk_failure(mut self) -> Option<Failure> {
        let mut failure = self.failure()?;
        let mut run = self.events.len().next_power_of_two();
        while run > 0 {
            let mut start = 0;
            while start < self.events.len() {
                let mut shorter = self.clone();
                let end = (start + run).min(shorter.events.len());
                shorter.events.drain(start..end);
                match shorter.failure() {
                    Some(smaller) => (self, failure) = (shorter, smaller),
                    None => start += run,
                }
            }
            run /= 2;
        }
        Some(failure)
    }
}

/// How a case failed.
pub(crate) struct Failure {
    pub(crate) message: String,
    pub(crate) calls: String,
}

/// What `act` says when it panics.
pub(crate) fn message_of(act: impl FnOnce()) -> Option<String> {
    let payload = catch_unwind(AssertUnwindSafe(act)).err()?;
    let text = payload.downcast_ref::<String>().cloned();
    let text = text.or_else(|| Some((*payload.downcast_ref::<&str>()?).to_owned()));
    Some(text.unwrap_or_else(|| "it panicked".to_owned()))
}

fn happen(world: &mut World, id: u64, event: &Event) {
    match event {
        // Refusals are part of life here; their table is elsewhere.
        Event::Add(shape) => world.submit(shape.request(id, world)),
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
        Event::Pipeline(steps) => {
            for _ in 0..*steps {
                world.fill();
                world.commit(&Mishaps::default());
            }
        }
        Event::Retract(steps, cancel) => {
            let newest = world.in_flight.back();
            let admitted = newest.map_or(Vec::new(), |step| step.plan.admitted.clone());
            (0..*steps).for_each(|_| world.retract());
            for admitted in admitted.iter().filter(|_| *cancel) {
                if world.live.contains_key(&admitted.request) {
                    world.cancel(admitted.request);
                }
            }
        }
        Event::RunAgain(mishaps) => world.run_again(mishaps),
        Event::Settle(index, share) => world.settle_some(*index, *share),
        Event::Wait(ms) => world.now += Time::from_millis(*ms),
        Event::Reset => world.reset_prefix_cache(),
        Event::Observe(token_ns, block_ns) => {
            let (tokens, blocks) = (1 + id as usize % 7, id as usize % 3);
            let moving = Time::from_nanos(block_ns * blocks as u64);
            let took = Time::from_nanos(1000 + token_ns * tokens as u64) + moving;
            world.observe(tokens, took, blocks, moving);
        }
    }
}

/// So that further groups are drawn from numbers of their own.
const OTHERS: u64 = 0x6a09_e667_f3bc_c908;

/// Groups beside the first one, mostly none or one, and pages of the host tier for all of them. Some have chunks in place of
/// a window, and in some models a recurrent group goes with them or stands in their place.
fn random_groups(
    random: &mut Random,
    first: KvSpec,
    host: Option<usize>,
    block_size: u32,
) -> (Vec<KvSpec>, usize) {
    let mut groups = vec![first];
    for _ in 0..[0, 0, 1, 1, 2][random.below(5)] {
        let window = random.perhaps(50, 12);
        let window = window.map(|window| KvSpec::Window(2 + window as u32));
        groups.push(window.unwrap_or(KvSpec::Full));
    }
    let mut more = Random(random.0 ^ OTHERS.rotate_left(1));
    for spec in groups.iter_mut().filter(|_| more.chance(40)) {
        if let KvSpec::Window(window) = *spec {
            *spec = KvSpec::Chunked(window);
        }
    }
    if more.chance(45) {
        let state = KvSpec::State {
            pages: 1 + more.below(3) as u32,
            checkpoint_every: block_size * (1 + more.below(4)) as u32,
        };
        match more.below(6) {
            0 => groups = vec![state],
            1 => groups.extend([state, state]),
            2 => groups.insert(0, state),
            _ => groups.push(state),
        }
    }
    let host = match host {
        None if groups.iter().any(|spec| spec.most_read().is_some()) => random.perhaps(50, 7),
        host => host,
    };
    let pages = groups.iter().map(|spec| match spec {
        KvSpec::State { pages, .. } => *pages as usize,
        _ => 1,
    });
    let pages = host.unwrap_or(0) * pages.sum::<usize>();
    (groups, pages)
}

/// Pools that barely hold the longest request, so that blocks run out all the time, and large pools.
fn random_config(random: &mut Random) -> (SchedulerConfig, QueueBounds) {
    let max_seqs = 1 + random.below(6);
    let max_model_len = 8 + random.below(40);
    let block_size = 1 + random.below(5) as u32;
    let spare = [6, 6, 40][random.below(3)];
    let window = random.perhaps(25, 12).map(|window| 2 + window as u32);
    let prefix_cache = !random.chance(10);
    let host = if prefix_cache && window.is_none() {
        random.perhaps(50, 7)
    } else {
        None
    };
    let spare = random.below(spare);
    let first = window.map_or(KvSpec::Full, KvSpec::Window);
    let (groups, host) = random_groups(&mut Random(random.0 ^ OTHERS), first, host, block_size);
    let kv = KvConfig {
        num_host_pages: if prefix_cache { host as u32 } else { 0 },
        groups,
        prefix_cache,
        events: true,
        ..KvConfig::new(1, block_size)
    };
    let policies = PolicyKind::ALL;
    let (max_queue, tokens) = (2 + random.below(12), random.below(2));
    let policy = policies[random.below(policies.len())];
    let bounds = QueueBounds {
        max_queue,
        max_queued_tokens: [usize::MAX, 40][tokens],
        max_wait: None,
        order: policy.build().queue_order(),
    };
    let config = SchedulerConfig {
        policy,
        reorder_within: Time::from_millis([0, 5, 1000][random.below(3)]),
        itl_target: random
            .perhaps(30, 20)
            .map(|ms| Time::from_millis(1 + ms as u64)),
        ..SchedulerConfig::new(max_seqs, max_seqs + random.below(20), max_model_len, kv)
    };
    let mut config = SchedulerConfig {
        steps_in_flight: 1 + random.below(3),
        ..config
    };
    let longest = config.kv.pages_for(max_model_len, config.ahead());
    config.kv.num_pages = (longest + spare) as u32;
    (config, bounds)
}
