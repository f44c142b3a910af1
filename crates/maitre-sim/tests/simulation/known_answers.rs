//! Queues whose means are known in closed form.

use std::time::Duration;

use maitre_sim::workload::{ClosedLoop, ThinkTime};
use maitre_sim::{EngineSettings, Report};

use crate::{lengths, overheads, poisson, simulation};

/// Of each run: enough that the means are within a few percent.
const REQUESTS: u64 = 5000;

/// Every request is one step of 10 ms: a prompt fills the budget, and the answer is one token.
fn one_step_each() -> EngineSettings {
    EngineSettings {
        max_seqs: 1,
        max_batched_tokens: 4,
        block_size: 4,
        max_queue: 1 << 20,
        max_queued_tokens: 1 << 30,
        ..EngineSettings::new(8, 64)
    }
}

fn at_load(load: f64, seed: u64) -> Report {
    let service = 0.010;
    let mut arrivals = poisson(load / service, lengths(4, 1), REQUESTS, seed);
    let simulation = simulation(overheads(service, 0.0, 0.0), one_step_each());
    simulation.run(&mut arrivals).unwrap()
}

/// The mean wait of a queue with Poisson arrivals and one server of constant time D at load ρ is ρD / 2(1 − ρ)
/// (Pollaczek and Khinchine).
#[test]
fn a_queue_of_constant_service_waits_as_long_as_the_formula_says() {
    for load in [0.3, 0.5, 0.7] {
        let waits = (0..3).map(|seed| at_load(load, seed).queue_wait_ms.unwrap().mean);
        let mean = waits.sum::<f64>() / 3.0;
        let expected = load * 10.0 / (2.0 * (1.0 - load));
        let error = (mean / expected - 1.0).abs();
        assert!(error < 0.06, "load {load}: {mean} ms, expected {expected}");
    }
}

/// Its busy share is the load, and the number that waits follows from Little's law.
#[test]
fn the_busy_share_is_the_load() {
    let report = at_load(0.7, 1);
    assert!((report.steps.busy_share - 0.7).abs() < 0.02, "{report}");
    assert_eq!(report.steps.count, REQUESTS);
    let waiting = 0.7 * 0.7 / (2.0 * 0.3);
    let found = report.queue.mean_waiting;
    assert!(
        (found / waiting - 1.0).abs() < 0.1,
        "{found}, expected {waiting}"
    );
}

/// The same arrivals, closer together, make no wait shorter.
#[test]
fn more_load_never_lowers_the_time_to_first_token() {
    let reports: Vec<Report> = [0.2, 0.4, 0.6, 0.8, 0.9]
        .into_iter()
        .map(|load| at_load(load, 5))
        .collect();
    for pair in reports.windows(2) {
        let [less, more] = [0, 1].map(|index| pair[index].ttft_ms.unwrap());
        assert!(more.p50 >= less.p50 && more.p99 >= less.p99 && more.mean > less.mean);
    }
}

/// Users who think for Z and are answered after R ask N / (R + Z) times a second (the response time law), and not more often than the
/// server answers.
#[test]
fn a_closed_loop_keeps_to_the_response_time_law() {
    for (users, seconds) in [(1, 0.040), (4, 0.040), (40, 0.040)] {
        let think = ThinkTime::Fixed(Duration::from_secs_f64(seconds));
        let mut arrivals = ClosedLoop::new(users, think, lengths(4, 1), 2000, 0).unwrap();
        let simulation = simulation(overheads(0.010, 0.0, 0.0), one_step_each());
        let report = simulation.run(&mut arrivals).unwrap();
        let answer = report.e2e_ms.unwrap().mean / 1e3;
        let law = f64::from(users) / (answer + seconds);
        let rate = report.requests_per_second;
        assert!(
            (rate / law - 1.0).abs() < 0.03,
            "{users}: {rate}, expected {law}"
        );
        assert!(rate < 100.1, "{rate}");
    }
}
