//! Open loops: requests come whether or not earlier ones are answered.

use std::sync::Arc;

use crate::{Arrivals, Lengths, Random, Request, SettingError, SharedPrefix, Time, Trace, mix};

/// When the requests of an open loop come.
#[derive(Debug, Clone, Copy, PartialEq)]
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
}

impl ArrivalProcess {
    /// Checks its numbers.
    ///
    /// # Errors
    ///
    /// [`SettingError`].
    pub fn validate(&self) -> Result<(), SettingError> {
        let (Self::Constant { rate } | Self::Poisson { rate } | Self::Gamma { rate, .. }) = *self;
        SettingError::check_positive("the rate of arrivals", rate)?;
        match *self {
            Self::Gamma { variation, .. } => {
                SettingError::check_positive("the variation of arrivals", variation)
            }
            _ => Ok(()),
        }
    }

    /// Seconds from one request to the next.
    fn gap(&self, random: &mut Random) -> f64 {
        match *self {
            Self::Constant { rate } => 1.0 / rate,
            Self::Poisson { rate } => random.exponential() / rate,
            Self::Gamma { rate, variation } => {
                let shape = 1.0 / (variation * variation);
                random.gamma(shape) / (shape * rate)
            }
        }
    }
}

impl std::str::FromStr for ArrivalProcess {
    type Err = SettingError;

    /// Reads `constant:RATE`, `poisson:RATE` or `gamma:RATE,VARIATION`, with the rate in requests per second.
    fn from_str(text: &str) -> Result<Self, SettingError> {
        let bad = || {
            let expected =
                "constant:RATE, poisson:RATE or gamma:RATE,VARIATION, such as poisson:2.5";
            SettingError::new("the arrivals", text, expected)
        };
        let number = |text: &str| text.trim().parse::<f64>().map_err(|_| bad());
        let (kind, numbers) = text.split_once(':').ok_or_else(bad)?;
        let process = match kind {
            "constant" => Self::Constant {
                rate: number(numbers)?,
            },
            "poisson" => Self::Poisson {
                rate: number(numbers)?,
            },
            "gamma" => {
                let (rate, variation) = numbers.split_once(',').ok_or_else(bad)?;
                Self::Gamma {
                    rate: number(rate)?,
                    variation: number(variation)?,
                }
            }
            _ => return Err(bad()),
        };
        process.validate().map(|()| process)
    }
}

impl std::fmt::Display for ArrivalProcess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Constant { rate } => write!(f, "constant:{rate}"),
            Self::Poisson { rate } => write!(f, "poisson:{rate}"),
            Self::Gamma { rate, variation } => write!(f, "gamma:{rate},{variation}"),
        }
    }
}

/// Requests of an [`ArrivalProcess`], each with a prompt that no other begins like.
#[derive(Debug, Clone)]
pub struct OpenLoop {
    process: ArrivalProcess,
    lengths: Lengths,
    requests: u64,
    seed: u64,
    random: Random,
    made: u64,
    /// When the next one comes, in seconds: a sum of durations would round each of them.
    next_seconds: f64,
}

impl OpenLoop {
    /// So many `requests`.
    ///
    /// # Errors
    ///
    /// [`SettingError`].
    pub fn new(
        process: ArrivalProcess,
        lengths: Lengths,
        requests: u64,
        seed: u64,
    ) -> Result<Self, SettingError> {
        process.validate()?;
        lengths.validate()?;
        let mut random = Random::new(seed, 0);
        let next_seconds = process.gap(&mut random);
        Ok(Self {
            process,
            lengths,
            requests,
            seed,
            random,
            made: 0,
            next_seconds,
        })
    }
}

impl Arrivals for OpenLoop {
    fn is_open(&self) -> bool {
        true
    }

    fn next_at(&mut self) -> Option<Time> {
        (self.made < self.requests).then(|| seconds(self.next_seconds))
    }

    fn take(&mut self) -> Option<Request> {
        let arrival = self.next_at()?;
        let number = self.made;
        let (prompt_tokens, output_tokens) = self.lengths.of(self.seed, number);
        self.made += 1;
        self.next_seconds += self.process.gap(&mut self.random);
        Some(Request {
            number,
            arrival,
            prompt_tokens,
            output_tokens,
            prefix: None,
            session: None,
            user: None,
        })
    }
}

/// A trace played again, faster or slower, as often as is needed for so many requests. Each time it begins again its
/// prompts begin differently, so that a second round does not find the first in the prefix cache.
#[derive(Debug, Clone)]
pub struct Replay {
    rows: Arc<[Request]>,
    speed: f64,
    requests: u64,
    made: u64,
    /// From the first row of a round to the first row of the next, in seconds of the trace.
    round_seconds: f64,
}

