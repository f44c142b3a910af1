//! `cargo xtask bench simulator`: what `maitre simulate` foresees, beside what `maitre bench` measures of the same requests.
//!
//! The machine is calibrated with bursts of requests of fixed lengths. Then requests that the calibration has not seen are served
//! twice and simulated once, in several rounds: chats that come independently of each other at 0.5, 0.8 and 1.1 of the capacity, bursts,
//! and chats of several turns whose prompts begin with all that was said before.

mod report;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use serde_json::Value;

use self::report::{Row, Summary, page};
use super::bootstrap::median;
use super::build_maitre;
use super::simulated_workloads::{Rate, Shape, chats, write};
use crate::cargo::{program, target_directory};

/// Requests in a step and that may wait where requests are refused.
const SHORT_QUEUE: &str = "32";

#[derive(Debug, Parser)]
#[command(name = "bench simulator")]
pub(super) struct Arguments {
    /// What `maitre bench` and `maitre simulate` run.
    #[arg(long, default_value = "bundled")]
    model: String,
    /// Flags of the engine, such as `--dtype int8`; what drafts gain depends on texts, which a trace has not. With one thread the client has a
    /// core of its own where there are two, and two threads are not twice as fast at one time and half as fast at another, as they are where two
    /// virtual cores may be one real core.
    #[arg(
        long,
        default_value = "--threads 1 --speculate off",
        value_delimiter = ' ',
        allow_hyphen_values = true
    )]
    engine: Vec<String>,
    /// Tokens of prompts, at least and at most.
    #[arg(long, num_args = 2, default_values_t = [16, 240])]
    prompt_tokens: Vec<u32>,
    /// Tokens of answers, at least and at most.
    #[arg(long, num_args = 2, default_values_t = [16, 112])]
    output_tokens: Vec<u32>,
    /// How long requests come in each run.
    #[arg(long, default_value_t = 20.0)]
    seconds: f64,
    /// How long the machine is calibrated in each round of a workload.
    #[arg(long, default_value_t = 20)]
    calibrate_seconds: u64,
    /// Rounds of measurement, calibration and measurement of each workload. A number is the median of its rounds, since a machine that others
    /// share is faster at one time than at another.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
}

/// Where a number is in the reports of `bench` (of its run) and of `simulate`.
const NUMBERS: [(&str, &str); 10] = [
    ("output tokens/s", "/output_tokens_per_second"),
    ("TTFT p50", "/ttft_ms/p50"),
    ("TTFT p90", "/ttft_ms/p90"),
    ("TTFT p99", "/ttft_ms/p99"),
    ("TPOT p50", "/tpot_ms/p50"),
    ("TPOT p90", "/tpot_ms/p90"),
    ("TPOT p99", "/tpot_ms/p99"),
    ("E2E p50", "/e2e_ms/p50"),
    ("E2E p90", "/e2e_ms/p90"),
    ("E2E p99", "/e2e_ms/p99"),
];

/// A workload measured, measured again after a calibration, and simulated with it.
struct Round {
    measured: [Value; 2],
    foreseen: Value,
}

struct Runner<'a> {
    arguments: &'a Arguments,
    maitre: PathBuf,
    folder: PathBuf,
    rows: Vec<Row>,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let mut runner = Runner {
        arguments,
        maitre: build_maitre()?,
        folder: target_directory().join("bench-simulator"),
        rows: Vec::new(),
    };
    std::fs::create_dir_all(&runner.folder)?;
    let shape = Shape {
        prompt: (arguments.prompt_tokens[0], arguments.prompt_tokens[1]),
        output: (arguments.output_tokens[0], arguments.output_tokens[1]),
    };
    let capacity = runner.capacity()?;
    println!("capacity: {capacity:.2} requests/s of such lengths in a closed loop");
    for (name, share) in [("0.5 of capacity", 0.5), ("0.8 of capacity", 0.8)] {
        let rate = Rate::Poisson(share * capacity);
        let trace = write(
            &runner.folder,
            name,
            &shape.requests(&rate, arguments.seconds)?,
        )?;
        runner.compare(name, &trace, &NUMBERS)?;
    }
    let bursts = Rate::Bursts(0.6 * capacity);
    let trace = write(
        &runner.folder,
        "bursts",
        &shape.requests(&bursts, arguments.seconds)?,
    )?;
    runner.compare("bursts", &trace, &NUMBERS)?;
    let sessions = chats(0.25 * capacity, arguments.seconds)?;
    let trace = write(&runner.folder, "turns", &sessions)?;
    runner.compare("turns", &trace, &NUMBERS)?;
    // Measured anew: whether the queue grows at all depends on a tenth of it.
    let rate = Rate::Poisson(1.1 * runner.capacity()?);
    let trace = write(
        &runner.folder,
        "overload",
        &shape.requests(&rate, arguments.seconds)?,
    )?;
    runner.overloaded(&trace)?;
    runner.tell()
}

