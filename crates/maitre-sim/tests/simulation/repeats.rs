//! Steps that repeat each other are taken together, and no report tells.

use std::time::Duration;

use maitre_scheduler::PolicyKind;
use maitre_sim::routing::{FleetView, Router, Routing};
use maitre_sim::workload::{Arrivals, ClosedLoop, Length, Lengths, Request, ThinkTime};
use maitre_sim::{EngineSettings, Simulation};
use proptest::prelude::*;

use crate::{Given, overheads, poisson, run, simulation};

/// Looks at everything that it is shown, and sends where least of it is.
#[derive(Debug)]
struct MostSpace;

impl Router for MostSpace {
    fn route(&mut self, _request: &Request, fleet: FleetView<'_>) -> usize {
        let key = |&replica: &usize| {
            let load = fleet.load(replica);
            (load.kv_used, load.running, load.waiting_tokens)
        };
        (0..fleet.len()).min_by_key(key).unwrap()
    }
}

#[derive(Debug, Clone)]
struct Case {
    engine: EngineSettings,
    replicas: usize,
    /// Beyond the routings that come with the simulator: a router of the caller's.
    routing: usize,
    /// Milliseconds after the one before, prompt, output, and which beginning it has.
    requests: Vec<(u64, u32, u32, u64)>,
    users: Option<u32>,
    /// Whether a step takes a round time, so that arrivals and ends of steps meet.
    round: bool,
}

impl Case {
    fn simulation(&self, every_step: bool) -> Simulation {
        let cost = match self.round {
            true => overheads(0.002, 0.0, 0.0),
            false => overheads(0.0017, 0.000_31, 0.000_4),
        };
        let mut simulation = simulation(cost, self.engine.clone());
        (simulation.replicas, simulation.every_step) = (self.replicas, every_step);
        simulation.slo = "ttft=20ms,tpot=3ms".parse().unwrap();
        if let Some(routing) = Routing::ALL.get(self.routing) {
            simulation.routing = *routing;
        }
        simulation
    }

    fn arrivals(&self) -> Box<dyn Arrivals> {
        if let Some(users) = self.users {
            let lengths = Lengths::Independent {
                prompt: Length::Uniform(1..=30),
                output: Length::Uniform(1..=40),
            };
            let think = ThinkTime::Exponential(Duration::from_millis(15));
            return Box::new(ClosedLoop::new(users, think, lengths, 60, 7).unwrap());
        }
        let mut at = 0;
        let ids: Vec<Vec<u64>> = (0..4).map(|base| vec![base, 7 + base]).collect();
        let rows: Vec<(u64, u32, u32, &[u64])> = self
            .requests
            .iter()
            .map(|&(after, prompt, output, base)| {
                at += after;
                (at, prompt, output, &ids[base as usize][..])
            })
            .collect();
        Box::new(Given::new(&rows))
    }

    /// The report, and all answers in the order in which they ended.
    fn told(&self, every_step: bool) -> (String, String) {
        let simulation = self.simulation(every_step);
        if self.routing < Routing::ALL.len() {
            let (report, answers) = run(&simulation, &mut *self.arrivals());
            return (report.to_json(), format!("{answers:?}"));
        }
        let mut answers = Vec::new();
        let observe = &mut |answered: &_| answers.push(*answered);
        let router = Box::new(MostSpace);
        let report = simulation.run_with(&mut *self.arrivals(), router, observe);
        (report.unwrap().to_json(), format!("{answers:?}"))
    }
}

fn engines() -> impl Strategy<Value = EngineSettings> {
    let sizes = (1..8_usize, 0..40_usize, 20..60_u32, 1..5_u32, 1..20_usize);
    let kinds = (
        0..PolicyKind::ALL.len(),
        any::<bool>(),
        any::<bool>(),
        1..8_usize,
    );
    (sizes, kinds).prop_map(|(sizes, kinds)| {
        let (max_seqs, spare, kv_blocks, block_size, max_queue) = sizes;
        let (policy, prefix_cache, itl_target, depth) = kinds;
        EngineSettings {
            max_seqs,
            max_batched_tokens: max_seqs + spare,
            max_queue,
            block_size: 1 << block_size,
            prefix_cache,
            policy: PolicyKind::ALL[policy],
            itl_target: itl_target.then_some(Duration::from_millis(4)),
            max_queue_wait: (policy == 0 && depth > 5).then_some(Duration::from_millis(30)),
            steps_in_flight: if depth == 1 { 2 } else { 1 },
            ..EngineSettings::new(kv_blocks, 120)
        }
    })
}

fn cases() -> impl Strategy<Value = Case> {
    let request = (0..60_u64, 1..60_u32, 1..60_u32, 0..4_u64);
    let requests = prop::collection::vec(request, 1..40);
    let users = prop::option::weighted(0.3, 1..6_u32);
    let fleet = (1..4_usize, 0..=Routing::ALL.len(), users, any::<bool>());
    (engines(), fleet, requests).prop_map(|(engine, fleet, requests)| Case {
        engine,
        replicas: fleet.0,
        routing: fleet.1,
        users: fleet.2,
        round: fleet.3,
        requests,
    })
}

/// The same requests, of which is not said that no prompt begins like another.
struct Silent(Box<dyn Arrivals>);

impl Arrivals for Silent {
    fn next_at(&mut self) -> Option<Duration> {
        self.0.next_at()
    }

    fn take(&mut self) -> Option<Request> {
        self.0.take()
    }

    fn is_open(&self) -> bool {
        self.0.is_open()
    }

    fn ended(&mut self, user: u32, at: Duration) {
        self.0.ended(user, at);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn steps_that_are_taken_together_are_told_as_one_by_one(case in cases()) {
        let (report, answers) = case.told(false);
        let (singly, answers_singly) = case.told(true);
        prop_assert_eq!(report, singly);
        prop_assert_eq!(answers, answers_singly);
    }

    /// Where no prompt begins like another, nothing is named, and that is no difference either.
    #[test]
    fn what_no_prompt_shares_need_not_be_remembered(case in cases(), rate in 20.0..300.0_f64) {
        let simulation = case.simulation(false);
        let arrivals = || -> Box<dyn Arrivals> {
            if case.users.is_some() {
                return case.arrivals();
            }
            let lengths = Lengths::Independent {
                prompt: Length::Uniform(1..=50),
                output: Length::Uniform(1..=40),
            };
            Box::new(poisson(rate, lengths, 40, 3))
        };
        assert!(!arrivals().shares_prefixes());
        let (report, answers) = run(&simulation, &mut *arrivals());
        let (named, answers_named) = run(&simulation, &mut Silent(arrivals()));
        prop_assert_eq!(report.to_json(), named.to_json());
        prop_assert_eq!(answers, answers_named);
    }
}
