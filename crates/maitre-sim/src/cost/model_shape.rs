//! The sizes of a model that its cost depends on, and the formulas for what follows from them.

use maitre_scheduler::KvSpec;
use serde::{Deserialize, Serialize};

use crate::SimError;
use crate::error::check_positive;

/// A decoder with grouped-query attention and gated MLPs, which all layers have alike but for windows and experts. Norms and
/// biases are left out: they are less than a thousandth of the weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelShape {
    /// What it is called.
    pub name: String,
    /// Transformer layers.
    pub layers: u32,
    /// Width of the residual stream.
    pub hidden: u32,
    /// Query heads of a layer.
    pub heads: u32,
    /// Key and value heads of a layer.
    pub kv_heads: u32,
    /// Width of a head.
    pub head_dim: u32,
    /// Width inside the MLP of layers without experts.
    pub ffn: u32,
    /// Rows of the embedding, and logits of an output row.
    pub vocabulary: u32,
    /// Whether the output matrix is the embedding.
    #[serde(default)]
    pub tied: bool,
    /// Bytes of a weight: 2 for bf16, 1 for fp8 and int8, a little more than 0.5 for 4 bits with their scales.
    #[serde(default = "two")]
    pub bytes_per_weight: f64,
    /// The same of the embedding and the output matrix, which quantized checkpoints often keep in bf16; `None`: as the others.
    #[serde(default)]
    pub bytes_per_output_weight: Option<f64>,
    /// Bytes of a number in the KV cache: 2 for bf16, 1 for fp8.
    #[serde(default = "two")]
    pub bytes_per_kv_number: f64,
    /// Mixtures of experts in place of MLPs.
    #[serde(default)]
    pub experts: Option<Experts>,
    /// Layers that read the last positions alone.
    #[serde(default)]
    pub window: Option<Window>,
    /// Tokens of the longest context.
    pub context: u32,
}

/// A mixture of experts: each token goes through a few of many MLPs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Experts {
    /// Experts of a layer.
    pub count: u32,
    /// Of them, those that a token goes through.
    pub active: u32,
    /// Width inside an expert.
    pub ffn: u32,
    /// Width of the MLP beside them that every token goes through; 0: none.
    #[serde(default)]
    pub shared_ffn: u32,
    /// Layers that have an MLP and no experts.
    #[serde(default)]
    pub dense_layers: u32,
    /// Bytes of an expert's weight; `None`: as the other weights.
    #[serde(default)]
    pub bytes_per_weight: Option<f64>,
}

/// Sliding-window attention in some of the layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// Positions that a token reads at most, its own included.
    pub tokens: u32,
    /// Layers with the window; the others read the whole context.
    pub layers: u32,
}

/// How the KV cache is cut into pages. Each page has a block of tokens in `places` layers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KvGroups {
    /// Layers that a page has room for.
    pub places: u32,
    /// The groups of layers, each of them of as many layers at most.
    pub specs: Vec<KvSpec>,
}

/// The most of the pages that groups which are not full may waste, as in `maitre serve`.
const MOST_WASTED: f64 = 0.05;

fn two() -> f64 {
    2.0
}

impl ModelShape {
    /// Width of the queries of a token.
    pub(super) fn query_width(&self) -> f64 {
        f64::from(self.heads) * f64::from(self.head_dim)
    }

    /// Width of the keys, or of the values, of a token.
    pub(super) fn key_width(&self) -> f64 {
        f64::from(self.kv_heads) * f64::from(self.head_dim)
    }

    /// Layers with experts.
    #[must_use]
    pub fn expert_layers(&self) -> f64 {
        self.experts.map_or(0.0, |it| {
            f64::from(self.layers) - f64::from(it.dense_layers)
        })
    }

    /// Weights of an expert: `3 × hidden × width`, for gate, up and down.
    #[must_use]
    pub fn weights_per_expert(&self) -> f64 {
        let width = self.experts.map_or(0, |it| it.ffn);
        3.0 * f64::from(self.hidden) * f64::from(width)
    }

