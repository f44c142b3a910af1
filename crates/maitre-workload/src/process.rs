//! When the requests of an open loop come.

use std::fmt;
use std::str::FromStr;

use crate::{Random, SettingError};

/// When the requests of an open loop come.
#[derive(Debug, Clone, PartialEq)]
pub enum ArrivalProcess {
    /// One after the same time again and again.
    Constant {
        /// Requests per second.
        rate: f64,
    },
    /// Independently of each other.
    Poisson {
        /// Requests per second.
        rate: f64,
    },
    /// In bursts: the times between requests have a gamma distribution.
    Gamma {
        /// Requests per second.
        rate: f64,
        /// Standard deviation of the time between two requests, divided by its mean: 1 is a Poisson process, more comes
        /// in bursts, less is steadier.
        variation: f64,
    },
    /// Independently of each other, at one rate after the other. The process ends with the last step.
    Steps(Vec<RateStep>),
    /// Independently of each other, at a rate that changes evenly. The process ends with the ramp.
    Ramp {
        /// Requests per second at the beginning.
        from: f64,
        /// Requests per second at the end.
        to: f64,
        /// How long it takes.
        seconds: f64,
    },
}

/// A rate that holds for some time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RateStep {
    /// Requests per second; 0 is a pause.
    pub rate: f64,
    /// How long it holds.
    pub seconds: f64,
}

impl ArrivalProcess {
    /// Checks its numbers.
    ///
    /// # Errors
    ///
    /// [`SettingError`].
    pub fn validate(&self) -> Result<(), SettingError> {
        let positive = |rate: f64| SettingError::check_positive("the rate of arrivals", rate);
        match self {
            Self::Constant { rate } | Self::Poisson { rate } => positive(*rate),
            Self::Gamma { rate, variation } => {
                positive(*rate)?;
                SettingError::check_positive("the variation of arrivals", *variation)
            }
            Self::Steps(steps) => {
                let timed = steps.iter().map(|step| (step.rate, step.seconds));
                check_changing(timed, steps.iter().map(|step| step.rate))
            }
            Self::Ramp { from, to, seconds } => {
                check_changing([(*from, *seconds), (*to, *seconds)], [*from, *to])
            }
        }
    }

    /// How many requests come in all on average, if the process has an end.
    #[must_use]
    pub fn expected_requests(&self) -> Option<f64> {
        match self {
            Self::Steps(steps) => Some(steps.iter().map(|step| step.rate * step.seconds).sum()),
            Self::Ramp { from, to, seconds } => Some((from + to) / 2.0 * seconds),
            _ => None,
        }
    }

    /// When the request after one at `at` comes, in seconds since the beginning; `None` behind the end of the process.
    pub(crate) fn next_after(&self, at: f64, random: &mut Random) -> Option<f64> {
        match self {
            Self::Constant { rate } => Some(at + 1.0 / rate),
            Self::Poisson { rate } => Some(at + random.exponential() / rate),
            Self::Gamma { rate, variation } => {
                let shape = 1.0 / (variation * variation);
                Some(at + random.gamma(shape) / (shape * rate))
            }
            Self::Steps(steps) => next_in_steps(steps, at, random.exponential()),
            Self::Ramp { from, to, seconds } => {
                next_in_ramp((*from, *to), *seconds, at, random.exponential())
            }
        }
    }
}

/// Rates that may be 0, but not all of them, and times that may not.
fn check_changing(
    timed: impl IntoIterator<Item = (f64, f64)>,
    rates: impl IntoIterator<Item = f64>,
) -> Result<(), SettingError> {
    for (rate, seconds) in timed {
        SettingError::check_positive("the seconds of a rate of arrivals", seconds)?;
        if !(rate.is_finite() && rate >= 0.0) {
            return Err(SettingError::new(
                "the rate of arrivals",
                rate,
                "a number from 0 on",
            ));
        }
    }
    let most = rates.into_iter().fold(0.0, f64::max);
    SettingError::check_positive("the highest rate of arrivals", most)
}

