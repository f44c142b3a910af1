//! The model and the hardware of a replica: known by name, or described in files.

use std::path::Path;

use anyhow::{Context, Result, bail};
use clap::Args;
use maitre::server::Startup;
use maitre_model::ModelConfig;
use maitre_sim::{Hardware, ModelShape, ProductFormat, Window};
use serde::de::DeserializeOwned;

use super::ProductsArg;
use crate::cli::source::{on_hub, target};

/// How far the weights of a shape may be from the model's before that is worth a warning.
const TOLERANCE: f64 = 0.02;

/// What runs on what.
#[derive(Debug, Args)]
pub(super) struct MachineArgs {
    /// A model by name (such as qwen3-8b, llama-3.1-70b, gpt-oss-20b; an unknown one lists all), a directory with a config.json,
    /// a GGUF file, `bundled`, or a .json or .toml file with the sizes of a model.
    #[arg(long, value_name = "MODEL")]
    model: String,
    /// Hardware by name (a100, h100, h200, b200, l4, gb10, cpu), or a .json or .toml file with its figures.
    #[arg(long, value_name = "NAME|FILE")]
    hardware: String,
    /// Bytes of a weight [default: the model's; 2 for one known by name].
    #[arg(long, value_name = "BYTES")]
    bytes_per_weight: Option<f64>,
    /// Bytes of a number in the KV cache [default: 2].
    #[arg(long, value_name = "BYTES")]
    bytes_per_kv_number: Option<f64>,
    /// What products with weights are computed in.
    #[arg(long, default_value = "bf16", value_name = "FORMAT")]
    products: ProductsArg,
}

impl MachineArgs {
    pub(super) fn products(&self) -> ProductFormat {
        self.products.into()
    }

    /// The sizes of the model and the figures of the hardware.
    pub(super) async fn read(&self, startup: &Startup) -> Result<(ModelShape, Hardware)> {
        let mut shape = model(&self.model, startup).await?;
        if let Some(bytes) = self.bytes_per_weight {
            shape.bytes_per_weight = bytes;
        }
        if let Some(bytes) = self.bytes_per_kv_number {
            shape.bytes_per_kv_number = bytes;
        }
        shape.validate()?;
        Ok((shape, hardware(&self.hardware)?))
    }
}

pub(in crate::cli) fn hardware(name: &str) -> Result<Hardware> {
    let path = Path::new(name);
    if let Some(known) = Hardware::known(name).filter(|_| !path.exists()) {
        return Ok(known);
    }
    if !path.exists() {
        let names: Vec<&str> = Hardware::known_names().collect();
        bail!(
            "--hardware: {name} is not known and is no file here; expected one of {}, or a .json or .toml file with its \
             figures",
            names.join(", ")
        );
    }
    described("--hardware", path)
}

/// The sizes of the model that `--model` names.
pub(in crate::cli) async fn model(name: &str, startup: &Startup) -> Result<ModelShape> {
    model_of("--model", name, startup).await
}

/// The sizes of the model that a flag names.
pub(in crate::cli) async fn model_of(
    flag: &'static str,
    name: &str,
    startup: &Startup,
) -> Result<ModelShape> {
    let path = Path::new(name);
    if let Some(known) = ModelShape::known(name).filter(|_| !path.exists()) {
        return Ok(known);
    }
    let ending = path.extension().and_then(|ending| ending.to_str());
    if path.is_file() && matches!(ending, Some("json" | "toml")) {
        return described(flag, path);
    }
    let names = || ModelShape::known_names().collect::<Vec<_>>().join(", ");
    if on_hub(flag, name)?.is_some() {
        bail!(
            "{flag}: {name} is not here, and a simulation downloads nothing; expected one of {}, a directory with a \
             config.json, or a file with the sizes of the model",
            names()
        );
    }
    if let Some(mixture) = mixture(flag, name, path)? {
        return Ok(mixture);
    }
    let source = target(name, startup)
        .await
        .with_context(|| format!("{flag}: {name} is none of {} and no file of sizes", names()))?;
    let config = ModelConfig::load(&source)?;
    // Without weights, what the configuration says of them has to do.
    let stored = source.stored_tensors().unwrap_or_default();
    let bytes = stored.iter().map(|tensors| tensors.bytes_in_memory).sum();
    Ok(shape(name, &config, bytes))
}

/// The sizes of a mixture of experts, which the engine does not load yet, if there is one in this directory.
fn mixture(flag: &str, name: &str, path: &Path) -> Result<Option<ModelShape>> {
    let file = path.join("config.json");
    if !file.is_file() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(&file)
        .with_context(|| format!("{flag}: {} cannot be read", file.display()))?;
    ModelShape::of_mixture(name, &text).with_context(|| format!("{flag}: {}", file.display()))
}

/// The sizes of a model that is here, whose weights take so many bytes; 0 if there are none.
fn shape(name: &str, config: &ModelConfig, weight_bytes: u64) -> ModelShape {
    let size = |size: usize| u32::try_from(size).unwrap_or(u32::MAX);
    let mut shape = ModelShape {
        name: name.to_owned(),
        layers: size(config.num_layers),
        hidden: size(config.hidden_size),
        heads: size(config.num_heads),
        kv_heads: size(config.num_kv_heads),
        head_dim: size(config.head_dim),
        ffn: size(config.intermediate_size),
        vocabulary: size(config.vocab_size),
        tied: config.tie_word_embeddings,
        bytes_per_weight: 1.0,
        bytes_per_output_weight: None,
        bytes_per_kv_number: 2.0,
        experts: None,
        window: window(config),
        context: size(config.max_position_embeddings),
    };
    let weights = shape.weight_bytes();
    shape.bytes_per_weight = match (weight_bytes, config.dtype) {
        (0, Some(dtype)) => dtype.size_in_bytes() as f64,
        (0, None) => 2.0,
        (bytes, _) => bytes as f64 / weights,
    };
    let parameters = config.num_parameters() as f64;
    if (weights / parameters - 1.0).abs() > TOLERANCE {
        tracing::warn!(
            "{name} has {parameters:.4e} parameters, and a gated decoder of its sizes {weights:.4e}: the times of its \
             products are those of the latter"
        );
    }
    shape
}

/// The window of the layers that have one. Where several have windows of different lengths, all get the longest.
fn window(config: &ModelConfig) -> Option<Window> {
    let windows = config.layers.iter();
    let windows: Vec<usize> = windows
        .filter_map(|layer| layer.attention.reads.window())
        .collect();
    let size = |size: usize| u32::try_from(size).unwrap_or(u32::MAX);
    windows.iter().max().map(|&tokens| Window {
        tokens: size(tokens),
        layers: size(windows.len()),
    })
}

/// What a .json or .toml file describes.
fn described<T: DeserializeOwned>(flag: &str, path: &Path) -> Result<T> {
    let name = path.display();
    let text =
        std::fs::read_to_string(path).with_context(|| format!("{flag}: {name} cannot be read"))?;
    let is_toml = path.extension().is_some_and(|ending| ending == "toml");
    let read = match is_toml {
        true => toml::from_str(&text).map_err(anyhow::Error::from),
        false => serde_json::from_str(&text).map_err(anyhow::Error::from),
    };
    read.with_context(|| format!("{flag}: {name} does not have the fields that are expected"))
}
