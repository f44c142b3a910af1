//! What was found of a capacity, for people and for scripts.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::evidence::{Evidence, Verdict};
use super::search::{Found, Search, WIDEST};
use super::{Bent, Dimension, what_bent};
use crate::report::{asked_again, known_prompts};
use crate::summary::REFUSED;
use crate::{Run, Settings};

/// The form of reports that this version writes.
const SCHEMA: &str = "maitre.capacity/1";

/// How much load a target bears.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Capacity {
    /// Names this form.
    pub schema: String,
    /// What answered.
    pub target: String,
    /// The model it served.
    pub model: String,
    /// What was asked, in words.
    pub asked: String,
    /// Lines of the trace that were left out; 0 in reports of versions that did not count them.
    #[serde(default)]
    pub skipped_lines: usize,
    /// Of them, those that were out of the order of time.
    #[serde(default)]
    pub lines_out_of_order: usize,
    /// What a good answer keeps to.
    pub slo: String,
    /// Share of good requests that was wanted.
    pub share: f64,
    /// What loads are counted in.
    pub unit: String,
    /// The capacity; `None` if it lies outside of what was tried.
    pub capacity: Option<f64>,
    /// Its interval of 95 % confidence: the largest load that is enough, and, of users, the largest that may be; of rates, the
    /// smallest that is too much. `None` where no load is enough, or none too much.
    pub interval: (Option<f64>, Option<f64>),
    /// Whether the interval is no wider than ± 10 %.
    pub is_narrow: bool,
    /// What bent first.
    pub bent: Option<Bent>,
    /// Every load that was tried.
    pub tried: Vec<Tried>,
    /// What makes the capacity mean something else than it seems to.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// Whether the search was ended early.
    pub interrupted: bool,
}

/// A load that was tried.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tried {
    /// The load.
    pub load: f64,
    /// How often.
    pub runs: usize,
    /// Requests in all.
    pub requests: usize,
    /// Share of good ones.
    pub share: f64,
    /// Whether it is enough; `None` where that is too near to tell.
    pub is_enough: Option<bool>,
}

impl Capacity {
    pub(super) fn new(
        (target, model): (String, String),
        settings: &Settings,
        (dimension, share): (Dimension, f64),
        search: &Search,
        (runs, again): (Vec<(f64, Run)>, usize),
        interrupted: bool,
    ) -> Self {
        let Found { enough, too_much } = search.found();
        // Users are whole: the capacity is at most one less than what is too much.
        let last = too_much.map(|load| match dimension {
            Dimension::Users => load - 1.0,
            Dimension::Rate => load,
        });
        let both = enough.zip(last);
        let (skipped_lines, lines_out_of_order) = settings.questions.skipped_lines();
        let middle = |(low, high): (f64, f64)| match dimension {
            Dimension::Users => (low * high).sqrt().round(),
            Dimension::Rate => (low * high).sqrt(),
        };
        Self {
            schema: SCHEMA.to_owned(),
            target,
            model,
            asked: settings.questions.told(&settings.workload),
            skipped_lines,
            lines_out_of_order,
            slo: settings.slo.to_string(),
            share,
            unit: dimension.unit().to_owned(),
            capacity: both.map(middle),
            interval: (enough, last),
            is_narrow: both.is_some_and(|(low, high)| high / low <= WIDEST + 1e-9),
            bent: too_much.and_then(|load| what_bent(&runs, (load, share), settings)),
            warnings: warnings(settings, dimension, &runs, again),
            tried: search.tried().map(Tried::of).collect(),
            interrupted,
        }
    }

    /// The report as JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }
}