// Both of these let `expected` more requests come on average before the next one does: where that number is exponentially
// distributed, the process is a Poisson process whose rate changes (Çinlar 1975, "Introduction to stochastic processes", chapter 4).

fn next_in_steps(steps: &[RateStep], at: f64, expected: f64) -> Option<f64> {
    let (mut begin, mut left) = (0.0, expected);
    for step in steps {
        let (from, end) = (at.max(begin), begin + step.seconds);
        begin = end;
        let within = (end - from).max(0.0) * step.rate;
        if within > 0.0 && left <= within {
            return Some(from + left / step.rate);
        }
        left -= within;
    }
    None
}

fn next_in_ramp((from, to): (f64, f64), seconds: f64, at: f64, expected: f64) -> Option<f64> {
    let slope = (to - from) / seconds;
    let before = |at: f64| from * at + slope / 2.0 * at * at;
    let count = before(at) + expected;
    if count > before(seconds) {
        return None;
    }
    // The root of slope / 2 · t² + from · t = count in the form that does not cancel.
    let root = (from * from + 2.0 * slope * count).max(0.0).sqrt();
    Some((2.0 * count / (from + root).max(f64::MIN_POSITIVE)).clamp(at, seconds))
}

impl FromStr for ArrivalProcess {
    type Err = SettingError;

    /// Reads `constant:RATE`, `poisson:RATE`, `gamma:RATE,VARIATION`, `steps:RATExSECONDS,…` or `ramp:FROM..TO,SECONDS`, with
    /// rates in requests per second.
    fn from_str(text: &str) -> Result<Self, SettingError> {
        let bad = || {
            let expected = "constant:RATE, poisson:RATE, gamma:RATE,VARIATION, steps:RATExSECONDS,RATExSECONDS or \
                            ramp:FROM..TO,SECONDS, such as poisson:2.5";
            SettingError::new("the arrivals", text, expected)
        };
        let number = |text: &str| text.trim().parse::<f64>().map_err(|_| bad());
        let pair = |text: &str, separator: &str| {
            let (first, second) = text.split_once(separator).ok_or_else(bad)?;
            Ok::<_, SettingError>((number(first)?, number(second)?))
        };
        let (kind, numbers) = text.split_once(':').ok_or_else(bad)?;
        let process = match kind {
            "constant" => Self::Constant {
                rate: number(numbers)?,
            },
            "poisson" => Self::Poisson {
                rate: number(numbers)?,
            },
            "gamma" => {
                let (rate, variation) = pair(numbers, ",")?;
                Self::Gamma { rate, variation }
            }
            "steps" => {
                let steps = numbers.split(',').map(|step| {
                    let (rate, seconds) = pair(step, "x")?;
                    Ok(RateStep { rate, seconds })
                });
                Self::Steps(steps.collect::<Result<_, SettingError>>()?)
            }
            "ramp" => {
                let (rates, seconds) = numbers.split_once(',').ok_or_else(bad)?;
                let (from, to) = pair(rates, "..")?;
                Self::Ramp {
                    from,
                    to,
                    seconds: number(seconds)?,
                }
            }
            _ => return Err(bad()),
        };
        process.validate().map(|()| process)
    }
}