    /// Weights of the layers that every token goes through: `layers × (2 × hidden × heads × head_dim + 2 × hidden × kv_heads ×
    /// head_dim)` for query and output, key and value, `3 × hidden × ffn` for each MLP, and the router of each mixture,
    /// `hidden × experts`.
    #[must_use]
    pub fn shared_weights(&self) -> f64 {
        let hidden = f64::from(self.hidden);
        let layers = f64::from(self.layers);
        let attention = 2.0 * hidden * (self.query_width() + self.key_width());
        let dense = (layers - self.expert_layers()) * 3.0 * hidden * f64::from(self.ffn);
        let mixtures = self.experts.map_or(0.0, |it| {
            hidden * (f64::from(it.count) + 3.0 * f64::from(it.shared_ffn))
        });
        layers * attention + dense + self.expert_layers() * mixtures
    }

    /// Weights of all experts of all layers.
    #[must_use]
    pub fn expert_weights(&self) -> f64 {
        let count = self.experts.map_or(0.0, |it| f64::from(it.count));
        self.expert_layers() * count * self.weights_per_expert()
    }

    /// Weights of all layers.
    #[must_use]
    pub fn layer_weights(&self) -> f64 {
        self.shared_weights() + self.expert_weights()
    }

    /// Weights of the layers that a token is multiplied with.
    #[must_use]
    pub fn active_layer_weights(&self) -> f64 {
        let active = self.experts.map_or(0.0, |it| f64::from(it.active));
        self.shared_weights() + self.expert_layers() * active * self.weights_per_expert()
    }

    /// Experts of a layer that so many tokens go through, if they choose independently and all experts as often:
    /// `experts × (1 − (1 − active / experts)^tokens)`. Experts that are chosen more often than others make it fewer.
    #[must_use]
    pub fn experts_touched(&self, tokens: f64) -> f64 {
        self.experts.map_or(0.0, |it| {
            let count = f64::from(it.count);
            let missed = 1.0 - f64::from(it.active) / count;
            count * (1.0 - libm::pow(missed, tokens))
        })
    }

    /// Weights of the output matrix: `vocabulary × hidden`.
    #[must_use]
    pub fn output_weights(&self) -> f64 {
        f64::from(self.vocabulary) * f64::from(self.hidden)
    }

    /// Numbers of all weights: layers and output matrix, and the embedding unless it is the output matrix.
    #[must_use]
    pub fn parameters(&self) -> f64 {
        let matrices = if self.tied { 1.0 } else { 2.0 };
        self.layer_weights() + matrices * self.output_weights()
    }

    /// Bytes of the weights in memory.
    #[must_use]
    pub fn weight_bytes(&self) -> f64 {
        let matrices = if self.tied { 1.0 } else { 2.0 };
        self.shared_weights() * self.bytes_per_weight
            + self.expert_weights() * self.bytes_per_expert_weight()
            + matrices * self.output_weights() * self.bytes_per_output_weight()
    }

    /// Bytes of a weight of the embedding and of the output matrix.
    #[must_use]
    pub fn bytes_per_output_weight(&self) -> f64 {
        self.bytes_per_output_weight
            .unwrap_or(self.bytes_per_weight)
    }

    /// Bytes of a weight of the experts.
    #[must_use]
    pub fn bytes_per_expert_weight(&self) -> f64 {
        let own = self.experts.and_then(|it| it.bytes_per_weight);
        own.unwrap_or(self.bytes_per_weight)
    }

    /// Layers with a window.
    #[must_use]
    pub fn window_layers(&self) -> u32 {
        self.window.map_or(0, |it| it.layers)
    }

    /// Layers that read the whole context.
    #[must_use]
    pub fn full_layers(&self) -> u32 {
        self.layers.saturating_sub(self.window_layers())
    }

    /// Bytes of a token in the KV cache of one layer: `2 × kv_heads × head_dim × bytes per number`.
    #[must_use]
    pub fn kv_bytes_per_layer(&self) -> f64 {
        2.0 * self.key_width() * self.bytes_per_kv_number
    }

