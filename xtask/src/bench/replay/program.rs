//! The program that is measured and that simulates: `maitre bench` and `maitre simulate`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::points::Numbers;
use crate::cargo::program;

/// Requests before each measurement that are not counted.
const WARMUP: &str = "8";

/// So much faster than they were recorded that all rows are there at once.
const AT_ONCE: f64 = 1e6;

/// Maitre with the flags of its engine.
pub(super) struct Program {
    pub(super) maitre: PathBuf,
    pub(super) model: String,
    pub(super) engine: Vec<String>,
}

/// How the rows of a file are played.
#[derive(Debug, Clone, Copy)]
pub(super) struct Play<'a> {
    pub(super) trace: &'a Path,
    /// Their lengths are multiplied by this.
    pub(super) scale: f64,
    pub(super) speed: f64,
    pub(super) policy: &'a str,
    pub(super) slo: &'a str,
}

/// What a calibration says of the machine, and the flags with which the simulator has the same engine.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Calibrated {
    hardware: Value,
    flags: Value,
}

impl Calibrated {
    pub(super) fn of_json(value: &Value) -> Option<Self> {
        let part = |name| value.get(name).filter(|it| it.is_object()).cloned();
        Some(Self {
            hardware: part("hardware")?,
            flags: part("flags")?,
        })
    }

    pub(super) fn to_json(&self) -> Value {
        json!({"hardware": self.hardware, "flags": self.flags})
    }

    /// Tokens that a prompt and its answer may have together.
    pub(super) fn context(&self) -> Result<usize> {
        let tokens = self.flags["max-model-len"].as_u64();
        Ok(tokens.context("the calibration names no max-model-len")? as usize)
    }

    /// Writes the figures where the simulator reads them.
    pub(super) fn write(&self, hardware: &Path) -> Result<()> {
        let written = std::fs::write(hardware, format!("{:#}\n", self.hardware));
        written.with_context(|| format!("writing {}", hardware.display()))
    }
}

impl Program {
    pub(super) fn calibrate(&self, seconds: u64) -> Result<Calibrated> {
        let mut maitre = self.command("bench");
        maitre.args(&self.engine).args(["--calibrate", "--json"]);
        maitre.args(["--calibrate-seconds", &seconds.to_string()]);
        let told = report(&mut maitre)?;
        Calibrated::of_json(&told).context("the calibration names no hardware and flags")
    }

    pub(super) fn measure(&self, play: &Play<'_>) -> Result<Numbers> {
        let mut maitre = self.command("bench");
        maitre.args(&self.engine);
        maitre.args(["--warmup-requests", WARMUP]);
        let told = report(play.add_to(&mut maitre))?;
        Numbers::of_report(told.pointer("/runs/0").context("a report without a run")?)
    }

    pub(super) fn simulate(&self, play: &Play<'_>, on: (&Calibrated, &Path)) -> Result<Numbers> {
        Numbers::of_report(&self.simulated(play, on)?)
    }

    /// Requests a second that are answered if all come at once, by the simulator.
    pub(super) fn capacity(
        &self,
        (trace, scale): (&Path, f64),
        on: (&Calibrated, &Path),
    ) -> Result<f64> {
        let play = Play {
            trace,
            scale,
            speed: AT_ONCE,
            policy: "fcfs",
            slo: "ttft=1s",
        };
        let told = self.simulated(&play, on)?;
        let capacity = told["requests_per_second"].as_f64();
        capacity.context("the report has no requests_per_second")
    }

    fn simulated(
        &self,
        play: &Play<'_>,
        (calibrated, hardware): (&Calibrated, &Path),
    ) -> Result<Value> {
        let mut maitre = self.command("simulate");
        maitre.arg("--hardware").arg(hardware);
        for (flag, value) in calibrated.flags.as_object().into_iter().flatten() {
            maitre.arg(format!("--{flag}"));
            maitre.arg(value.as_str().map_or(value.to_string(), str::to_owned));
        }
        report(play.add_to(&mut maitre))
    }

    fn command(&self, command: &str) -> Command {
        let mut maitre = program(&self.maitre);
        maitre.args([command, "--model", &self.model]);
        maitre
    }
}

impl Play<'_> {
    /// Both commands call these the same.
    fn add_to<'a>(&self, maitre: &'a mut Command) -> &'a mut Command {
        maitre.arg("--trace").arg(self.trace);
        maitre.args(["--length-scale", &self.scale.to_string()]);
        maitre.args(["--speed", &self.speed.to_string()]);
        maitre.args(["--policy", self.policy, "--slo", self.slo, "--json"])
    }
}

/// The report that a command prints. `maitre bench` fails where requests were refused, and reports them.
fn report(command: &mut Command) -> Result<Value> {
    let Output { stdout, stderr, .. } = command.output()?;
    let report = serde_json::from_slice(&stdout);
    let said = String::from_utf8_lossy(&stderr);
    ensure!(
        report.is_ok(),
        "{command:?} printed no report:\n{}",
        said.trim()
    );
    Ok(report?)
}