impl fmt::Display for ArrivalProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Constant { rate } => write!(f, "constant:{rate}"),
            Self::Poisson { rate } => write!(f, "poisson:{rate}"),
            Self::Gamma { rate, variation } => write!(f, "gamma:{rate},{variation}"),
            Self::Steps(steps) => {
                let steps = steps
                    .iter()
                    .map(|step| format!("{}x{}", step.rate, step.seconds));
                write!(f, "steps:{}", steps.collect::<Vec<_>>().join(","))
            }
            Self::Ramp { from, to, seconds } => write!(f, "ramp:{from}..{to},{seconds}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrivals(process: &str, most: usize) -> Vec<f64> {
        let process: ArrivalProcess = process.parse().unwrap();
        let mut random = Random::new(3, 0);
        let first = process.next_after(0.0, &mut random);
        std::iter::successors(first, |at| process.next_after(*at, &mut random))
            .take(most)
            .collect()
    }

    #[test]
    fn processes_have_their_rate_and_their_variation() {
        for (process, variation) in [
            ("constant:4", 0.0),
            ("poisson:4", 1.0),
            ("gamma:4,3", 3.0),
            ("gamma:4,0.5", 0.5),
            ("steps:4x30000", 1.0),
            ("ramp:4..4,30000", 1.0),
        ] {
            let at = arrivals(process, 100_000);
            assert!(at.is_sorted());
            let gaps: Vec<f64> = at.windows(2).map(|pair| pair[1] - pair[0]).collect();
            let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
            let squares = gaps.iter().map(|gap| (gap - mean) * (gap - mean));
            let deviation = (squares.sum::<f64>() / gaps.len() as f64).sqrt();
            assert!((mean * 4.0 - 1.0).abs() < 0.03, "{process}: {mean}");
            assert!(
                (deviation / mean - variation).abs() < 0.05 * (1.0 + variation),
                "{process}: {deviation}"
            );
        }
    }

    #[test]
    fn a_rate_that_changes_lets_come_what_its_integral_says() {
        let count = |process: &str, from: f64, to: f64| {
            let at = arrivals(process, usize::MAX);
            assert!(at.is_sorted());
            at.iter().filter(|at| (from..to).contains(*at)).count() as f64
        };
        // Means, and five standard deviations of Poisson numbers around them.
        for (process, from, to, mean) in [
            ("steps:10x100,0x50,40x100", 0.0, 100.0, 1000.0),
            ("steps:10x100,0x50,40x100", 100.0, 150.0, 0.0),
            ("steps:10x100,0x50,40x100", 150.0, 250.0, 4000.0),
            ("steps:10x100,0x50,40x100", 250.0, 1e9, 0.0),
            ("ramp:0..20,200", 0.0, 100.0, 500.0),
            ("ramp:0..20,200", 100.0, 200.0, 1500.0),
            ("ramp:20..0,200", 0.0, 100.0, 1500.0),
            ("ramp:20..0,200", 100.0, 1e9, 500.0),
        ] {
            let found = count(process, from, to);
            assert!(
                (found - mean).abs() <= 5.0 * mean.sqrt(),
                "{process} {from}..{to}: {found}"
            );
        }
        let expected = |process: &str| {
            process
                .parse::<ArrivalProcess>()
                .unwrap()
                .expected_requests()
        };
        assert_eq!(expected("steps:10x100,0x50,40x100"), Some(5000.0));
        assert_eq!(expected("ramp:0..20,200"), Some(2000.0));
        assert_eq!(expected("poisson:1"), None);
    }

    #[test]
    fn arrivals_are_read_and_refused() {
        for good in [
            "constant:2",
            "poisson:0.5",
            "gamma:2,3",
            "steps:2x30,0x5,8x30",
            "ramp:1..10,60",
        ] {
            assert_eq!(good.parse::<ArrivalProcess>().unwrap().to_string(), good);
        }
        for bad in [
            "",
            "poisson",
            "poisson:0",
            "poisson:x",
            "poisson:inf",
            "gamma:2",
            "gamma:2,0",
            "steps:3",
            "steps:",
            "steps:0x5",
            "steps:3x0",
            "steps:-1x5,2x5",
            "ramp:1..2",
            "ramp:0..0,5",
            "ramp:1..infx,5",
            "ramp:1..inf,5",
        ] {
            assert!(bad.parse::<ArrivalProcess>().is_err(), "{bad}");
        }
    }
}