    /// Bytes of a token in the KV cache, in all layers: what a token takes that no window has left behind.
    #[must_use]
    pub fn kv_bytes_per_token(&self) -> f64 {
        f64::from(self.layers) * self.kv_bytes_per_layer()
    }

    /// Bytes that a sequence of so many tokens takes in the KV cache, and reads for its next token: windows bound it.
    #[must_use]
    pub fn kv_bytes_of(&self, tokens: f64) -> f64 {
        let seen = self
            .window
            .map_or(0.0, |it| f64::from(it.tokens).min(tokens));
        let positions =
            f64::from(self.full_layers()) * tokens + f64::from(self.window_layers()) * seen;
        self.kv_bytes_per_layer() * positions
    }

    /// Operations of attention in one layer for a token and one position that it attends to: `4 × heads × head_dim`, a
    /// multiply-add for the score and one for the weighted sum.
    #[must_use]
    pub fn attention_ops_per_layer(&self) -> f64 {
        4.0 * self.query_width()
    }

    /// The groups of layers that share block tables: the fewest that waste at most 5 % of their pages, as `maitre serve` cuts
    /// them.
    #[must_use]
    pub fn kv_groups(&self) -> KvGroups {
        let (full, windowed) = (self.full_layers(), self.window_layers());
        let groups = |places: u32| full.div_ceil(places) + windowed.div_ceil(places);
        let fits = |&places: &u32| {
            let slots = groups(places) * places;
            f64::from(slots - (full + windowed)) <= MOST_WASTED * f64::from(slots)
        };
        let candidates = (1..=self.layers.max(1)).filter(fits);
        // One place per page wastes nothing, so there is a candidate.
        let places = candidates
            .min_by_key(|&places| (groups(places), places))
            .unwrap_or(1);
        let window = self.window.map_or(1, |it| it.tokens.max(1));
        let mut specs = vec![KvSpec::Full; full.div_ceil(places) as usize];
        specs.resize(groups(places) as usize, KvSpec::Window(window));
        KvGroups { places, specs }
    }

    /// Bytes of a page of the KV cache: a block of so many tokens in the layers that a page has room for.
    #[must_use]
    pub fn page_bytes(&self, block_size: u32) -> f64 {
        let places = f64::from(self.kv_groups().places);
        places * self.kv_bytes_per_layer() * f64::from(block_size)
    }

    /// Pages of the KV cache that fit into so many bytes, and no more than the KV manager can number. A draft model keeps its own keys
    /// and values of the same tokens beside each page, as in `maitre serve`.
    #[must_use]
    pub fn kv_blocks_in(&self, bytes: f64, draft: Option<&Self>, block_size: u32) -> u32 {
        let drafted = draft.map_or(0.0, |draft| {
            draft.kv_bytes_per_token() * f64::from(block_size)
        });
        // Saturates: a negative number of bytes holds no block.
        let blocks = (bytes / (self.page_bytes(block_size) + drafted)) as u32;
        blocks.min(u32::MAX / block_size.max(1))
    }

    /// Checks that all sizes are above 0, and that no part is larger than the whole.
    ///
    /// # Errors
    ///
    /// [`SimError::Setting`], by the name of the field.
    pub fn validate(&self) -> Result<(), SimError> {
        let sizes = [
            ("layers", self.layers),
            ("hidden", self.hidden),
            ("heads", self.heads),
            ("kv_heads", self.kv_heads),
            ("head_dim", self.head_dim),
            ("ffn", self.ffn),
            ("vocabulary", self.vocabulary),
            ("context", self.context),
        ];
        for (name, size) in sizes {
            check_positive(name, f64::from(size))?;
        }
        check_positive("bytes_per_weight", self.bytes_per_weight)?;
        check_positive("bytes_per_output_weight", self.bytes_per_output_weight())?;
        check_positive("bytes_per_kv_number", self.bytes_per_kv_number)?;
        if let Some(experts) = &self.experts {
            experts.validate(self.layers)?;
            check_positive("experts.bytes_per_weight", self.bytes_per_expert_weight())?;
        }
        match self.window {
            Some(it) if it.tokens == 0 || it.layers > self.layers => Err(SimError::setting(
                "window",
                format!("{} tokens in {} layers", it.tokens, it.layers),
                format!("at least 1 token, in at most {} layers", self.layers),
            )),
            _ => Ok(()),
        }
    }
}

