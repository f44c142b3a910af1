//! `maitre inspect`: what a model (and one that drafts for it) is and what it needs, from its configuration alone, and
//! in which formats its files hold it. The files that are there are checked as a start would, but no weights are read.
//! Of a model that is refused and has formats that are not read, all are told before the reason. With a device it is also
//! said whether the model fits it.

mod fit;
mod stored;

use std::collections::BTreeSet;
use std::io::Write;

use anyhow::Result;
use clap::Args;
use maitre::server::Startup;
use maitre::{AvailableMemory, DeviceFit, DeviceName, KvFormat, WeightFormat};
use maitre_model::{KvLayout, ModelConfig, StoredTensors};
use serde_json::json;

use super::model::{KvDTypeArg, WeightDType, parse_dtype};
use super::source;

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// `bundled`, a directory in Hugging Face's layout, a GGUF file, ORG/NAME on the Hub (ORG/NAME:Q4_K_M for one in
    /// GGUF files), or a short name such as qwen3:0.6b.
    #[arg(long, default_value = "bundled", value_name = "MODEL")]
    model: String,
    /// A draft model to count beside it: `bundled`, a directory, ORG/NAME on the Hub, or `none`. Only its sizes
    /// are looked at, not whether it has the same vocabulary [default: the bundled draft for the bundled
    /// model, as it is served, else none].
    #[arg(long, value_name = "MODEL")]
    draft_model: Option<String>,
    /// Dtype of the KV cache to count with; auto = f32 for f32 weights, else bf16.
    #[arg(long, default_value = "auto")]
    kv_dtype: KvDTypeArg,
    /// Also say whether the model fits on a device as `serve` would start it there: auto (the first GPU, if this build
    /// can use one, else the processor), cpu, or cuda[:N].
    #[arg(long, value_name = "DEVICE")]
    device: Option<DeviceName>,
    /// Dtype of the weights on the device, as `serve` takes it [default: auto, the file's].
    #[arg(long, value_name = "DTYPE", value_parser = parse_dtype, requires = "device")]
    dtype: Option<WeightDType>,
    /// Most tokens of a sequence on the device [default: the model's].
    #[arg(long, value_name = "TOKENS", requires = "device")]
    max_model_len: Option<usize>,
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

/// A model, and the one that drafts for it: both have weights, and both write keys and values for every token.
struct Inspected {
    name: String,
    config: ModelConfig,
    stored: Vec<StoredTensors>,
    draft: Option<(String, ModelConfig)>,
    /// What the draft model's files hold.
    draft_stored: Vec<StoredTensors>,
    dtypes: [(WeightFormat, KvFormat); 5],
    available: Option<AvailableMemory>,
    /// Whether it fits the device that was asked about.
    fit: Option<DeviceFit>,
}

/// What one `--dtype` needs.
struct Row {
    name: String,
    /// `None`: as stored.
    weights: Option<WeightFormat>,
    kv: KvFormat,
}

pub(crate) async fn run(args: InspectArgs, startup: &Startup) -> Result<()> {
    let target = source::target(&args.model, startup).await?;
    let default = (args.model == source::BUNDLED).then_some(source::BUNDLED);
    let (mut draft_stored, mut draft_source) = (Vec::new(), None);
    let draft = match args.draft_model.as_deref().or(default) {
        None | Some("none") => None,
        Some(name) => {
            let draft = source::draft(name, startup).await?;
            let config = maitre::check_draft_files(&draft)?;
            draft_stored = draft.stored_tensors()?;
            let name = draft.to_string();
            draft_source = Some(draft);
            Some((name, config))
        }
    };
    let (stored, config) = match (target.stored_tensors(), maitre::check_files(&target)) {
        (stored, Ok(config)) => (stored?, config),
        (stored, Err(error)) => {
            // The reason names one tensor or none; the table has all formats.
            let unread = stored.unwrap_or_default();
            if !args.json && unread.iter().any(|tensors| !tensors.is_supported) {
                let table = stored::table(&unread);
                write!(std::io::stdout().lock(), "{target}\n\n{table}")?;
            }
            return Err(error.into());
        }
    };
    let name = target.to_string();
    let fit = fit::of(&args, target, draft_source).await?;
    let inspected = Inspected {
        name,
        config,
        stored,
        draft,
        draft_stored,
        dtypes: DTYPES.map(|(weights, kv)| (weights, args.kv_dtype.format().unwrap_or(kv))),
        available: maitre::available_memory(),
        fit,
    };
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", inspected.as_json())?;
    } else {
        write!(out, "{}", inspected.as_text())?;
    }
    Ok(())
}

impl Inspected {
    /// Bytes of the weights in memory; as they are stored if no dtype is given.
    fn weight_bytes(&self, weights: Option<WeightFormat>) -> u64 {
        bytes_as(&self.config, &self.stored, weights)
    }

    /// The same of the draft model; 0 without one.
    fn draft_bytes(&self, weights: Option<WeightFormat>) -> u64 {
        let draft = self.draft.as_ref();
        draft.map_or(0, |(_, draft)| bytes_as(draft, &self.draft_stored, weights))
    }

