//! What holds for every run, whatever the settings.

use maitre_sim::routing::Routing;
use maitre_sim::workload::{Arrivals, ClosedLoop, Length, Lengths, OpenLoop, ThinkTime};
use maitre_sim::{EngineSettings, Simulation};
use proptest::prelude::*;

use crate::{overheads, run, simulation};

#[derive(Debug, Clone)]
struct Case {
    engine: EngineSettings,
    replicas: usize,
    routing: Routing,
    /// Users of a closed loop; 0 is an open one.
    users: u32,
    rate: f64,
    prompt: u32,
    output: u32,
    requests: u64,
    seed: u64,
}

impl Case {
    fn simulation(&self) -> Simulation {
        let mut simulation = simulation(overheads(0.004, 0.001, 0.002), self.engine.clone());
        (simulation.replicas, simulation.routing) = (self.replicas, self.routing);
        simulation
    }

    fn arrivals(&self) -> Box<dyn Arrivals> {
        let lengths = Lengths::Independent {
            prompt: Length::Uniform(1..=self.prompt),
            output: Length::Uniform(1..=self.output),
        };
        if self.users > 0 {
            let think = ThinkTime::Exponential(std::time::Duration::from_millis(20));
            let closed = ClosedLoop::new(self.users, think, lengths, self.requests, self.seed);
            return Box::new(closed.unwrap());
        }
        let process = format!("gamma:{},2", self.rate).parse().unwrap();
        Box::new(OpenLoop::new(process, lengths, self.requests, self.seed).unwrap())
    }
}

fn engines() -> impl Strategy<Value = EngineSettings> {
    let sizes = (1..6_usize, 6..32_usize, 6..40_u32, 1..12_usize, 1..3_usize);
    (sizes, any::<bool>()).prop_map(|(sizes, prefix_cache)| {
        let (max_seqs, max_batched_tokens, kv_blocks, max_queue, steps_in_flight) = sizes;
        EngineSettings {
            max_seqs,
            max_batched_tokens,
            max_queue,
            steps_in_flight,
            prefix_cache,
            block_size: 4,
            ..EngineSettings::new(kv_blocks, 64)
        }
    })
}

fn cases() -> impl Strategy<Value = Case> {
    let fleet = (1..4_usize, 0..Routing::ALL.len(), 0..6_u32, 5.0..400.0_f64);
    let requests = (1..50_u32, 1..20_u32, 1..40_u64, any::<u64>());
    (engines(), fleet, requests).prop_map(|(engine, fleet, requests)| Case {
        engine,
        replicas: fleet.0,
        routing: Routing::ALL[fleet.1],
        users: fleet.2,
        rate: fleet.3,
        prompt: requests.0,
        output: requests.1,
        requests: requests.2,
        seed: requests.3,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_request_is_answered_or_refused_and_no_token_is_lost(case in cases()) {
        let (report, answers) = run(&case.simulation(), &mut *case.arrivals());
        let refused: u64 = report.requests.refused.values().sum();
        prop_assert_eq!(report.requests.arrived, case.requests);
        prop_assert_eq!(report.requests.completed + refused, case.requests);
        prop_assert_eq!(answers.len() as u64, report.requests.completed);
        let mut numbers: Vec<u64> = answers.iter().map(|it| it.number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        prop_assert_eq!(numbers.len(), answers.len());
        for it in &answers {
            prop_assert!(it.arrival <= it.started && it.started < it.first_token && it.first_token <= it.ended);
            prop_assert!(it.replica < case.replicas);
        }
        // The first output token needs no step of its own, and each other one is computed before the next.
        let needed: u64 = answers.iter().map(|it| u64::from(it.prompt_tokens - it.cached_tokens + it.output_tokens - 1)).sum();
        let lost = report.preemptions.tokens;
        prop_assert!((needed..=needed + lost).contains(&report.tokens.computed), "{} {} {}", needed, report.tokens.computed, lost);
        prop_assert_eq!(report.tokens.output, answers.iter().map(|it| u64::from(it.output_tokens)).sum::<u64>());
    }

    #[test]
    fn two_runs_give_the_same_bytes(case in cases()) {
        let report = || case.simulation().run(&mut *case.arrivals()).unwrap();
        let (first, second) = (report(), report());
        prop_assert_eq!(first.to_json(), second.to_json());
        prop_assert_eq!(first.to_string(), second.to_string());
    }
}

/// The cases above meet what they are about.
#[test]
fn the_cases_meet_preemption_and_refusal() {
    let engine = EngineSettings {
        max_seqs: 4,
        max_batched_tokens: 16,
        max_queue: 4,
        block_size: 4,
        ..EngineSettings::new(14, 64)
    };
    let case = Case {
        engine,
        replicas: 1,
        routing: Routing::RoundRobin,
        users: 0,
        rate: 300.0,
        prompt: 12,
        output: 20,
        requests: 60,
        seed: 1,
    };
    let (report, _) = run(&case.simulation(), &mut *case.arrivals());
    assert!(
        report.preemptions.requests > 0 && !report.requests.refused.is_empty(),
        "{report}"
    );
}
