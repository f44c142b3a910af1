//! What was measured, in the form that scripts read.
//!
//! `report.json` is a [`Report`]; field names and units are stable, and each is described at [`Run`]:
//!
//! ```text
//! schema           "maitre.bench/2"; a change of meaning changes the number
//! target, model    what was measured
//! asked            what was asked, in words
//! workload         {input_tokens, output_tokens (a number or "100..200"), requests (null = by load), seed, prompt_seed, turns, think_time}
//! prompts          how many were asked in turn instead of random ones of input_tokens, or null
//! skipped_lines    of the trace or of the conversations; lines_out_of_order of these
//! warmup_requests  before each run, not counted
//! slo              bounds of a good answer, or null
//! timeout_s        how long a request could bring no token
//! warnings         what makes the figures mean something else than they seem to
//! interrupted      whether the measurement was ended early
//! runs[]           one for each load
//! ```
//!
//! Rates are over the whole run, from its start to the last answer.

mod compare;
mod figure;
mod metric;
mod page;
mod plot;
mod table;
mod warnings;

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{BenchError, Questions, Run, Settings};

pub use compare::{Comparison, Difference};
pub use metric::Change;
pub(crate) use warnings::{asked_again, known_prompts, warnings};

/// The form of reports that this version writes.
const SCHEMA: &str = "maitre.bench/2";

/// A finished measurement. Displayed, it is an aligned table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Names this form.
    pub schema: String,
    /// What answered.
    pub target: String,
    /// The model it served.
    pub model: String,
    /// What was asked, in words.
    pub asked: String,
    /// The shape of the requests.
    pub workload: Value,
    /// Prompts of a file that were asked in turn; `None` = others.
    pub prompts: Option<usize>,
    /// Lines of the trace or of the recorded conversations that were left out; 0 in reports of versions that did not count them.
    #[serde(default)]
    pub skipped_lines: usize,
    /// Of them, those that were out of the order of time.
    #[serde(default)]
    pub lines_out_of_order: usize,
    /// Requests before each run that are not counted.
    pub warmup_requests: usize,
    /// What a good answer keeps to; `None`: nothing was asked for.
    pub slo: Option<String>,
    /// How long a request could bring no token, in seconds; 0 in reports of versions without a bound.
    #[serde(default)]
    pub timeout_s: f64,
    /// What makes the figures mean something else than they seem to.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// Whether it was ended early: the last run is not whole, and others may be missing.
    pub interrupted: bool,
    /// One for each load, in the order they were measured.
    pub runs: Vec<Run>,
}

impl Report {
    pub(crate) fn new(
        (target, model): (String, String),
        settings: &Settings,
        runs: Vec<Run>,
        warnings: Vec<String>,
        interrupted: bool,
    ) -> Self {
        let (skipped_lines, lines_out_of_order) = settings.questions.skipped_lines();
        Self {
            schema: SCHEMA.to_owned(),
            target,
            model,
            asked: settings.questions.told(&settings.workload),
            // Texts and numbers: nothing can fail to serialise.
            workload: serde_json::to_value(&settings.workload).unwrap_or_default(),
            prompts: match &settings.questions {
                Questions::InTurn(prompts) => Some(prompts.count()),
                _ => None,
            },
            skipped_lines,
            lines_out_of_order,
            warmup_requests: settings.warmup_requests,
            timeout_s: settings.timeout.as_secs_f64(),
            warnings,
            slo: (!settings.slo.is_empty()).then(|| settings.slo.to_string()),
            interrupted,
            runs,
        }
    }

    /// Whether every request of every run was answered in full.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.runs.iter().all(|run| run.completed == run.requests)
    }

    /// The report as JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Maps have string keys and numbers are finite, so nothing can fail to serialise.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// Reads a report that was written as JSON.
    ///
    /// # Errors
    /// A file that cannot be read, or that holds no report of this form.
    pub fn read(path: &Path) -> Result<Self, BenchError> {
        let failed = |reason: String| BenchError::Report {
            path: path.to_path_buf(),
            reason,
        };
        let text = fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
        let value: Value =
            serde_json::from_str(&text).map_err(|error| failed(error.to_string()))?;
        match value.get("schema").and_then(Value::as_str) {
            Some(SCHEMA) => {
                serde_json::from_value(value).map_err(|error| failed(error.to_string()))
            }
            Some(other) => Err(failed(format!("its schema is {other}"))),
            None => Err(failed("it has no schema".to_owned())),
        }
    }

    /// Writes `report.json`, `report.md`, `report.html`, which needs no other file, and `report.svg` (throughput and the
    /// 99th percentile of ITL over the loads) into `directory`, which is made if need be.
    ///
    /// # Errors
    /// If the folder cannot be made or written to, or a chart not be drawn.
    pub fn write(&self, directory: &Path) -> Result<(), BenchError> {
        let failed = |path: PathBuf| move |error| BenchError::Write { path, error };
        fs::create_dir_all(directory).map_err(failed(directory.to_path_buf()))?;
        for (name, text) in [
            ("report.json", self.to_json() + "\n"),
            ("report.md", self.to_markdown()),
            ("report.html", self.to_html()?),
            ("report.svg", plot::svg(self)?),
        ] {
            let path = directory.join(name);
            fs::write(&path, text).map_err(failed(path))?;
        }
        Ok(())
    }
}
