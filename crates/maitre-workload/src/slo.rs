//! What an answer has to keep to.

use std::fmt;
use std::str::FromStr;

use crate::{SettingError, Time};

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

    /// Whether an answer with these times keeps to it; an answer of one token has no `tpot`.
    #[must_use]
    pub fn is_met_by(&self, ttft: Time, tpot: Option<Time>, e2e: Time) -> bool {
        let keeps = |bound: Option<Time>, time: Option<Time>| match (bound, time) {
            (Some(bound), Some(time)) => time <= bound,
            _ => true,
        };
        keeps(self.ttft, Some(ttft)) && keeps(self.tpot, tpot) && keeps(self.e2e, Some(e2e))
    }
}

impl FromStr for Slo {
    type Err = SettingError;

    /// Reads `ttft=500ms,tpot=50ms,e2e=30s`, any of them.
    fn from_str(text: &str) -> Result<Self, SettingError> {
        let bad = || {
            let expected = "bounds of ttft, tpot and e2e such as ttft=500ms,tpot=50ms";
            SettingError::new("the SLO", text, expected)
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
        for (slo, expected) in [
            ("ttft=200ms,tpot=20ms,e2e=260ms", true),
            ("ttft=199ms", false),
            ("tpot=19ms", false),
            ("ttft=1s,e2e=259ms", false),
        ] {
            let slo: Slo = slo.parse().unwrap();
            assert_eq!(
                slo.is_met_by(ms(200), Some(ms(20)), ms(260)),
                expected,
                "{slo}"
            );
        }
        let tpot: Slo = "tpot=1us".parse().unwrap();
        assert!(tpot.is_met_by(ms(200), None, ms(200)), "one token");
    }
}
