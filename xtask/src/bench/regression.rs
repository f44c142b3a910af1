//! `cargo xtask bench regression`: whether anything has become slower than it was, beyond what chance lets it.
//!
//! No speeds are stored, since no two machines have the same, and one machine not at two times: ratios are. Of serving, the shortest
//! time that a workload can take by what the machine reads and computes, measured in between, over the time that it took; of kernels the
//! same for one call; of the scheduler, steps in the time in which the machine does a million operations. They are stored by kind of
//! processor. It is the gate of speed: a change after which it fails has made something slower.

mod ratio;
mod report;
mod stored;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use serde_json::Value;

use self::ratio::Ratio;
use self::report::{judge, note, refuse_unsure, show};
use self::stored::{Ratios, Stored};
use super::contestant::Warm;
use super::peers::Workload;
use super::roofline::{Machine, Shape};
use super::{build_maitre, kernels};
use crate::cargo::{root, target_directory};

/// The shape of Qwen3 0.6B; its weights are made up, and its tokens are bytes.
const SHAPE: &str = r#"{"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_size": 1024,
"num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 3072, "num_hidden_layers": 28,
"vocab_size": 151936, "max_position_embeddings": 40960, "rms_norm_eps": 1e-6, "rope_theta": 1000000, "hidden_act": "silu",
"tie_word_embeddings": true, "torch_dtype": "bfloat16", "eos_token_id": 0}"#;

/// The gate of speed: fails if serving, the scheduler or a kernel is slower than the ratios that are stored for this kind of processor,
/// by more than 5 % and by more than chance explains.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench regression")]
pub(super) struct Arguments {
    /// Store what is measured as what this kind of processor reaches, instead of comparing with what is stored. A ratio whose bounds are
    /// wider than ±15 % of it is not stored, and the command fails: measure it again on a quiet machine.
    #[arg(long)]
    write: bool,
    /// Measurements of each workload.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Only this part. Without a stored ratio of it the command fails.
    #[arg(long, value_name = "PART")]
    only: Option<Part>,
}

/// What is measured in one go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    Serving,
    Scheduler,
    Kernels,
}

impl Part {
    const ALL: [Self; 3] = [Self::Serving, Self::Scheduler, Self::Kernels];

    /// As `--only` has it.
    fn name(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Scheduler => "scheduler",
            Self::Kernels => "kernels",
        }
    }

    /// The part that a ratio of this name is of.
    fn of(name: &str) -> Self {
        match name.split_once(": ") {
            Some(("kernel", _)) => Self::Kernels,
            Some(("scheduler", _)) => Self::Scheduler,
            _ => Self::Serving,
        }
    }
}

/// An engine that is started once, and what it is asked.
struct Served {
    name: &'static str,
    dtype: &'static str,
    workloads: &'static [(usize, usize, usize)],
}

const SERVED: [Served; 3] = [
    Served {
        name: "bundled",
        dtype: "bf16",
        workloads: &[(1, 16, 64), (64, 16, 64), (1, 512, 1)],
    },
    Served {
        name: "0.6B",
        dtype: "bf16",
        workloads: &[(1, 16, 16), (16, 16, 8), (1, 128, 1)],
    },
    Served {
        name: "0.6B",
        dtype: "int8",
        workloads: &[(1, 16, 16), (16, 16, 8), (1, 128, 1)],
    },
];

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    ensure!(
        arguments.rounds >= 5,
        "--rounds is {}; expected at least 5, or chance decides",
        arguments.rounds
    );
    let file = root().join("xtask/src/bench/ratios.json");
    let mut stored = Stored::read(file, kind())?;
    let parts = Part::ALL.into_iter();
    let parts: Vec<Part> = parts
        .filter(|part| arguments.only.is_none_or(|only| only == *part))
        .collect();
    let before = stored.of(&parts);
    if arguments.write {
        let found = measure(&parts, arguments.rounds)?;
        show(&found, &before);
        stored.write(&parts, &found)?;
        return refuse_unsure(&found);
    }
    let warning = stored.check(&parts)?;
    let warn = || {
        if let Some(warning) = &warning {
            println!("\nWARNING: {warning}");
        }
    };
    // Before the measurements, which take a while, and behind the table, where it is not scrolled away.
    warn();
    let found = measure(&parts, arguments.rounds)?;
    show(&found, &before);
    warn();
    note(&found, &before);
    judge(&found, &before)
}

fn measure(parts: &[Part], rounds: usize) -> Result<Ratios> {
    let mut found = Ratios::new();
    if parts.contains(&Part::Kernels) {
        let ratios = kernels::ratios(rounds)?.into_iter();
        found.extend(ratios.map(|(name, ratios)| (format!("kernel: {name}"), Ratio::of(&ratios))));
    }
    if parts == [Part::Kernels] {
        return Ok(found);
    }
    let maitre = build_maitre()?;
    let folder = target_directory().join("bench-regression");
    let model = folder.join("0.6B");
    fs::create_dir_all(&model)?;
    fs::write(model.join("config.json"), SHAPE)?;
    if parts.contains(&Part::Serving) {
        for served in &SERVED {
            served.measure(&maitre, &folder, rounds, &mut found)?;
        }
    }
    if parts.contains(&Part::Scheduler) {
        let steps = scheduler(&maitre, &folder, rounds)?;
        found.insert("scheduler: steps per million operations".to_owned(), steps);
    }
    Ok(found)
}

