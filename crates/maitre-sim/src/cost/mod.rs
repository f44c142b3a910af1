//! What a step costs.
//!
//! The time of a step is a sum of terms, each of them a count of the step's plan times a parameter. Of several devices each
//! holds a part of every matrix, and all of them take as long:
//!
//! ```text
//! seconds = step                                             once per step
//!         + sequence  × sequences                            host work and rows of each sequence
//!         + chunk     × prefill chunks                       what a chunk costs beyond its tokens
//!         + kernel    × kernels                              launching, filling and draining each kernel
//!         + max(reads, products) + unhidden × min(…)         for the layers (× a factor by tokens), and for the output matrix:
//!               reads    = weight bytes / read rate          each expert that a token chose once
//!               products = 2 × multiply-adds / operations per second
//!         + KV bytes / their read rate                       keys and values that attention reads and the step writes
//!         + attention operations / operations per second     scores and weighted sums
//!         + activation bytes / read rate                     what kernels hand to each other, and logits
//!         + all-reduces × (latency + bytes / link rate)      two in each layer, with several devices
//!         + steps of a draft model                           where drafts are of one: the same sum with its counts
//! ```
//!
//! The products are a roofline (Williams, Waterman and Patterson 2009) with an edge that is not sharp: the weights are read once for
//! all tokens, and reading and computing overlap but for a part of the shorter one, since the first tiles wait for their
//! weights and the last ones do not fill the device. Nothing else overlaps. The formulas of the counts are in [`ModelShape`] and
//! [`StepPricer`].

mod calibration;
mod config_json;
mod counts;
mod formats;
mod hardware;
mod known_shapes;
mod model_shape;
mod pricer;

pub use calibration::{Calibrated, Foreseen};
pub use counts::StepWork;
pub use formats::{KvDtype, ProductFormat, WeightDtype};
pub use hardware::Hardware;
pub use model_shape::{Experts, KvGroups, ModelShape, Window};
pub use pricer::StepPricer;
use serde::{Deserialize, Serialize};

use crate::SimError;
use crate::error::{check_positive, check_seconds};

/// The parameters of a step's time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CostModel {
    /// Seconds that a step takes whatever is in it.
    pub step_seconds: f64,
    /// Seconds for each sequence of a step.
    pub sequence_seconds: f64,
    /// Seconds for each prefill chunk of a step.
    pub chunk_seconds: f64,
    /// Seconds of each kernel beyond what it reads and computes.
    pub kernel_seconds: f64,
    /// Bytes that a device reads from its memory in a second.
    pub read_bytes_per_second: f64,
    /// The same of keys and values, which kernels read in smaller pieces; the read rate of weights where it was not measured.
    pub kv_bytes_per_second: f64,
    /// What products with the weights of the layers are computed in.
    pub products: ProductFormat,
    /// Operations per second of products with the weights of the layers, of a device; a multiply-add is two.
    pub product_ops_per_second: f64,
    /// The same of the output matrix, whose products are in bf16.
    pub output_ops_per_second: f64,
    /// Operations per second of attention, of a device; a multiply-add is two.
    pub attention_ops_per_second: f64,
    /// What of the shorter of reading and computing is not hidden behind the longer one.
    pub unhidden_share: f64,
    /// Devices that compute each step together.
    pub devices: u32,
    /// Bytes that a device sends in a second.
    pub link_bytes_per_second: f64,
    /// Seconds of an all-reduce beside its bytes.
    pub link_seconds: f64,
    /// By what the time of the layers' products is multiplied at so many tokens in a step, the fewest first. Between two of them the
    /// factor changes evenly; before the first and behind the last one it stays. None: 1.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub product_factors: Vec<(f64, f64)>,
}

