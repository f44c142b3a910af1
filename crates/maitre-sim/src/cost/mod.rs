//! What a step costs.
//!
//! The time of a step is a sum of terms, each of them a count of the step's plan times a parameter:
//!
//! ```text
//! seconds = step                                             once per step
//!         + sequence  × sequences                            host work and rows of each sequence
//!         + chunk     × prefill chunks                       what a chunk costs beyond its tokens
//!         + max(weight bytes / read rate,
//!               2 × multiply-adds / operations per second)   products with weights, over all tokens
//!         + KV bytes / read rate                             keys and values that attention reads and the step writes
//!         + attention operations / operations per second     scores and weighted sums
//! ```
//!
//! The products are a roofline (Williams, Waterman and Patterson 2009): the weights are read once for all tokens, and
//! reading and computing overlap. Nothing else overlaps. The formulas of the counts are in [`ModelShape`].

mod hardware;
mod known_shapes;
mod model_shape;

pub use hardware::{Hardware, ProductFormat};
use maitre_scheduler::{StepPlan, Time};
pub use model_shape::ModelShape;
use serde::{Deserialize, Serialize};

use crate::SimError;
use crate::error::{check_positive, check_seconds};

/// The parameters of a step's time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CostModel {
    /// Seconds that a step takes whatever is in it.
    pub step_seconds: f64,
    /// Seconds for each sequence of a step.
    pub sequence_seconds: f64,
    /// Seconds for each prefill chunk of a step.
    pub chunk_seconds: f64,
    /// Bytes that are read from memory in a second.
    pub read_bytes_per_second: f64,
    /// Operations per second of products with weights; a multiply-add is two.
    pub product_ops_per_second: f64,
    /// Operations per second of attention; a multiply-add is two.
    pub attention_ops_per_second: f64,
}

impl CostModel {
    /// Checks that every step has a time.
    ///
    /// # Errors
    ///
    /// [`SimError::Setting`].
    pub fn validate(&self) -> Result<(), SimError> {
        check_seconds("step_seconds", self.step_seconds)?;
        check_seconds("sequence_seconds", self.sequence_seconds)?;
        check_seconds("chunk_seconds", self.chunk_seconds)?;
        check_positive("read_bytes_per_second", self.read_bytes_per_second)?;
        check_positive("product_ops_per_second", self.product_ops_per_second)?;
        check_positive("attention_ops_per_second", self.attention_ops_per_second)
    }
}

/// What there is to do in a step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StepWork {
    /// Sequences with at least one token in the step.
    pub sequences: u64,
    /// Of them, those with tokens of their prompt, or of what a preemption lost. A rest of one token counts as a decode.
    pub chunks: u64,
    /// Tokens over all sequences.
    pub tokens: u64,
    /// Rows of logits.
    pub rows: u64,
    /// Positions whose keys and values are read or written, over all sequences: each sequence's once, since the tokens of a chunk
    /// share what they read.
    pub kv_positions: u64,
    /// Pairs of a token and a position that it attends to.
    pub attention_pairs: u64,
    /// Blocks that are copied before the step.
    pub copied_blocks: u64,
}

impl StepWork {
    /// The work of a plan, under full attention.
    #[must_use]
    pub fn of(plan: &StepPlan) -> Self {
        let mut work = Self {
            copied_blocks: plan.moves.len() as u64,
            ..Self::default()
        };
        for span in &plan.spans {
            let tokens = (span.tokens.len() + span.drafts) as u64;
            let before = span.first_position as u64;
            work.sequences += 1;
            work.chunks += u64::from(span.tokens.len() > 1 || !span.samples);
            work.tokens += tokens;
            work.rows += (span.output_positions.len() + span.drafts) as u64;
            work.kv_positions += before + tokens;
            // The token at position p attends to p + 1 positions.
            work.attention_pairs += tokens * before + tokens * (tokens + 1) / 2;
        }
        work
    }
}

/// The time of a step, by its terms, in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct StepSeconds {
    /// What every step takes.
    pub step: f64,
    /// Sequences.
    pub sequences: f64,
    /// Prefill chunks.
    pub chunks: f64,
    /// Products with weights that reading the weights bounds.
    pub weight_reads: f64,
    /// Products with weights that arithmetic bounds.
    pub weight_products: f64,
    /// Reading and writing keys and values, and copies of blocks.
    pub kv: f64,
    /// Arithmetic of attention.
    pub attention: f64,
}

impl StepSeconds {
    /// The whole step.
    #[must_use]
    pub fn total(&self) -> f64 {
        self.step
            + self.sequences
            + self.chunks
            + self.weight_reads
            + self.weight_products
            + self.kv
            + self.attention
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.step += other.step;
        self.sequences += other.sequences;
        self.chunks += other.chunks;
        self.weight_reads += other.weight_reads;
        self.weight_products += other.weight_products;
        self.kv += other.kv;
        self.attention += other.attention;
    }
}

/// Prices the steps of one model on one machine: the counts of a [`ModelShape`], divided by the rates of a [`CostModel`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepPricer {
    cost: CostModel,
    layer_weight_bytes: f64,
    output_weight_bytes: f64,
    ops_per_token: f64,
    ops_per_row: f64,
    kv_bytes_per_token: f64,
    attention_ops_per_pair: f64,
    block_size: f64,
}

