//! The shape of the requests of a run.

use std::time::Duration;

use maitre_workload::{Length, SettingError};
use serde::{Serialize, Serializer};

use super::Load;
use crate::BenchError;

/// Requests per user when their number is not given; with fewer, starting and ending weigh too much.
const REQUESTS_PER_USER: usize = 4;
/// Requests of a run of users when their number is not given, at least.
const FEWEST_REQUESTS: usize = 8;
/// Requests of an open loop without an end.
const OPEN_REQUESTS: usize = 100;

/// The requests of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Workload {
    /// Tokens of each prompt where they are random; of each message where there are several turns.
    pub input_tokens: Length,
    /// Tokens of each answer, exactly.
    pub output_tokens: Length,
    /// Requests of each run; `None`: four for each user and eight at least, 100 of an open loop, all of a trace and of
    /// arrivals that have an end.
    pub requests: Option<usize>,
    /// Chooses prompts, lengths, arrivals and times to think.
    pub seed: u64,
    /// Chooses the tokens of random prompts, too, and nothing else: another one makes prompts that a server has not been asked before, of the
    /// same lengths and at the same times.
    pub prompt_seed: u64,
    /// Turns of each conversation; `None`: each request is for itself.
    pub turns: Option<Length>,
    /// How long users think before they ask again, on average, exponentially distributed; `None`: not at all.
    #[serde(serialize_with = "seconds")]
    pub think_time: Option<Duration>,
}

fn seconds<S: Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    time.map(|time| time.as_secs_f64()).serialize(serializer)
}

impl Workload {
    /// Requests of this length, each for itself.
    #[must_use]
    pub fn of(input_tokens: u32, output_tokens: u32) -> Self {
        Self {
            input_tokens: Length::Fixed(input_tokens),
            output_tokens: Length::Fixed(output_tokens),
            requests: None,
            seed: 0,
            prompt_seed: 0,
            turns: None,
            think_time: None,
        }
    }

    /// Requests of a run with this load, where there is a number of them.
    #[must_use]
    pub fn requests_of(&self, load: &Load) -> Option<usize> {
        self.requests.or_else(|| match load {
            Load::Users(users) => {
                let turns = self.turns.as_ref().map_or(1, |turns| turns.most() as usize);
                let requests = (*users as usize).saturating_mul(REQUESTS_PER_USER * turns);
                Some(requests.max(FEWEST_REQUESTS))
            }
            Load::Arrivals(process) if process.expected_requests().is_none() => Some(OPEN_REQUESTS),
            Load::Arrivals(_) | Load::Replay { .. } => None,
        })
    }

    /// Lengths of prompts count where they are `drawn`.
    pub(crate) fn check(&self, load: &Load, drawn: bool) -> Result<(), BenchError> {
        let lengths = [
            ("input-tokens", Some(&self.input_tokens).filter(|_| drawn)),
            ("output-tokens", Some(&self.output_tokens)),
            ("turns", self.turns.as_ref()),
        ];
        for (setting, length) in lengths {
            if let Some(length) = length.filter(|length| length.most() == 0) {
                return Err(SettingError::new(setting, length, "at least 1").into());
            }
        }
        let requests = self.requests_of(load);
        let fewest = load.users().unwrap_or(1);
        match requests.filter(|requests| *requests < fewest as usize) {
            Some(requests) => {
                let expected = format!("at least the concurrency, {fewest}: no fewer reach it");
                Err(SettingError::new("requests", requests, expected).into())
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_requests_follows_the_load() {
        let workload = Workload::of(1000, 2);
        let requests = |load: &str| {
            let process = load.parse().map(Load::Arrivals);
            let users = || Load::Users(load.parse().unwrap());
            workload.requests_of(&process.unwrap_or_else(|_| users()))
        };
        assert_eq!((requests("1"), requests("16")), (Some(8), Some(64)));
        assert_eq!(
            (requests("poisson:3"), requests("steps:3x5")),
            (Some(100), None)
        );
        assert_eq!(workload.requests_of(&Load::Replay { speed: 1.0 }), None);
        let chats = Workload {
            turns: Some(Length::Uniform(1..=3)),
            ..workload
        };
        assert_eq!(chats.requests_of(&Load::Users(10)), Some(120));
    }

    #[test]
    fn impossible_workloads_are_refused_by_name() {
        let good = Workload::of(98, 2);
        assert!(good.check(&Load::Users(4), true).is_ok());
        let with = |requests| Workload {
            requests: Some(requests),
            ..good.clone()
        };
        assert!(Workload::of(0, 2).check(&Load::Users(4), false).is_ok());
        for (workload, expected) in [
            (Workload::of(0, 2), "input-tokens is 0"),
            (Workload::of(2, 0), "output-tokens is 0"),
            (
                with(3),
                "requests is 3; expected at least the concurrency, 4",
            ),
            (with(0), "requests is 0"),
        ] {
            let message = workload
                .check(&Load::Users(4), true)
                .unwrap_err()
                .to_string();
            assert!(message.contains(expected), "{message}");
        }
    }
}