impl Runner<'_> {
    fn maitre(&self, command: &str) -> Command {
        let mut maitre = program(&self.maitre);
        maitre.args([command, "--model", &self.arguments.model]);
        maitre
    }

    /// Requests a second that are answered if as many users as fit into a step ask again at once.
    fn capacity(&self) -> Result<f64> {
        let range = |of: &[u32]| format!("{}..{}", of[0], of[1]);
        let mut maitre = self.maitre("bench");
        maitre.args(&self.arguments.engine);
        maitre.args(["--concurrency", "128", "--requests", "1024", "--json"]);
        maitre.args(["--input-tokens", &range(&self.arguments.prompt_tokens)]);
        maitre.args(["--output-tokens", &range(&self.arguments.output_tokens)]);
        let report = answer(&mut maitre)?;
        number(&report, "/runs/0/requests_per_second")
    }

    fn calibrate(&self) -> Result<Value> {
        let mut maitre = self.maitre("bench");
        maitre.args(&self.arguments.engine);
        let seconds = self.arguments.calibrate_seconds.to_string();
        maitre.args(["--calibrate", "--calibrate-seconds", &seconds, "--json"]);
        maitre.arg("--out").arg(&self.folder);
        answer(&mut maitre)
    }

    fn measure(&self, trace: &Path, further: &[&str]) -> Result<Value> {
        let mut maitre = self.maitre("bench");
        maitre.args(&self.arguments.engine).args(further);
        maitre.args(["--warmup-requests", "8", "--json", "--trace"]);
        // Refused requests make it fail, and are told in the report.
        let report = answer_of(maitre.arg(trace))?;
        report
            .pointer("/runs/0")
            .cloned()
            .context("a report without a run")
    }

    fn simulate(&self, trace: &Path, calibrated: &Value, further: &[&str]) -> Result<Value> {
        let mut maitre = self.maitre("simulate");
        for (flag, value) in calibrated["flags"].as_object().context("no flags")? {
            maitre.arg(format!("--{flag}"));
            maitre.arg(value.as_str().map_or(value.to_string(), str::to_owned));
        }
        maitre
            .arg("--hardware")
            .arg(self.folder.join("hardware.json"));
        maitre.args(further).args(["--json", "--trace"]).arg(trace);
        answer(&mut maitre)
    }

    /// Between the two measurements of a round the machine is calibrated: what changes it for minutes changes all three.
    fn rounds(&self, trace: &Path, further: &[&str]) -> Result<Vec<Round>> {
        let round = |_| {
            let first = self.measure(trace, further)?;
            let calibrated = self.calibrate()?;
            let second = self.measure(trace, further)?;
            Ok(Round {
                measured: [first, second],
                foreseen: self.simulate(trace, &calibrated, further)?,
            })
        };
        (0..self.arguments.rounds).map(round).collect()
    }

    fn compare(
        &mut self,
        workload: &'static str,
        trace: &Path,
        numbers: &[(&'static str, &str)],
    ) -> Result<()> {
        let rounds = self.rounds(trace, &[])?;
        for run in rounds.iter().flat_map(|round| &round.measured) {
            let [all, completed] = ["/requests", "/completed"].map(|it| number(run, it));
            ensure!(
                all? == completed?,
                "some requests failed: {}",
                run["errors"]
            );
        }
        for (what, pointer) in numbers {
            self.row(workload, what, &|report| number(report, pointer), &rounds)?;
        }
        Ok(())
    }

    /// More than the capacity: how fast the queue grows where all may wait, and how many are refused where few may.
    fn overloaded(&mut self, trace: &Path) -> Result<()> {
        let workload = "1.1 of capacity";
        let seconds = self.arguments.seconds;
        // All wait longer than those before them, so that percentiles of waiting are points of a line over the time.
        let slope = |report: &Value| -> Result<f64> {
            let grown = number(report, "/ttft_ms/p90")? - number(report, "/ttft_ms/p50")?;
            Ok(grown / (0.4 * seconds))
        };
        let tokens = |report: &Value| number(report, "/output_tokens_per_second");
        let rounds = self.rounds(trace, &[])?;
        self.row(workload, "output tokens/s", &tokens, &rounds)?;
        self.row(workload, "TTFT, ms more each s", &slope, &rounds)?;
        let refused = |report: &Value| -> Result<f64> {
            let all = report.pointer("/requests").context("no requests")?;
            let all = all.as_f64().map_or_else(|| number(all, "/arrived"), Ok)?;
            let completed = report
                .pointer("/completed")
                .or(report.pointer("/requests/completed"));
            let completed = completed.and_then(Value::as_f64).context("no completed")?;
            Ok(100.0 * (all - completed) / all)
        };
        let rounds = self.rounds(trace, &["--max-queue", SHORT_QUEUE])?;
        self.row(workload, "refused, %", &refused, &rounds)
    }

    /// A number of all rounds: the medians of the first measurements, of the second ones and of what was foreseen.
    fn row(
        &mut self,
        workload: &'static str,
        what: &'static str,
        of: &dyn Fn(&Value) -> Result<f64>,
        rounds: &[Round],
    ) -> Result<()> {
        let middle = |part: &dyn Fn(&Round) -> &Value| -> Result<f64> {
            let numbers: Result<Vec<f64>> = rounds.iter().map(|round| of(part(round))).collect();
            Ok(median(&numbers?))
        };
        self.add(Row {
            workload,
            what,
            measured: [
                middle(&|round| &round.measured[0])?,
                middle(&|round| &round.measured[1])?,
            ],
            foreseen: middle(&|round| &round.foreseen)?,
        });
        Ok(())
    }

    fn add(&mut self, row: Row) {
        println!("{}", row.told());
        self.rows.push(row);
    }

    /// Prints the report, and fails if the bar is not met.
    fn tell(&self) -> Result<()> {
        let summary = Summary::of(&self.rows);
        println!("\n{}", page(self.arguments, &self.rows, &summary));
        ensure!(
            summary.is_met(),
            "the simulator is further from the measurement than it may be. {}",
            summary.bar()
        );
        Ok(())
    }
}

fn number(report: &Value, pointer: &str) -> Result<f64> {
    let number = report.pointer(pointer).and_then(Value::as_f64);
    number.with_context(|| format!("the report has no {pointer}"))
}

fn answer(command: &mut Command) -> Result<Value> {
    let output = command.stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "{command:?} failed");
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn answer_of(command: &mut Command) -> Result<Value> {
    let output = command.stderr(Stdio::null()).output()?;
    serde_json::from_slice(&output.stdout).with_context(|| format!("{command:?} printed no report"))
}