impl CostModel {
    /// One device that reads and computes at these rates, products in bf16, and loses no time beside that: what hardware allows.
    #[must_use]
    pub fn limits(
        read_bytes_per_second: f64,
        product_ops_per_second: f64,
        attention_ops_per_second: f64,
    ) -> Self {
        Self {
            step_seconds: 0.0,
            sequence_seconds: 0.0,
            chunk_seconds: 0.0,
            kernel_seconds: 0.0,
            read_bytes_per_second,
            kv_bytes_per_second: read_bytes_per_second,
            products: ProductFormat::Bf16,
            product_ops_per_second,
            output_ops_per_second: product_ops_per_second,
            attention_ops_per_second,
            unhidden_share: 0.0,
            devices: 1,
            link_bytes_per_second: f64::MAX,
            link_seconds: 0.0,
            product_factors: Vec::new(),
        }
    }

    /// Checks that every step has a time.
    ///
    /// # Errors
    ///
    /// [`SimError::Setting`].
    pub fn validate(&self) -> Result<(), SimError> {
        check_seconds("step_seconds", self.step_seconds)?;
        check_seconds("sequence_seconds", self.sequence_seconds)?;
        check_seconds("chunk_seconds", self.chunk_seconds)?;
        check_seconds("kernel_seconds", self.kernel_seconds)?;
        check_seconds("link_seconds", self.link_seconds)?;
        check_positive("read_bytes_per_second", self.read_bytes_per_second)?;
        check_positive("kv_bytes_per_second", self.kv_bytes_per_second)?;
        check_positive("product_ops_per_second", self.product_ops_per_second)?;
        check_positive("output_ops_per_second", self.output_ops_per_second)?;
        check_positive("attention_ops_per_second", self.attention_ops_per_second)?;
        check_positive("link_bytes_per_second", self.link_bytes_per_second)?;
        check_positive("devices", f64::from(self.devices))?;
        check_factors(&self.product_factors)?;
        match (0.0..=1.0).contains(&self.unhidden_share) {
            true => Ok(()),
            false => Err(SimError::setting(
                "unhidden_share",
                self.unhidden_share,
                "a number from 0 to 1",
            )),
        }
    }
}

/// Checks that factors are in the order of their tokens, and that each is a number above 0.
fn check_factors(factors: &[(f64, f64)]) -> Result<(), SimError> {
    for (tokens, factor) in factors {
        check_positive("product_factors", *tokens)?;
        check_positive("product_factors", *factor)?;
    }
    match factors.is_sorted_by(|a, b| a.0 < b.0) {
        true => Ok(()),
        false => Err(SimError::setting(
            "product_factors",
            format!("{factors:?}"),
            "pairs of tokens and a factor, the fewest tokens first",
        )),
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
    /// Launching, filling and draining kernels.
    pub kernels: f64,
    /// Reading weights: whole where that takes longer than their products, else what of it is not hidden.
    pub weight_reads: f64,
    /// Products with weights: whole where they take longer than reading the weights, else what of them is not hidden.
    pub weight_products: f64,
    /// Reading and writing keys and values, and copies of blocks.
    pub kv: f64,
    /// Arithmetic of attention.
    pub attention: f64,
    /// What kernels hand to each other, and logits.
    pub activations: f64,
    /// All-reduces between devices.
    pub link: f64,
    /// Drafting: the steps of a draft model.
    pub drafts: f64,
}

impl StepSeconds {
    /// The terms by name, in the order in which they are told.
    #[must_use]
    pub fn terms(&self) -> [(&'static str, f64); 11] {
        [
            ("step", self.step),
            ("sequences", self.sequences),
            ("chunks", self.chunks),
            ("kernels", self.kernels),
            ("reading weights", self.weight_reads),
            ("products", self.weight_products),
            ("KV", self.kv),
            ("attention", self.attention),
            ("activations", self.activations),
            ("link", self.link),
            ("drafts", self.drafts),
        ]
    }

    /// The whole step.
    #[must_use]
    pub fn total(&self) -> f64 {
        self.terms().iter().map(|(_, seconds)| seconds).sum()
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.step += other.step;
        self.sequences += other.sequences;
        self.chunks += other.chunks;
        self.kernels += other.kernels;
        self.weight_reads += other.weight_reads;
        self.weight_products += other.weight_products;
        self.kv += other.kv;
        self.attention += other.attention;
        self.activations += other.activations;
        self.link += other.link;
        self.drafts += other.drafts;
    }
}
