//! How much load a target bears before too few requests are good, which resource bends first, and what would move it.

mod bent;
mod curve;
mod evidence;
mod parts;
mod report;
mod search;
#[cfg(test)]
mod simulated;

use maitre_workload::{ArrivalProcess, SettingError};

use self::evidence::{Evidence, design_effect};
use self::parts::Broken;
use self::search::{Scale, Search};
use crate::measure::Bench;
use crate::summary::REFUSED;
use crate::{BenchError, Clock, Load, Progress, Questions, Run, Settings, Stop, Target, Workload};

pub use bent::{Bent, Resource};
pub use report::{Capacity, Tried};

/// Requests of a run, at least: fewer say little about a share near 1.
const FEWEST_REQUESTS: usize = 64;
/// Requests of each user. The first one is not counted: that all begin at the same moment is no load that lasts.
const REQUESTS_PER_USER: usize = 5;
/// How long requests come in a run, at least: a queue that grows has to have time to.
const SECONDS: f64 = 10.0;
/// How long they come at most, but for a few requests: what rates are too small for many requests in.
const LONGEST_SECONDS: f64 = 60.0;
const FEWEST_OF_A_RATE: usize = 16;
/// Requests that are looked at together to see how much they depend on each other.
const BATCH: usize = 8;

/// What is searched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dimension {
    /// Users who each wait for their answers.
    Users,
    /// Requests a second that come independently of each other.
    Rate,
}

impl Dimension {
    /// What it counts.
    #[must_use]
    pub fn unit(self) -> &'static str {
        match self {
            Self::Users => "users",
            Self::Rate => "requests/s",
        }
    }

    fn scale(self) -> Scale {
        match self {
            Self::Users => Scale {
                is_whole: true,
                start: 1.0,
                least: 1.0,
                most: 16_384.0,
            },
            Self::Rate => Scale {
                is_whole: false,
                start: 1.0,
                least: 1.0 / 64.0,
                most: 65_536.0,
            },
        }
    }

    fn load(self, load: f64) -> Load {
        match self {
            Self::Users => Load::Users(load as u32),
            Self::Rate => Load::Arrivals(ArrivalProcess::Poisson { rate: load }),
        }
    }

    /// Requests of a run, of which so many are wanted.
    fn requests(self, load: f64, wanted: Option<usize>) -> usize {
        let (fewest, requests) = match self {
            Self::Users => (load as usize, load as usize * REQUESTS_PER_USER),
            Self::Rate => (1, (load * SECONDS) as usize),
        };
        // Few requests a second take long to be many.
        let least = match self {
            Self::Rate => {
                FEWEST_REQUESTS.min(((load * LONGEST_SECONDS) as usize).max(FEWEST_OF_A_RATE))
            }
            Self::Users => FEWEST_REQUESTS + load as usize,
        };
        wanted.unwrap_or(requests.max(least)).max(fewest)
    }
}

