//! A sequential search for the largest load under which enough requests are good.
//!
//! The search doubles the load until too few requests are good, and halves the gap until a curve can be fitted to all runs
//! (`curve.rs`). Then it asks at loads around where the curve has the wanted share, until the interval of that load is narrow. Where
//! the share falls as a step does there is no need of a curve: at each load the share is also tested against the wanted one, and
//! two loads near each other of which one is surely enough and the other surely too much end the search as well. How sure a test is depends
//! on how much runs differ from each other (`evidence.rs`), so that the search does not end before that has been seen.

use std::collections::BTreeMap;

use super::curve::{Crossing, crossing};
use super::evidence::{Evidence, Scatter, Verdict};

/// The widest interval: its ends are 10 % from its geometric middle.
pub(crate) const WIDEST: f64 = 1.21;

/// Sides of undecided loads are not cut finer than this.
const FINEST: f64 = 1.02;

/// Runs at the least or the largest load there is, at most, where it is not told what it is.
const RUNS_AT_THE_END: usize = 6;

/// Runs of two loads beside each other, at most, until others are run as well.
const RUNS_OF_BOTH: usize = 8;

/// After so many runs without a curve, loads are asked at that are as far away again.
const RUNS_PER_STEP: f64 = 20.0;

/// Where loads lie that are asked at in turn, relative to where the curve has the wanted share.
const AROUND: [f64; 7] = [0.95, 1.1, 0.85, 1.0, 1.2, 0.9, 1.05];

/// Runs in all, at most.
const RUNS: usize = 80;

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

impl Found {
    /// How many times as large as the lower end the upper one is.
    fn width(self) -> f64 {
        let both = self.enough.zip(self.too_much);
        both.map_or(f64::INFINITY, |(enough, too_much)| too_much / enough)
    }
}

