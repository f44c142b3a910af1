//! Replicas that fail, at random times that the seed chooses.

use std::str::FromStr;

use maitre_scheduler::Time;

use crate::SimError;
use crate::workload::Random;

/// What becomes of the requests that a replica had when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnFailure {
    /// They are sent to another one, which begins anew.
    #[default]
    Reroute,
    /// They fail too.
    Fail,
}

impl OnFailure {
    /// Both, in the order in which they are explained.
    pub const ALL: [Self; 2] = [Self::Reroute, Self::Fail];

    /// Its name on the command line and in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reroute => "reroute",
            Self::Fail => "fail",
        }
    }
}

impl FromStr for OnFailure {
    type Err = SimError;

    fn from_str(text: &str) -> Result<Self, SimError> {
        let found = Self::ALL.into_iter().find(|it| it.name() == text);
        found.ok_or_else(|| SimError::setting("what happens on a failure", text, "reroute or fail"))
    }
}

/// How often replicas fail and what follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failures {
    /// The mean time from when a replica is ready to its failure, exponentially distributed.
    pub mtbf: Time,
    /// From a failure until the replica is ready again, with an empty cache.
    pub repair: Time,
    /// What becomes of its requests.
    pub on_failure: OnFailure,
}

impl Failures {
    pub(super) fn validate(&self) -> Result<(), SimError> {
        match self.mtbf.is_zero() {
            true => Err(SimError::setting(
                "the time between failures",
                0,
                "more than 0",
            )),
            false => Ok(()),
        }
    }

    /// How long a replica works from now on, which is the `life`-th time that it is ready.
    pub(super) fn time_to_failure(&self, seed: u64, replica: usize, life: u64) -> Time {
        let stream = (replica as u64) << 32 | life;
        let mut random = Random::new(seed ^ 0x6661_696c_7572_6573, stream);
        let seconds = self.mtbf.as_secs_f64() * random.exponential();
        Time::try_from_secs_f64(seconds).unwrap_or(Time::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_have_their_mean_and_depend_on_the_seed() {
        let failures = Failures {
            mtbf: Time::from_secs(100),
            repair: Time::ZERO,
            on_failure: OnFailure::Reroute,
        };
        let at = |seed, life| failures.time_to_failure(seed, 3, life).as_secs_f64();
        let mean = (0..20_000).map(|life| at(5, life)).sum::<f64>() / 20_000.0;
        assert!((mean - 100.0).abs() < 2.0, "{mean}");
        assert!(at(5, 1) == at(5, 1) && at(5, 1) != at(6, 1));
        for kind in OnFailure::ALL {
            assert_eq!(kind.name().parse::<OnFailure>().unwrap(), kind);
        }
        assert!("retry".parse::<OnFailure>().is_err());
    }
}
