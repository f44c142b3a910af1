//! The flags that choose a model and size the engine, shared by every command that runs one.

use std::time::Duration;

use anyhow::Result;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};
use maitre::server::Startup;
use maitre::{DeviceName, EngineBuilder, KvFormat, LoadFormat, PolicyKind, WeightFormat};

use super::loading::Loading;
use super::short_names;
use super::source::{on_hub, target};
use super::speculation::SpeculationArgs;

/// Which model, how it is held, and the bounds of the engine.
#[derive(Debug, Clone, Args)]
pub(crate) struct ModelArgs {
    /// `bundled`, a directory in Hugging Face's layout, a GGUF file, ORG/NAME on the Hub (ORG/NAME:Q4_K_M for one in
    /// GGUF files), or a short name such as qwen3:0.6b (`maitre list --available`).
    #[arg(long, default_value = "bundled", value_name = "MODEL")]
    pub(crate) model: String,
    /// Name to serve the model under [default: its own].
    #[arg(long, value_name = "NAME")]
    served_model_name: Option<String>,
    /// Where to run: auto (the first GPU, if this build can use one), cpu, or cuda[:N].
    #[arg(long, default_value = "auto", value_name = "DEVICE")]
    device: DeviceName,
    /// On a GPU: `on` keeps an answer's bits the same in every crowd; `off` takes the fastest kernel for each
    /// step, whose last bits depend on its size. The processor always does the former.
    #[arg(long, default_value = "on", value_name = "on|off")]
    deterministic: Switch,
    /// Dtype of the weights: auto (the file's), f32, f16, bf16, int8 or int4, the last two quantized
    /// at load (int4-g32, int4-g128: other group sizes than 64; int8-g64: activation scales per group).
    #[arg(long, default_value = "auto", value_name = "DTYPE", value_parser = parse_dtype)]
    dtype: WeightDType,
    /// Dtype of the KV cache; auto = f32 for f32 weights, else bf16; int8 takes about half of bf16.
    #[arg(long, default_value = "auto")]
    kv_dtype: KvDTypeArg,
    /// Threads of the compute team [default: one per core].
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Read the weights, or make them up from config.json alone.
    #[arg(long, default_value = "auto")]
    load_format: LoadFormatArg,
    /// Seed of made-up weights (and, for `chat` and `generate`, of sampling).
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Most tokens of a prompt and its answer together [default: the model's].
    #[arg(long, value_name = "TOKENS")]
    max_model_len: Option<usize>,
    /// Tokens per KV block.
    #[arg(long, default_value_t = 16, value_name = "TOKENS")]
    block_size: usize,
    /// Bytes of the KV cache [default: --max-seqs whole sequences, at most a quarter of the free
    /// memory and 4 GiB; on a GPU, what is left].
    #[arg(long, value_name = "BYTES")]
    kv_cache_bytes: Option<u64>,
    /// Most sequences in a step [default: 128, on a GPU 256].
    #[arg(long, value_name = "N")]
    max_seqs: Option<usize>,
    /// Most tokens in a step [default: 512, on a GPU 2048].
    #[arg(long, value_name = "TOKENS")]
    max_batched_tokens: Option<usize>,
    /// Most sequences that may wait.
    #[arg(long, default_value_t = 1024, value_name = "N")]
    max_queue: usize,
    /// Most prompt tokens that may wait, over all sequences.
    #[arg(long, default_value_t = 1 << 20, value_name = "TOKENS")]
    max_queued_tokens: usize,
    /// How the model writes calls of tools: the name of a format, or none [default: as its chat template shows].
    #[arg(long, value_name = "FORMAT")]
    tool_format: Option<String>,
    /// How the model writes its thoughts: the name of a format, or none [default: as its chat template shows].
    #[arg(long, value_name = "FORMAT")]
    reasoning_format: Option<String>,
    #[command(flatten)]
    scheduling: SchedulingArgs,
    #[command(flatten)]
    speculation: SpeculationArgs,
}

/// Who goes first, what is remembered, what is promised.
#[derive(Debug, Clone, Args)]
struct SchedulingArgs {
    /// Which request is admitted first. Under `fair` no tenant may have more places in the queue than are
    /// left to all others.
    #[arg(long, default_value = "fcfs", value_name = "POLICY", value_parser = policies())]
    policy: PolicyKind,
    /// A tenant's share of the service under --policy fair, such as acme=3; others have 1. May be
    /// given several times.
    #[arg(long, value_name = "TENANT=N", value_parser = parse_weight)]
    tenant_weight: Vec<(String, u32)>,
    /// Do not share KV blocks between requests that begin alike.
    #[arg(long)]
    no_prefix_cache: bool,
    /// Bytes of ordinary memory for KV blocks that the KV cache has no space for. On a CPU a larger
    /// --kv-cache-bytes does the same at less cost.
    #[arg(long, default_value_t = 0, value_name = "BYTES")]
    host_kv_bytes: u64,
    /// Bytes of memory for what receivers have not read of their answers
    /// [default: the scores of five prompts of the longest length, from 67108864 to 268435456].
    #[arg(long, value_name = "BYTES")]
    unread_bytes: Option<u64>,
    /// How long a step may take while a streaming request waits for its next token: prompts enter in chunks
    /// small enough for that [default: no limit but --max-batched-tokens].
    #[arg(long, value_name = "MS")]
    itl_target_ms: Option<u64>,
    /// Refuse at once what would wait longer for its first step (--policy fcfs only) [default:
    /// nothing].
    #[arg(long, value_name = "MS")]
    max_queue_wait_ms: Option<u64>,
    /// How long a request may be overtaken by others whose prefix is cached; 0 = never.
    #[arg(long, default_value_t = 1000, value_name = "MS")]
    reorder_within_ms: u64,
    /// Publish what the prefix cache gains and loses, for routers (AdminService.WatchCacheEvents). The
    /// events carry the tokens of all tenants' prompts to every client that can reach the gRPC port.
    #[arg(long)]
    cache_events: bool,
}

impl SchedulingArgs {
    fn apply(&self, builder: EngineBuilder) -> EngineBuilder {
        let builder = builder
            .policy(self.policy)
            .prefix_cache(!self.no_prefix_cache)
            .host_kv_bytes(self.host_kv_bytes)
            .unread_bytes(self.unread_bytes)
            .itl_target(self.itl_target_ms.map(Duration::from_millis))
            .max_queue_wait(self.max_queue_wait_ms.map(Duration::from_millis))
            .reorder_within(Duration::from_millis(self.reorder_within_ms))
            .cache_events(self.cache_events);
        self.tenant_weight
            .iter()
            .fold(builder, |builder, (tenant, weight)| {
                builder.tenant_weight(tenant, *weight)
            })
    }
}

/// Every policy by its name, each with a word on it.
pub(crate) fn policies() -> impl TypedValueParser<Value = PolicyKind> {
    let values = PolicyKind::ALL.iter();
    let values = values.map(|&kind| PossibleValue::new(kind.name()).help(kind.about()));
    PossibleValuesParser::new(values).try_map(|name| {
        let mut kinds = PolicyKind::ALL.iter().copied();
        kinds
            .find(|kind| kind.name() == name)
            .ok_or_else(|| format!("no policy is called {name}"))
    })
}

fn parse_weight(text: &str) -> Result<(String, u32), String> {
    let expected = || "expected TENANT=N with N at least 1, such as acme=3".to_owned();
    let (tenant, weight) = text.rsplit_once('=').ok_or_else(expected)?;
    match weight.parse() {
        Ok(weight) if weight > 0 => Ok((tenant.to_owned(), weight)),
        _ => Err(expected()),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Switch {
    On,
    Off,
}

/// A weight format, or the file's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WeightDType(pub(crate) Option<WeightFormat>);

pub(crate) fn parse_dtype(text: &str) -> Result<WeightDType, String> {
    match text {
        "auto" => Ok(WeightDType(None)),
        format => match format.parse() {
            Ok(format) => Ok(WeightDType(Some(format))),
            Err(error) => Err(format!("{error}, or auto for the file's own")),
        },
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum KvDTypeArg {
    Auto,
    F32,
    Bf16,
    Int8,
}

impl KvDTypeArg {
    /// The format asked for; `None` for the one that goes with the weights.
    pub(crate) fn format(self) -> Option<KvFormat> {
        match self {
            Self::Auto => None,
            Self::F32 => Some(KvFormat::F32),
            Self::Bf16 => Some(KvFormat::Bf16),
            Self::Int8 => Some(KvFormat::Int8),
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LoadFormatArg {
    Auto,
    Random,
}

impl ModelArgs {
    /// Finds the model, downloading it if it is a name on the Hub, and prepares the engine.
    pub(crate) async fn builder(&self, startup: &Startup) -> Result<EngineBuilder> {
        let mut builder = maitre::Engine::builder(target(&self.model, startup).await?)
            .dtype(self.dtype.0)
            .kv_dtype(self.kv_dtype.format())
            .load_format(match self.load_format {
                LoadFormatArg::Auto => LoadFormat::Auto,
                LoadFormatArg::Random => LoadFormat::Random {
                    seed: self.seed.unwrap_or(0),
                },
            })
            .device(self.device)
            .deterministic(self.deterministic == Switch::On)
            .threads(self.threads)
            .max_model_len(self.max_model_len)
            .kv_cache_bytes(self.kv_cache_bytes)
            .block_size(self.block_size)
            .max_queue(self.max_queue)
            .max_queued_tokens(self.max_queued_tokens)
            .tool_format(self.tool_format.clone())
            .reasoning_format(self.reasoning_format.clone());
        if let Some(sequences) = self.max_seqs {
            builder = builder.max_seqs(sequences);
        }
        if let Some(tokens) = self.max_batched_tokens {
            builder = builder.max_batched_tokens(tokens);
        }
        builder = self.scheduling.apply(builder);
        builder = self
            .speculation
            .apply(builder, &self.model, startup)
            .await?;
        let from_hub = on_hub("--model", &self.model)?.map(|model| {
            let short = short_names::find(&self.model);
            short.map_or(model.name, |short| short.name.to_owned())
        });
        if let Some(name) = self.served_model_name.clone().or(from_hub) {
            builder = builder.served_name(name);
        }
        Ok(builder)
    }

    /// Threads of the compute team.
    pub(crate) fn threads(&self) -> usize {
        self.threads.unwrap_or_else(|| maitre::usable_cores().count)
    }

    /// Builds the engine, on a thread where blocking is allowed. `startup` is told what is being done.
    pub(crate) async fn engine(&self, startup: &Startup) -> Result<maitre::Engine> {
        self.build(self.builder(startup).await?, startup).await
    }

    /// The same, of a builder that may differ from the flags.
    pub(crate) async fn build(
        &self,
        builder: EngineBuilder,
        startup: &Startup,
    ) -> Result<maitre::Engine> {
        let loading = Loading::new(&self.model);
        tracing::info!("{}", loading.text());
        let told = loading.clone();
        startup.doing_live(move || told.text());
        let builder = builder.progress(move |model, progress| loading.show(model, progress));
        let engine = tokio::task::spawn_blocking(move || builder.build()).await??;
        for line in engine.info().to_string().lines() {
            tracing::info!("{line}");
        }
        startup.doing("");
        Ok(engine)
    }
}
