//! What the integration tests share: loading, building batches by hand, and a greedy loop.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use maitre_model::{Batch, KvGroup, LoadOptions, Model, ModelSource, Runner, RunnerConfig};
use maitre_tensor::{
    Backend, BlockTables, DeviceName, GpuOptions, NO_SLOT, Span, TensorError, WeightFormat,
};

pub(crate) const FIXTURES: &[&str] = &[
    "cohere2-bf16-bias-v4",
    "cohere2-f32-windows",
    "exaone4-bf16-v4",
    "exaone4-f32-windows",
    "gemma-bf16-v4",
    "gemma-f32-tied",
    "gemma2-bf16-v4",
    "gemma2-f32-windows",
    "gemma3-bf16-images",
    "gemma3-bf16-v4",
    "gemma3-f32-images-v4",
    "gemma3-f32-linear",
    "glm-bf16-v4",
    "glm-f32-partial",
    "glm4-bf16-v4",
    "glm4-f32-partial",
    "gpt2-bf16-v4",
    "gpt2-f32-inner",
    "granite-bf16-bias-v4",
    "granite-f32-tied",
    "hunyuan-bf16-bias-v4",
    "hunyuan-f32-alpha",
    "llama-bf16-dynamic-short-v4",
    "llama-bf16-llama3-tied-as-head",
    "llama-f16-untied",
    "llama-f32-dynamic",
    "llama-f32-llama3-bias-v4",
    "llama-f32-sharded",
    "ministral-bf16-v4",
    "ministral-f32-windows",
    "ministral3-bf16-window",
    "ministral3-f32-yarn",
    "mistral-f32-window",
    "mistral3-bf16-ministral3",
    "mistral3-f32-images-v4",
    "olmo2-bf16-bias-v4",
    "olmo2-f32",
    "olmo3-bf16-yarn-v4",
    "olmo3-f32-yarn",
    "phi3-bf16-longrope-short-v4",
    "phi3-f32-longrope",
    "qwen2-bf16-yarn",
    "qwen2-f32-windows-v4",
    "qwen3-bf16-untied-bias-v4",
    "qwen3-f32-tied",
    "seed-oss-bf16-v4",
    "seed-oss-f32-bias",
    "smollm3-bf16-bias-v4",
    "smollm3-f32-windows",
    "starcoder2-bf16-v4",
    "starcoder2-f32-window",
];

pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

pub(crate) fn bundled(model: &'static maitre_bundled::BundledModel) -> ModelSource {
    ModelSource::Memory {
        name: model.name,
        files: model.files,
    }
}

/// The shared test data, or `None` after saying that the test is skipped.
pub(crate) fn test_data() -> Option<PathBuf> {
    let data = std::env::var_os("MAITRE_TEST_DATA").map(PathBuf::from);
    if data.is_none() {
        eprintln!("skipped: set MAITRE_TEST_DATA to the shared test data to run this test");
    }
    data
}

/// How a fixture is loaded so that it is computed as transformers computed it.
pub(crate) fn options_of(name: &str) -> LoadOptions {
    LoadOptions {
        // It chooses LongRoPE's factors and dynamic bases by the length of a prompt.
        context_len: match name {
            "phi3-bf16-longrope-short-v4" | "llama-bf16-dynamic-short-v4" => Some(64),
            "llama-f32-dynamic" => Some(70),
            _ => None,
        },
        ..LoadOptions::default()
    }
}

pub(crate) fn in_dtype(dtype: WeightFormat) -> LoadOptions {
    LoadOptions {
        dtype: Some(dtype),
        ..LoadOptions::default()
    }
}

/// A loaded model, and what its runners are sized for. Sequences whose logits are to be compared
/// each get a runner of their own: a cache that still holds an earlier run of the same tokens would
/// hide that a later one forgot to write them.
pub(crate) struct Host {
    model: Arc<Model>,
    backend: Backend,
    config: RunnerConfig,
}

