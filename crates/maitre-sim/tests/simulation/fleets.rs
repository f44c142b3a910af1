//! Fleets that scale, fail, or have replicas for prefill and decode: by hand, and what holds for all of them.

use std::time::Duration;

use maitre_sim::routing::Routing;
use maitre_sim::workload::{Arrivals, ClosedLoop, Length, Lengths, ThinkTime};
use maitre_sim::{
    Autoscaling, EngineSettings, Failures, FleetSize, OnFailure, ScaleBy, Simulation, Split,
};
use proptest::prelude::*;

use crate::{Given, lengths, overheads, poisson, run, simulation};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn engine() -> EngineSettings {
    EngineSettings {
        max_seqs: 4,
        max_batched_tokens: 64,
        block_size: 4,
        ..EngineSettings::new(64, 128)
    }
}

/// A token's keys and values of the tiny model are 4 bytes, so that 16 of them take 16 ms over a link of 4,000 bytes a second.
///
/// ```text
///  0 to 10  prefill replica: the prompt of request 0, whose first token is there
/// 10 to 26  the link: its 16 positions
/// 26 to 46  decode replica: tokens 2 and 3
///  5 to 20  request 1 waits for the prefill replica, and has its first token at 20
/// 26 to 42  the link: after request 0's
/// 46 to 66  decode replica: in the steps from 46 on, as the one from 36 had begun
/// ```
#[test]
fn a_prompt_is_computed_here_and_its_answer_there() {
    let mut simulation = simulation(overheads(0.010, 0.0, 0.0), engine());
    simulation.split = Some(Split {
        prefill: 1,
        decode: 1,
        link_bytes_per_second: 4000.0,
    });
    let mut arrivals = Given::new(&[(0, 16, 3, &[]), (5, 16, 3, &[])]);
    let (report, answers) = run(&simulation, &mut arrivals);
    let times: Vec<_> = answers
        .iter()
        .map(|it| (it.number, it.replica, it.started, it.first_token, it.ended))
        .collect();
    assert_eq!(
        times,
        [
            (0, 1, ms(0), ms(10), ms(46)),
            (1, 1, ms(10), ms(20), ms(66)),
        ]
    );
    let split = report.split.unwrap();
    assert_eq!((split.transfers, split.transferred_bytes), (2, 128.0));
    // 10 to 26, and 20 to 46.
    let handover = split.handover_ms.unwrap();
    assert_eq!((handover.mean, handover.max), (21.0, 26.0));
    // Both prompts, and two more tokens each: none of a prompt is computed twice.
    assert_eq!((report.tokens.computed, report.tokens.output), (36, 6));
}

/// Requests of one second come every half second, one at a time to a replica. The first look, at 2 s, sees two that wait: one more
/// replica starts, and is there at 5 s.
#[test]
fn a_replica_starts_when_requests_wait_and_stops_when_none_do() {
    let settings = EngineSettings {
        max_seqs: 1,
        ..engine()
    };
    let mut simulation = simulation(overheads(1.0, 0.0, 0.0), settings);
    simulation.routing = Routing::LeastLoaded;
    simulation.autoscaling = Some(Autoscaling {
        cold_start: ms(3000),
        every: ms(2000),
        cooldown: ms(6000),
        ..Autoscaling::new(ScaleBy::Queue(1.0), 1, 2)
    });
    let rows: Vec<_> = (0..12).map(|it| (500 * it, 4, 1, &[][..])).collect();
    let rows = [&rows[..], &[(30_000, 4, 1, &[][..])]].concat();
    let (report, answers) = run(&simulation, &mut Given::new(&rows));
    assert_eq!(answers.len(), 13);
    assert!(
        answers
            .iter()
            .all(|it| it.replica == 0 || it.started >= ms(5000))
    );
    let scaling = report.scaling.unwrap();
    let sizes: Vec<_> = scaling
        .sizes
        .iter()
        .map(|it| (it.at_s, it.ready, it.starting))
        .collect();
    assert_eq!(sizes, [(0.0, 1, 0), (2.0, 1, 1), (5.0, 2, 0), (10.0, 1, 0)]);
    assert_eq!((scaling.started, scaling.stopped), (1, 1));
    // Paid from the first arrival at 0 to the last end at 31.
    assert_eq!(report.replica_seconds, 31.0 + 8.0);
    assert_eq!(scaling.starting_seconds, 3.0);
}

#[derive(Debug, Clone)]
struct Case {
    engine: EngineSettings,
    replicas: usize,
    routing: Routing,
    scaling: Option<(u8, usize, u64, u64)>,
    failures: Option<(u64, u64, bool)>,
    split: Option<(usize, usize, f64)>,
    users: Option<u32>,
    rate: f64,
    round: bool,
    seed: u64,
}