/// Of all runs together: prompts that the server knew or may have known, of which `again` were asked once more, and requests that
/// failed, but for those that it would not take.
fn warnings(
    settings: &Settings,
    dimension: Dimension,
    runs: &[(f64, Run)],
    again: usize,
) -> Vec<String> {
    let runs: Vec<&Run> = runs.iter().map(|(_, run)| run).collect();
    let known = known_prompts(settings, &dimension.load(1.0), &runs);
    let asked_again = asked_again(settings, &runs, again);
    let mut failed: BTreeMap<&str, (usize, &str)> = BTreeMap::new();
    let failures = runs.iter().flat_map(|run| run.failures());
    for (code, count, said) in failures.filter(|(code, ..)| *code != REFUSED) {
        failed.entry(code).or_insert((0, said)).0 += count;
    }
    let failed = failed.into_iter().map(|(code, (count, said))| {
        format!("{count} requests failed with {code} and count as too slow, the first: {said}")
    });
    let prompts = known.into_iter().chain(asked_again);
    prompts.chain(failed).collect()
}

impl Tried {
    fn of((load, runs, verdict): (f64, &[Evidence], Verdict)) -> Self {
        let requests: f64 = runs.iter().map(|run| run.requests).sum();
        let good: f64 = runs.iter().map(|run| run.good).sum();
        Self {
            load,
            runs: runs.len(),
            requests: requests as usize,
            share: good / requests.max(1.0),
            is_enough: match verdict {
                Verdict::Meets => Some(true),
                Verdict::Misses => Some(false),
                Verdict::Unsure => None,
            },
        }
    }
}

impl fmt::Display for Capacity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} at {}: {}", self.model, self.target, self.asked)?;
        let (share, slo, unit) = (self.share * 100.0, &self.slo, &self.unit);
        writeln!(f, "good: {slo}; wanted: {share:.0} % of all requests")?;
        for tried in &self.tried {
            let means = match tried.is_enough {
                Some(true) => "enough",
                Some(false) => "too much",
                None => "not sure by itself",
            };
            writeln!(
                f,
                "  {:>8} {unit}: {:>5.1} % of {} requests in {} runs: {means}",
                number(tried.load),
                tried.share * 100.0,
                tried.requests,
                tried.runs
            )?;
        }
        self.tell_capacity(f)?;
        if let Some(bent) = &self.bent {
            writeln!(f, "what bends first: {}", bent.resource.name())?;
            bent.because
                .iter()
                .try_for_each(|line| writeln!(f, "  {line}"))?;
            writeln!(f, "what would move it:")?;
            bent.moves
                .iter()
                .try_for_each(|line| writeln!(f, "  {line}"))?;
        }
        for warning in &self.warnings {
            writeln!(f, "warning: {warning}")?;
        }
        match self.interrupted {
            true => writeln!(f, "interrupted: this is what was known until then"),
            false => Ok(()),
        }
    }
}

impl Capacity {
    /// Whether the least load that was tried, and every other one, was surely too much.
    fn is_hopeless(&self) -> bool {
        !self.tried.is_empty()
            && !self.interrupted
            && self.tried.iter().all(|it| it.is_enough == Some(false))
    }

    fn tell_capacity(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = &self.unit;
        match (self.capacity, self.interval) {
            (Some(capacity), (Some(low), Some(high))) => {
                let (low, high) = (number(low), number(high));
                let capacity = number(capacity);
                writeln!(
                    f,
                    "capacity: {capacity} {unit}, from {low} to {high} with 95 % confidence"
                )?;
                match self.is_narrow {
                    true => Ok(()),
                    false => writeln!(
                        f,
                        "that is wider than 10 % to each side: more requests a run (--requests) narrow it"
                    ),
                }
            }
            (_, (None, _)) if self.is_hopeless() => writeln!(
                f,
                "capacity: none; the SLO {} is not met even by the least load: loosen it",
                self.slo
            ),
            (_, (Some(most), None)) => {
                writeln!(
                    f,
                    "capacity: at least {} {unit}; no more is known",
                    number(most)
                )
            }
            _ => writeln!(f, "capacity: not found"),
        }
    }
}

fn number(load: f64) -> String {
    match load.fract() == 0.0 {
        true => format!("{load:.0}"),
        false => format!("{load:.3}"),
    }
}