    /// The rows of the table: `auto` where the file is kept in a format that `--dtype` does not know, then the dtypes.
    fn rows(&self) -> Vec<Row> {
        let rows = self.dtypes.iter().map(|&(weights, kv)| Row {
            name: weights.to_string(),
            weights: Some(weights),
            kv,
        });
        let mut rows: Vec<Row> = rows.collect();
        let is_known = |stored: &StoredTensors| {
            let mut names = rows.iter().map(|row| row.name.as_str());
            names.any(|name| name.eq_ignore_ascii_case(&stored.format))
        };
        if !self.stored.iter().all(is_known) {
            // Stored blocks go with keys and values in bf16, as the row of that name has them.
            let same = rows
                .iter()
                .find(|row| row.weights == Some(WeightFormat::Bf16));
            let auto = Row {
                name: "auto".to_owned(),
                weights: None,
                kv: same.map_or(KvFormat::Bf16, |row| row.kv),
            };
            rows.insert(0, auto);
        }
        rows
    }

    /// Tokens of KV cache that fit beside the weights, the draft model's counted in both; `None` where the
    /// memory can't be read.
    fn kv_tokens(&self, row: &Row) -> Option<u64> {
        let Row { weights, kv, .. } = *row;
        let draft = self.draft.as_ref().map(|(_, draft)| draft);
        let held = self.weight_bytes(weights) + self.draft_bytes(weights);
        let per_token =
            self.config.kv_bytes_per_token(kv) + draft.map_or(0, |d| d.kv_bytes_per_token(kv));
        let available = self.available.as_ref()?.bytes;
        Some(available.saturating_sub(held) / per_token)
    }

    fn as_text(&self) -> String {
        let config = &self.config;
        let mut text = format!(
            "{}: {}\n\
             parameters          {:.2} M\n\
             layers              {} (hidden {}, MLP {})\n\
             heads               {} of {} (KV heads {})\n\
             vocabulary          {}{}\n\
             context             {} tokens{}\n",
            self.name,
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
        );
        if let Some(wrapper) = config.wrapper {
            text += &format!(
                "text alone          of {wrapper}: what turns images into tokens is not loaded\n"
            );
        }
        text += &kv_groups(config);
        if let Some((name, draft)) = &self.draft {
            text += &format!(
                "draft model         {name}: {}, {:.2} M parameters, {} layers (hidden {}), vocabulary {}\n",
                draft.architecture,
                draft.num_parameters() as f64 / 1e6,
                draft.num_layers,
                draft.hidden_size,
                draft.vocab_size,
            );
        }
        text += &format!(
            "memory available    {}\n\n",
            match &self.available {
                None => "unknown".into(),
                Some(AvailableMemory { bytes, limit: None }) => mib(*bytes),
                Some(AvailableMemory {
                    bytes,
                    limit: Some(limit),
                }) => format!("{} (limited to {limit})", mib(*bytes)),
            }
        );
        text += &stored::table(&self.stored);
        if !self.stored.is_empty() {
            text.push('\n');
        }
        text += &self.table();
        if let Some(fit) = &self.fit {
            text = text + "\n" + &fit::table(fit);
        }
        text
    }

    /// A line for each dtype of the weights. The draft model's columns are there if it is.
    fn table(&self) -> String {
        let line = |dtype: &str,
                    weights: &str,
                    draft: &str,
                    kv: &str,
                    bytes: &str,
                    own: &str,
                    fit: &str| {
            let (draft, own) = match self.draft {
                Some(_) => (format!("{draft:>14}"), format!("{own:>10}")),
                None => (String::new(), String::new()),
            };
            format!("{dtype:<8}{weights:>14}{draft}{kv:>8}{bytes:>18}{own}{fit:>22}\n")
        };
        let mut table = line(
            "--dtype",
            "weights",
            "draft",
            "KV",
            "KV bytes/token",
            "+ draft",
            "tokens beside it",
        );
        for row in self.rows() {
            let draft = self.draft.as_ref().map(|(_, draft)| draft);
            table += &line(
                &row.name,
                &mib(self.weight_bytes(row.weights)),
                &mib(self.draft_bytes(row.weights)),
                &row.kv.to_string(),
                &self.config.kv_bytes_per_token(row.kv).to_string(),
                &draft
                    .map_or(0, |draft| draft.kv_bytes_per_token(row.kv))
                    .to_string(),
                &self
                    .kv_tokens(&row)
                    .map_or_else(|| "unknown".into(), |tokens| tokens.to_string()),
            );
        }
        table
    }

