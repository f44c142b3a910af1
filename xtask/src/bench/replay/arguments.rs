//! The flags of `cargo xtask bench replay`.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Parser;
use maitre_scheduler::PolicyKind;

use super::rows::{AZURE, MOONCAKE, Recording};

/// Seconds of a point beside its rows: loading the model, and requests that are not counted.
const POINT_SECONDS: f64 = 2.0;

/// Seconds of a calibration beside those that are asked for: a round of bursts is measured to its end.
const CALIBRATION_SECONDS: f64 = 15.0;

#[derive(Debug, Clone, Parser)]
#[command(name = "cargo xtask bench replay")]
pub(crate) struct Arguments {
    /// Conversations of the Azure Public Dataset [default: in the folder MAITRE_TEST_DATA].
    #[arg(long, value_name = "FILE")]
    pub(super) azure: Option<PathBuf>,
    /// Conversations of Mooncake [default: in the folder MAITRE_TEST_DATA].
    #[arg(long, value_name = "FILE")]
    pub(super) mooncake: Option<PathBuf>,
    /// Which of them.
    #[arg(long, value_delimiter = ',', default_values = ["azure", "mooncake"], value_parser = ["azure", "mooncake"])]
    pub(super) traces: Vec<String>,
    /// Multiplies the lengths of Azure's prompts and answers.
    #[arg(long, default_value_t = 0.25, value_name = "FACTOR")]
    pub(super) azure_scale: f64,
    /// The same for Mooncake's, and for the blocks that its prompts share.
    #[arg(long, default_value_t = 0.05, value_name = "FACTOR")]
    pub(super) mooncake_scale: f64,
    /// What `maitre bench` and `maitre simulate` run.
    #[arg(long, default_value = "bundled")]
    pub(super) model: String,
    /// Flags of the engine, as of `cargo xtask bench simulator`.
    #[arg(
        long,
        default_value = "--threads 1 --speculate off",
        value_delimiter = ' ',
        allow_hyphen_values = true
    )]
    pub(super) engine: Vec<String>,
    /// This maitre in place of one that is built.
    #[arg(long, value_name = "PROGRAM")]
    pub(super) program: Option<PathBuf>,
    /// Scheduling policies [default: all].
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    pub(super) policies: Vec<String>,
    /// Loads, as shares of the capacity that the simulator foresees for these rows.
    #[arg(long, value_delimiter = ',', default_values_t = [0.4, 0.6, 0.8, 1.0, 1.2, 1.5], value_name = "LIST")]
    pub(super) loads: Vec<f64>,
    /// How many rows: so many that they last so long at the capacity.
    #[arg(long, default_value_t = 10.0)]
    pub(super) seconds: f64,
    /// What a good answer keeps to, such as ttft=500ms,tpot=50ms [default: the 99th percentiles of TTFT and TPOT that are foreseen
    /// under the smallest load, times --slack].
    #[arg(long, value_name = "BOUNDS")]
    pub(super) slo: Option<String>,
    #[arg(long, default_value_t = 1.25, value_name = "FACTOR")]
    pub(super) slack: f64,
    /// The bend is where a smaller share of the answers is good.
    #[arg(long, default_value_t = 0.95, value_name = "SHARE")]
    pub(super) slo_share: f64,
    /// The table has the latencies under about this load.
    #[arg(long, default_value_t = 0.8, value_name = "LOAD")]
    pub(super) at: f64,
    /// How long the machine is calibrated before each trace.
    #[arg(long, default_value_t = 30)]
    pub(super) calibrate_seconds: u64,
    /// A few rows, two loads, two policies and a small engine: whether it works, not how good it is.
    #[arg(long)]
    pub(super) quick: bool,
    /// Go on with the points that an interrupted run with the same flags has left.
    #[arg(long)]
    pub(super) resume: bool,
    /// Where to write replay.md, the pictures and the points [default: a folder of the build's].
    #[arg(long, value_name = "DIR")]
    pub(super) out: Option<PathBuf>,
}

impl Arguments {
    /// With the short settings where they are asked for, and checked.
    pub(super) fn completed(mut self) -> Result<Self> {
        if self.quick {
            // The fewer sequences and tokens a step may have, the fewer steps there are to be measured by a calibration.
            let small = "--max-seqs 8 --max-batched-tokens 64 --max-model-len 512";
            self.engine.extend(small.split(' ').map(str::to_owned));
            self.loads = vec![0.5, 1.5];
            self.seconds = 1.5;
            self.calibrate_seconds = 1;
            self.policies = ["fcfs", "deadline"].map(str::to_owned).to_vec();
        }
        if self.policies.is_empty() {
            let names = PolicyKind::ALL.iter().map(|policy| policy.name());
            self.policies = names.map(str::to_owned).collect();
        }
        let are_positive = |values: &[f64]| values.iter().all(|&it| it.is_finite() && it > 0.0);
        ensure!(
            are_positive(&self.loads) && !self.loads.is_empty(),
            "--loads are {:?}; expected numbers above 0",
            self.loads
        );
        ensure!(
            are_positive(&[
                self.seconds,
                self.slack,
                self.azure_scale,
                self.mooncake_scale
            ]),
            "expected numbers above 0 for --seconds, --slack and the scales"
        );
        ensure!(
            0.0 < self.slo_share && self.slo_share <= 1.0,
            "--slo-share is {}; expected a share above 0, at most 1",
            self.slo_share
        );
        self.loads.sort_by(f64::total_cmp);
        self.loads.dedup();
        Ok(self)
    }

    /// The traces that are asked for, where they are, and by what their lengths are multiplied.
    pub(super) fn recordings(&self) -> Result<Vec<(&'static Recording, PathBuf, f64)>> {
        let test_data = std::env::var_os("MAITRE_TEST_DATA").filter(|it| !it.is_empty());
        let test_data = test_data.map(PathBuf::from);
        let all = [
            (&AZURE, &self.azure, self.azure_scale),
            (&MOONCAKE, &self.mooncake, self.mooncake_scale),
        ];
        let asked = all
            .into_iter()
            .filter(|it| self.traces.iter().any(|name| name == it.0.name));
        asked
            .map(|(recording, given, scale)| {
                let path = recording.path(given.as_deref(), test_data.as_deref())?;
                Ok((recording, path, scale))
            })
            .collect()
    }

    /// On a machine that does nothing else. Below the capacity the rows last as long as they come, above it as long as they are answered.
    pub(super) fn estimated_seconds(&self) -> f64 {
        let lasts = |load: &f64| self.seconds * (1.0 / load).max(1.0) + POINT_SECONDS;
        let policy: f64 = self.loads.iter().map(lasts).sum();
        let calibration = self.calibrate_seconds as f64 + CALIBRATION_SECONDS;
        self.traces.len() as f64 * (calibration + self.policies.len() as f64 * policy)
    }

    /// The flags on which the points depend.
    pub(super) fn that_matter(&self) -> String {
        let same = Self {
            resume: false,
            out: None,
            program: None,
            at: 0.0,
            slo_share: 0.0,
            ..self.clone()
        };
        format!("{same:?}")
    }
}