impl Replay {
    /// The rows of a trace `speed` times as fast as they came; all of them once if the number of `requests` is not given.
    ///
    /// # Errors
    ///
    /// [`SettingError`] for a trace without rows or a speed that is not above 0.
    pub fn new(trace: &Trace, speed: f64, requests: Option<u64>) -> Result<Self, SettingError> {
        SettingError::check_positive("the speed of the trace", speed)?;
        let rows: Arc<[Request]> = trace.requests.as_slice().into();
        let Some(last) = rows.last() else {
            return Err(SettingError::new("the trace", "empty", "at least one row"));
        };
        // The next round follows after the mean time between two rows.
        let span = last.arrival.as_secs_f64();
        let gap = span / (rows.len() - 1).max(1) as f64;
        Ok(Self {
            speed,
            requests: requests.unwrap_or(rows.len() as u64),
            made: 0,
            round_seconds: span + gap,
            rows,
        })
    }

    fn row(&self) -> Option<(&Request, u64)> {
        let len = self.rows.len() as u64;
        let (round, index) = (self.made / len, self.made % len);
        Some((self.rows.get(index as usize)?, round))
    }
}

impl Arrivals for Replay {
    fn is_open(&self) -> bool {
        true
    }

    fn next_at(&mut self) -> Option<Time> {
        if self.made >= self.requests {
            return None;
        }
        let (row, round) = self.row()?;
        let at = row.arrival.as_secs_f64() + round as f64 * self.round_seconds;
        Some(seconds(at / self.speed))
    }

    fn take(&mut self) -> Option<Request> {
        let arrival = self.next_at()?;
        let (row, round) = self.row()?;
        let in_round = |prefix: &SharedPrefix| SharedPrefix {
            block_tokens: prefix.block_tokens,
            ids: match round {
                0 => Arc::clone(&prefix.ids),
                _ => prefix
                    .ids
                    .iter()
                    .map(|id| mix(id ^ (round << 32)))
                    .collect(),
            },
        };
        let request = Request {
            number: self.made,
            arrival,
            prefix: row.prefix.as_ref().map(in_round),
            ..row.clone()
        };
        self.made += 1;
        Some(request)
    }
}

/// A moment of the simulation; the largest there is for what lies behind all time.
pub(crate) fn seconds(seconds: f64) -> Time {
    Time::try_from_secs_f64(seconds).unwrap_or(Time::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Length;

    fn lengths() -> Lengths {
        Lengths::Independent {
            prompt: Length::Fixed(8),
            output: Length::Fixed(2),
        }
    }

    fn arrivals(process: &str, requests: u64) -> Vec<f64> {
        let process = process.parse().unwrap();
        let mut open = OpenLoop::new(process, lengths(), requests, 3).unwrap();
        let requests = std::iter::from_fn(|| open.take());
        requests
            .map(|request| request.arrival.as_secs_f64())
            .collect()
    }

    #[test]
    fn processes_have_their_rate_and_their_variation() {
        for (process, variation) in [
            ("constant:4", 0.0),
            ("poisson:4", 1.0),
            ("gamma:4,3", 3.0),
            ("gamma:4,0.5", 0.5),
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
                "{process}"
            );
        }
    }

    #[test]
    fn arrivals_are_read_and_refused() {
        for good in ["constant:2", "poisson:0.5", "gamma:2,3"] {
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
        ] {
            assert!(bad.parse::<ArrivalProcess>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_trace_is_played_faster_and_again_with_other_beginnings() {
        let text = "{\"timestamp\": 0, \"input_length\": 600, \"output_length\": 1, \"hash_ids\": [5, 6]}\n\
                    {\"timestamp\": 1000, \"input_length\": 600, \"output_length\": 1, \"hash_ids\": [5, 7]}\n";
        let trace = Trace::read(text.as_bytes(), None, crate::BadLines::Refuse).unwrap();
        let mut replay = Replay::new(&trace, 2.0, Some(4)).unwrap();
        let requests: Vec<Request> = std::iter::from_fn(|| replay.take()).collect();
        let at: Vec<u128> = requests.iter().map(|it| it.arrival.as_millis()).collect();
        assert_eq!(at, [0, 500, 1000, 1500]);
        let ids = |index: usize| requests[index].prefix.as_ref().unwrap().ids.to_vec();
        assert_eq!((ids(0), ids(1)), (vec![5, 6], vec![5, 7]));
        assert!(ids(2)[0] == ids(3)[0] && ids(2)[0] != 5);
        assert!(Replay::new(&trace, 0.0, None).is_err());
    }
}
