//! The inter-token latency target: long prompts of other requests do not slow a request that streams.

use maitre_scheduler::{KvConfig, NewRequest, RequestId, SchedulerConfig, StepPlan, Time};

use crate::flow::Flow;

const TARGET: Time = Time::from_millis(20);

/// What a step costs here: the weights are read once, and each token takes its time.
fn cost(tokens: usize) -> Time {
    Time::from_millis(5) + Time::from_micros(50) * tokens as u32
}

/// The prompt tokens that a step takes on whatever the target says.
const LEAST_CHUNK: usize = 16;

fn config(itl_target: Option<Time>) -> SchedulerConfig {
    SchedulerConfig {
        itl_target,
        ..SchedulerConfig::new(16, 2048, 8192, KvConfig::new(1024, 64))
    }
}

/// Eight who stream, and a long prompt every now and then. Returns the tokens of each step after the first
/// 100, and how many long prompts were computed.
fn stream(config: SchedulerConfig, depth: usize) -> (Vec<usize>, usize) {
    let mut flow = Flow::new(config);
    for id in 0..8 {
        let prompt = (0..20).map(|i| 100 * id + i).collect();
        let request = NewRequest::new(u64::from(id), prompt, 4000);
        flow.scheduler.add(request).unwrap();
    }
    let (mut in_flight, mut tokens, mut prompts) = (Vec::<StepPlan>::new(), Vec::new(), 0);
    for step in 0..900_u64 {
        if step % 150 == 50 {
            let prompt = (0..4000).map(|i| 10_000 * step as u32 + i).collect();
            flow.scheduler
                .add(NewRequest::new(1000 + step, prompt, 2))
                .unwrap();
        }
        let plan = flow.scheduler.schedule(flow.now);
        if !plan.is_empty() {
            if step >= 100 {
                tokens.push(plan.num_tokens());
            }
            in_flight.push(plan);
        }
        if in_flight.len() == depth || step % 7 == 0 {
            let plan = in_flight.remove(0);
            let took = cost(plan.num_tokens());
            flow.now += took;
            flow.scheduler
                .observe(plan.num_tokens(), took, 0, Time::ZERO);
            let done =
                |it: &&maitre_scheduler::PlannedSpan| it.request >= RequestId(1000) && it.samples;
            prompts += plan.spans.iter().filter(done).count();
            flow.commit(&plan);
        }
    }
    assert!(flow.scheduler.tokens(RequestId(0)).is_some());
    (tokens, prompts / 2)
}

#[test]
fn steps_with_decodes_keep_the_target_and_prompts_get_on() {
    for depth in [1, 2] {
        let (steps, prompts) = stream(config(Some(TARGET)), depth);
        let longest = steps.iter().copied().max().unwrap();
        assert!(
            cost(longest) <= TARGET + cost(LEAST_CHUNK) - cost(0),
            "{longest}"
        );
        assert!(prompts >= 4, "only {prompts} prompts got through");
        let (steps, _) = stream(config(None), depth);
        let longest = steps.into_iter().max().unwrap();
        assert!(cost(longest) > 4 * TARGET, "without a target: {longest}");
    }
}

/// A target that no step can meet slows prompts down, but does not stop them.
#[test]
fn an_impossible_target_still_lets_prompts_through() {
    let (steps, _) = stream(config(Some(Time::from_micros(10))), 1);
    let longest = steps.iter().copied().max().unwrap();
    // The streaming requests, and the owner of the prompt before.
    assert!((10..=9 + LEAST_CHUNK).contains(&longest), "{longest}");
}
