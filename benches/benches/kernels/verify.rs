//! Verifying drafted tokens: a step in which each sequence has several rows, all of them with logits,
//! beside the step with one. How many times as long it takes is what speculation pays for its tokens.
//!
//! Predicted from the limits: the weights are read once whatever the number of rows, so up to the row
//! at which arithmetic takes as long as reading (see [`Work`]) further rows are free.

use std::hint::black_box;

use anyhow::Result;
use maitre_benches::{Bench, Peak, Work};
use maitre_bundled::{BundledModel, DRAFT, TARGET};
use maitre_model::{LoadOptions, ModelConfig, ModelSource, Runner};
use maitre_sampling::{Logits, Sampler, SamplingParams, TokenCounts};
use maitre_tensor::{Backend, PEAK_BLOCK, WeightFormat};

use crate::model::{self, MOST_SEQUENCES, Shape};
use crate::sampling;

/// Rows of a lone sequence: one known token, the others drafted.
const ROWS: [usize; 10] = [1, 2, 3, 4, 5, 6, 8, 9, 12, 16];
/// Rows of each of several sequences.
const FEW_ROWS: [usize; 5] = [1, 2, 3, 5, 9];
/// How many sequences.
const SEQUENCES: [usize; 5] = [2, 4, 8, 16, MOST_SEQUENCES];

/// Positions of a short and of a long sequence.
const CONTEXTS: [usize; 2] = [64, 1024];

pub(crate) fn measure(bench: &mut Bench) -> Result<()> {
    for format in [WeightFormat::Bf16, WeightFormat::INT8] {
        let name = format!("verify/{format}");
        if bench.wants(&name) {
            bench.refresh_limits()?;
            let mut runner = model::random(&bench.backend(), format)?;
            measure_model(bench, &name, &mut runner)?;
        }
    }
    for (name, bundled, threads) in [
        ("verify/bundled", &TARGET, None),
        ("verify/draft", &DRAFT, None),
        ("verify/draft alone", &DRAFT, Some(1)),
    ] {
        if bench.wants(name) {
            let backend = threads.map_or_else(|| Ok(bench.backend()), Backend::cpu)?;
            measure_model(bench, name, &mut load(bundled, &backend)?)?;
        }
    }
    measure_sampling(bench)
}

fn load(bundled: &'static BundledModel, backend: &Backend) -> Result<Runner> {
    let source = ModelSource::Memory {
        name: bundled.name,
        files: bundled.files,
    };
    model::runner(&source, &LoadOptions::default(), backend)
}

fn measure_model(bench: &mut Bench, name: &str, runner: &mut Runner) -> Result<()> {
    for context in CONTEXTS {
        let shapes = ROWS.map(|tokens| Shape {
            sequences: 1,
            tokens,
            context,
        });
        measure_shapes(bench, name, &shapes, runner)?;
    }
    let sequences: &[usize] = if bench.is_full() { &SEQUENCES } else { &[4] };
    for &sequences in sequences {
        let shapes = FEW_ROWS.map(|tokens| Shape {
            sequences,
            tokens,
            context: CONTEXTS[0],
        });
        measure_shapes(bench, name, &shapes, runner)?;
    }
    Ok(())
}

fn measure_shapes(
    bench: &mut Bench,
    name: &str,
    shapes: &[Shape],
    runner: &mut Runner,
) -> Result<()> {
    let vocab = runner.model().config().vocab_size;
    let cases: Vec<_> = shapes
        .iter()
        .map(|shape| (shape.name(), work(runner, *shape)))
        .collect();
    let batches: Vec<_> = shapes
        .iter()
        .map(|shape| shape.batch(vocab, shape.tokens))
        .collect();
    bench.compare(name, &cases, |case| model::run(runner, &batches[case]))
}

/// All weights and each sequence's cache once; their products with every row.
fn work(runner: &Runner, shape: Shape) -> Work {
    let model = runner.model();
    let config = model.config();
    let positions = shape.sequences * shape.context;
    let cache = config.kv_bytes_per_token(model.kv_dtype()) as usize * positions;
    let seen: usize = (0..shape.tokens).map(|token| shape.context - token).sum();
    let products = 2 * shape.sequences * seen * config.num_heads * config.head_dim;
    let multiplied = weights(config) * shape.rows() + config.num_layers * products;
    Work {
        bytes: model.weight_bytes() + cache,
        ops: 2 * multiplied,
        peak: Peak::of(model.dtype()),
    }
}

/// Weights that a row meets.
fn weights(config: &ModelConfig) -> usize {
    let query = config.num_heads * config.head_dim;
    let keys_and_values = 2 * config.num_kv_heads * config.head_dim;
    let attention = 2 * query + keys_and_values;
    let layer = config.hidden_size * (attention + 3 * config.intermediate_size);
    config.num_layers * layer + config.vocab_size * config.hidden_size
}

/// The tokens of all rows of a span, from logits whose peaks are known.
fn measure_sampling(bench: &mut Bench) -> Result<()> {
    let logits = sampling::logits(2.0);
    let peaks: Vec<f32> = logits
        .chunks(PEAK_BLOCK)
        .map(|block| block.iter().copied().fold(f32::NEG_INFINITY, f32::max))
        .collect();
    let row = Logits {
        values: &logits,
        peaks: &peaks,
    };
    let params = SamplingParams::default();
    let (mut sampler, counts) = (Sampler::new(), TokenCounts::default());
    let cases = ROWS.map(|rows| {
        let work = Work {
            bytes: rows * size_of_val(peaks.as_slice()),
            ops: 0,
            peak: Peak::F32,
        };
        (format!("temperature, {rows} rows"), work)
    });
    bench.compare("verify/sampling", &cases, |case| {
        for position in 0..ROWS[case] as u64 {
            black_box(sampler.sample(black_box(row), &params, &counts, position, &[])?);
        }
        Ok(())
    })
}
