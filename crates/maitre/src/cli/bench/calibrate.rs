//! `maitre bench --calibrate`: the figures of this machine, for `maitre simulate` and `maitre plan`.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use indicatif::ProgressBar;
use maitre::bench::{Address, InProcessTarget, MonotonicClock, Stop, measure_bursts};
use maitre::server::Startup;
use maitre::{EngineInfo, Speculate, WeightFormat};
use maitre_sim::{Calibrated, EngineSettings, ModelShape, ProductFormat};
use serde_json::{Value, json};

use super::{BenchArgs, until_interrupt};
use crate::cli::signals::Signals;
use crate::cli::simulate::machine;

#[derive(Debug, Args)]
pub(super) struct CalibrateArgs {
    /// Measure how long the steps of the model take on this machine, and write the figures of hardware from which
    /// `maitre simulate` and `maitre plan` foresee it, to --out DIR/hardware.json or stdout.
    #[arg(long, conflicts_with_all = ["slo", "find_capacity", "compare", "line_by_line", "concurrency", "rate", "arrivals",
        "trace", "prompts", "turns", "think_time", "requests", "input_tokens", "output_tokens", "warmup_requests", "timeout"])]
    calibrate: bool,
    /// How long to measure; all bursts of requests are measured three times in any case.
    #[arg(
        long,
        default_value_t = 60,
        value_name = "SECONDS",
        requires = "calibrate"
    )]
    calibrate_seconds: u64,
}

impl CalibrateArgs {
    pub(super) fn is_asked(&self) -> bool {
        self.calibrate
    }

    fn time(&self) -> Duration {
        Duration::from_secs(self.calibrate_seconds)
    }
}

impl BenchArgs {
    pub(super) async fn calibrate(&self, startup: &Startup, signals: &Signals) -> Result<()> {
        ensure!(
            self.target == Address::InProcess,
            "--calibrate measures the engine in this process: it has to know the bounds of the steps; leave --target out, \
             and give the model flags of the server"
        );
        let mut shape = machine::model(&self.model.model, startup).await?;
        // How many drafts are accepted depends on the text, and bursts have none.
        let builder = self.model.builder(startup).await?;
        let builder = builder.speculate(Speculate::Off).draft_model(None);
        // A burst is one as a whole: nothing bounds its steps but their size, and nothing is refused.
        let defaults = EngineSettings::new(1, 1);
        let builder = builder
            .max_queue(defaults.max_queue)
            .max_queued_tokens(defaults.max_queued_tokens)
            .max_queue_wait(None)
            .itl_target(None);
        let engine = self.model.build(builder, startup).await?;
        let info = engine.info().clone();
        // As they are in memory, whatever the files hold.
        shape.bytes_per_output_weight = None;
        shape.bytes_per_weight *= info.memory.weights as f64 / shape.weight_bytes();
        shape.bytes_per_kv_number *= info.memory.kv_per_token as f64 / shape.kv_bytes_per_token();
        let settings = engine_settings(&info);
        let target = InProcessTarget::new(engine);
        let (clock, stop, time) = (
            MonotonicClock::default(),
            Stop::default(),
            self.calibrate.time(),
        );
        let (ladder, bar) = (
            Calibrated::ladder(&settings),
            ProgressBar::new(time.as_secs()),
        );
        ensure!(
            ladder.len() > 1,
            "a context of {} tokens has no place for bursts of requests that tell how long steps take; give a larger --max-model-len",
            settings.max_model_len
        );
        if let Some(directory) = &self.out {
            // What can't be written is told before a minute has gone by.
            let made = fs::create_dir_all(directory);
            made.with_context(|| format!("cannot make {}", directory.display()))?;
        }
        let bursts = measure_bursts(&target, &clock, &ladder, time, &stop, |passed| {
            bar.set_position(passed.min(time).as_secs());
        });
        let observed = until_interrupt(signals, &stop, bursts).await?;
        bar.finish_and_clear();
        if stop.is_stopped() {
            tracing::warn!("interrupted: the figures come from what was measured until then");
        }
        let memory = (info.memory.weights + info.memory.kv_cache) as f64;
        let calibrated = Calibrated::fit(
            (name(&info), memory),
            &shape,
            &settings,
            products(&info),
            &observed,
        )?;
        self.tell(&calibrated, &shape, &settings)
    }

