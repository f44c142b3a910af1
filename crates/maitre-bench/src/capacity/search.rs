//! A sequential search for the largest load under which enough requests are good.
//!
//! The search doubles the load until too few requests are good, and halves the gap until a curve can be fitted to all runs
//! (`curve.rs`). Then it asks at loads around where the curve has the wanted share, until the interval of that load is narrow. Where
//! the share falls as a step does there is no need of a curve: at each load the share is also tested against the wanted one, and
//! two loads near each other of which one is surely enough and the other surely too much end the search as well.

use std::collections::BTreeMap;

use super::curve::{Crossing, crossing};

/// The widest interval: its ends are 10 % from its geometric middle.
pub(crate) const WIDEST: f64 = 1.21;

/// Sides of undecided loads are not cut finer than this.
const FINEST: f64 = 1.02;

/// Runs at the least or the largest load there is, at most, where it is not told what it is.
const RUNS_AT_THE_END: usize = 6;

/// Where loads lie that are asked at in turn, relative to where the curve has the wanted share.
const AROUND: [f64; 7] = [0.95, 1.1, 0.85, 1.0, 1.2, 0.9, 1.05];

/// Runs in all, at most.
const RUNS: usize = 80;

/// Two loads are each told wrongly in one case out of forty at most. A run more is looked at only where the last one did
/// not decide, so the limit stands further out than the 1.96 of a single look.
const Z: f64 = 2.3;

/// What loads there are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Scale {
    /// Users are whole numbers.
    pub(crate) is_whole: bool,
    /// Where to start.
    pub(crate) start: f64,
    /// The least load that is tried.
    pub(crate) least: f64,
    /// The largest load that is tried.
    pub(crate) most: f64,
}

/// How a run went.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Evidence {
    pub(crate) good: f64,
    pub(crate) requests: f64,
    /// How many times as much the share varies as it would if requests did not depend on each other.
    pub(crate) design_effect: f64,
}

/// What is known of a load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Enough requests are good.
    Meets,
    /// Too few are.
    Misses,
    /// It is too near to tell, or has not been tested often enough.
    Unsure,
}

#[derive(Debug)]
pub(crate) struct Search {
    scale: Scale,
    wanted: f64,
    /// By load in thousandths, since a map needs whole numbers.
    tried: BTreeMap<u64, Vec<Evidence>>,
}

/// Where the capacity is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Found {
    /// The largest load that is enough; `None` if not even the least one is.
    pub(crate) enough: Option<f64>,
    /// The smallest load that is too much; `None` if not even the largest one is.
    pub(crate) too_much: Option<f64>,
}

impl Search {
    pub(crate) fn new(scale: Scale, wanted: f64) -> Self {
        Self {
            scale,
            wanted,
            tried: BTreeMap::new(),
        }
    }

    /// The load to run next; `None` when the search is over.
    pub(crate) fn next(&self) -> Option<f64> {
        if self.runs() == 0 {
            return Some(self.scale.start);
        }
        if self.runs() >= RUNS || self.is_narrow() {
            return None;
        }
        let (good, bad) = self.sides();
        match (good, bad) {
            (Some(good), Some(bad)) => Some(self.between(good, bad)),
            (Some(good), None) => self.beyond(good * 2.0),
            (None, Some(bad)) => self.beyond(bad / 2.0),
            (None, None) => None,
        }
    }

    /// A load outside of those that were tried; at the end of the scale that one again, until it is told what it is.
    fn beyond(&self, load: f64) -> Option<f64> {
        let load = self.rounded(load.clamp(self.scale.least, self.scale.most));
        let runs = self.tried.get(&key(load)).map_or(&[][..], Vec::as_slice);
        let is_open = runs.len() < RUNS_AT_THE_END && self.verdict(runs) == Verdict::Unsure;
        is_open.then_some(load)
    }

    /// Around where the curve has the wanted share, if there is one; else in the middle between a load with enough good requests and
    /// one with too few, or, of whole loads beside each other, the one that was tried less often.
    fn between(&self, good: f64, bad: f64) -> f64 {
        if let Some(crossing) = self.crossing() {
            let around = AROUND[self.runs() % AROUND.len()];
            let load = self.rounded(crossing.load * around);
            return load.clamp(self.scale.least, self.scale.most);
        }
        let middle = self.rounded((good * bad).sqrt());
        let is_new = middle != good && middle != bad;
        let times = |load: f64| self.tried.get(&key(load)).map_or(0, Vec::len);
        match is_new && bad / good > FINEST {
            true => middle,
            false if times(good) <= times(bad) => good,
            false => bad,
        }
    }

