//! How many replicas there should be: a rule that looks at the fleet every so often.
//!
//! ```text
//! pressure = requests that wait, over the replicas that are ready / the target       queue:TARGET
//!          = share of the KV cache that requests hold, over these / the target       kv:TARGET
//!          = share of answers since the last look that missed the SLO / (1 - target) slo:TARGET
//! wanted   = ready × min(pressure, 2), rounded up                          if the pressure is above 1
//!          = one less                                                      if it is below 1/2, and nothing changed for the cooldown
//! ```
//!
//! The first is the rule of Kubernetes' horizontal autoscaler, with replicas that start counted as being there: so a load that is
//! twice as high does not start replica after replica until the first of them is ready. The pressure by the SLO is the rate
//! at which the error budget burns.

use std::fmt;
use std::str::FromStr;

use maitre_scheduler::Time;

use crate::SimError;

/// The most by which replicas are multiplied at a time.
const MOST_AT_A_TIME: f64 = 2.0;

/// Below this a replica too many is there.
const LOW_PRESSURE: f64 = 0.5;

/// What replicas are started and stopped by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ScaleBy {
    /// Requests that wait for their first step, for each replica that is ready.
    Queue(f64),
    /// The share of the KV cache that requests hold.
    KvUse(f64),
    /// The share of answers that keep to the SLO.
    Slo(f64),
}

impl FromStr for ScaleBy {
    type Err = SimError;

    /// Reads `queue:4`, `kv:0.7` or `slo:0.95`.
    fn from_str(text: &str) -> Result<Self, SimError> {
        let bad = || {
            let expected =
                "queue:REQUESTS above 0, kv:SHARE or slo:SHARE between 0 and 1, such as queue:4";
            SimError::setting("what to scale by", text, expected)
        };
        let (name, target) = text.split_once(':').ok_or_else(bad)?;
        let target: f64 = target.trim().parse().map_err(|_| bad())?;
        let is_share = target > 0.0 && target < 1.0;
        match name.trim() {
            "queue" if target > 0.0 && target.is_finite() => Ok(Self::Queue(target)),
            "kv" if is_share => Ok(Self::KvUse(target)),
            "slo" if is_share => Ok(Self::Slo(target)),
            _ => Err(bad()),
        }
    }
}

impl fmt::Display for ScaleBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Queue(target) => write!(f, "queue:{target}"),
            Self::KvUse(target) => write!(f, "kv:{target}"),
            Self::Slo(target) => write!(f, "slo:{target}"),
        }
    }
}

/// When replicas are started and stopped.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Autoscaling {
    /// What by.
    pub by: ScaleBy,
    /// Fewest replicas, at least 1.
    pub min: usize,
    /// Most replicas, those that start or stop among them.
    pub max: usize,
    /// From the start of a replica to its first request: a machine, the weights, warming up.
    pub cold_start: Time,
    /// From one look to the next.
    pub every: Time,
    /// How long nothing has to have changed before a replica is stopped.
    pub cooldown: Time,
}

/// What a look shows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    /// Replicas that take requests.
    pub(super) ready: usize,
    /// Replicas that will.
    pub(super) starting: usize,
    /// Requests that wait, of the ready ones.
    pub(super) waiting: usize,
    /// Blocks that requests hold, as a share of those of all that are ready.
    pub(super) kv_used: f64,
    /// Answers and refusals since the last look, and those of them that missed the SLO.
    pub(super) ended: u64,
    pub(super) missed: u64,
    /// Whether nothing changed for the cooldown.
    pub(super) is_calm: bool,
}

impl Autoscaling {
    /// One that scales by this, between so many replicas: started within a minute, looked at every ten seconds, and with a minute's
    /// cooldown.
    #[must_use]
    pub fn new(by: ScaleBy, min: usize, max: usize) -> Self {
        Self {
            by,
            min,
            max,
            cold_start: Time::from_secs(60),
            every: Time::from_secs(10),
            cooldown: Time::from_secs(60),
        }
    }

    /// Checks it for a fleet that begins with so many replicas.
    pub(super) fn validate(&self, replicas: usize, has_slo: bool) -> Result<(), SimError> {
        let bounds = self.min..=self.max;
        if self.min == 0 || bounds.is_empty() {
            let expected = format!("at least 1 and at most {}", self.max);
            return Err(SimError::setting("the fewest replicas", self.min, expected));
        }
        if !bounds.contains(&replicas) {
            let expected = format!(
                "{} to {} with these bounds of autoscaling",
                self.min, self.max
            );
            return Err(SimError::setting(
                "the number of replicas",
                replicas,
                expected,
            ));
        }
        if self.every.is_zero() {
            return Err(SimError::setting(
                "the time between two looks",
                0,
                "more than 0",
            ));
        }
        match matches!(self.by, ScaleBy::Slo(_)) && !has_slo {
            true => Err(SimError::setting(
                "the SLO",
                "absent",
                "one to scale by, such as ttft=500ms",
            )),
            false => Ok(()),
        }
    }

