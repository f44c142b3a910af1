//! A whole step of a 0.6B model with random weights, logits included: what sequences wait for
//! between two tokens, and what a prompt costs.

use anyhow::Result;
use maitre_benches::{Bench, Peak, Work};
use maitre_tensor::WeightFormat;

use crate::model::{self, MOST_SEQUENCES, MOST_TOKENS, Shape};

const VOCAB: usize = 151_936;

/// Weights that every token meets, and those of the output layer.
const BODY: usize = 28 * (6 * 1024 * 1024 + 3 * 1024 * 3072);
const HEAD: usize = VOCAB * 1024;

/// Positions of a decoding sequence.
const CONTEXT: usize = 64;

pub(crate) fn measure(bench: &mut Bench) -> Result<()> {
    let formats: &[WeightFormat] = if bench.is_full() {
        &[
            WeightFormat::F32,
            WeightFormat::Bf16,
            WeightFormat::INT8,
            WeightFormat::INT4,
        ]
    } else {
        &[WeightFormat::Bf16, WeightFormat::INT8]
    };
    for &format in formats {
        if bench.wants(&format!("step/{format}")) {
            bench.refresh_limits()?;
            measure_format(bench, format)?;
        }
    }
    Ok(())
}

fn measure_format(bench: &mut Bench, format: WeightFormat) -> Result<()> {
    let mut runner = model::random(&bench.backend(), format)?;
    for (sequences, tokens, context) in [
        (1, 1, CONTEXT),
        (4, 1, CONTEXT),
        (16, 1, CONTEXT),
        (MOST_SEQUENCES, 1, CONTEXT),
        (1, MOST_TOKENS, MOST_TOKENS),
    ] {
        let shape = Shape {
            sequences,
            tokens,
            context,
        };
        let batch = shape.batch(VOCAB, 1);
        let work = Work {
            bytes: runner.model().weight_bytes(),
            ops: 2 * (BODY * shape.rows() + HEAD * sequences),
            peak: Peak::of(format),
        };
        bench.measure(&format!("step/{format}"), &shape.name(), work, || {
            model::run(&mut runner, &batch)
        })?;
    }
    Ok(())
}