impl Host {
    /// For steps of up to 512 tokens of one sequence.
    pub(crate) fn new(source: &ModelSource, options: &LoadOptions, threads: usize) -> Self {
        let backend = Backend::cpu(threads).unwrap();
        let model = Arc::new(Model::load(source, options, &backend).unwrap());
        Self {
            model,
            backend,
            config: RunnerConfig::new(32, 16, 512, 1),
        }
    }

    /// The same on the emulated GPU, in deterministic mode; `None` after saying that there is no emulator.
    pub(crate) fn on_gpu(source: &ModelSource, options: &LoadOptions) -> Option<Self> {
        let opened = Backend::open(DeviceName::Emulator, 1, GpuOptions::default());
        let backend = match opened {
            Err(error @ TensorError::NoDevice { .. }) => {
                eprintln!("skipped: {error}");
                return None;
            }
            opened => opened.unwrap(),
        };
        let model = Arc::new(Model::load(source, options, &backend).unwrap());
        Some(Self {
            model,
            backend,
            config: RunnerConfig::new(32, 16, 128, 4),
        })
    }

    /// A runner of another size.
    pub(crate) fn sized(&self, config: RunnerConfig) -> Runner {
        let config = for_all_groups(&self.model, config);
        Runner::new(self.model.clone(), self.backend.clone(), config).unwrap()
    }

    pub(crate) fn backend(&self) -> &Backend {
        &self.backend
    }

    pub(crate) fn model(&self) -> &Model {
        &self.model
    }

    /// A runner with an empty cache.
    pub(crate) fn runner(&self) -> Runner {
        self.sized(self.config)
    }
}

/// As many blocks for each KV group of `model`.
pub(crate) fn for_all_groups(model: &Model, config: RunnerConfig) -> RunnerConfig {
    let groups = model.kv_layout().groups.len() as u32;
    RunnerConfig {
        num_blocks: config.num_blocks * groups,
        ..config
    }
}

/// A runner whose steps take up to 512 tokens of up to 8 sequences.
pub(crate) fn runner(source: &ModelSource, options: &LoadOptions, threads: usize) -> Runner {
    sized_runner(source, options, threads, RunnerConfig::new(64, 16, 512, 8))
}

pub(crate) fn sized_runner(
    source: &ModelSource,
    options: &LoadOptions,
    threads: usize,
    config: RunnerConfig,
) -> Runner {
    let backend = Backend::cpu(threads).unwrap();
    let model = Arc::new(Model::load(source, options, &backend).unwrap());
    let config = for_all_groups(&model, config);
    Runner::new(model, backend, config).unwrap()
}

/// A span of a batch under construction.
#[derive(Debug, Clone)]
pub(crate) struct Part<'a> {
    pub(crate) tokens: &'a [u32],
    /// The position of the first token.
    pub(crate) start: usize,
    pub(crate) table: &'a [u32],
}

