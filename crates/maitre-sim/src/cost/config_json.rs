//! The shape of a mixture of experts by its `config.json`, in the spellings of the families that have them.

use serde_json::Value;

use super::model_shape::{Experts, Window};
use super::{ModelShape, WeightDtype};
use crate::SimError;

/// The keys of a file, whatever family it is of.
struct Settings<'a>(&'a Value);

impl Settings<'_> {
    fn number(&self, names: &[&str]) -> Option<u32> {
        let mut found = names.iter().filter_map(|name| self.0.get(*name)?.as_u64());
        found.next().map(|it| u32::try_from(it).unwrap_or(u32::MAX))
    }

    fn required(&self, name: &'static str) -> Result<u32, SimError> {
        self.number(&[name])
            .ok_or_else(|| SimError::setting(name, "missing in config.json", "a whole number"))
    }

    fn window(&self) -> Option<Window> {
        let kinds = self.0.get("layer_types")?.as_array()?;
        let windowed = kinds
            .iter()
            .filter(|kind| kind.as_str() == Some("sliding_attention"));
        let layers = windowed.count() as u32;
        let tokens = self.number(&["sliding_window"])?;
        (layers > 0).then_some(Window { tokens, layers })
    }

    /// What weights are quantized to, if they are.
    fn quantized(&self) -> Option<&str> {
        self.0
            .get("quantization_config")?
            .get("quant_method")?
            .as_str()
    }
}

impl ModelShape {
    /// The shape of a mixture of experts; `None` if the file is that of another model.
    ///
    /// # Errors
    ///
    /// [`SimError::Setting`] for text that is no JSON, for a size that is missing, and for attention over latent caches, which this
    /// cost does not know.
    pub fn of_mixture(name: &str, config_json: &str) -> Result<Option<Self>, SimError> {
        let value: Value = serde_json::from_str(config_json)
            .map_err(|error| SimError::setting("config.json", error, "a JSON object"))?;
        let value = value.get("text_config").unwrap_or(&value);
        let settings = Settings(value);
        let Some(count) =
            settings.number(&["num_experts", "num_local_experts", "n_routed_experts"])
        else {
            return Ok(None);
        };
        if let Some(rank) = settings.number(&["kv_lora_rank"]) {
            let expected = "keys and values of their own for each head";
            return Err(SimError::setting("kv_lora_rank", rank, expected));
        }
        let (layers, hidden) = (
            settings.required("num_hidden_layers")?,
            settings.required("hidden_size")?,
        );
        let heads = settings.required("num_attention_heads")?;
        let ffn = settings.required("intermediate_size")?;
        let width = settings.number(&["moe_intermediate_size"]).unwrap_or(ffn);
        let active = settings
            .number(&["num_experts_per_tok", "experts_per_token"])
            .ok_or_else(|| {
                SimError::setting("num_experts_per_tok", "missing in config.json", "a number")
            })?;
        let shared = settings.number(&["shared_expert_intermediate_size"]);
        let several = settings.number(&["n_shared_experts"]).map(|it| it * width);
        let mlps = value.get("mlp_only_layers").and_then(Value::as_array);
        let quantized = settings.quantized();
        let shape = Self {
            name: name.to_owned(),
            layers,
            hidden,
            heads,
            kv_heads: settings.number(&["num_key_value_heads"]).unwrap_or(heads),
            head_dim: settings
                .number(&["head_dim"])
                .unwrap_or(hidden / heads.max(1)),
            ffn,
            vocabulary: settings.required("vocab_size")?,
            tied: value.get("tie_word_embeddings").and_then(Value::as_bool) == Some(true),
            bytes_per_weight: if quantized == Some("fp8") { 1.0 } else { 2.0 },
            bytes_per_output_weight: Some(2.0),
            bytes_per_kv_number: 2.0,
            experts: Some(Experts {
                count,
                active,
                ffn: width,
                shared_ffn: shared.or(several).unwrap_or(0),
                dense_layers: settings
                    .number(&["first_k_dense_replace"])
                    .unwrap_or(mlps.map_or(0, |it| it.len() as u32)),
                bytes_per_weight: (quantized == Some("mxfp4"))
                    .then(|| WeightDtype::Mxfp4.bits() / 8.0),
            }),
            window: settings.window(),
            context: settings
                .number(&["max_position_embeddings"])
                .unwrap_or(u32::MAX),
        };
        shape.validate().map(|()| Some(shape))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The keys of openai/gpt-oss-20b that matter, with two layers in the list of kinds for each pair of the model.
    fn gpt_oss() -> Value {
        let kinds: Vec<&str> = (0..24)
            .map(|layer| ["sliding_attention", "full_attention"][layer % 2])
            .collect();
        serde_json::json!({
            "num_hidden_layers": 24, "hidden_size": 2880, "num_attention_heads": 64, "num_key_value_heads": 8,
            "head_dim": 64, "intermediate_size": 2880, "vocab_size": 201_088, "tie_word_embeddings": false,
            "num_local_experts": 32, "num_experts_per_tok": 4, "layer_types": kinds, "sliding_window": 128,
            "max_position_embeddings": 131_072, "quantization_config": {"quant_method": "mxfp4"}
        })
    }

    #[test]
    fn a_file_has_the_shape_of_the_model_that_is_known() {
        let read = ModelShape::of_mixture("gpt-oss-20b", &gpt_oss().to_string());
        let read = read.unwrap().unwrap();
        let known = ModelShape::known("gpt-oss-20b").unwrap();
        assert_eq!(read.weight_bytes(), known.weight_bytes());
        assert_eq!((read.window, read.experts), (known.window, known.experts));
    }

    #[test]
    fn other_files_are_left_alone_or_refused() {
        assert!(ModelShape::of_mixture("x", "{}").unwrap().is_none());
        assert!(ModelShape::of_mixture("x", "no").is_err());
        let mut latent = gpt_oss();
        latent["kv_lora_rank"] = 512.into();
        let said = ModelShape::of_mixture("x", &latent.to_string()).unwrap_err();
        assert!(said.to_string().contains("kv_lora_rank is 512"), "{said}");
        let mut cut = gpt_oss();
        cut.as_object_mut().unwrap().remove("vocab_size");
        let said = ModelShape::of_mixture("x", &cut.to_string()).unwrap_err();
        assert!(said.to_string().contains("vocab_size is missing"), "{said}");
    }
}
