//! The models that are timed, as their published configurations say, and the sizes that go with them.

use maitre_model::ModelSource;

/// A model made up from its configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) name: &'static str,
    /// In ids.
    pub(super) id: &'static str,
    files: &'static [(&'static str, &'static [u8])],
}

/// <https://huggingface.co/Qwen/Qwen3-8B/blob/main/config.json>
pub(super) const QWEN3_8B: Shape = Shape {
    name: "Qwen3-8B",
    id: "8b",
    files: &[(
        "config.json",
        br#"{
            "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_act": "silu",
            "hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36,
            "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
            "attention_bias": false, "rms_norm_eps": 1e-06, "rope_theta": 1000000, "rope_scaling": null,
            "max_position_embeddings": 40960, "vocab_size": 151936, "tie_word_embeddings": false,
            "use_sliding_window": false, "sliding_window": null, "torch_dtype": "bfloat16"
        }"#,
    )],
};

/// <https://huggingface.co/Qwen/Qwen3-0.6B/blob/main/config.json>
pub(super) const QWEN3_06B: Shape = Shape {
    name: "Qwen3-0.6B",
    id: "0.6b",
    files: &[(
        "config.json",
        br#"{
            "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_act": "silu",
            "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28,
            "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128,
            "attention_bias": false, "rms_norm_eps": 1e-06, "rope_theta": 1000000, "rope_scaling": null,
            "max_position_embeddings": 40960, "vocab_size": 151936, "tie_word_embeddings": true,
            "use_sliding_window": false, "sliding_window": null, "torch_dtype": "bfloat16"
        }"#,
    )],
};

/// Of the same family, for an emulator that takes microseconds for one multiplication.
pub(super) const TINY: Shape = Shape {
    name: "tiny",
    id: "tiny",
    files: &[(
        "config.json",
        br#"{
            "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_act": "silu",
            "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
            "attention_bias": false, "rms_norm_eps": 1e-06, "rope_theta": 10000, "rope_scaling": null,
            "max_position_embeddings": 512, "vocab_size": 512, "tie_word_embeddings": false,
            "use_sliding_window": false, "sliding_window": null, "torch_dtype": "bfloat16"
        }"#,
    )],
};

/// One that spends little on weights and much on keys and values: 256 KiB for each of 131,072 positions.
pub(super) const LONG: Shape = Shape {
    name: "long",
    id: "long",
    files: &[(
        "config.json",
        br#"{
            "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_act": "silu",
            "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 64,
            "num_attention_heads": 8, "num_key_value_heads": 8, "head_dim": 128,
            "attention_bias": false, "rms_norm_eps": 1e-06, "rope_theta": 1000000, "rope_scaling": null,
            "max_position_embeddings": 131072, "vocab_size": 4096, "tie_word_embeddings": true,
            "use_sliding_window": false, "sliding_window": null, "torch_dtype": "bfloat16"
        }"#,
    )],
};

/// The same for the emulator's 2 GiB: 256 bytes for each of 32,768 positions.
pub(super) const LONG_TINY: Shape = Shape {
    name: "long tiny",
    id: "long_tiny",
    files: &[(
        "config.json",
        br#"{
            "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_act": "silu",
            "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
            "attention_bias": false, "rms_norm_eps": 1e-06, "rope_theta": 10000, "rope_scaling": null,
            "max_position_embeddings": 32768, "vocab_size": 512, "tie_word_embeddings": false,
            "use_sliding_window": false, "sliding_window": null, "torch_dtype": "bfloat16"
        }"#,
    )],
};

impl Shape {
    pub(super) fn source(&self) -> ModelSource {
        ModelSource::Memory {
            name: self.name,
            files: self.files,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use maitre_model::ModelConfig;

    #[test]
    fn configurations_have_the_published_numbers_of_parameters() {
        for (shape, parameters) in [
            (QWEN3_8B, 8_190_735_360),
            (QWEN3_06B, 596_049_920),
            (TINY, 57_568),
        ] {
            let config = ModelConfig::from_json(shape.files[0].1).unwrap();
            assert_eq!(config.num_parameters(), parameters, "{}", shape.name);
        }
    }
}