    /// The largest load with enough good requests below the smallest one with too few, and that one; by what was seen, whatever
    /// chance had in it.
    fn sides(&self) -> (Option<f64>, Option<f64>) {
        let is_good = |runs: &[Evidence]| {
            let good: f64 = runs.iter().map(|run| run.good).sum();
            good >= self.wanted * runs.iter().map(|run| run.requests).sum::<f64>()
        };
        let bad = self.tried.iter().find(|(_, runs)| !is_good(runs));
        let bad = bad.map(|(load, _)| *load);
        let below = self.tried.range(..bad.unwrap_or(u64::MAX));
        let good = below.map(|(load, _)| *load).next_back();
        (good.map(load_of), bad.map(load_of))
    }

    fn crossing(&self) -> Option<Crossing> {
        let runs = self.tried.iter();
        let runs: Vec<(f64, Evidence)> = runs
            .flat_map(|(load, runs)| runs.iter().map(|run| (load_of(*load), *run)))
            .collect();
        crossing(&runs, self.wanted)
    }

    fn is_narrow(&self) -> bool {
        let Found { enough, too_much } = self.found();
        let (Some(enough), Some(too_much)) = (enough, too_much) else {
            return false;
        };
        too_much / enough <= WIDEST || (self.scale.is_whole && too_much - enough <= 1.0)
    }

    pub(crate) fn tell(&mut self, load: f64, evidence: Evidence) {
        self.tried.entry(key(load)).or_default().push(evidence);
    }

    /// Where the capacity is: between two loads about which the test is sure, or within the interval of the curve if that is narrower.
    /// Loads below one that is enough are enough, and loads above one that is too much are too much.
    pub(crate) fn found(&self) -> Found {
        let tested = self.tested();
        let width = |low: Option<f64>, high: Option<f64>| match (low, high) {
            (Some(low), Some(high)) => high / low,
            _ => f64::INFINITY,
        };
        match self.crossing().map(|it| self.whole(it)) {
            Some((low, high)) if high / low < width(tested.enough, tested.too_much) => Found {
                enough: Some(low),
                too_much: Some(high),
            },
            _ => tested,
        }
    }

    /// The ends of an interval of the curve. Of whole loads the lower one is enough, and the upper one too much.
    fn whole(&self, crossing: Crossing) -> (f64, f64) {
        match self.scale.is_whole {
            true => (crossing.low.floor().max(1.0), crossing.high.floor() + 1.0),
            false => (crossing.low, crossing.high),
        }
    }

    fn tested(&self) -> Found {
        let of = |wanted: Verdict| {
            let tried = self.tried.iter();
            let tried = tried.filter(move |(_, runs)| self.verdict(runs) == wanted);
            tried.map(|(load, _)| load_of(*load))
        };
        let too_much = of(Verdict::Misses).reduce(f64::min);
        let below = |load: &f64| too_much.is_none_or(|too_much| *load < too_much);
        Found {
            enough: of(Verdict::Meets).filter(below).reduce(f64::max),
            too_much,
        }
    }

    /// Every load, how often it was run, its share of good requests, and what that means.
    pub(crate) fn tried(&self) -> impl Iterator<Item = (f64, &[Evidence], Verdict)> {
        let tried = self.tried.iter();
        tried.map(|(load, runs)| (load_of(*load), &runs[..], self.verdict(runs)))
    }

    pub(crate) fn runs(&self) -> usize {
        self.tried.values().map(Vec::len).sum()
    }

    fn rounded(&self, load: f64) -> f64 {
        match self.scale.is_whole {
            true => load.round().max(1.0),
            false => load_of(key(load)),
        }
    }

    fn verdict(&self, runs: &[Evidence]) -> Verdict {
        let (low, high) = share_interval(runs);
        match () {
            () if low >= self.wanted => Verdict::Meets,
            () if high < self.wanted => Verdict::Misses,
            () => Verdict::Unsure,
        }
    }
}

fn key(load: f64) -> u64 {
    (load * 1e3).round().max(1.0) as u64
}

fn load_of(key: u64) -> f64 {
    key as f64 / 1e3
}