/// Searches the largest load under which the `share` of good requests is as wanted. `settings` say what is asked and what
/// is good; their loads are not used. `progress` hears of each request and each run.
///
/// # Errors
/// Settings that are impossible for this model, no bounds, or a share that no test can tell.
///
/// # Cancel safety
/// Dropping the future ends the requests in flight. [`Stop`] does so and keeps what was found.
pub async fn find_capacity(
    target: &dyn Target,
    clock: &dyn Clock,
    settings: &Settings,
    (dimension, share): (Dimension, f64),
    stop: &Stop,
    mut progress: impl FnMut(Progress<'_>),
) -> Result<Capacity, BenchError> {
    check(settings, share)?;
    let mut search = Search::new(dimension.scale(), share);
    let mut runs: Vec<(f64, Run)> = Vec::new();
    let (mut asked, mut asked_again) = (0, 0);
    while let Some(load) = search.next() {
        let workload = Workload {
            requests: Some(dimension.requests(load, settings.workload.requests)),
            ..settings.workload.clone()
        };
        let of_load = Settings {
            workload,
            loads: vec![dimension.load(load)],
            ..settings.clone()
        };
        let mut bench = Bench::new(target, clock, &of_load, stop)?;
        // Every run asks something else, and so do searches with another seed.
        bench.skip(runs.len() as u64, asked);
        let run = bench.run(&dimension.load(load), &mut progress).await?;
        (asked, asked_again) = (bench.asked(), bench.asked_again());
        if stop.is_stopped() {
            break;
        }
        // A server that answers nothing has no capacity, and no SLO to blame.
        if run.completed == 0 && run.errors.keys().any(|code| code != REFUSED) {
            return Err(BenchError::NothingAnswered {
                load: run.load.clone(),
                errors: run.told_errors(),
            });
        }
        search.tell(load, evidence(&run, settings));
        runs.push((load, run));
    }
    Ok(Capacity::new(
        (target.name(), target.model().name),
        settings,
        (dimension, share),
        &search,
        (runs, asked_again),
        stop.is_stopped(),
    ))
}

fn check(settings: &Settings, share: f64) -> Result<(), BenchError> {
    if settings.slo.is_empty() {
        let expected = "bounds such as ttft=500ms,tpot=50ms";
        return Err(SettingError::new("the SLO", "not given", expected).into());
    }
    if !(0.5..=0.99).contains(&share) {
        return Err(SettingError::new("the share of good requests", share, "0.5 to 0.99").into());
    }
    if matches!(settings.questions, Questions::Chats(_)) {
        let expected =
            "random prompts, prompts of a file or lengths of a trace: it asks more than there are";
        return Err(SettingError::new("what is asked", "recorded conversations", expected).into());
    }
    Ok(())
}

/// The share of good requests, and how much they depend on each other, from batches of them in the order of time. Of users who wait,
/// their first requests are left out: all of them come at the same moment.
fn evidence(run: &Run, settings: &Settings) -> Evidence {
    let ms = |time: f64| std::time::Duration::from_secs_f64(time / 1e3);
    let samples = &run.samples;
    let times = samples
        .ttft_ms
        .iter()
        .zip(&samples.tpot_ms)
        .zip(&samples.e2e_ms);
    let first = run
        .concurrency
        .filter(|users| *users < samples.ttft_ms.len());
    let is_good: Vec<bool> = times
        .skip(first.unwrap_or(0))
        .map(|((ttft, tpot), e2e)| settings.slo.is_met_by(ms(*ttft), tpot.map(ms), ms(*e2e)))
        .collect();
    let shares = is_good.chunks(BATCH).map(|batch| {
        let good = batch.iter().filter(|is_good| **is_good).count() as f64;
        (good / batch.len() as f64, batch.len() as f64)
    });
    let failed = run.requests - run.completed;
    Evidence {
        good: is_good.iter().filter(|is_good| **is_good).count() as f64,
        requests: (is_good.len() + failed) as f64,
        design_effect: design_effect(&shares.collect::<Vec<_>>()),
    }
}

/// What bent, from the easiest run and one under a load that is too much, in which too few requests were good.
fn what_bent(
    runs: &[(f64, Run)],
    (too_much, wanted): (f64, f64),
    settings: &Settings,
) -> Option<Bent> {
    let (_, easy) = runs.iter().min_by(|a, b| a.0.total_cmp(&b.0))?;
    let share = |run: &Run| run.goodput.as_ref().map_or(0.0, |it| it.share);
    let bent = bent_run(runs, share, too_much, wanted)?;
    let broken = Broken::most(bent, &settings.slo);
    Some(Bent::between(easy, bent, broken))
}

/// The run under the smallest load from `too_much` on in which the share was smaller than wanted: a single run under such a load may have been a
/// good one. Of several the one with the smallest share. If there is none, the run with the smallest share of all loads.
fn bent_run<T>(
    runs: &[(f64, T)],
    share: impl Fn(&T) -> f64,
    too_much: f64,
    wanted: f64,
) -> Option<&T> {
    let least = too_much * (1.0 - 1e-9);
    let by_share = |a: &T, b: &T| share(a).total_cmp(&share(b));
    let missed = runs
        .iter()
        .filter(|(load, run)| *load >= least && share(run) < wanted);
    let first = missed.min_by(|a, b| a.0.total_cmp(&b.0).then(by_share(&a.1, &b.1)));
    let worst = || runs.iter().min_by(|a, b| by_share(&a.1, &b.1));
    Some(&first.or_else(worst)?.1)
}

#[cfg(test)]
mod tests {
    use super::bent_run;

    #[test]
    fn the_run_that_bent_is_one_in_which_too_few_requests_were_good() {
        let of = |runs: &[(f64, f64)]| bent_run(runs, |share| *share, 10.0, 0.95).copied();
        let easy = (1.0, 1.0);
        // The first load that is too much had a good run: it bent nothing.
        assert_eq!(
            of(&[easy, (10.0, 1.0), (12.0, 0.5), (12.0, 0.7), (20.0, 0.0)]),
            Some(0.5)
        );
        assert_eq!(
            of(&[easy, (10.0, 0.9), (10.0, 0.94), (20.0, 0.0)]),
            Some(0.9)
        );
        assert_eq!(of(&[easy, (9.0, 0.3), (10.0, 0.98)]), Some(0.3));
        assert_eq!(of(&[]), None);
    }
}
