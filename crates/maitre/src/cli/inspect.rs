//! `maitre inspect`: what a model is and what it needs, from its configuration alone.

use std::io::Write;

use anyhow::{Context, Result};
use clap::Args;
use maitre::{KvFormat, WeightFormat};
use maitre_model::ModelConfig;
use serde_json::json;

use super::model::{KvDTypeArg, source};

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// `bundled`, a directory in Hugging Face's layout, or ORG/NAME on the Hub.
    #[arg(long, default_value = "bundled", value_name = "MODEL")]
    model: String,
    /// Dtype of the KV cache to count with; auto = f32 for f32 weights, else bf16.
    #[arg(long, default_value = "auto")]
    kv_dtype: KvDTypeArg,
    /// Print one JSON object instead of the table.
    #[arg(long)]
    json: bool,
}

/// The weights' dtypes with the KV dtype each goes with by default.
const DTYPES: [(WeightFormat, KvFormat); 5] = [
    (WeightFormat::F32, KvFormat::F32),
    (WeightFormat::Bf16, KvFormat::Bf16),
    (WeightFormat::F16, KvFormat::Bf16),
    (WeightFormat::INT8, KvFormat::Bf16),
    (WeightFormat::INT4, KvFormat::Bf16),
];

pub(crate) async fn run(args: InspectArgs) -> Result<()> {
    let source = source(&args.model).await?;
    let json = source
        .read("config.json")?
        .with_context(|| format!("{source} has no config.json"))?;
    let config = ModelConfig::from_json(&json)?;
    let available = maitre::available_memory();
    let dtypes = DTYPES.map(|(weights, kv)| (weights, args.kv_dtype.format().unwrap_or(kv)));
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", as_json(&config, &dtypes, available))?;
    } else {
        let name = source.to_string();
        write!(out, "{}", as_text(&name, &config, &dtypes, available))?;
    }
    Ok(())
}

/// Tokens of KV cache that fit beside the weights; `None` where the memory can't be read.
fn kv_tokens(
    config: &ModelConfig,
    weights: WeightFormat,
    kv: KvFormat,
    available: Option<u64>,
) -> Option<u64> {
    let left = available?.saturating_sub(config.weight_bytes(weights));
    Some(left / config.kv_bytes_per_token(kv))
}

fn as_text(
    name: &str,
    config: &ModelConfig,
    dtypes: &[(WeightFormat, KvFormat)],
    available: Option<u64>,
) -> String {
    let mut text = format!(
        "{name}: {}\n\
         parameters          {:.2} M\n\
         layers              {} (hidden {}, MLP {})\n\
         heads               {} of {} (KV heads {})\n\
         vocabulary          {}{}\n\
         context             {} tokens{}\n\
         memory available    {}\n\n\
         {:<8}{:>14}{:>8}{:>18}{:>22}\n",
        config.architecture,
        config.num_parameters() as f64 / 1e6,
        config.num_layers,
        config.hidden_size,
        config.intermediate_size,
        config.num_heads,
        config.head_dim,
        config.num_kv_heads,
        config.vocab_size,
        if config.tie_word_embeddings {
            ", output layer tied to the embedding"
        } else {
            ""
        },
        config.max_position_embeddings,
        config
            .sliding_window
            .map_or_else(String::new, |window| format!(
                ", of which a token sees the last {window}"
            )),
        available.map_or_else(|| "unknown".into(), mib),
        "--dtype",
        "weights",
        "KV",
        "KV bytes/token",
        "tokens beside it",
    );
    for &(weights, kv) in dtypes {
        text += &format!(
            "{:<8}{:>14}{:>8}{:>18}{:>22}\n",
            weights.to_string(),
            mib(config.weight_bytes(weights)),
            kv.to_string(),
            config.kv_bytes_per_token(kv),
            kv_tokens(config, weights, kv, available)
                .map_or_else(|| "unknown".into(), |tokens| tokens.to_string()),
        );
    }
    text
}

fn as_json(
    config: &ModelConfig,
    dtypes: &[(WeightFormat, KvFormat)],
    available: Option<u64>,
) -> serde_json::Value {
    let dtypes: serde_json::Map<_, _> = dtypes
        .iter()
        .map(|&(weights, kv)| {
            let entry = json!({
                "weight_bytes": config.weight_bytes(weights),
                "kv_dtype": kv.to_string(),
                "kv_bytes_per_token": config.kv_bytes_per_token(kv),
                "kv_tokens_that_fit": kv_tokens(config, weights, kv, available),
            });
            (weights.to_string(), entry)
        })
        .collect();
    json!({
        "architecture": config.architecture.to_string(),
        "parameters": config.num_parameters(),
        "layers": config.num_layers,
        "hidden_size": config.hidden_size,
        "heads": config.num_heads,
        "kv_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "vocab_size": config.vocab_size,
        "context": config.max_position_embeddings,
        "sliding_window": config.sliding_window,
        "available_bytes": available,
        "dtypes": dtypes,
    })
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / (1024.0 * 1024.0))
}
