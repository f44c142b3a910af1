//! What the simulator foresees beside figures that others published, as the table in the guide has them:
//!
//! ```sh
//! cargo run --release --package maitre-sim --example published
//! ```
//!
//! Each row is a simulation of the requests that were measured, with the hardware by its name. Arguments choose rows: those whose
//! text contains all of them.
#![allow(clippy::print_stdout, reason = "a program that prints a table")]

use maitre_scheduler::Time;
use maitre_sim::workload::{
    Arrivals, ClosedLoop, Length, Lengths, OpenLoop, SettingError, ThinkTime,
};
use maitre_sim::{
    EngineSettings, Hardware, KvDtype, ModelShape, SimError, Simulation, WeightDtype,
};

/// What was measured on what.
struct Setup {
    engine: &'static str,
    model: &'static str,
    weights: WeightDtype,
    kv: KvDtype,
    hardware: &'static str,
    devices: u32,
    load: Load,
    rows: &'static [Row],
}

/// How requests came.
#[derive(Clone, Copy)]
enum Load {
    /// Users who ask again when they are answered, five requests each and at least 50, as vLLM's benchmark was run.
    Users,
    /// All at once, as many as NVIDIA's page lists for the lengths.
    AtOnce,
}

/// Users or requests, input and output tokens, and the output tokens a second that were published.
type Row = (u32, u32, u32, f64);

/// Steps of at most so many tokens, which is vLLM's default on these GPUs and TensorRT-LLM's.
const STEP_TOKENS: usize = 8192;

/// Sequences of a step, at most: TensorRT-LLM's default, which is more than vLLM's users were.
const STEP_SEQUENCES: usize = 2048;

/// vLLM 0.30 on an H100 of 80 GB, by silybench-data (github.com/tgarg01/silybench-data, runs of 2026-09-24, CC BY 4.0).
const VLLM_BF16: &[Row] = &[
    (1, 128, 1024, 145.7),
    (64, 128, 1024, 6597.0),
    (128, 128, 1024, 10_301.0),
    (256, 128, 1024, 13_567.0),
    (1, 1024, 128, 141.0),
    (16, 1024, 128, 1756.8),
    (64, 1024, 128, 2847.3),
    (256, 1024, 128, 3617.7),
    (1, 2048, 2048, 142.4),
    (16, 2048, 2048, 1625.1),
    (64, 2048, 2048, 3462.8),
    (1, 8192, 512, 128.8),
    (16, 8192, 512, 784.0),
];

const VLLM_FP8: &[Row] = &[
    (1, 128, 1024, 214.1),
    (64, 128, 1024, 8620.7),
    (128, 128, 1024, 12_176.0),
    (256, 128, 1024, 15_264.0),
    (1, 1024, 128, 205.1),
    (16, 1024, 128, 2393.3),
    (64, 1024, 128, 3700.6),
    (256, 1024, 128, 4560.8),
    (1, 2048, 2048, 207.6),
    (16, 2048, 2048, 2136.1),
    (64, 2048, 2048, 4033.0),
    (1, 8192, 512, 182.6),
    (16, 8192, 512, 966.3),
];

/// TensorRT-LLM 1.0, the performance overview of its documentation.
const TRT_8B_H200: &[Row] = &[
    (30_000, 128, 128, 27_911.0),
    (3000, 128, 2048, 26_221.0),
    (1500, 128, 4096, 18_027.0),
    (3000, 500, 2000, 20_770.0),
    (3000, 1000, 1000, 17_744.0),
    (1500, 1000, 2000, 16_828.0),
    (3000, 2048, 128, 3538.0),
    (1500, 2048, 2048, 12_194.0),
    (1500, 5000, 500, 3902.0),
    (1000, 20_000, 2000, 1804.0),
];

const TRT_8B_H100: &[Row] = &[
    (30_000, 128, 128, 28_312.0),
    (3000, 128, 2048, 22_714.0),
    (3000, 1000, 1000, 15_220.0),
    (3000, 2048, 128, 3450.0),
    (1500, 5000, 500, 3459.0),
];

const TRT_70B_H200: &[Row] = &[
    (3000, 128, 2048, 4336.0),
    (3000, 1000, 1000, 2909.0),
    (3000, 2048, 128, 442.0),
];

const TRT_70B_H100: &[Row] = &[
    (3000, 128, 2048, 6651.0),
    (3000, 1000, 1000, 4205.0),
    (3000, 2048, 128, 762.0),
];

/// The same, developer-guide/perf-overview.md of a later version.
const TRT_OSS_20B_H200: &[Row] = &[(3000, 1024, 1024, 13_890.0), (1500, 8192, 1024, 4015.0)];
const TRT_OSS_20B_H100: &[Row] = &[(3000, 1024, 1024, 11_403.0), (1500, 8192, 1024, 3366.0)];
const TRT_OSS_120B_H200: &[Row] = &[(3000, 1024, 1024, 6798.0), (1500, 8192, 1024, 1828.0)];

/// Known at second hand: the model in bf16 on an H200, 256 requests at a time.
const SGLANG: &[Row] = &[(256, 1024, 1024, 8500.0)];

/// This project's engine, by the page on GPUs. Its kernels gave the constants of the cost; its steps did not.
const MAITRE: &[Row] = &[
    (1, 128, 1024, 173.3),
    (64, 128, 1024, 7305.0),
    (256, 128, 1024, 14_364.0),
];

