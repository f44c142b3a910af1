//! Models that are known by name: the sizes in the `config.json` of their repositories on the Hugging Face Hub, in the formats in
//! which the repositories have their weights.

use super::model_shape::{Experts, Window};
use super::{ModelShape, WeightDtype};

/// Sizes that every model has: layers, hidden, heads, kv_heads, head_dim, ffn, vocabulary, context.
type Sizes = (u32, u32, u32, u32, u32, u32, u32, u32);

/// A model whose layers are all alike.
struct Known {
    name: &'static str,
    sizes: Sizes,
    tied: bool,
    /// Experts, those of a token, and their width.
    experts: Option<(u32, u32, u32)>,
    /// Tokens of the window, and layers that have it.
    window: Option<(u32, u32)>,
}

const fn dense(name: &'static str, sizes: Sizes, tied: bool) -> Known {
    Known {
        name,
        sizes,
        tied,
        experts: None,
        window: None,
    }
}

const fn mixture(name: &'static str, sizes: Sizes, experts: (u32, u32, u32)) -> Known {
    Known {
        experts: Some(experts),
        ..dense(name, sizes, false)
    }
}

const fn windowed(known: Known, window: (u32, u32)) -> Known {
    Known {
        window: Some(window),
        ..known
    }
}

/// Rows of Qwen3's embedding, and the longest context of its models without YaRN.
const Q: (u32, u32) = (151_936, 40_960);

const KNOWN: [Known; 18] = [
    // Qwen/Qwen3-0.6B, -1.7B, -4B, -8B, -14B, -32B, -30B-A3B
    dense("qwen3-0.6b", (28, 1024, 16, 8, 128, 3072, Q.0, Q.1), true),
    dense("qwen3-1.7b", (28, 2048, 16, 8, 128, 6144, Q.0, Q.1), true),
    dense("qwen3-4b", (36, 2560, 32, 8, 128, 9728, Q.0, Q.1), true),
    dense("qwen3-8b", (36, 4096, 32, 8, 128, 12_288, Q.0, Q.1), false),
    dense("qwen3-14b", (40, 5120, 40, 8, 128, 17_408, Q.0, Q.1), false),
    dense("qwen3-32b", (64, 5120, 64, 8, 128, 25_600, Q.0, Q.1), false),
    mixture(
        "qwen3-30b-a3b",
        (48, 2048, 32, 4, 128, 6144, Q.0, Q.1),
        (128, 8, 768),
    ),
    // meta-llama/Llama-3.1-8B, -70B; Llama-3.3-70B-Instruct has the sizes of the latter
    dense(
        "llama-3.1-8b",
        (32, 4096, 32, 8, 128, 14_336, 128_256, 131_072),
        false,
    ),
    dense(
        "llama-3.1-70b",
        (80, 8192, 64, 8, 128, 28_672, 128_256, 131_072),
        false,
    ),
    // mistralai/Mistral-7B-v0.3, which has no window any more
    dense(
        "mistral-7b",
        (32, 4096, 32, 8, 128, 14_336, 32_768, 32_768),
        false,
    ),
    // mistralai/Mixtral-8x7B-v0.1
    mixture(
        "mixtral-8x7b",
        (32, 4096, 32, 8, 128, 14_336, 32_000, 32_768),
        (8, 2, 14_336),
    ),
    // openai/gpt-oss-20b, -120b: every other layer has a window
    windowed(
        mixture(
            "gpt-oss-20b",
            (24, 2880, 64, 8, 64, 2880, 201_088, 131_072),
            (32, 4, 2880),
        ),
        (128, 12),
    ),
    windowed(
        mixture(
            "gpt-oss-120b",
            (36, 2880, 64, 8, 64, 2880, 201_088, 131_072),
            (128, 4, 2880),
        ),
        (128, 18),
    ),
    // google/gemma-3-270m, -1b-it, -4b-it, -12b-it, -27b-it: every sixth layer reads the whole context
    windowed(
        dense(
            "gemma-3-270m",
            (18, 640, 4, 1, 256, 2048, 262_144, 32_768),
            true,
        ),
        (512, 15),
    ),
    windowed(
        dense(
            "gemma-3-1b",
            (26, 1152, 4, 1, 256, 6912, 262_144, 32_768),
            true,
        ),
        (512, 22),
    ),
    windowed(
        dense(
            "gemma-3-4b",
            (34, 2560, 8, 4, 256, 10_240, 262_208, 131_072),
            true,
        ),
        (1024, 29),
    ),
    windowed(
        dense(
            "gemma-3-12b",
            (48, 3840, 16, 8, 256, 15_360, 262_208, 131_072),
            true,
        ),
        (1024, 40),
    ),
    windowed(
        dense(
            "gemma-3-27b",
            (62, 5376, 32, 16, 128, 21_504, 262_208, 131_072),
            true,
        ),
        (1024, 52),
    ),
];

