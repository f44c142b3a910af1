//! A sequential search for the largest load under which enough requests are good.
//!
//! At each load the share of good requests is tested against the wanted share again and again, until the interval of
//! the one does not contain the other. The search doubles the load until it is too much, and then tests between the
//! largest load that is enough and the smallest that is too much. Loads at which the test does not end lie so near the
//! capacity that it cannot tell; the search then tests on both sides of them. The capacity lies between two loads
//! about which the test is sure.

use std::collections::BTreeMap;

/// The widest interval: its ends are 10 % from its geometric middle.
pub(crate) const WIDEST: f64 = 1.21;

/// Sides of undecided loads are not cut finer than this.
const FINEST: f64 = 1.02;

/// Runs at one load, at most.
const RUNS_PER_LOAD: usize = 6;

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
        if self.runs() >= RUNS {
            return None;
        }
        let untested = self
            .tried
            .iter()
            .find(|(_, runs)| runs.len() < RUNS_PER_LOAD && self.verdict(runs) == Verdict::Unsure);
        if let Some((load, _)) = untested {
            return Some(load_of(*load));
        }
        let Found { enough, too_much } = self.found();
        match (enough, too_much) {
            (None, None) if self.tried.is_empty() => Some(self.scale.start),
            // All that was tried is too near to tell: look further on both sides.
            (None, None) => {
                let (first, last) = self.ends()?;
                self.untried(last * 2.0)
                    .or_else(|| self.untried(first / 2.0))
            }
            (Some(enough), None) => {
                let last = self.ends().map_or(enough, |ends| ends.1);
                self.untried(last.max(enough) * 2.0)
            }
            (None, Some(too_much)) => {
                let first = self.ends().map_or(too_much, |ends| ends.0);
                self.untried(first.min(too_much) / 2.0)
            }
            (Some(enough), Some(too_much)) => self.between(enough, too_much),
        }
    }

    fn between(&self, enough: f64, too_much: f64) -> Option<f64> {
        if too_much / enough <= WIDEST {
            return None;
        }
        let unsure = self.tried.keys().map(|load| load_of(*load));
        let unsure: Vec<f64> = unsure
            .filter(|load| enough < *load && *load < too_much)
            .collect();
        let (below, above) = match (unsure.first(), unsure.last()) {
            (Some(first), Some(last)) => ((enough, *first), (*last, too_much)),
            _ => ((enough, too_much), (enough, enough)),
        };
        let wider_first = match below.1 / below.0 >= above.1 / above.0 {
            true => [below, above],
            false => [above, below],
        };
        wider_first.into_iter().find_map(|(low, high)| {
            let middle = self.rounded((low * high).sqrt());
            let is_new = low < middle && middle < high;
            (is_new && high / low > FINEST).then_some(middle)
        })
    }

    pub(crate) fn tell(&mut self, load: f64, evidence: Evidence) {
        self.tried.entry(key(load)).or_default().push(evidence);
    }

    /// Loads below one that is enough are enough, and loads above one that is too much are too much.
    pub(crate) fn found(&self) -> Found {
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

    fn ends(&self) -> Option<(f64, f64)> {
        let (first, last) = (self.tried.first_key_value()?, self.tried.last_key_value()?);
        Some((load_of(*first.0), load_of(*last.0)))
    }

    /// This load, if there is one like it that has not been tried.
    fn untried(&self, load: f64) -> Option<f64> {
        let load = self.rounded(load.clamp(self.scale.least, self.scale.most));
        (!self.tried.contains_key(&key(load))).then_some(load)
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
