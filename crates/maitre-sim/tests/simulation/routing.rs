//! Routers: where requests go, and what their prefix caches find.

use maitre_sim::routing::{FleetView, Router, Routing};
use maitre_sim::workload::{Length, Lengths, Request};
use maitre_sim::{EngineSettings, Report, Simulation};

use crate::{Given, overheads, poisson, run, simulation};

fn fleet(routing: Routing, replicas: usize) -> Simulation {
    let engine = EngineSettings {
        max_batched_tokens: 64,
        max_seqs: 8,
        ..EngineSettings::new(64, 256)
    };
    let mut simulation = simulation(overheads(0.010, 0.001, 0.005), engine);
    (simulation.routing, simulation.replicas) = (routing, replicas);
    simulation
}

/// Conversations in turn, each with a beginning of its own of 32 tokens behind 16 that all have.
fn conversations(routing: Routing) -> Report {
    let ids: Vec<[u64; 3]> = (0..5).map(|chat| [1, 100 + chat, 200 + chat]).collect();
    let rows: Vec<(u64, u32, u32, &[u64])> = (0..60)
        .map(|turn| (50 * turn, 64, 3, &ids[turn as usize % 5][..]))
        .collect();
    let (report, _) = run(&fleet(routing, 4), &mut Given::new(&rows));
    report
}

#[test]
fn what_looks_at_beginnings_finds_more_of_them_cached() {
    let cached = Routing::ALL.map(|routing| conversations(routing).tokens.cached);
    let [round_robin, _, prefix_aware, sticky] = cached;
    // All turns but the first of each chat find the whole beginning.
    assert_eq!(sticky, 55 * 48 + 16 * overlapping());
    assert!(
        prefix_aware > round_robin && sticky > round_robin,
        "{cached:?}"
    );
}

/// First turns that find the block that all have, since another chat went to the same replica before.
fn overlapping() -> u64 {
    let report = conversations(Routing::SessionSticky);
    let used = report.per_replica.iter().filter(|it| it.completed > 0);
    5 - used.count() as u64
}

/// A beginning that all prompts have, and that is less than half of each, is no reason to follow it.
#[test]
fn a_short_beginning_is_not_followed() {
    let rows: Vec<(u64, u32, u32, &[u64])> =
        (0..40).map(|index| (5 * index, 64, 2, &[1][..])).collect();
    let (report, _) = run(&fleet(Routing::PrefixAware, 4), &mut Given::new(&rows));
    let completed = report.per_replica.iter().map(|it| it.completed);
    assert!(
        completed.clone().all(|count| (8..=12).contains(&count)),
        "{report}"
    );
}

#[test]
fn the_least_loaded_replica_gets_the_next_request() {
    // The first answer takes long, so what follows goes elsewhere.
    let rows: Vec<(u64, u32, u32, &[u64])> = (0..20)
        .map(|index| (60 * index, 16, if index == 0 { 200 } else { 2 }, &[][..]))
        .collect();
    let completed = |routing| {
        let (report, _) = run(&fleet(routing, 2), &mut Given::new(&rows));
        report
            .per_replica
            .iter()
            .map(|it| it.completed)
            .collect::<Vec<_>>()
    };
    assert_eq!(completed(Routing::RoundRobin), [10, 10]);
    assert_eq!(completed(Routing::LeastLoaded), [1, 19]);
}

/// Where answers take turns and some are long, a request waits less behind the shortest queue than behind the next one.
#[test]
fn least_loaded_waits_less_than_round_robin() {
    let wait = |routing| {
        let lengths = Lengths::Independent {
            prompt: Length::Fixed(40),
            output: Length::Uniform(1..=20),
        };
        let mut simulation = fleet(routing, 4);
        simulation.engine.max_seqs = 1;
        let report = simulation.run(&mut poisson(25.0, lengths, 600, 3));
        report.unwrap().queue_wait_ms.unwrap().mean
    };
    assert!(wait(Routing::LeastLoaded) < 0.7 * wait(Routing::RoundRobin));
}

/// The same router, said to look at loads: all replicas are then simulated together.
#[derive(Debug)]
struct Together(Box<dyn Router>);

impl Router for Together {
    fn route(&mut self, request: &Request, fleet: FleetView<'_>) -> usize {
        self.0.route(request, fleet)
    }
}

#[test]
fn replicas_that_are_simulated_apart_do_the_same_as_together() {
    for routing in [Routing::RoundRobin, Routing::SessionSticky] {
        let mut simulation = fleet(routing, 3);
        simulation.engine.max_queue = 3;
        simulation.slo = "ttft=100ms".parse().unwrap();
        let arrivals = || poisson(200.0, crate::lengths(40, 4), 500, 3);
        let apart = simulation.run(&mut arrivals()).unwrap();
        let router = Box::new(Together(routing.build()));
        let together = simulation
            .run_with(&mut arrivals(), router, &mut |_| ())
            .unwrap();
        assert!(!apart.requests.refused.is_empty(), "{apart}");
        assert_eq!(apart.to_json(), together.to_json());
    }
}

/// One of the caller's, which is wrong about the number of replicas.
#[derive(Debug)]
struct Beyond;

impl Router for Beyond {
    fn route(&mut self, _request: &Request, fleet: FleetView<'_>) -> usize {
        assert_eq!(fleet.load(fleet.len() + 5).outstanding(), 0);
        fleet.len() + 5
    }
}

#[test]
fn a_router_of_the_callers_is_asked_and_cannot_leave_the_fleet() {
    let mut arrivals = Given::new(&[(0, 4, 2, &[])]);
    let simulation = fleet(Routing::RoundRobin, 3);
    let report = simulation
        .run_with(&mut arrivals, Box::new(Beyond), &mut |_| ())
        .unwrap();
    let completed: Vec<u64> = report.per_replica.iter().map(|it| it.completed).collect();
    assert_eq!(completed, [0, 0, 1]);
}

#[test]
fn names_are_read_and_a_fleet_has_a_replica() {
    for routing in Routing::ALL {
        assert_eq!(routing.name().parse::<Routing>().unwrap(), routing);
    }
    let said = "fastest".parse::<Routing>().unwrap_err().to_string();
    assert!(said.contains("round-robin, least-loaded"), "{said}");
    let none = fleet(Routing::RoundRobin, 0);
    assert!(none.run(&mut Given::new(&[])).is_err());
    let idle = fleet(Routing::RoundRobin, 1)
        .run(&mut Given::new(&[]))
        .unwrap();
    assert_eq!((idle.requests.arrived, idle.ttft_ms), (0, None));
}