    /// How many replicas there should be, between the bounds.
    pub(super) fn wanted(&self, look: &Look) -> usize {
        let (there, ready) = (look.ready + look.starting, look.ready.max(1) as f64);
        let pressure = match self.by {
            ScaleBy::Queue(target) => look.waiting as f64 / ready / target,
            ScaleBy::KvUse(target) => look.kv_used / target,
            ScaleBy::Slo(target) => {
                let missed = look.missed as f64 / look.ended.max(1) as f64;
                missed / (1.0 - target)
            }
        };
        let wanted = if pressure > 1.0 {
            let wanted = ready * pressure.min(MOST_AT_A_TIME);
            there.max(wanted.ceil() as usize)
        } else if pressure < LOW_PRESSURE && look.is_calm {
            there.saturating_sub(1)
        } else {
            there
        };
        wanted.clamp(self.min, self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALM: Look = Look {
        ready: 4,
        starting: 0,
        waiting: 0,
        kv_used: 0.0,
        ended: 0,
        missed: 0,
        is_calm: true,
    };

    fn wanted(by: &str, look: Look) -> usize {
        Autoscaling::new(by.parse().unwrap(), 2, 10).wanted(&look)
    }

    #[test]
    fn the_rule_by_hand() {
        // 22 wait for 4 replicas of which each should have 4: a pressure of 1.375.
        let queue = Look {
            waiting: 22,
            ..CALM
        };
        assert_eq!(wanted("queue:4", queue), 6);
        assert_eq!(
            wanted(
                "queue:4",
                Look {
                    starting: 3,
                    ..queue
                }
            ),
            7,
            "they are coming"
        );
        assert_eq!(
            wanted(
                "queue:4",
                Look {
                    waiting: 500,
                    ..CALM
                }
            ),
            8,
            "twice as many at most"
        );
        assert_eq!(
            wanted(
                "queue:4",
                Look {
                    waiting: 16,
                    ..CALM
                }
            ),
            4
        );
        assert_eq!(wanted("queue:4", CALM), 3);
        assert_eq!(
            wanted(
                "queue:4",
                Look {
                    is_calm: false,
                    ..CALM
                }
            ),
            4
        );
        assert_eq!(
            wanted("queue:4", Look { ready: 2, ..CALM }),
            2,
            "the fewest"
        );
        assert_eq!(
            wanted(
                "kv:0.5",
                Look {
                    kv_used: 0.6,
                    ..CALM
                }
            ),
            5
        );
        assert_eq!(
            wanted(
                "kv:0.5",
                Look {
                    kv_used: 0.3,
                    ..CALM
                }
            ),
            4
        );
        // 5 % may miss, 8 % do.
        let slo = Look {
            ended: 100,
            missed: 8,
            ..CALM
        };
        assert_eq!(wanted("slo:0.95", slo), 7);
        assert_eq!(wanted("slo:0.95", Look { missed: 3, ..slo }), 4);
        assert_eq!(wanted("slo:0.95", Look { ready: 9, ..slo }), 10, "the most");
    }

    #[test]
    fn what_to_scale_by_is_read_and_refused() {
        for good in ["queue:4", "queue:0.5", "kv:0.7", "slo:0.95"] {
            assert_eq!(good.parse::<ScaleBy>().unwrap().to_string(), good);
        }
        for bad in ["", "queue", "queue:0", "kv:1.5", "slo:1", "slo:x", "load:2"] {
            assert!(bad.parse::<ScaleBy>().is_err(), "{bad}");
        }
    }

    #[test]
    fn bounds_that_no_fleet_keeps_are_refused() {
        let scaling = |min, max| Autoscaling::new(ScaleBy::Slo(0.9), min, max);
        assert!(scaling(1, 4).validate(2, true).is_ok());
        for (bad, replicas, has_slo) in [
            (scaling(0, 4), 2, true),
            (scaling(3, 2), 2, true),
            (scaling(1, 4), 5, true),
            (scaling(1, 4), 2, false),
        ] {
            assert!(bad.validate(replicas, has_slo).is_err(), "{bad:?}");
        }
    }
}