impl StepPricer {
    /// For blocks of `block_size` tokens.
    ///
    /// # Errors
    ///
    /// [`SimError::Setting`] for a parameter or a size that no step can have.
    pub fn new(shape: &ModelShape, cost: CostModel, block_size: u32) -> Result<Self, SimError> {
        shape.validate()?;
        cost.validate()?;
        Ok(Self {
            cost,
            layer_weight_bytes: shape.layer_weights() * shape.bytes_per_weight,
            output_weight_bytes: shape.output_weights() * shape.bytes_per_weight,
            ops_per_token: 2.0 * shape.layer_weights(),
            ops_per_row: 2.0 * shape.output_weights(),
            kv_bytes_per_token: shape.kv_bytes_per_token(),
            attention_ops_per_pair: shape.attention_ops_per_pair(),
            block_size: f64::from(block_size),
        })
    }

    /// The time of a step.
    #[must_use]
    pub fn price(&self, work: &StepWork) -> StepSeconds {
        let cost = &self.cost;
        let output_bytes = if work.rows > 0 {
            self.output_weight_bytes
        } else {
            0.0
        };
        let reads = (self.layer_weight_bytes + output_bytes) / cost.read_bytes_per_second;
        let ops = self.ops_per_token * work.tokens as f64 + self.ops_per_row * work.rows as f64;
        let products = ops / cost.product_ops_per_second;
        let kv_bytes = self.kv_bytes_per_token * work.kv_positions as f64;
        StepSeconds {
            step: cost.step_seconds,
            sequences: cost.sequence_seconds * work.sequences as f64,
            chunks: cost.chunk_seconds * work.chunks as f64,
            weight_reads: if reads >= products { reads } else { 0.0 },
            weight_products: if reads >= products { 0.0 } else { products },
            kv: kv_bytes / cost.read_bytes_per_second + self.copy_seconds(work),
            attention: self.attention_ops_per_pair * work.attention_pairs as f64
                / cost.attention_ops_per_second,
        }
    }

    /// What of a step is copying blocks: each is read and written.
    fn copy_seconds(&self, work: &StepWork) -> f64 {
        let bytes = 2.0 * self.block_size * self.kv_bytes_per_token;
        bytes * work.copied_blocks as f64 / self.cost.read_bytes_per_second
    }

    /// The same, as a time of the simulation.
    pub(crate) fn copy_time(&self, work: &StepWork) -> Time {
        Time::try_from_secs_f64(self.copy_seconds(work)).unwrap_or(Time::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape() -> ModelShape {
        ModelShape {
            name: "tiny".to_owned(),
            layers: 2,
            hidden: 8,
            heads: 4,
            kv_heads: 2,
            head_dim: 2,
            ffn: 16,
            vocabulary: 100,
            tied: true,
            bytes_per_weight: 2.0,
            bytes_per_kv_number: 2.0,
            context: 1024,
        }
    }

    const COST: CostModel = CostModel {
        step_seconds: 1.0,
        sequence_seconds: 0.1,
        chunk_seconds: 0.01,
        read_bytes_per_second: 1000.0,
        product_ops_per_second: 10_000.0,
        attention_ops_per_second: 5000.0,
    };

    #[test]
    fn a_step_is_priced_by_hand() {
        let pricer = StepPricer::new(&shape(), COST, 16).unwrap();
        // A layer: 8·8 + 8·8 (query, output) + 2·8·4 (key, value) + 3·8·16 (MLP) = 576 weights.
        // A decode at position 9, a chunk of 3 tokens behind 5 that ends its prompt.
        let work = StepWork {
            sequences: 2,
            chunks: 1,
            tokens: 4,
            rows: 2,
            kv_positions: 10 + 8,
            attention_pairs: 10 + 6 + 7 + 8,
            copied_blocks: 1,
        };
        let priced = pricer.price(&work);
        let close = |found: f64, expected: f64| {
            assert!((found - expected).abs() < 1e-9, "{found} {expected}")
        };
        close(priced.sequences, 0.2);
        close(priced.chunks, 0.01);
        // Reads: (1152 + 800) · 2 bytes in 3.904 s; products: 2 · (1152 · 4 + 800 · 2) in 1.2416 s.
        close(priced.weight_reads, 3.904);
        close(priced.weight_products, 0.0);
        // 2 (key, value) · 2 layers · 2 heads · 2 · 2 bytes = 32 a token; a block of 16 is read and written.
        close(priced.kv, (18.0 * 32.0 + 2.0 * 16.0 * 32.0) / 1000.0);
        // 4 · 4 heads · 2 · 2 layers = 64 operations a pair.
        close(priced.attention, 31.0 * 64.0 / 5000.0);
        close(
            priced.total(),
            1.0 + 0.2 + 0.01 + 3.904 + priced.kv + priced.attention,
        );
        let many = StepWork {
            tokens: 100,
            ..work
        };
        close(
            pricer.price(&many).weight_products,
            (2304.0 * 100.0 + 1600.0 * 2.0) / 10_000.0,
        );
        assert_eq!(pricer.price(&many).weight_reads, 0.0);
        let silent = StepWork { rows: 0, ..work };
        close(pricer.price(&silent).weight_reads, 2.304);
    }

    #[test]
    fn parameters_that_give_no_time_are_refused() {
        for (name, cost) in [
            (
                "read_bytes_per_second",
                CostModel {
                    read_bytes_per_second: 0.0,
                    ..COST
                },
            ),
            (
                "step_seconds",
                CostModel {
                    step_seconds: -1.0,
                    ..COST
                },
            ),
            (
                "sequence_seconds",
                CostModel {
                    sequence_seconds: f64::NAN,
                    ..COST
                },
            ),
            (
                "product_ops_per_second",
                CostModel {
                    product_ops_per_second: f64::INFINITY,
                    ..COST
                },
            ),
        ] {
            let said = StepPricer::new(&shape(), cost, 16).unwrap_err().to_string();
            assert!(said.starts_with(name), "{said}");
        }
    }
}