impl ModelShape {
    /// The shape of a model that is known by this name: in bf16, but for the experts of gpt-oss, which are in MXFP4.
    #[must_use]
    pub fn known(name: &str) -> Option<Self> {
        let known = KNOWN.iter().find(|it| it.name.eq_ignore_ascii_case(name))?;
        let (layers, hidden, heads, kv_heads, head_dim, ffn, vocabulary, context) = known.sizes;
        let mxfp4 = known.name.starts_with("gpt-oss");
        Some(Self {
            name: known.name.to_owned(),
            layers,
            hidden,
            heads,
            kv_heads,
            head_dim,
            ffn,
            vocabulary,
            tied: known.tied,
            bytes_per_weight: 2.0,
            bytes_per_output_weight: None,
            bytes_per_kv_number: 2.0,
            experts: known.experts.map(|(count, active, ffn)| Experts {
                count,
                active,
                ffn,
                shared_ffn: 0,
                dense_layers: 0,
                bytes_per_weight: mxfp4.then(|| WeightDtype::Mxfp4.bits() / 8.0),
            }),
            window: known
                .window
                .map(|(tokens, layers)| Window { tokens, layers }),
            context,
        })
    }

    /// The names that are known.
    pub fn known_names() -> impl Iterator<Item = &'static str> {
        KNOWN.iter().map(|it| it.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parameters and KV bytes as the model cards have them; of Gemma without the part that reads images.
    #[test]
    fn shapes_have_the_parameters_of_their_models() {
        for (name, billions, kv_bytes) in [
            ("qwen3-0.6b", 0.596, 114_688.0),
            ("qwen3-1.7b", 1.721, 114_688.0),
            ("qwen3-4b", 4.022, 147_456.0),
            ("qwen3-8b", 8.19, 147_456.0),
            ("qwen3-14b", 14.77, 163_840.0),
            ("qwen3-32b", 32.76, 262_144.0),
            ("qwen3-30b-a3b", 30.53, 98_304.0),
            ("llama-3.1-8b", 8.03, 131_072.0),
            ("llama-3.1-70b", 70.55, 327_680.0),
            ("mistral-7b", 7.248, 131_072.0),
            ("mixtral-8x7b", 46.70, 131_072.0),
            ("gpt-oss-20b", 20.91, 49_152.0),
            ("gpt-oss-120b", 116.8, 73_728.0),
            ("gemma-3-270m", 0.268, 18_432.0),
            ("gemma-3-1b", 1.0, 26_624.0),
            ("gemma-3-4b", 3.88, 139_264.0),
            ("gemma-3-12b", 11.77, 393_216.0),
            ("gemma-3-27b", 27.01, 507_904.0),
        ] {
            let shape = ModelShape::known(name).unwrap();
            shape.validate().unwrap();
            let parameters = shape.parameters() / 1e9;
            assert!(
                (parameters / billions - 1.0).abs() < 0.003,
                "{name}: {parameters}"
            );
            assert_eq!(shape.kv_bytes_per_token(), kv_bytes, "{name}");
        }
        assert_eq!(ModelShape::known_names().count(), KNOWN.len());
        assert!(ModelShape::known("Qwen3-8B").is_some() && ModelShape::known("none").is_none());
    }

    /// The model cards of gpt-oss say 3.6 and 5.1 billion active parameters, output matrix included, of Qwen3-30B-A3B 3.3 with both
    /// matrices.
    #[test]
    fn mixtures_have_the_active_parameters_of_their_cards() {
        for (name, matrices, billions) in [
            ("gpt-oss-20b", 1.0, 3.6),
            ("gpt-oss-120b", 1.0, 5.1),
            ("qwen3-30b-a3b", 2.0, 3.3),
        ] {
            let shape = ModelShape::known(name).unwrap();
            let active = shape.active_layer_weights() + matrices * shape.output_weights();
            assert!(
                (active / 1e9 / billions - 1.0).abs() < 0.02,
                "{name}: {active}"
            );
        }
    }
}
