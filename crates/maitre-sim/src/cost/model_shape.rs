//! The sizes of a model that its cost depends on, and the formulas for what follows from them.

use serde::{Deserialize, Serialize};

use crate::SimError;
use crate::error::check_positive;

/// A dense decoder with grouped-query attention and a gated MLP, which all layers have alike. Norms and biases are left
/// out: they are less than a thousandth of the weights.
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
    /// Width inside the MLP.
    pub ffn: u32,
    /// Rows of the embedding, and logits of an output row.
    pub vocabulary: u32,
    /// Whether the output matrix is the embedding.
    #[serde(default)]
    pub tied: bool,
    /// Bytes of a weight: 2 for bf16, 1 for fp8 and int8, a little more than 0.5 for 4 bits with their scales.
    #[serde(default = "two")]
    pub bytes_per_weight: f64,
    /// Bytes of a number in the KV cache: 2 for bf16, 1 for fp8.
    #[serde(default = "two")]
    pub bytes_per_kv_number: f64,
    /// Tokens of the longest context.
    pub context: u32,
}

fn two() -> f64 {
    2.0
}

impl ModelShape {
    /// Weights of all layers: `layers × (2 × hidden × heads × head_dim + 2 × hidden × kv_heads × head_dim + 3 × hidden × ffn)`, for
    /// query and output, key and value, and the three matrices of the MLP.
    #[must_use]
    pub fn layer_weights(&self) -> f64 {
        let hidden = f64::from(self.hidden);
        let query = f64::from(self.heads) * f64::from(self.head_dim);
        let key = f64::from(self.kv_heads) * f64::from(self.head_dim);
        let layer = 2.0 * hidden * query + 2.0 * hidden * key + 3.0 * hidden * f64::from(self.ffn);
        f64::from(self.layers) * layer
    }

    /// Weights of the output matrix: `vocabulary × hidden`.
    #[must_use]
    pub fn output_weights(&self) -> f64 {
        f64::from(self.vocabulary) * f64::from(self.hidden)
    }

    /// Bytes of the weights in memory: layers and output matrix, and the embedding unless it is the output matrix.
    #[must_use]
    pub fn weight_bytes(&self) -> f64 {
        let matrices = if self.tied { 1.0 } else { 2.0 };
        (self.layer_weights() + matrices * self.output_weights()) * self.bytes_per_weight
    }

    /// Bytes of a token in the KV cache: `2 × layers × kv_heads × head_dim × bytes per number`.
    #[must_use]
    pub fn kv_bytes_per_token(&self) -> f64 {
        let numbers = f64::from(self.layers) * f64::from(self.kv_heads) * f64::from(self.head_dim);
        2.0 * numbers * self.bytes_per_kv_number
    }

    /// Operations of attention for a token and one position that it attends to: `4 × layers × heads × head_dim`, a
    /// multiply-add for the score and one for the weighted sum.
    #[must_use]
    pub fn attention_ops_per_pair(&self) -> f64 {
        4.0 * f64::from(self.layers) * f64::from(self.heads) * f64::from(self.head_dim)
    }

    /// Blocks of the KV cache that fit into so many bytes, and no more than the KV manager can number.
    #[must_use]
    pub fn kv_blocks_in(&self, bytes: f64, block_size: u32) -> u32 {
        let block = self.kv_bytes_per_token() * f64::from(block_size);
        // Saturates: a negative number of bytes holds no block.
        let blocks = (bytes / block) as u32;
        blocks.min(u32::MAX / block_size.max(1))
    }

    /// Checks that all sizes are above 0.
    ///
    /// # Errors
    ///
    /// [`SimError::Setting`], by the name of the field.
    pub fn validate(&self) -> Result<(), SimError> {
        for (name, size) in [
            ("layers", self.layers),
            ("hidden", self.hidden),
            ("heads", self.heads),
            ("kv_heads", self.kv_heads),
            ("head_dim", self.head_dim),
            ("ffn", self.ffn),
            ("vocabulary", self.vocabulary),
            ("context", self.context),
        ] {
            check_positive(name, f64::from(size))?;
        }
        check_positive("bytes_per_weight", self.bytes_per_weight)?;
        check_positive("bytes_per_kv_number", self.bytes_per_kv_number)
    }
}
