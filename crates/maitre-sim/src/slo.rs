//! What an answer has to keep to.

use std::fmt;
use std::str::FromStr;

use maitre_scheduler::Time;

use crate::SimError;
use crate::replica::Answered;

/// Bounds for each answer (a service level objective). An answer is good if it keeps to all that are given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Slo {
    /// Time to first token, from the arrival.
    pub ttft: Option<Time>,
    /// Time per output token: the mean after the first one. An answer of one token has none.
    pub tpot: Option<Time>,
    /// From the arrival to the last token.
    pub e2e: Option<Time>,
}

impl Slo {
    /// Whether it says anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether an answer keeps to it.
    #[must_use]
    pub fn is_met_by(&self, answered: &Answered) -> bool {
        let keeps = |bound: Option<Time>, time: Option<Time>| match (bound, time) {
            (Some(bound), Some(time)) => time <= bound,
            _ => true,
        };
        keeps(self.ttft, Some(answered.ttft()))
            && keeps(self.tpot, answered.tpot())
            && keeps(self.e2e, Some(answered.e2e()))
    }
}

impl Answered {
    /// Time to first token, from the arrival.
    #[must_use]
    pub fn ttft(&self) -> Time {
        self.first_token.saturating_sub(self.arrival)
    }

    /// Time per output token: the mean time between two tokens; `None` of an answer of one.
    #[must_use]
    pub fn tpot(&self) -> Option<Time> {
        let generating = self.ended.saturating_sub(self.first_token);
        let later = self.output_tokens.checked_sub(1).filter(|&later| later > 0);
        later.map(|later| generating / later)
    }

    /// From the arrival to the last token.
    #[must_use]
    pub fn e2e(&self) -> Time {
        self.ended.saturating_sub(self.arrival)
    }
}

impl FromStr for Slo {
    type Err = SimError;

    /// Reads `ttft=500ms,tpot=50ms,e2e=30s`, any of them.
    fn from_str(text: &str) -> Result<Self, SimError> {
        let bad = || {
            let expected = "bounds of ttft, tpot and e2e such as ttft=500ms,tpot=50ms";
            SimError::setting("the SLO", text, expected)
        };
        let mut slo = Self::default();
        for part in text.split(',') {
            let (name, time) = part.split_once('=').ok_or_else(bad)?;
            let time = parse_time(time).ok_or_else(bad)?;
            let bound = match name.trim() {
                "ttft" => &mut slo.ttft,
                "tpot" => &mut slo.tpot,
                "e2e" => &mut slo.e2e,
                _ => return Err(bad()),
            };
            if bound.replace(time).is_some() {
                return Err(bad());
            }
        }
        Ok(slo)
    }
}

impl fmt::Display for Slo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (name, bound) in [("ttft", self.ttft), ("tpot", self.tpot), ("e2e", self.e2e)] {
            if let Some(bound) = bound {
                write!(f, "{separator}{name}={bound:?}")?;
                separator = ",";
            }
        }
        Ok(())
    }
}

/// Reads a time above 0 with its unit, such as `500ms`, `2s` or `0.5s`.
#[must_use]
pub fn parse_time(text: &str) -> Option<Time> {
    let text = text.trim();
    let units = [("us", 1e-6), ("ms", 1e-3), ("s", 1.0)];
    let (number, scale) = units
        .into_iter()
        .find_map(|(unit, scale)| Some((text.strip_suffix(unit)?, scale)))?;
    let seconds = number.trim().parse::<f64>().ok()? * scale;
    Time::try_from_secs_f64(seconds)
        .ok()
        .filter(|time| !time.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_read_and_refused() {
        let slo: Slo = "ttft=500ms, tpot=0.05s".parse().unwrap();
        assert_eq!((slo.ttft, slo.e2e), (Some(Time::from_millis(500)), None));
        assert_eq!(slo.to_string(), "ttft=500ms,tpot=50ms");
        assert!(Slo::default().is_empty() && !slo.is_empty());
        for bad in [
            "",
            "ttft",
            "ttft=5",
            "ttft=0ms",
            "ttft=-1s",
            "itl=5ms",
            "ttft=1s,ttft=2s",
            "ttft=xs",
        ] {
            let said = bad.parse::<Slo>().unwrap_err().to_string();
            assert!(said.contains("such as ttft=500ms,tpot=50ms"), "{said}");
        }
    }

    #[test]
    fn an_answer_has_to_keep_to_all_bounds() {
        let ms = Time::from_millis;
        let answered = Answered {
            number: 0,
            replica: 0,
            user: None,
            arrival: ms(100),
            started: ms(150),
            first_token: ms(300),
            ended: ms(360),
            prompt_tokens: 5,
            cached_tokens: 0,
            output_tokens: 4,
        };
        assert_eq!(
            (answered.ttft(), answered.tpot(), answered.e2e()),
            (ms(200), Some(ms(20)), ms(260))
        );
        for (slo, expected) in [
            ("ttft=200ms,tpot=20ms,e2e=260ms", true),
            ("ttft=199ms", false),
            ("tpot=19ms", false),
            ("ttft=1s,e2e=259ms", false),
        ] {
            let slo: Slo = slo.parse().unwrap();
            assert_eq!(slo.is_met_by(&answered), expected, "{slo}");
        }
        let single = Answered {
            output_tokens: 1,
            ..answered
        };
        assert_eq!(single.tpot(), None);
        assert!("tpot=1us".parse::<Slo>().unwrap().is_met_by(&single));
    }
}