/// What all runs together say.
#[derive(Debug, Clone, Copy)]
struct Known {
    crossing: Option<Crossing>,
    scatter: Scatter,
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
        if self.runs() >= RUNS {
            return None;
        }
        let known = self.known();
        if let Some((enough, too_much)) = self.ends(self.found_by(known)) {
            // One fast run and one slow one may look like this.
            let is_over = known.scatter.is_known();
            return (!is_over).then(|| self.less_often(enough, too_much));
        }
        let (good, bad) = self.sides();
        match (good, bad) {
            (Some(good), Some(bad)) => Some(self.between(known, good, bad)),
            (Some(good), None) => self.beyond(known, good * 2.0),
            (None, Some(bad)) => self.beyond(known, bad / 2.0),
            (None, None) => None,
        }
    }

    /// A load outside of those that were tried; at the end of the scale that one again, until it is told what it is.
    fn beyond(&self, known: Known, load: f64) -> Option<f64> {
        let load = self.rounded(load.clamp(self.scale.least, self.scale.most));
        let runs = self.tried.get(&key(load)).map_or(&[][..], Vec::as_slice);
        let verdict = known.scatter.verdict(runs, self.wanted);
        let is_open = runs.len() < RUNS_AT_THE_END && verdict == Verdict::Unsure;
        is_open.then_some(load)
    }

    /// Around where the curve has the wanted share, if there is one; else in the middle between a load with enough good requests and
    /// one with too few. Two loads that are not cut finer are run some times each; if that does not tell them apart, runs differ by more than these
    /// loads do, and the curve needs loads further away, too.
    fn between(&self, known: Known, good: f64, bad: f64) -> f64 {
        let middle = self.rounded((good * bad).sqrt());
        let is_new = middle != good && middle != bad;
        let is_open = self.times(good) + self.times(bad) < RUNS_OF_BOTH;
        let center = match known.crossing {
            Some(crossing) => crossing.load,
            None if is_new && bad / good > FINEST => return middle,
            None if is_open => return self.less_often(good, bad),
            None => (good * bad).sqrt(),
        };
        // Without a curve the middle may be wrong itself: the longer there is none, the further around it.
        let far = match known.crossing {
            Some(_) => 1.0,
            None => 1.0 + self.runs() as f64 / RUNS_PER_STEP,
        };
        let around = AROUND[self.runs() % AROUND.len()].powf(far);
        let load = self.rounded(center * around);
        load.clamp(self.scale.least, self.scale.most)
    }

    fn times(&self, load: f64) -> usize {
        self.tried.get(&key(load)).map_or(0, Vec::len)
    }

    /// The one of two loads that was tried less often.
    fn less_often(&self, good: f64, bad: f64) -> f64 {
        match self.times(good) <= self.times(bad) {
            true => good,
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

    fn known(&self) -> Known {
        let runs = self.tried.iter();
        let runs: Vec<(f64, Evidence)> = runs
            .flat_map(|(load, runs)| runs.iter().map(|run| (load_of(*load), *run)))
            .collect();
        let crossing = crossing(&runs, self.wanted);
        let between = || Scatter::between(self.tried.values().map(Vec::as_slice));
        Known {
            crossing,
            scatter: crossing.map_or_else(between, |it| it.scatter),
        }
    }

    /// The ends of an interval that is narrow enough.
    fn ends(&self, found: Found) -> Option<(f64, f64)> {
        found
            .enough
            .zip(found.too_much)
            .filter(|(enough, too_much)| {
                too_much / enough <= WIDEST || (self.scale.is_whole && too_much - enough <= 1.0)
            })
    }

    pub(crate) fn tell(&mut self, load: f64, evidence: Evidence) {
        self.tried.entry(key(load)).or_default().push(evidence);
    }

    /// Where the capacity is: within the interval of the curve if that is narrow enough, or else between two loads about which the test is
    /// sure, if that is narrower. Not simply the narrower of both: of many loads that were tried, one below the capacity and one near it are
    /// soon told wrongly. Loads below one that is enough are enough, and loads above one that is too much are too much.
    pub(crate) fn found(&self) -> Found {
        self.found_by(self.known())
    }

    fn found_by(&self, known: Known) -> Found {
        let tested = self.tested(known.scatter);
        let Some(crossing) = known.crossing else {
            return tested;
        };
        let on_curve = self.on_curve(crossing);
        match self.ends(on_curve).is_some() || on_curve.width() < tested.width() {
            true => on_curve,
            false => tested,
        }
    }

    /// The interval of the curve, and all of the gap between the two loads beside the crossing: in there the share may fall as it likes, and
    /// where it falls as a step does the curve crosses in the middle of the gap, wherever the step is.
    fn on_curve(&self, crossing: Crossing) -> Found {
        let (low, high) = self.whole(crossing);
        let at = key(crossing.load);
        let below = self.tried.range(..=at).next_back();
        let above = self.tried.range(at + 1..).next();
        Found {
            enough: Some(below.map_or(low, |(load, _)| load_of(*load).min(low))),
            too_much: Some(above.map_or(high, |(load, _)| load_of(*load).max(high))),
        }
    }

    /// The ends of an interval of the curve. Of whole loads the lower one is enough, and the upper one too much.
    fn whole(&self, crossing: Crossing) -> (f64, f64) {
        match self.scale.is_whole {
            true => (crossing.low.floor().max(1.0), crossing.high.floor() + 1.0),
            false => (crossing.low, crossing.high),
        }
    }

    fn tested(&self, scatter: Scatter) -> Found {
        let of = |wanted: Verdict| {
            let tried = self.tried.iter();
            let tried = tried.filter(move |(_, runs)| scatter.verdict(runs, self.wanted) == wanted);
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
        let scatter = self.known().scatter;
        self.tried.iter().map(move |(load, runs)| {
            let verdict = scatter.verdict(runs, self.wanted);
            (load_of(*load), &runs[..], verdict)
        })
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
}

fn key(load: f64) -> u64 {
    (load * 1e3).round().max(1.0) as u64
}

fn load_of(key: u64) -> f64 {
    key as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use maitre_workload::Random;

    use super::super::simulated::{RATE, USERS, share};
    use super::*;

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

    /// Runs of 500 requests at each load, all good up to a step.
    fn with_a_step(scale: Scale, step: f64) -> (Search, Found) {
        let mut search = Search::new(scale, 0.95);
        while let Some(load) = search.next() {
            let good = if load <= step { 500.0 } else { 0.0 };
            search.tell(
                load,
                Evidence {
                    good,
                    requests: 500.0,
                    design_effect: 1.0,
                },
            );
        }
        let found = search.found();
        (search, found)
    }

    #[test]
    fn a_search_does_not_end_before_it_is_known_how_much_runs_differ() {
        let (search, found) = with_a_step(USERS, 40.0);
        assert_eq!((found.enough, found.too_much), (Some(38.0), Some(45.0)));
        // These two were sure after one run of each.
        let again = search.tried().filter(|(_, runs, _)| runs.len() == 3);
        let again: Vec<f64> = again.map(|(load, ..)| load).collect();
        assert_eq!(again, [38.0, 45.0]);
    }

    #[test]
    fn a_step_lies_in_the_interval_wherever_it_is() {
        for tenths in 300..600 {
            let step = f64::from(tenths) / 10.0;
            let (_, found) = with_a_step(RATE, step);
            let (enough, too_much) = (found.enough.unwrap(), found.too_much.unwrap());
            assert!(enough <= step && step <= too_much, "{step}: {found:?}");
            assert!(too_much / enough <= WIDEST, "{step}: {found:?}");
        }
    }
}