impl Served {
    fn measure(
        &self,
        maitre: &Path,
        folder: &Path,
        rounds: usize,
        found: &mut Ratios,
    ) -> Result<()> {
        let mut command = Command::new(maitre);
        command.args([
            "bench",
            "--line-by-line",
            "--dtype",
            self.dtype,
            "--speculate",
            "off",
        ]);
        let model = folder.join("0.6B");
        let shape = match self.name {
            "bundled" => bundled(maitre)?,
            _ => {
                command
                    .args(["--load-format", "random", "--model"])
                    .arg(&model);
                Shape::read(&model)?
            }
        };
        let log = folder.join(format!("{}-{}.log", self.name, self.dtype));
        let mut engine = Warm::start(command, log)?;
        let mut ratios = vec![Vec::new(); self.workloads.len()];
        for round in 0..=rounds {
            for ((users, input, output), ratios) in self.workloads.iter().zip(&mut ratios) {
                let workload = Workload {
                    users: *users,
                    input: *input,
                    output: *output,
                    is_apart: false,
                };
                let mut machine = Machine::of_weights(self.dtype)?;
                machine.learn(&engine.ask("limits")?)?;
                let took = engine.measure(workload)?.seconds;
                // The first round touches memory that no other has touched before.
                if round > 0 {
                    ratios.push(shape.seconds(workload, machine) / took);
                }
            }
        }
        for ((users, input, output), ratios) in self.workloads.iter().zip(&ratios) {
            let name = format!(
                "{} {}: {users} x {input} -> {output}",
                self.name, self.dtype
            );
            found.insert(name, Ratio::of(ratios));
        }
        Ok(())
    }
}

fn bundled(maitre: &Path) -> Result<Shape> {
    let mut inspect = Command::new(maitre);
    let output = inspect
        .args(["inspect", "--json", "--model", "bundled"])
        .output()?;
    Shape::of_inspected(&String::from_utf8_lossy(&output.stdout))
}

/// Steps of the scheduler that serves, in the simulator, over a million operations that the machine does meanwhile.
fn scheduler(maitre: &Path, folder: &Path, rounds: usize) -> Result<Ratio> {
    let mut command = Command::new(maitre);
    // The simulator is one thread.
    command.args(["bench", "--line-by-line", "--threads", "1"]);
    let mut engine = Warm::start(command, folder.join("limits.log"))?;
    let mut ratios = Vec::new();
    for _ in 0..rounds {
        let limits = engine.ask("limits")?;
        let ops = limits
            .split(' ')
            .find_map(|it| it.strip_prefix("f32=")?.parse::<f64>().ok());
        let ops = ops.with_context(|| format!("`{limits}` are no limits"))?;
        let mut simulate = Command::new(maitre);
        simulate.args([
            "simulate",
            "--model",
            "qwen3-8b",
            "--hardware",
            "h100",
            "--users",
            "64",
        ]);
        simulate.args(["--requests", "4000", "--every-step", "--json"]);
        let began = Instant::now();
        let output = simulate.stderr(Stdio::inherit()).output()?;
        let took = began.elapsed().as_secs_f64();
        let report: Value = serde_json::from_slice(&output.stdout)?;
        let steps = report["steps"]["count"].as_f64().context("no steps")?;
        ratios.push(1e6 * steps / took / ops);
    }
    Ok(Ratio::of(&ratios))
}

/// The kind of this processor, and how many of its cores there are.
fn kind() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{} with {cores} cores", instructions())
}

/// Whether Linux tells of the tile registers of AMX.
#[cfg(target_arch = "x86_64")]
fn has_tiles() -> bool {
    let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    processors.contains(" amx_bf16") && processors.contains(" amx_int8")
}

/// The kernels that it runs, by the names of `MAITRE_CPU`.
fn instructions() -> String {
    if let Some(forced) = std::env::var_os("MAITRE_CPU").filter(|name| !name.is_empty()) {
        return forced.to_string_lossy().into_owned();
    }
    #[cfg(target_arch = "x86_64")]
    let found = match () {
        () if has_tiles() => "amx",
        () if is_x86_feature_detected!("avx512bf16") => "avx512",
        () if is_x86_feature_detected!("avx512vnni") => "avx512-vnni",
        () if is_x86_feature_detected!("avx512f") => "avx512-f",
        () if is_x86_feature_detected!("avxvnni") => "avx-vnni",
        () if is_x86_feature_detected!("avx2") => "avx2",
        () => "portable",
    };
    #[cfg(not(target_arch = "x86_64"))]
    let found = std::env::consts::ARCH;
    found.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_named_as_on_the_command_line() {
        for part in Part::ALL {
            assert_eq!(Part::from_str(part.name(), false), Ok(part));
        }
    }
}