impl Case {
    fn simulation(&self) -> Simulation {
        let cost = match self.round {
            true => overheads(0.005, 0.0, 0.0),
            false => overheads(0.0037, 0.000_51, 0.000_9),
        };
        let mut simulation = simulation(cost, self.engine.clone());
        (simulation.replicas, simulation.routing) = (self.replicas, self.routing);
        simulation.slo = "ttft=40ms,tpot=6ms".parse().unwrap();
        simulation.seed = self.seed;
        simulation.failures = self.failures.map(|(mtbf, repair, reroute)| Failures {
            mtbf: ms(mtbf),
            repair: ms(repair),
            on_failure: if reroute {
                OnFailure::Reroute
            } else {
                OnFailure::Fail
            },
        });
        match (self.split, self.scaling) {
            (Some((prefill, decode, link_bytes_per_second)), _) => {
                simulation.split = Some(Split {
                    prefill,
                    decode,
                    link_bytes_per_second,
                });
            }
            (None, Some((by, more, cold_start, every))) => {
                let by = match by {
                    0 => ScaleBy::Queue(0.5),
                    1 => ScaleBy::KvUse(0.3),
                    _ => ScaleBy::Slo(0.8),
                };
                simulation.autoscaling = Some(Autoscaling {
                    cold_start: ms(cold_start),
                    every: ms(every),
                    cooldown: ms(50),
                    ..Autoscaling::new(by, 1, self.replicas + more)
                });
            }
            (None, None) => {}
        }
        simulation
    }

    fn arrivals(&self) -> Box<dyn Arrivals> {
        let lengths = Lengths::Independent {
            prompt: Length::Uniform(1..=40),
            output: Length::Uniform(1..=30),
        };
        match self.users {
            Some(users) => {
                let think = ThinkTime::Exponential(ms(10));
                Box::new(ClosedLoop::new(users, think, lengths, 60, self.seed).unwrap())
            }
            None => Box::new(poisson(self.rate, lengths, 60, self.seed)),
        }
    }
}

