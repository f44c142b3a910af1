//! How long a target takes for bursts of requests: what a machine is calibrated by.

use std::time::Duration;

use maitre_workload::{Burst, ObservedBurst, SettingError};

use crate::{BenchError, Clock, Run, Settings, Stop, Target, Workload, measure};

/// Passes over all bursts, at least.
const FEWEST_PASSES: u64 = 3;

/// Prompts without an answer are sent one after the other: an idle processor takes a moment to be as fast as a busy one.
const IN_A_ROW: u32 = 8;

/// Within a pass a burst is repeated until this time is over: short ones vary more.
const EACH: Duration = Duration::from_millis(150);

/// Measures every burst again and again for as long as `time`, three times at least, and takes the means: a server that is disturbed
/// now and then is slower by that on average. `progress` hears of the time that has gone by.
///
/// # Errors
/// Bursts that are impossible for this model, none of them, and one whose requests failed. [`BenchError::Interrupted`] if it was
/// stopped before each was measured once; later the means until then are returned.
///
/// # Cancel safety
/// Dropping the future ends the requests in flight.
pub async fn measure_bursts(
    target: &dyn Target,
    clock: &dyn Clock,
    bursts: &[Burst],
    time: Duration,
    stop: &Stop,
    mut progress: impl FnMut(Duration),
) -> Result<Vec<ObservedBurst>, BenchError> {
    if bursts.is_empty() {
        return Err(SettingError::new("the number of bursts", 0, "at least 1").into());
    }
    let mut meter = Meter {
        target,
        clock,
        stop,
        asked: 0,
    };
    // The first pass touches memory that no request has touched before.
    for burst in bursts {
        meter.measure(burst).await?;
    }
    let began = clock.now();
    let since = |at: Duration| clock.now().saturating_sub(at);
    let mut sums = vec![(0.0, 0.0, 0.0); bursts.len()];
    let mut passes = 0;
    'all: while passes < FEWEST_PASSES || since(began) < time {
        passes += 1;
        for (burst, sum) in bursts.iter().zip(&mut sums) {
            let before = clock.now();
            loop {
                let (first, answers) = match meter.measure(burst).await {
                    Err(BenchError::Interrupted) if passes > 1 => break 'all,
                    measured => measured?,
                };
                *sum = (sum.0 + first, sum.1 + answers, sum.2 + 1.0);
                if since(before) >= EACH {
                    break;
                }
            }
            progress(since(began));
        }
    }
    let observed = bursts.iter().zip(&sums).map(|(burst, sum)| ObservedBurst {
        burst: *burst,
        first_tokens_seconds: sum.0 / sum.2,
        answers_seconds: sum.1 / sum.2,
    });
    Ok(observed.collect())
}

struct Meter<'a> {
    target: &'a dyn Target,
    clock: &'a dyn Clock,
    stop: &'a Stop,
    /// So many bursts have been asked: each has prompts of its own.
    asked: u64,
}

impl Meter<'_> {
    /// Seconds to the last of the first tokens, and from there to the end.
    async fn measure(&mut self, burst: &Burst) -> Result<(f64, f64), BenchError> {
        self.asked += 1;
        let in_a_row = if burst.output_tokens == 1 {
            IN_A_ROW
        } else {
            1
        };
        let workload = Workload {
            requests: Some((burst.users * in_a_row) as usize),
            seed: self.asked,
            ..Workload::of(burst.prompt_tokens, burst.output_tokens)
        };
        let settings = Settings::closed_loop(workload, &[burst.users]);
        let report = measure(self.target, self.clock, &settings, self.stop, |_| {}).await?;
        if report.interrupted {
            return Err(BenchError::Interrupted);
        }
        let failed = || BenchError::BurstFailed {
            burst: *burst,
            report: report.to_string(),
        };
        let run: &Run = report.runs.first().ok_or_else(failed)?;
        let first = run.samples.ttft_ms.iter().copied().reduce(f64::max);
        match first.filter(|_| report.is_complete()).ok_or_else(failed)? {
            _ if in_a_row > 1 => Ok((run.duration_s / f64::from(in_a_row), 0.0)),
            first => Ok((first / 1e3, run.duration_s - first / 1e3)),
        }
    }
}
