//! What was measured, in the form that scripts read.
//!
//! `report.json` is a [`Report`]; field names and units are stable:
//!
//! ```text
//! schema           "maitre.bench/1"; a change of meaning changes the number
//! target, model    what was measured
//! workload         {input_tokens, output_tokens, requests (null = by concurrency), seed}
//! prompts          how many were asked in turn instead of random ones of input_tokens, or null
//! warmup_requests  before each run, not counted
//! runs[]           one for each concurrency:
//!   concurrency, requests, completed, errors {CODE: count}, duration_s,
//!   input_tokens, output_tokens                 of completed requests
//!   requests_per_second, output_tokens_per_second, total_tokens_per_second (input + output)
//!   ttft_ms, tpot_ms, itl_ms, e2e_ms            {mean, p50, p90, p99, max} or null
//!   client_cpu_share                            processors the client kept busy, or null
//! ```
//!
//! Rates are over the whole run, from the first request sent to the last answered.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::{BenchError, Percentiles, Prompts, Settings, Workload, plot};

/// A finished measurement. Displayed, it is an aligned table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Names this form.
    pub schema: &'static str,
    /// What answered.
    pub target: String,
    /// The model it served.
    pub model: String,
    /// What was asked.
    pub workload: Workload,
    /// Prompts of a file that were asked in turn; `None` = random ones.
    pub prompts: Option<usize>,
    /// Requests before each run that are not counted.
    pub warmup_requests: usize,
    /// One for each concurrency, in the order they were measured.
    pub runs: Vec<Run>,
}

/// The measurement at one concurrency. Latencies are those of completed requests; `None` when
/// there were none.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Run {
    /// Users at once.
    pub concurrency: usize,
    /// Requests sent.
    pub requests: usize,
    /// Requests answered in full.
    pub completed: usize,
    /// The others, by status code.
    pub errors: BTreeMap<String, usize>,
    /// From the first request sent to the last answered.
    pub duration_s: f64,
    /// Prompt tokens of completed requests.
    pub input_tokens: usize,
    /// Generated tokens of completed requests.
    pub output_tokens: usize,
    /// Completed requests a second.
    pub requests_per_second: f64,
    /// Generated tokens a second.
    pub output_tokens_per_second: f64,
    /// Prompt and generated tokens a second.
    pub total_tokens_per_second: f64,
    /// Time to first token.
    pub ttft_ms: Option<Percentiles>,
    /// Time per output token, one value for each request.
    pub tpot_ms: Option<Percentiles>,
    /// Inter-token latency, one value for each gap between arrivals.
    pub itl_ms: Option<Percentiles>,
    /// End to end.
    pub e2e_ms: Option<Percentiles>,
    /// Processors the client kept busy (1 = one); near 1 it may be what limits the result. `None`
    /// where it cannot be told.
    pub client_cpu_share: Option<f64>,
}

impl Report {
    pub(crate) fn new(target: String, model: String, settings: &Settings, runs: Vec<Run>) -> Self {
        let (workload, warmup_requests) = (settings.workload, settings.warmup_requests);
        Self {
            schema: "maitre.bench/1",
            target,
            model,
            workload,
            prompts: settings.prompts.as_ref().map(Prompts::count),
            warmup_requests,
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

    /// Writes `report.json` and `report.svg` (throughput and the 99th percentile of ITL over
    /// concurrency) into `directory`, which is made if need be.
    ///
    /// # Errors
    /// If the folder cannot be made or written to.
    pub fn write(&self, directory: &Path) -> Result<(), BenchError> {
        let failed = |path: PathBuf| move |error| BenchError::Write { path, error };
        fs::create_dir_all(directory).map_err(failed(directory.to_path_buf()))?;
        for (name, text) in [
            ("report.json", self.to_json() + "\n"),
            ("report.svg", plot::svg(self)?),
        ] {
            let path = directory.join(name);
            fs::write(&path, text).map_err(failed(path))?;
        }
        Ok(())
    }
}