/// A model in bf16 on one device, and users.
const PLAIN: Setup = Setup {
    engine: "",
    model: "qwen3-8b",
    weights: WeightDtype::Bf16,
    kv: KvDtype::Bf16,
    hardware: "h100",
    devices: 1,
    load: Load::Users,
    rows: &[],
};

/// fp8 with keys and values in fp8, as NVIDIA's checkpoints say, and all requests at once.
const NVIDIA: Setup = Setup {
    engine: "TensorRT-LLM",
    weights: WeightDtype::Fp8,
    kv: KvDtype::Fp8,
    hardware: "h200",
    load: Load::AtOnce,
    ..PLAIN
};

const SETUPS: [Setup; 11] = [
    Setup {
        engine: "vLLM 0.30",
        rows: VLLM_BF16,
        ..PLAIN
    },
    Setup {
        engine: "vLLM 0.30",
        weights: WeightDtype::Fp8,
        rows: VLLM_FP8,
        ..PLAIN
    },
    Setup {
        engine: "SGLang",
        hardware: "h200",
        rows: SGLANG,
        ..PLAIN
    },
    Setup {
        model: "llama-3.1-8b",
        rows: TRT_8B_H200,
        ..NVIDIA
    },
    Setup {
        model: "llama-3.1-8b",
        hardware: "h100",
        rows: TRT_8B_H100,
        ..NVIDIA
    },
    Setup {
        model: "llama-3.1-70b",
        rows: TRT_70B_H200,
        ..NVIDIA
    },
    Setup {
        model: "llama-3.1-70b",
        hardware: "h100",
        devices: 2,
        rows: TRT_70B_H100,
        ..NVIDIA
    },
    Setup {
        model: "gpt-oss-20b",
        weights: WeightDtype::Mxfp4,
        kv: KvDtype::Bf16,
        rows: TRT_OSS_20B_H200,
        ..NVIDIA
    },
    Setup {
        model: "gpt-oss-20b",
        weights: WeightDtype::Mxfp4,
        kv: KvDtype::Bf16,
        hardware: "h100",
        rows: TRT_OSS_20B_H100,
        ..NVIDIA
    },
    Setup {
        model: "gpt-oss-120b",
        weights: WeightDtype::Mxfp4,
        kv: KvDtype::Bf16,
        rows: TRT_OSS_120B_H200,
        ..NVIDIA
    },
    Setup {
        engine: "Maitre",
        rows: MAITRE,
        ..PLAIN
    },
];

fn main() -> Result<(), SimError> {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    println!("| engine | model | on | load | input/output | published tok/s | simulated | error |");
    println!("|---|---|---|---|---|---|---|---|");
    let mut errors = Vec::new();
    for setup in &SETUPS {
        for row in setup.rows {
            let (count, input, output, published) = *row;
            let load = match setup.load {
                Load::Users => format!("{count} users"),
                Load::AtOnce => format!("{count} at once"),
            };
            let told = format!(
                "| {} | {}, {} | {} × {} | {load} | {input}/{output} |",
                setup.engine, setup.model, setup.weights, setup.devices, setup.hardware
            );
            if !wanted.iter().all(|word| told.contains(word)) {
                continue;
            }
            let simulated = setup.simulate(count, input, output)?;
            let error = simulated / published - 1.0;
            println!(
                "{told} {published:.0} | {simulated:.0} | {:+.1} % |",
                error * 100.0
            );
            errors.push(error.abs());
        }
    }
    errors.sort_by(f64::total_cmp);
    let within = errors.iter().filter(|&&error| error <= 0.2).count();
    let median = errors.get(errors.len() / 2).copied().unwrap_or_default();
    println!(
        "\n{} rows, {within} of them within 20 %; the median error is {:.1} %",
        errors.len(),
        median * 100.0
    );
    Ok(())
}

impl Setup {
    /// Output tokens a second.
    fn simulate(&self, count: u32, input: u32, output: u32) -> Result<f64, SimError> {
        let unknown = |what, name: &str| SettingError::new(what, name, "a name that is known");
        let shape = ModelShape::known(self.model).ok_or_else(|| unknown("model", self.model))?;
        let hardware =
            Hardware::known(self.hardware).ok_or_else(|| unknown("hardware", self.hardware))?;
        let mut shape = self.kv.applied_to(&shape);
        if shape.experts.is_none() {
            shape = self.weights.applied_to(&shape);
        }
        let engine = EngineSettings {
            max_seqs: STEP_SEQUENCES,
            max_batched_tokens: STEP_TOKENS,
            max_queue: count as usize,
            max_queued_tokens: usize::MAX,
            prefix_cache: false,
            ..EngineSettings::fitting(&shape, &hardware, self.devices)?
        };
        let cost = hardware.cost_across(self.devices, self.weights.products())?;
        let simulation = Simulation::with_cost(&shape, hardware.name, cost, engine)?;
        let lengths = Lengths::Independent {
            prompt: Length::Fixed(input),
            output: Length::Fixed(output),
        };
        let mut arrivals: Box<dyn Arrivals> = match self.load {
            Load::Users => {
                let requests = u64::from(count * 5).max(50);
                let think = ThinkTime::Fixed(Time::ZERO);
                Box::new(ClosedLoop::new(count, think, lengths, requests, 0)?)
            }
            Load::AtOnce => {
                let process = "constant:1000000000".parse()?;
                Box::new(OpenLoop::new(process, lengths, u64::from(count), 0)?)
            }
        };
        let report = simulation.run(&mut *arrivals)?;
        Ok(report.output_tokens_per_second)
    }
}
