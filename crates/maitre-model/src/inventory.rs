//! The tensors that a configuration needs: names, shapes, and the settings that imply the shapes.
//!
//! A checkpoint is checked against this list before anything of it is read.

use crate::config::ModelConfig;
use crate::weights::{EMBEDDING, FINAL_NORM, HEAD};

/// A tensor that a model needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Needed {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    /// The settings of `config.json` that the shape comes from.
    pub(crate) settings: &'static str,
}

impl ModelConfig {
    /// Every tensor of the model, with the output matrix even if it is the embedding.
    pub(crate) fn needed_tensors(&self) -> Vec<Needed> {
        let (vocab, hidden) = (self.vocab_size, self.hidden_size);
        let needed = |name: &str, shape: &[usize], settings| Needed {
            name: name.to_owned(),
            shape: shape.to_vec(),
            settings,
        };
        let vocabulary = "vocab_size, hidden_size";
        let mut all = vec![
            needed(EMBEDDING, &[vocab, hidden], vocabulary),
            needed(HEAD, &[vocab, hidden], vocabulary),
            needed(FINAL_NORM, &[hidden], "hidden_size"),
        ];
        for layer in 0..self.num_layers {
            all.extend(self.layer_tensors(layer));
        }
        all
    }

    fn layer_tensors(&self, layer: usize) -> Vec<Needed> {
        const QUERY: [&str; 3] = [
            "num_attention_heads * head_dim, hidden_size",
            "num_attention_heads * head_dim",
            "hidden_size, num_attention_heads * head_dim",
        ];
        const KV: [&str; 2] = [
            "num_key_value_heads * head_dim, hidden_size",
            "num_key_value_heads * head_dim",
        ];
        let (hidden, inter) = (self.hidden_size, self.intermediate_size);
        let (query, kv) = (self.query_size(), self.kv_size());
        let (attention, mlp) = (self.attention_bias, self.mlp_bias);
        let matrices = [
            (
                "self_attn.q_proj",
                [query, hidden],
                attention,
                [QUERY[0], QUERY[1]],
            ),
            ("self_attn.k_proj", [kv, hidden], attention, KV),
            ("self_attn.v_proj", [kv, hidden], attention, KV),
            (
                "self_attn.o_proj",
                [hidden, query],
                attention,
                [QUERY[2], "hidden_size"],
            ),
            (
                "mlp.gate_proj",
                [inter, hidden],
                mlp,
                ["intermediate_size, hidden_size", "intermediate_size"],
            ),
            (
                "mlp.up_proj",
                [inter, hidden],
                mlp,
                ["intermediate_size, hidden_size", "intermediate_size"],
            ),
            (
                "mlp.down_proj",
                [hidden, inter],
                mlp,
                ["hidden_size, intermediate_size", "hidden_size"],
            ),
        ];
        let head_norm = self.architecture.normalises_heads();
        let vectors = [
            ("input_layernorm", hidden, true, "hidden_size"),
            ("post_attention_layernorm", hidden, true, "hidden_size"),
            ("self_attn.q_norm", self.head_dim, head_norm, "head_dim"),
            ("self_attn.k_norm", self.head_dim, head_norm, "head_dim"),
        ];
        let mut all = Vec::new();
        let mut add = |module: &str, kind: &str, shape: &[usize], settings| {
            all.push(Needed {
                name: format!("model.layers.{layer}.{module}.{kind}"),
                shape: shape.to_vec(),
                settings,
            });
        };
        for (module, shape, biased, [matrix, bias]) in matrices {
            add(module, "weight", &shape, matrix);
            if biased {
                add(module, "bias", &shape[..1], bias);
            }
        }
        for (module, len, is_there, settings) in vectors {
            if is_there {
                add(module, "weight", &[len], settings);
            }
        }
        all
    }
}