fn cases() -> impl Strategy<Value = Case> {
    let engine = (
        1..6_usize,
        0..30_usize,
        20..50_u32,
        any::<bool>(),
        1..20_usize,
        1..8_usize,
    );
    let engine = engine.prop_map(
        |(max_seqs, spare, kv_blocks, prefix_cache, max_queue, depth)| EngineSettings {
            max_seqs,
            max_batched_tokens: max_seqs + spare,
            max_queue,
            block_size: 4,
            prefix_cache,
            steps_in_flight: if depth == 1 { 2 } else { 1 },
            ..EngineSettings::new(kv_blocks, 80)
        },
    );
    let fleet = (
        1..4_usize,
        0..Routing::ALL.len(),
        any::<bool>(),
        any::<u64>(),
    );
    let scaling = prop::option::of((0..3_u8, 0..4_usize, 0..200_u64, 10..200_u64));
    let failures = prop::option::of((50..2000_u64, 0..300_u64, any::<bool>()));
    let split = prop::option::weighted(0.4, (1..3_usize, 1..4_usize, 1e3..1e6_f64));
    let load = (prop::option::weighted(0.3, 1..8_u32), 20.0..400.0_f64);
    (engine, fleet, scaling, failures, split, load).prop_map(
        |(engine, fleet, scaling, failures, split, load)| Case {
            engine,
            replicas: fleet.0,
            routing: Routing::ALL[fleet.1],
            scaling,
            failures,
            split,
            users: load.0,
            rate: load.1,
            round: fleet.2,
            seed: fleet.3,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_request_is_lost_and_every_replica_is_paid(case in cases()) {
        let simulation = case.simulation();
        let (report, answers) = run(&simulation, &mut *case.arrivals());
        let requests = &report.requests;
        let refused: u64 = requests.refused.values().sum();
        prop_assert_eq!(requests.arrived, 60);
        prop_assert_eq!(requests.completed + refused + requests.failed, 60);
        prop_assert_eq!(answers.len() as u64, requests.completed);
        let mut numbers: Vec<u64> = answers.iter().map(|it| it.number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        prop_assert_eq!(numbers.len(), answers.len());
        for it in &answers {
            let in_order = it.arrival <= it.started && it.started < it.first_token && it.first_token <= it.ended;
            prop_assert!(in_order && it.cached_tokens < it.prompt_tokens, "{:?}", it);
        }
        match case.failures {
            None => prop_assert_eq!((requests.failed, requests.rerouted), (0, 0)),
            Some((_, _, true)) => prop_assert_eq!(requests.failed, 0),
            Some((_, _, false)) => prop_assert_eq!(requests.rerouted, 0),
        }
        let most = report.per_replica.len() as f64 * report.duration_s;
        let seconds = report.replica_seconds;
        prop_assert!(seconds <= most * 1.000_001 && seconds >= report.duration_s * 0.999_999, "{} {}", seconds, most);
        prop_assert!(report.steps.busy_share <= 1.000_001, "{}", report.steps.busy_share);
        if let Some(scaling) = &report.scaling {
            // What the sizes say, integrated anew.
            let began = answers.iter().map(|it| it.arrival).min().unwrap_or_default();
            let paid: usize = scaling.sizes.iter().map(FleetSize::paid).max().unwrap();
            prop_assert!(paid <= scaling.max && scaling.sizes.iter().all(|it| it.paid() >= scaling.min));
            prop_assert!(began <= Duration::from_secs_f64(report.duration_s + 10.0));
        }
    }

    #[test]
    fn fleets_are_the_same_bytes_each_time_and_step_by_step(case in cases()) {
        let report = |every_step| {
            let mut simulation = case.simulation();
            simulation.every_step = every_step;
            let (report, answers) = run(&simulation, &mut *case.arrivals());
            (report.to_json(), report.to_string(), format!("{answers:?}"))
        };
        let first = report(false);
        prop_assert_eq!(&first, &report(false));
        prop_assert_eq!(&first, &report(true));
    }
}

/// The cases above meet what they are about.
#[test]
fn fleets_under_load_fail_scale_and_hand_over() {
    let mut case = Case {
        engine: engine(),
        replicas: 2,
        routing: Routing::LeastLoaded,
        scaling: Some((0, 3, 100, 50)),
        failures: Some((300, 100, true)),
        split: None,
        users: None,
        rate: 150.0,
        round: false,
        seed: 3,
    };
    let (report, _) = run(&case.simulation(), &mut *case.arrivals());
    let (scaling, failures) = (report.scaling.unwrap(), report.failures.unwrap());
    assert!(scaling.started > 0 && scaling.stopped > 0, "{scaling:?}");
    assert!(failures.count > 0 && failures.lost_tokens > 0 && report.requests.rerouted > 0);
    assert!(
        scaling.sizes.iter().any(|it| it.draining > 0)
            && scaling.sizes.iter().any(|it| it.down > 0)
    );

    case.split = Some((1, 2, 1e4));
    let (report, _) = run(&case.simulation(), &mut *case.arrivals());
    assert!(report.split.unwrap().transfers > 20 && report.failures.unwrap().count > 0);
}

/// A fleet that may scale but never has to, and one that never fails, do what one does that cannot.
#[test]
fn what_never_happens_changes_nothing() {
    let case = |scaling, failures| {
        let mut simulation = simulation(overheads(0.004, 0.0005, 0.001), engine());
        (
            simulation.replicas,
            simulation.autoscaling,
            simulation.failures,
        ) = (3, scaling, failures);
        let (report, answers) = run(&simulation, &mut poisson(120.0, lengths(30, 9), 80, 5));
        (report.to_string(), answers)
    };
    let plain = case(None, None);
    let scaling = Autoscaling::new(ScaleBy::KvUse(0.99), 3, 3);
    let (scaled, answers) = case(Some(scaling), None);
    let sorted = |mut answers: Vec<maitre_sim::Answered>| {
        answers.sort_by_key(|it| it.number);
        answers
    };
    assert_eq!(sorted(answers), sorted(plain.1.clone()));
    assert!(scaled.starts_with(plain.0.trim_end()), "{scaled}");
    let failures = Failures {
        mtbf: Duration::from_secs(1 << 40),
        repair: ms(1),
        on_failure: OnFailure::Fail,
    };
    let (unfailing, answers) = case(None, Some(failures));
    assert_eq!(sorted(answers), sorted(plain.1));
    assert!(unfailing.starts_with(plain.0.trim_end()), "{unfailing}");
}

#[test]
fn settings_that_no_fleet_has_are_refused() {
    let with = |change: fn(&mut Simulation)| {
        let mut simulation = simulation(overheads(0.01, 0.0, 0.0), engine());
        change(&mut simulation);
        simulation
            .run(&mut Given::new(&[]))
            .unwrap_err()
            .to_string()
    };
    let said = with(|it| {
        it.split = Some(Split {
            prefill: 1,
            decode: 0,
            link_bytes_per_second: 1.0,
        })
    });
    assert!(
        said.contains("the number of decode replicas is 0"),
        "{said}"
    );
    let said = with(|it| {
        it.split = Some(Split {
            prefill: 1,
            decode: 1,
            link_bytes_per_second: 0.0,
        })
    });
    assert!(said.contains("the rate of the link"), "{said}");
    let said = with(|it| it.autoscaling = Some(Autoscaling::new(ScaleBy::Slo(0.9), 1, 2)));
    assert!(said.contains("the SLO is absent"), "{said}");
    let said = with(|it| {
        it.autoscaling = Some(Autoscaling::new(ScaleBy::Queue(1.0), 1, 2));
        it.split = Some(Split {
            prefill: 1,
            decode: 1,
            link_bytes_per_second: 1.0,
        });
    });
    assert!(said.contains("autoscaling is queue:1"), "{said}");
    let said = with(|it| {
        it.failures = Some(Failures {
            mtbf: Duration::ZERO,
            repair: ms(1),
            on_failure: OnFailure::Fail,
        });
    });
    assert!(said.contains("the time between failures"), "{said}");
}
