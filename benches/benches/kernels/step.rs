//! A whole step of a 0.6B model with random weights, logits included: what sequences wait for
//! between two tokens, and what a prompt costs.

use std::hint::black_box;
use std::sync::Arc;

use anyhow::Result;
use maitre_benches::{Bench, Peak, Work};
use maitre_model::{
    Batch, KvGroup, LOGITS_TILE, LoadFormat, LoadOptions, Model, ModelSource, Runner, RunnerConfig,
};
use maitre_tensor::{BlockTables, Span, WeightFormat};

/// The shape of Qwen3-0.6B.
const CONFIG: &str = r#"{
    "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "torch_dtype": "bfloat16",
    "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28,
    "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128,
    "vocab_size": 151936, "max_position_embeddings": 40960, "rope_theta": 1000000.0,
    "rms_norm_eps": 1e-6, "tie_word_embeddings": true, "hidden_act": "silu",
    "attention_bias": false
}"#;

/// A model without weights: they are made up.
static FILES: [(&str, &[u8]); 1] = [("config.json", CONFIG.as_bytes())];

const VOCAB: usize = 151_936;

/// Weights that every token meets, and those of the output layer.
const BODY: usize = 28 * (6 * 1024 * 1024 + 3 * 1024 * 3072);
const HEAD: usize = VOCAB * 1024;

const BLOCK_SIZE: usize = 16;
const MOST_TOKENS: usize = 1024;
const MOST_SEQUENCES: usize = 64;

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
    let backend = bench.backend();
    let source = ModelSource::Memory {
        name: "random",
        files: &FILES,
    };
    let options = LoadOptions {
        dtype: Some(format),
        load_format: LoadFormat::Random { seed: 0 },
        ..LoadOptions::default()
    };
    let model = Arc::new(Model::load(&source, &options, &backend)?);
    let blocks = (MOST_SEQUENCES * CONTEXT).max(MOST_TOKENS) / BLOCK_SIZE;
    let config = RunnerConfig::new(
        blocks as u32,
        BLOCK_SIZE as u32,
        MOST_TOKENS,
        MOST_SEQUENCES,
    );
    let mut runner = Runner::new(Arc::clone(&model), backend, config)?;
    for (sequences, tokens, context) in [
        (1, 1, CONTEXT),
        (4, 1, CONTEXT),
        (16, 1, CONTEXT),
        (64, 1, CONTEXT),
        (1, 1024, 1024),
    ] {
        let batch = batch(sequences, tokens, context);
        let work = Work {
            bytes: model.weight_bytes(),
            ops: 2 * (BODY * sequences * tokens + HEAD * sequences),
            peak: Peak::of(format),
        };
        let shape = format!("{sequences} x {tokens} at {context}");
        bench.measure(&format!("step/{format}"), &shape, work, || {
            run(&mut runner, &batch)
        })?;
    }
    Ok(())
}

/// All layers, then the logits of each sequence's last token, tile by tile.
fn run(runner: &mut Runner, batch: &Batch) -> Result<()> {
    runner.forward(batch)?;
    let rows = batch.output_rows.len();
    for start in (0..rows).step_by(LOGITS_TILE) {
        black_box(runner.logits(start..rows.min(start + LOGITS_TILE))?);
    }
    Ok(())
}

/// The last `tokens` of each sequence's `context` positions.
fn batch(sequences: usize, tokens: usize, context: usize) -> Batch {
    let blocks = context / BLOCK_SIZE;
    let rows = || {
        (0..sequences).flat_map(|sequence| (context - tokens..context).map(move |p| (sequence, p)))
    };
    Batch {
        tokens: rows()
            .map(|(sequence, p)| ((sequence * 7919 + p * 131) % VOCAB) as u32)
            .collect(),
        positions: rows().map(|(_, p)| p as u32).collect(),
        spans: (0..sequences)
            .map(|sequence| Span {
                first_token: sequence * tokens,
                num_tokens: tokens,
                context_len: context,
            })
            .collect(),
        groups: vec![KvGroup {
            tables: BlockTables {
                tables: (0..sequences)
                    .map(|sequence| {
                        (0..blocks)
                            .map(|b| (sequence * blocks + b) as u32)
                            .collect()
                    })
                    .collect(),
                block_size: BLOCK_SIZE,
            },
            slots: rows()
                .map(|(sequence, p)| (sequence * context + p) as u32)
                .collect(),
        }],
        output_rows: (1..=sequences).map(|n| (n * tokens - 1) as u32).collect(),
    }
}