/// A batch of `parts` with every row an output row.
pub(crate) fn batch(parts: &[Part<'_>], block_size: usize) -> Batch {
    let mut batch = Batch {
        tokens: Vec::new(),
        positions: Vec::new(),
        spans: Vec::new(),
        groups: Vec::new(),
        output_rows: Vec::new(),
    };
    let mut slots = Vec::new();
    for part in parts {
        batch.spans.push(Span {
            first_token: batch.tokens.len(),
            num_tokens: part.tokens.len(),
            context_len: part.start + part.tokens.len(),
        });
        for (position, token) in (part.start..).zip(part.tokens) {
            batch.tokens.push(*token);
            batch.positions.push(position as u32);
            let block = part.table[position / block_size] as usize;
            slots.push((block * block_size + position % block_size) as u32);
        }
    }
    batch.output_rows = (0..batch.tokens.len() as u32).collect();
    batch.groups.push(KvGroup {
        tables: BlockTables {
            first_blocks: Vec::new(),
            tables: parts.iter().map(|part| part.table.to_vec()).collect(),
            block_size,
        },
        slots,
    });
    batch
}

/// Runs a batch of one KV group in all groups of `runner`'s model. The blocks of the groups alternate, so that none is in
/// two of them.
pub(crate) fn forward(runner: &mut Runner, batch: &Batch) {
    let groups = runner.limits().groups.len() as u32;
    let block_size = runner.limits().block_size as u32;
    let mut batch = batch.clone();
    let from = batch.groups.remove(0);
    batch.groups.extend((0..groups).map(|group| {
        let mut own = from.clone();
        let page = |block: u32| block * groups + group;
        let blocks = own.tables.tables.iter_mut().flatten();
        blocks.for_each(|block| *block = page(*block));
        let slots = own.slots.iter_mut().filter(|slot| **slot != NO_SLOT);
        slots.for_each(|slot| {
            *slot = page(*slot / block_size) * block_size + *slot % block_size;
        });
        own
    }));
    runner.forward(&batch).unwrap();
}

/// The logits of all output rows of the last step, one vector per row.
pub(crate) fn all_logits(runner: &mut Runner, rows: usize) -> Vec<Vec<f32>> {
    let vocab = runner.limits().vocab_size;
    let mut all = Vec::with_capacity(rows);
    let tile = runner.logits_tile();
    for start in (0..rows).step_by(tile) {
        let end = rows.min(start + tile);
        let tile = runner.logits(start..end).unwrap().values;
        all.extend(tile.chunks_exact(vocab).map(<[f32]>::to_vec));
    }
    all
}

/// Every block that the cache has for a KV group, in order: the table of a sequence that has the cache to itself.
pub(crate) fn whole_cache(runner: &Runner) -> Vec<u32> {
    let groups = runner.limits().groups.len();
    (0..(runner.limits().num_blocks / groups) as u32).collect()
}

/// The logits after each token of `tokens`, computed alone in chunks of at most `chunk`.
pub(crate) fn prefill(runner: &mut Runner, tokens: &[u32], chunk: usize) -> Vec<Vec<f32>> {
    let table = whole_cache(runner);
    let block_size = runner.limits().block_size;
    let mut logits = Vec::with_capacity(tokens.len());
    for (index, tokens) in tokens.chunks(chunk).enumerate() {
        let part = Part {
            tokens,
            start: index * chunk,
            table: &table,
        };
        forward(runner, &batch(&[part], block_size));
        logits.extend(all_logits(runner, tokens.len()));
    }
    logits
}

/// Generates greedily until one of `stops` or `max_tokens`; the prompt goes in by `chunk` tokens.
/// Mid-prompt steps ask for no logits, as a scheduler would.
pub(crate) fn greedy(
    runner: &mut Runner,
    prompt: &[u32],
    chunk: usize,
    max_tokens: usize,
    stops: &[u32],
) -> Vec<u32> {
    let table = whole_cache(runner);
    let block_size = runner.limits().block_size;
    let mut known = prompt.to_vec();
    let mut computed = 0;
    while known.len() < prompt.len() + max_tokens {
        let end = known.len().min(computed + chunk);
        let part = Part {
            tokens: &known[computed..end],
            start: computed,
            table: &table,
        };
        let mut batch = batch(&[part], block_size);
        let last_row = (end - computed - 1) as u32;
        let complete = end == known.len();
        batch.output_rows = if complete { vec![last_row] } else { vec![] };
        forward(runner, &batch);
        computed = end;
        if complete {
            let next = argmax(runner.logits(0..1).unwrap().values);
            known.push(next);
            if stops.contains(&next) {
                break;
            }
        }
    }
    known.split_off(prompt.len())
}

/// The first of the largest.
pub(crate) fn argmax(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (token, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = token;
        }
    }
    best as u32
}

pub(crate) fn bits(logits: &[f32]) -> Vec<u32> {
    logits.iter().map(|logit| logit.to_bits()).collect()
}
