//! Models that are known by name: the sizes in the `config.json` of their repositories on the Hugging Face Hub, in bf16.

use super::ModelShape;

/// A row of the table: name, layers, hidden, heads, kv_heads, head_dim, ffn, vocabulary, tied, context.
type Row = (&'static str, u32, u32, u32, u32, u32, u32, u32, bool, u32);

/// `hidden_size`, `num_hidden_layers` and so on, `max_position_embeddings` last.
const ROWS: [Row; 5] = [
    // Qwen/Qwen3-0.6B
    (
        "qwen3-0.6b",
        28,
        1024,
        16,
        8,
        128,
        3072,
        151_936,
        true,
        40_960,
    ),
    // Qwen/Qwen3-8B
    (
        "qwen3-8b", 36, 4096, 32, 8, 128, 12_288, 151_936, false, 40_960,
    ),
    // Qwen/Qwen3-32B
    (
        "qwen3-32b",
        64,
        5120,
        64,
        8,
        128,
        25_600,
        151_936,
        false,
        40_960,
    ),
    // meta-llama/Llama-3.1-8B
    (
        "llama-3.1-8b",
        32,
        4096,
        32,
        8,
        128,
        14_336,
        128_256,
        false,
        131_072,
    ),
    // meta-llama/Llama-3.1-70B
    (
        "llama-3.1-70b",
        80,
        8192,
        64,
        8,
        128,
        28_672,
        128_256,
        false,
        131_072,
    ),
];

impl ModelShape {
    /// The shape of a model that is known by this name, in bf16.
    #[must_use]
    pub fn known(name: &str) -> Option<Self> {
        let row = ROWS.iter().find(|row| row.0.eq_ignore_ascii_case(name))?;
        let (name, layers, hidden, heads, kv_heads, head_dim, ffn, vocabulary, tied, context) =
            *row;
        Some(Self {
            name: name.to_owned(),
            layers,
            hidden,
            heads,
            kv_heads,
            head_dim,
            ffn,
            vocabulary,
            tied,
            bytes_per_weight: 2.0,
            bytes_per_kv_number: 2.0,
            context,
        })
    }

    /// The names that are known.
    pub fn known_names() -> impl Iterator<Item = &'static str> {
        ROWS.iter().map(|row| row.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parameters and KV bytes as the model cards have them.
    #[test]
    fn shapes_have_the_parameters_of_their_models() {
        for (name, billions, kv_bytes) in [
            ("qwen3-0.6b", 0.596, 114_688.0),
            ("qwen3-8b", 8.19, 147_456.0),
            ("qwen3-32b", 32.76, 262_144.0),
            ("llama-3.1-8b", 8.03, 131_072.0),
            ("llama-3.1-70b", 70.55, 327_680.0),
        ] {
            let shape = ModelShape::known(name).unwrap();
            shape.validate().unwrap();
            let parameters = shape.weight_bytes() / 2.0 / 1e9;
            assert!(
                (parameters / billions - 1.0).abs() < 0.002,
                "{name}: {parameters}"
            );
            assert_eq!(shape.kv_bytes_per_token(), kv_bytes, "{name}");
        }
        assert_eq!(ModelShape::known_names().count(), ROWS.len());
        assert!(ModelShape::known("Qwen3-8B").is_some() && ModelShape::known("none").is_none());
    }
}
