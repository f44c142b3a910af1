//! Repeated steps beside single ones: two schedulers that are asked the same have to be the same.

use proptest::prelude::*;

use super::*;
use crate::{
    KvConfig, NewRequest, PolicyKind, RequestId, SchedulerConfig, StepPlan, TenantId, Time,
};

const TOKEN: u32 = 9;

fn outcomes(plan: &StepPlan) -> Vec<Outcome> {
    let tokens = |samples| if samples { vec![TOKEN] } else { vec![] };
    let spans = plan.spans.iter();
    spans
        .map(|span| Outcome::of(span.request, tokens(span.samples)))
        .collect()
}

fn observe(scheduler: &mut Scheduler, plan: &StepPlan) {
    let tokens = plan.num_tokens();
    let took = Time::from_micros(700 + 30 * tokens as u64);
    scheduler.observe(tokens, took, 0, Time::ZERO);
}

/// Everything of a scheduler that decides anything, in words. Maps of random order are left out: what they lead to is not.
fn state(scheduler: &Scheduler) -> String {
    let Scheduler {
        kv,
        policy,
        waiting,
        running,
        awaiting,
        timers,
        in_flight,
        cost,
        move_cost,
        blocked,
        counts,
        ..
    } = scheduler;
    format!(
        "{kv:?}\n{policy:?}\n{waiting:?}\n{running:?}\n{awaiting:?}\n{timers:?}\n{in_flight:?}\n{cost:?}\n{move_cost:?}\n\
         {blocked:?}\n{counts:?}"
    )
}

/// Two schedulers in the same state, and what was done.
struct Pair {
    single: Scheduler,
    repeated: Scheduler,
    now: Time,
    steps: usize,
    repeats: usize,
}

impl Pair {
    fn new(config: &SchedulerConfig) -> Self {
        Self {
            single: Scheduler::new(config.clone()).unwrap(),
            repeated: Scheduler::new(config.clone()).unwrap(),
            now: Time::ZERO,
            steps: 0,
            repeats: 0,
        }
    }

    fn add(&mut self, request: NewRequest) {
        let request = NewRequest {
            arrival: self.now,
            ..request
        };
        let added = self.single.add(request.clone());
        assert_eq!(self.repeated.add(request), added);
    }

    fn cancel(&mut self, request: u64) {
        let request = RequestId(request);
        assert_eq!(self.single.cancel(request), self.repeated.cancel(request));
    }

    /// One step, repeated as often as that is possible and at most so many times.
    fn step(&mut self, most: usize) {
        let plan = self.single.schedule(self.now);
        let same = self.repeated.schedule(self.now);
        assert_eq!(plan.to_string(), same.to_string());
        if plan.is_empty() {
            return;
        }
        let outcomes = outcomes(&plan);
        let times = self.repeated.repeatable_steps(most);
        assert!(times <= most);
        let mut told = Vec::new();
        let newest = self
            .repeated
            .repeat(plan.step_id, &outcomes, times, &mut |used| told.push(used))
            .unwrap();
        let mut single = plan;
        let mut seen = Vec::new();
        for _ in 0..times {
            self.single.commit(single.step_id, &outcomes).unwrap();
            observe(&mut self.single, &single);
            observe(&mut self.repeated, &single);
            single = self.single.schedule(self.now);
            assert!(single.admitted.is_empty() && single.preempted.is_empty());
            seen.push(self.single.kv_usage().used);
        }
        assert_eq!((single.step_id, told), (newest, seen));
        assert_eq!(state(&self.single), state(&self.repeated));
        for scheduler in [&mut self.single, &mut self.repeated] {
            scheduler.commit(newest, &outcomes).unwrap();
            observe(scheduler, &single);
        }
        assert_eq!(state(&self.single), state(&self.repeated));
        self.steps += 1 + times;
        self.repeats += times;
        self.now += Time::from_millis(1);
    }

    fn run_to_the_end(&mut self, most: usize) {
        while self.single.has_work() {
            self.step(most);
        }
    }
}

/// A prompt that begins like those of the same base, up to a length of its own.
fn request(id: u64, base: u32, len: usize, max_tokens: usize) -> NewRequest {
    let mut prompt = vec![base; len];
    if let Some(last) = prompt.last_mut().filter(|_| id.is_multiple_of(3)) {
        *last = 100 + id as u32;
    }
    NewRequest {
        tenant: TenantId(id % 3),
        weight: 1 + id as u32 % 2,
        priority: id as i32 % 2,
        write_cache: !id.is_multiple_of(5),
        ..NewRequest::new(id, prompt, max_tokens)
    }
}