/// The interval of a share (Wilson 1927, "Probable inference, the law of succession, and statistical inference"), for as many
/// independent requests as these are worth.
fn share_interval(runs: &[Evidence]) -> (f64, f64) {
    let sum = |pick: fn(&Evidence) -> f64| runs.iter().map(pick).sum::<f64>();
    let (good, requests) = (sum(|run| run.good), sum(|run| run.requests));
    if requests <= 0.0 {
        return (0.0, 1.0);
    }
    let within = sum(|run| run.design_effect * run.requests) / requests;
    let effect = within.max(effect_between(runs)).max(1.0);
    let (share, n) = (good / requests, requests / effect);
    let z2 = Z * Z;
    let middle = (share + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = Z / (1.0 + z2 / n) * (share * (1.0 - share) / n + z2 / (4.0 * n * n)).sqrt();
    (middle - half, middle + half)
}

/// How many times as much the shares of runs vary as those of independent requests would.
fn effect_between(runs: &[Evidence]) -> f64 {
    let shares: Vec<(f64, f64)> = runs
        .iter()
        .map(|run| (run.good / run.requests, run.requests))
        .collect();
    design_effect(&shares)
}

/// The variance of shares over that of independent requests, from parts with their numbers of requests.
pub(crate) fn design_effect(parts: &[(f64, f64)]) -> f64 {
    if parts.len() < 3 {
        return 1.0;
    }
    let requests: f64 = parts.iter().map(|part| part.1).sum();
    let mean = parts.iter().map(|part| part.0 * part.1).sum::<f64>() / requests;
    let expected = mean * (1.0 - mean);
    if expected <= 0.0 {
        return 1.0;
    }
    let found = parts
        .iter()
        .map(|part| part.1 * (part.0 - mean) * (part.0 - mean))
        .sum::<f64>();
    found / (parts.len() - 1) as f64 / expected
}

#[cfg(test)]
mod tests {
    use maitre_workload::Random;

    use super::*;

    const USERS: Scale = Scale {
        is_whole: true,
        start: 1.0,
        least: 1.0,
        most: 4096.0,
    };
    const RATE: Scale = Scale {
        is_whole: false,
        start: 1.0,
        least: 0.01,
        most: 1e5,
    };

    /// The share of good requests falls as a logistic curve over the logarithm of the load, and is 95 % at `capacity`.
    fn share(load: f64, capacity: f64, steepness: f64) -> f64 {
        let at_capacity = (0.95_f64 / 0.05).ln();
        1.0 / (1.0 + (steepness * (load / capacity).ln() - at_capacity).exp())
    }

    /// Runs of 100 requests that do not depend on each other.
    fn search(scale: Scale, capacity: f64, steepness: f64, seed: u64) -> (Search, Found) {
        let mut random = Random::new(seed, 0);
        let mut search = Search::new(scale, 0.95);
        while let Some(load) = search.next() {
            let share = share(load, capacity, steepness);
            let good = (0..100).filter(|_| random.unit() <= share).count() as f64;
            search.tell(
                load,
                Evidence {
                    good,
                    requests: 100.0,
                    design_effect: 1.0,
                },
            );
        }
        let found = search.found();
        (search, found)
    }

    #[test]
    fn the_capacity_lies_in_its_interval_in_nineteen_of_twenty_searches() {
        for (scale, capacity, steepness) in [
            (RATE, 7.3, 20.0),
            (RATE, 700.0, 60.0),
            (USERS, 37.0, 30.0),
            (RATE, 0.4, 12.0),
        ] {
            let (mut inside, mut narrow, mut runs) = (0, 0, 0);
            for seed in 0..400 {
                let (search, found) = search(scale, capacity, steepness, seed);
                let (Some(low), Some(high)) = (found.enough, found.too_much) else {
                    panic!("{found:?}");
                };
                inside += usize::from(low <= capacity && capacity <= high);
                narrow += usize::from(high / low <= WIDEST);
                runs += search.runs();
            }
            assert!(inside >= 380, "{capacity}: {inside} of 400");
            // Where the share falls slowly, more runs than are allowed would be needed.
            assert!(
                steepness < 20.0 || narrow >= 360,
                "{capacity}: {narrow} of 400"
            );
            assert!(runs < 400 * 45, "{capacity}: {runs}");
        }
    }

    #[test]
    fn a_sharp_bend_of_few_users_is_found_exactly() {
        let (_, found) = search(USERS, 3.4, 1e4, 1);
        assert_eq!((found.enough, found.too_much), (Some(3.0), Some(4.0)));
    }

    #[test]
    fn ends_of_the_scale_are_told() {
        let (_, found) = search(USERS, 0.2, 1e4, 1);
        assert_eq!((found.enough, found.too_much), (None, Some(1.0)));
        let (_, found) = search(USERS, 1e9, 50.0, 1);
        assert_eq!((found.enough, found.too_much), (Some(4096.0), None));
    }

    #[test]
    fn requests_that_depend_on_each_other_count_less() {
        let run = |good, design_effect| Evidence {
            good,
            requests: 100.0,
            design_effect,
        };
        let width = |runs: &[Evidence]| {
            let (low, high) = share_interval(runs);
            high - low
        };
        assert!(width(&[run(90.0, 8.0)]) > 2.0 * width(&[run(90.0, 1.0)]));
        // Shares that vary between runs more than chance lets them.
        let steady = [run(90.0, 1.0); 4];
        let unsteady = [
            run(100.0, 1.0),
            run(80.0, 1.0),
            run(99.0, 1.0),
            run(81.0, 1.0),
        ];
        assert!(width(&unsteady) > 1.5 * width(&steady));
        assert_eq!(share_interval(&[]), (0.0, 1.0));
    }
}
