//! Servers whose share of good requests is known, for tests, and searches of their capacity where their speed varies from run to run.

use maitre_workload::Random;

use super::evidence::Evidence;
use super::search::{Found, Scale, Search};

/// The share of good requests falls as a logistic curve over the logarithm of the load, and is 95 % at `capacity`.
pub(super) fn share(load: f64, capacity: f64, steepness: f64) -> f64 {
    let at_capacity = 19_f64.ln();
    1.0 / (1.0 + (steepness * (load / capacity).ln() - at_capacity).exp())
}

/// Where the share is 95 % on average over fast runs and slow ones, which is below where it is 95 % at the usual speed. The logarithm of the
/// speed has `scatter` as its standard deviation.
pub(super) fn truth(capacity: f64, steepness: f64, scatter: f64) -> f64 {
    let mut random = Random::new(99, 0);
    let speeds: Vec<f64> = (0..4000)
        .map(|_| (scatter * random.normal()).exp())
        .collect();
    let mean = |load: f64| {
        let shares = speeds
            .iter()
            .map(|speed| share(load * speed, capacity, steepness));
        shares.sum::<f64>() / speeds.len() as f64
    };
    let (mut low, mut high) = (0.5 * capacity, capacity);
    for _ in 0..40 {
        let middle = f64::midpoint(low, high);
        match mean(middle) >= 0.95 {
            true => low = middle,
            false => high = middle,
        }
    }
    low
}

pub(super) const USERS: Scale = Scale {
    is_whole: true,
    start: 1.0,
    least: 1.0,
    most: 4096.0,
};
pub(super) const RATE: Scale = Scale {
    is_whole: false,
    start: 1.0,
    least: 0.01,
    most: 1e5,
};

/// A server, and by how much the logarithm of its speed varies.
#[derive(Debug, Clone, Copy)]
struct Server {
    capacity: f64,
    steepness: f64,
    scatter: f64,
    /// The share of a run's deviation that the next run still has.
    lasts: f64,
    /// Of a run.
    requests: usize,
}

/// A server that is a little slower or faster in each run.
fn search(scale: Scale, server: Server, seed: u64) -> Found {
    let mut random = Random::new(seed, 5);
    let mut search = Search::new(scale, 0.95);
    let mut deviation = 0.0;
    while let Some(load) = search.next() {
        let new = server.scatter * (1.0 - server.lasts * server.lasts).sqrt();
        deviation = server.lasts * deviation + new * random.normal();
        let share = share(
            load * f64::exp(deviation),
            server.capacity,
            server.steepness,
        );
        let good = (0..server.requests).filter(|_| random.unit() <= share);
        search.tell(
            load,
            Evidence {
                good: good.count() as f64,
                requests: server.requests as f64,
                design_effect: 1.0,
            },
        );
    }
    search.found()
}

#[test]
fn the_interval_holds_the_capacity_of_a_server_whose_speed_varies_from_run_to_run() {
    // Near a load that is tried early on, as 64 is, one fast run of it, and one slow run a little above it, would end the search.
    for (scale, server) in [
        (USERS, (66.0, 20.0, 0.04)),
        (USERS, (37.0, 40.0, 0.03)),
        (RATE, (7.3, 20.0, 0.04)),
        (RATE, (8.2, 10.0, 0.08)),
    ] {
        let (mut inside, crossed) = (0, truth(server.0, server.1, server.2));
        let server = Server {
            capacity: server.0,
            steepness: server.1,
            scatter: server.2,
            lasts: 0.0,
            requests: 256,
        };
        for seed in 0..200 {
            let found = search(scale, server, seed);
            let is_above = found.enough.is_none_or(|low| low <= crossed);
            let is_below = found.too_much.is_none_or(|high| crossed <= high);
            inside += usize::from(is_above && is_below);
        }
        assert!(inside >= 180, "{server:?}: {inside} of 200");
    }
}

#[test]
fn a_server_that_varies_as_much_as_its_share_falls_has_a_capacity() {
    // Few users: neighbouring loads differ by less than runs do, and a server may be slow for some runs when it is looked at first.
    for (capacity, steepness, scatter, lasts) in [
        (30.0, 12.0, 0.08, 0.0),
        (31.4, 30.0, 0.05, 0.0),
        (24.0, 20.0, 0.12, 0.9),
        (60.0, 12.0, 0.12, 0.8),
    ] {
        let server = Server {
            capacity,
            steepness,
            scatter,
            lasts,
            requests: 96,
        };
        let found = (0..100).filter(|seed| {
            let found = search(USERS, server, *seed);
            found.enough.is_some() && found.too_much.is_some()
        });
        let found = found.count();
        assert!(found >= 99, "{server:?}: {found} of 100");
    }
}