fn configs() -> impl Strategy<Value = SchedulerConfig> {
    let sizes = (1..7_usize, 0..20_usize, 1..6_u32, 12..40_u32);
    let kinds = (
        any::<bool>(),
        any::<bool>(),
        0..PolicyKind::ALL.len(),
        1..3_usize,
    );
    (sizes, kinds).prop_map(|(sizes, kinds)| {
        let (max_seqs, spare, block_size, num_pages) = sizes;
        let (prefix_cache, itl_target, policy, steps_in_flight) = kinds;
        let kv = KvConfig {
            prefix_cache,
            ..KvConfig::new(num_pages, block_size)
        };
        SchedulerConfig {
            policy: PolicyKind::ALL[policy],
            itl_target: itl_target.then_some(Time::from_micros(900)),
            steps_in_flight,
            ..SchedulerConfig::new(max_seqs, max_seqs + spare, 40, kv)
        }
    })
}

proptest! {
    #[test]
    fn repeating_is_the_same_as_step_after_step(
        config in configs(),
        events in prop::collection::vec((0..10_u8, 0..3_u32, 1..20_usize, 1..24_usize), 1..60),
    ) {
        let mut pair = Pair::new(&config);
        for (id, (event, base, len, number)) in (0_u64..).zip(events) {
            match event {
                0..=3 => pair.add(request(id, base, len, number)),
                4 => pair.cancel(id.saturating_sub(len as u64)),
                _ => pair.step(number),
            }
        }
        pair.run_to_the_end(1000);
        prop_assert_eq!(pair.repeated.kv_usage().used, 0);
    }
}

/// The property meets what it is about: few blocks, equal answers whose blocks are merged, requests that wait.
#[test]
fn crowded_pools_repeat_many_steps_and_still_preempt_and_merge() {
    let kv = KvConfig::new(24, 4);
    let config = SchedulerConfig {
        steps_in_flight: 1,
        ..SchedulerConfig::new(6, 32, 60, kv)
    };
    let mut pair = Pair::new(&config);
    for id in 0..30 {
        pair.add(request(id, id as u32 % 2, 6 + id as usize % 3, 30));
    }
    pair.run_to_the_end(usize::MAX);
    let counts = pair.single.counts();
    assert!(
        counts.preemptions > 5 && counts.kv.merged > 5 && counts.kv.evicted > 5,
        "{counts:?}"
    );
    let share = pair.repeats as f64 / pair.steps as f64;
    assert!(share > 0.4, "{} of {} steps", pair.repeats, pair.steps);
}

#[test]
fn what_is_not_a_repeatable_step_is_refused() {
    let config = SchedulerConfig::new(2, 8, 64, KvConfig::new(32, 4));
    let mut scheduler = Scheduler::new(config).unwrap();
    scheduler.add(NewRequest::new(1, vec![7; 5], 10)).unwrap();
    let prefill = scheduler.schedule(Time::ZERO);
    assert_eq!(scheduler.repeatable_steps(9), 0, "a prompt");
    scheduler
        .commit(prefill.step_id, &outcomes(&prefill))
        .unwrap();
    assert_eq!(scheduler.repeatable_steps(9), 0, "nothing is in flight");

    let plan = scheduler.schedule(Time::ZERO);
    assert_eq!(scheduler.repeatable_steps(99), 8);
    let before = state(&scheduler);
    let good = outcomes(&plan);
    let mut repeat = |step, outcomes: &[Outcome], times| {
        scheduler.repeat(step, outcomes, times, &mut |_| panic!("nothing is planned"))
    };
    let (step, most) = (plan.step_id, 8);
    assert_eq!(
        repeat(step, &good, 9),
        Err(SchedulerError::NotRepeatable {
            step,
            times: 9,
            most
        })
    );
    let ends = Outcome {
        finished: true,
        ..good[0].clone()
    };
    let drafts = Outcome {
        next_drafts: 1,
        ..good[0].clone()
    };
    for other in [ends, drafts] {
        let said = repeat(step, &[other], 1);
        assert_eq!(
            said,
            Err(SchedulerError::NotRepeatable {
                step,
                times: 1,
                most: 0
            })
        );
    }
    assert!(matches!(
        repeat(StepId(77), &good, 1),
        Err(SchedulerError::UnexpectedStep { .. })
    ));
    assert_eq!(repeat(step, &good, 0), Ok(step));
    assert_eq!(state(&scheduler), before);
}