    fn as_json(&self) -> serde_json::Value {
        let config = &self.config;
        let bytes = |config: &ModelConfig, weight_bytes: u64, kv| {
            json!({
                "weight_bytes": weight_bytes,
                "kv_bytes_per_token": config.kv_bytes_per_token(kv),
                "kv_bytes_per_distant_token": config.kv_bytes_per_distant_token(kv),
            })
        };
        let dtypes: serde_json::Map<_, _> = self
            .rows()
            .into_iter()
            .map(|row| {
                let mut entry = bytes(config, self.weight_bytes(row.weights), row.kv);
                entry["kv_dtype"] = row.kv.to_string().into();
                entry["kv_tokens_that_fit"] = self.kv_tokens(&row).into();
                if let Some((_, draft)) = &self.draft {
                    entry["draft"] = bytes(draft, self.draft_bytes(row.weights), row.kv);
                }
                (row.name, entry)
            })
            .collect();
        let groups = config.kv_layout().groups;
        let groups: Vec<_> = groups
            .iter()
            .map(|group| {
                json!({
                    "layers": group.layers,
                    "window": group.reads.window(),
                    "bf16_bytes_per_token": kv_bytes_per_group(config),
                })
            })
            .collect();
        let draft = self.draft.as_ref().map(|(name, draft)| {
            json!({
                "model": name,
                "architecture": draft.architecture.to_string(),
                "parameters": draft.num_parameters(),
                "layers": draft.num_layers,
                "hidden_size": draft.hidden_size,
                "vocab_size": draft.vocab_size,
            })
        });
        let mut facts = json!({
            "architecture": config.architecture.to_string(),
            "text_of": config.wrapper.map(|wrapper| wrapper.to_string()),
            "parameters": config.num_parameters(),
            "layers": config.num_layers,
            "hidden_size": config.hidden_size,
            "heads": config.num_heads,
            "kv_heads": config.num_kv_heads,
            "head_dim": config.head_dim,
            "vocab_size": config.vocab_size,
            "context": config.max_position_embeddings,
            "sliding_window": config.sliding_window,
            "kv_groups": groups,
            "stored": stored::as_json(&self.stored),
            "draft": draft,
            "available_bytes": self.available.as_ref().map(|available| available.bytes),
            "memory_limit": self.available.as_ref().and_then(|available| {
                let limit = available.limit.as_ref()?;
                Some(json!({ "bytes": limit.bytes, "file": limit.file }))
            }),
            "dtypes": dtypes,
        });
        if let Some(fit) = &self.fit {
            facts["device"] = fit::as_json(fit);
        }
        facts
    }
}

/// Bytes of a model's weights in memory in a dtype, or as they are stored.
fn bytes_as(config: &ModelConfig, stored: &[StoredTensors], weights: Option<WeightFormat>) -> u64 {
    match weights {
        Some(weights) => config.weight_bytes(weights),
        None => stored.iter().map(|it| it.bytes_in_memory).sum(),
    }
}

/// How layers share the cache, where they read it in different ways.
fn kv_groups(config: &ModelConfig) -> String {
    let KvLayout { places, groups } = config.kv_layout();
    if groups.len() < 2 {
        return String::new();
    }
    let windows: BTreeSet<Option<usize>> =
        groups.iter().map(|group| group.reads.window()).collect();
    let kinds: Vec<String> = windows
        .into_iter()
        .map(|window| {
            let alike = groups.iter().filter(|group| group.reads.window() == window);
            match window {
                None => format!("{} that read all", alike.count()),
                Some(window) => format!("{} that read the last {window} tokens", alike.count()),
            }
        })
        .collect();
    let [all, distant] = [
        config.kv_bytes_per_token(KvFormat::Bf16),
        config.kv_bytes_per_distant_token(KvFormat::Bf16),
    ];
    format!(
        "KV groups           {}, of up to {places} layers\n\
         KV of a group       {} bytes/token (bf16)\n\
         KV behind windows   {distant} of {all} bytes/token (bf16)\n",
        kinds.join(", "),
        kv_bytes_per_group(config)
    )
}

/// Bytes of a token's keys and values in one of the groups, which are alike, in bf16.
fn kv_bytes_per_group(config: &ModelConfig) -> u64 {
    let groups = config.kv_layout().groups.len().max(1) as u64;
    config.kv_bytes_per_token(KvFormat::Bf16) / groups
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / (1024.0 * 1024.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_of_layers_are_told_where_there_are_several() {
        let mut config = json!({
            "architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text", "hidden_size": 640,
            "intermediate_size": 2048, "num_hidden_layers": 18, "num_attention_heads": 4, "num_key_value_heads": 1,
            "head_dim": 256, "vocab_size": 262_144, "max_position_embeddings": 32_768, "sliding_window": 512
        });
        let told = |config: &serde_json::Value| {
            let read = ModelConfig::from_json(config.to_string().as_bytes());
            kv_groups(&read.expect("a configuration"))
        };
        assert_eq!(
            told(&config),
            "KV groups           1 that read all, 5 that read the last 512 tokens, of up to 3 layers\n\
             KV of a group       3072 bytes/token (bf16)\n\
             KV behind windows   3072 of 18432 bytes/token (bf16)\n"
        );
        config["layer_types"] = json!(vec!["full_attention"; 18]);
        assert_eq!(told(&config), "");
    }
}
