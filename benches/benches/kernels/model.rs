//! Whole steps of a model, logits included.

use std::hint::black_box;
use std::sync::Arc;

use anyhow::Result;
use maitre_model::{
    Batch, KvGroup, LOGITS_TILE, LoadFormat, LoadOptions, Model, ModelSource, Runner, RunnerConfig,
};
use maitre_tensor::{Backend, BlockTables, Span, WeightFormat};

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
static RANDOM: [(&str, &[u8]); 1] = [("config.json", CONFIG.as_bytes())];

const BLOCK_SIZE: usize = 16;

/// Tokens of the largest step.
pub(crate) const MOST_TOKENS: usize = 1024;
/// Sequences of the largest step.
pub(crate) const MOST_SEQUENCES: usize = 64;
/// Positions of all sequences together.
const MOST_POSITIONS: usize = MOST_SEQUENCES * 128;

/// The 0.6B model with random weights.
pub(crate) fn random(backend: &Backend, format: WeightFormat) -> Result<Runner> {
    let source = ModelSource::Memory {
        name: "random",
        files: &RANDOM,
    };
    let options = LoadOptions {
        dtype: Some(format),
        load_format: LoadFormat::Random { seed: 0 },
        ..LoadOptions::default()
    };
    runner(&source, &options, backend)
}

/// A runner for steps of up to [`MOST_TOKENS`] tokens of [`MOST_SEQUENCES`] sequences.
pub(crate) fn runner(
    source: &ModelSource,
    options: &LoadOptions,
    backend: &Backend,
) -> Result<Runner> {
    let model = Arc::new(Model::load(source, options, backend)?);
    let blocks = MOST_POSITIONS / BLOCK_SIZE;
    let (tokens, sequences) = (MOST_TOKENS, MOST_SEQUENCES);
    let config = RunnerConfig::new(blocks as u32, BLOCK_SIZE as u32, tokens, sequences);
    Ok(Runner::new(model, backend.clone(), config)?)
}

/// All layers, then the logits of the output rows, tile by tile.
pub(crate) fn run(runner: &mut Runner, batch: &Batch) -> Result<()> {
    runner.forward(batch)?;
    let rows = batch.output_rows.len();
    for start in (0..rows).step_by(LOGITS_TILE) {
        black_box(runner.logits(start..rows.min(start + LOGITS_TILE))?);
    }
    Ok(())
}

/// Sequences of `context` positions, of which the last `tokens` are new.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) sequences: usize,
    pub(crate) tokens: usize,
    pub(crate) context: usize,
}

impl Shape {
    pub(crate) fn name(self) -> String {
        format!("{} x {} at {}", self.sequences, self.tokens, self.context)
    }

    /// Rows of the step.
    pub(crate) fn rows(self) -> usize {
        self.sequences * self.tokens
    }

    /// A step with logits of each sequence's last `outputs` tokens.
    pub(crate) fn batch(self, vocab: usize, outputs: usize) -> Batch {
        let Self {
            sequences,
            tokens,
            context,
        } = self;
        let blocks = context.div_ceil(BLOCK_SIZE);
        let rows = || {
            (0..sequences)
                .flat_map(|sequence| (context - tokens..context).map(move |p| (sequence, p)))
        };
        let table = |sequence| (0..blocks).map(move |b| (sequence * blocks + b) as u32);
        let row = |sequence, back| (sequence * tokens - back) as u32;
        Batch {
            tokens: rows()
                .map(|(sequence, p)| ((sequence * 7919 + p * 131) % vocab) as u32)
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
                    first_blocks: Vec::new(),
                    tables: (0..sequences).map(|s| table(s).collect()).collect(),
                    block_size: BLOCK_SIZE,
                },
                slots: rows()
                    .map(|(sequence, p)| (sequence * blocks * BLOCK_SIZE + p) as u32)
                    .collect(),
            }],
            output_rows: (1..=sequences)
                .flat_map(|sequence| (1..=outputs).rev().map(move |back| row(sequence, back)))
                .collect(),
        }
    }
}
