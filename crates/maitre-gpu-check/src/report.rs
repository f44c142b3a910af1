//! What was found: facts, and a row for each item. `gpu-check.json` has all of it:
//!
//! ```text
//! schema      "maitre.gpu_check/1"; a change of meaning changes the number
//! version     of this program
//! took_s, failures, is_complete
//! facts       {device, name, gpu {.., library_version} or null, host_threads} or null
//! checks[]    {id, title, result, took_s, measured, limit, figures {..}, message}
//! speeds[]    {id, title, result, took_s, unit, predicted_UNIT, measured_UNIT, ratio, reference_UNIT, goal_UNIT,
//!             figures {..}, note, message}
//! ```
//!
//! `result` is `passed`, `failed`, `measured` or `not run`; what there is no value for is null.

use serde_json::{Map, Value, json};

use super::Half;
use super::item::{Checked, Item, Outcome, Timed};
use super::site::Facts;
use super::speeds::derived;

/// Everything that is known.
pub(super) struct Report {
    pub(super) facts: Option<Facts>,
    pub(super) rows: Vec<Row>,
    pub(super) took_s: f64,
    is_complete: bool,
}

/// One item and what became of it.
pub(super) struct Row {
    pub(super) id: String,
    pub(super) title: String,
    pub(super) half: Half,
    pub(super) took_s: f64,
    pub(super) outcome: Outcome,
}

impl Report {
    pub(super) fn new(items: &[Item]) -> Self {
        let row = |item: &Item| Row {
            id: item.id.clone(),
            title: item.title.clone(),
            half: item.half,
            took_s: 0.0,
            outcome: Outcome::NotRun {
                reason: "not reached".to_owned(),
            },
        };
        Self {
            facts: None,
            rows: items.iter().map(row).collect(),
            took_s: 0.0,
            is_complete: false,
        }
    }

    /// The first worker's facts hold.
    pub(super) fn learn(&mut self, facts: Facts) {
        self.facts.get_or_insert(facts);
    }

    pub(super) fn end(&mut self, item: usize, took_s: f64, outcome: Outcome) {
        if let Some(row) = self.rows.get_mut(item) {
            (row.took_s, row.outcome) = (took_s, outcome);
        }
    }

    /// Nothing from item `first` on can be done.
    pub(super) fn abandon(&mut self, first: usize, why: &str) {
        for row in self.rows.iter_mut().skip(first) {
            row.outcome = Outcome::Failed {
                message: why.to_owned(),
            };
        }
    }

    /// Adds what follows from the rows.
    pub(super) fn conclude(&mut self, took_s: f64) {
        // Elsewhere the differences of small times are noise.
        if self.facts.as_ref().is_some_and(Facts::has_real_speeds) {
            let derived = derived::rows(&self.rows);
            self.rows.extend(derived);
        }
        (self.took_s, self.is_complete) = (took_s, true);
    }

    /// What was measured, in the row's unit.
    pub(super) fn measured(&self, id: &str) -> Option<f64> {
        let row = self.rows.iter().find(|row| row.id == id)?;
        match &row.outcome {
            Outcome::Timed(timed) => Some(timed.measured),
            _ => None,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn failures(&self) -> usize {
        self.rows.iter().filter(|row| row.has_failed()).count()
    }

    pub(super) fn half(&self, half: Half) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(move |row| row.half == half)
    }

    pub(super) fn to_json(&self) -> String {
        let list = |half| self.half(half).map(Row::to_json).collect::<Vec<_>>();
        let report = json!({
            "schema": "maitre.gpu_check/1",
            "version": env!("CARGO_PKG_VERSION"),
            "took_s": self.took_s,
            "failures": self.failures(),
            "is_complete": self.is_complete,
            "facts": self.facts,
            "checks": list(Half::Checks),
            "speeds": list(Half::Speeds),
        });
        format!("{report:#}\n")
    }
}

impl Row {
    pub(super) fn has_failed(&self) -> bool {
        match &self.outcome {
            Outcome::Checked(checked) => !checked.passed,
            Outcome::Failed { .. } => true,
            Outcome::Timed(_) | Outcome::NotRun { .. } => false,
        }
    }

    /// One word for what became of it.
    pub(super) fn result(&self) -> &'static str {
        match &self.outcome {
            Outcome::Timed(_) => "measured",
            Outcome::NotRun { .. } => "not run",
            _ if self.has_failed() => "failed",
            _ => "passed",
        }
    }

    fn to_json(&self) -> Value {
        let mut row = Map::new();
        row.insert("id".into(), self.id.as_str().into());
        row.insert("title".into(), self.title.as_str().into());
        row.insert("result".into(), self.result().into());
        row.insert("took_s".into(), self.took_s.into());
        let message = match &self.outcome {
            Outcome::Checked(checked) => {
                tell_check(&mut row, checked);
                None
            }
            Outcome::Timed(timed) => {
                tell_time(&mut row, timed);
                None
            }
            Outcome::NotRun { reason: message } | Outcome::Failed { message } => Some(message),
        };
        row.insert("message".into(), json!(message));
        row.into()
    }
}

fn tell_check(row: &mut Map<String, Value>, checked: &Checked) {
    row.insert("measured".into(), checked.measured.as_str().into());
    row.insert("limit".into(), checked.limit.as_str().into());
    row.insert("figures".into(), json!(checked.figures));
}

fn tell_time(row: &mut Map<String, Value>, timed: &Timed) {
    let unit = timed.unit.in_names();
    row.insert("unit".into(), timed.unit.in_table().into());
    for (what, value) in [
        ("predicted", timed.predicted),
        ("measured", Some(timed.measured)),
        ("reference", timed.reference),
        ("goal", timed.goal),
    ] {
        row.insert(format!("{what}_{unit}"), json!(value));
    }
    row.insert("ratio".into(), json!(timed.ratio()));
    row.insert("figures".into(), json!(timed.figures));
    row.insert("note".into(), json!(timed.note));
}