impl Experts {
    fn validate(&self, layers: u32) -> Result<(), SimError> {
        check_positive("experts.count", f64::from(self.count))?;
        check_positive("experts.ffn", f64::from(self.ffn))?;
        if self.active == 0 || self.active > self.count {
            let expected = format!("1 to {}", self.count);
            return Err(SimError::setting("experts.active", self.active, expected));
        }
        match self.dense_layers < layers {
            true => Ok(()),
            false => Err(SimError::setting(
                "experts.dense_layers",
                self.dense_layers,
                format!("fewer than the {layers} layers"),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(name: &str) -> ModelShape {
        ModelShape::known(name).unwrap()
    }

    #[test]
    fn a_few_tokens_touch_their_experts_and_many_touch_all() {
        let shape = known("qwen3-30b-a3b");
        assert!((shape.experts_touched(1.0) - 8.0).abs() < 1e-9);
        // 128 · (1 − (120/128)²) = 15.5.
        assert!((shape.experts_touched(2.0) - 15.5).abs() < 1e-9);
        assert!(shape.experts_touched(500.0) > 127.9);
        assert_eq!(known("qwen3-8b").experts_touched(7.0), 0.0);
    }

    #[test]
    fn windows_bound_what_a_sequence_takes() {
        let shape = known("gpt-oss-20b");
        // 2 · 8 heads · 64 · 2 bytes = 2,048 a layer; 12 layers of each kind.
        assert_eq!(shape.kv_bytes_of(100.0), 24.0 * 100.0 * 2048.0);
        assert_eq!(shape.kv_bytes_of(1000.0), 12.0 * (1000.0 + 128.0) * 2048.0);
        let groups = shape.kv_groups();
        assert_eq!(groups.places, 12);
        assert_eq!(groups.specs, [KvSpec::Full, KvSpec::Window(128)]);
        let whole = known("qwen3-8b").kv_groups();
        assert_eq!((whole.places, &whole.specs[..]), (36, &[KvSpec::Full][..]));
        // 5 layers of the whole context and 29 with a window: 7 groups of 5 waste 1 place of 35.
        assert_eq!(known("gemma-3-4b").kv_groups().places, 5);
    }

    #[test]
    fn a_draft_model_takes_its_part_of_each_block() {
        let (target, draft) = (known("qwen3-8b"), known("qwen3-0.6b"));
        // 16 tokens of 147,456 bytes, and of 114,688 more.
        let bytes = 10.0 * 16.0 * (147_456.0 + 114_688.0);
        assert_eq!(target.kv_blocks_in(bytes, None, 16), 17);
        assert_eq!(target.kv_blocks_in(bytes, Some(&draft), 16), 10);
        assert_eq!(target.kv_blocks_in(bytes - 1.0, Some(&draft), 16), 9);
        assert_eq!(target.kv_blocks_in(-1.0, Some(&draft), 16), 0);
    }

    #[test]
    fn parts_that_are_larger_than_the_whole_are_refused() {
        let mut shape = known("gpt-oss-20b");
        shape.window = Some(Window {
            tokens: 128,
            layers: 25,
        });
        let said = shape.validate().unwrap_err().to_string();
        assert!(said.contains("at most 24 layers"), "{said}");
        let mut shape = known("qwen3-30b-a3b");
        shape.experts.as_mut().unwrap().active = 129;
        let said = shape.validate().unwrap_err().to_string();
        assert!(
            said.contains("experts.active is 129; expected 1 to 128"),
            "{said}"
        );
    }
}