    fn tell(
        &self,
        calibrated: &Calibrated,
        shape: &ModelShape,
        settings: &EngineSettings,
    ) -> Result<()> {
        let hardware = serde_json::to_string_pretty(&calibrated.hardware)?;
        let file = self
            .out
            .as_ref()
            .map(|directory| directory.join("hardware.json"));
        let flags = flags(calibrated, shape, settings);
        let mut out = std::io::stdout().lock();
        if self.json {
            let mut told = serde_json::to_value(calibrated)?;
            told["flags"] = flags.into_iter().collect();
            writeln!(out, "{}", serde_json::to_string_pretty(&told)?)?;
        } else {
            write!(out, "{calibrated}")?;
            if file.is_none() {
                writeln!(out, "\nhardware.json, to be saved:\n{hardware}")?;
            }
            let saved = file
                .as_ref()
                .map_or("hardware.json".into(), |file| file.to_string_lossy());
            let model = &self.model.model;
            write!(
                out,
                "\nfor example:\nmaitre simulate --model '{model}' --hardware '{saved}'"
            )?;
            for (flag, value) in flags {
                let value = value.as_str().map_or(value.to_string(), str::to_owned);
                write!(out, " --{flag} {value}")?;
            }
            writeln!(out, " --users 4")?;
        }
        match file {
            Some(file) => write(&file, &hardware),
            None => Ok(()),
        }
    }
}

/// What `maitre simulate` has to be told beside the hardware, to have the engine that was measured.
fn flags(
    calibrated: &Calibrated,
    shape: &ModelShape,
    settings: &EngineSettings,
) -> Vec<(&'static str, Value)> {
    vec![
        ("bytes-per-weight", json!(shape.bytes_per_weight)),
        ("bytes-per-kv-number", json!(shape.bytes_per_kv_number)),
        ("products", json!(calibrated.products.name())),
        ("max-seqs", json!(settings.max_seqs)),
        ("max-batched-tokens", json!(settings.max_batched_tokens)),
        ("max-model-len", json!(settings.max_model_len)),
        ("block-size", json!(settings.block_size)),
    ]
}

fn write(file: &Path, text: &str) -> Result<()> {
    let written = fs::write(file, format!("{text}\n"));
    written.with_context(|| format!("cannot write {}", file.display()))
}

fn name(info: &EngineInfo) -> String {
    format!(
        "{} ({}), {} threads, {}",
        info.device, info.backend, info.threads, info.dtype
    )
}

/// What products are computed in, as far as the simulator tells formats apart.
fn products(info: &EngineInfo) -> ProductFormat {
    match info.dtype.parse() {
        Ok(WeightFormat::Int8 { .. }) => ProductFormat::Int8,
        _ => ProductFormat::Bf16,
    }
}

/// The bounds of the engine, as the simulator has them.
fn engine_settings(info: &EngineInfo) -> EngineSettings {
    let (limits, scheduling) = (&info.limits, &info.scheduling);
    let blocks = u32::try_from(limits.num_blocks).unwrap_or(u32::MAX);
    EngineSettings {
        max_seqs: limits.max_seqs,
        max_batched_tokens: limits.max_batched_tokens,
        block_size: u32::try_from(limits.block_size).unwrap_or(u32::MAX),
        kv_groups: scheduling.kv_groups.clone(),
        max_queue: limits.max_queue,
        max_queued_tokens: limits.max_queued_tokens,
        ..EngineSettings::new(blocks, limits.max_model_len)
    }
}
