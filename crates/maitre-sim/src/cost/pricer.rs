//! The time of a step: its counts, times what a model has of each, divided by the rates of a machine.

use maitre_scheduler::{StepPlan, Time};

use super::{CostModel, ModelShape, ProductFormat, StepSeconds, StepWork};
use crate::SimError;

/// Kernels of a layer as engines commonly cut it: norm; queries, keys and values; their norms and rotation; storing them; attention;
/// merging its parts; the way back; adding and norm; gate and up; activation; down.
const KERNELS_PER_LAYER: f64 = 11.0;

/// What a mixture of experts has beyond an MLP: scores, choice, sorting tokens by expert, gathering them, and the weighted sum.
const KERNELS_PER_MIXTURE: f64 = 5.0;

/// Kernels that turn activations to fp8 or int8 before the four products of a layer.
const KERNELS_PER_QUANTIZED_LAYER: f64 = 4.0;

/// Kernels outside of the layers: embedding, norm, gathering rows, logits, and sampling in four.
const KERNELS_BESIDE_LAYERS: f64 = 8.0;

/// Bytes of an activation.
const ACTIVATION_BYTES: f64 = 2.0;

/// Bytes of a logit, written once and read once.
const LOGIT_BYTES: f64 = 8.0;

/// Prices the steps of one model on one machine: the counts of a [`ModelShape`], divided by the rates of a [`CostModel`].
#[derive(Debug, Clone, PartialEq)]
pub struct StepPricer {
    cost: CostModel,
    window: Option<u32>,
    experts: Mixtures,
    /// Of each device.
    shared_bytes: f64,
    output_bytes: f64,
    ops_per_token: f64,
    ops_per_row: f64,
    /// Bytes of a token's keys and values, in all layers of either kind.
    full_kv_bytes: f64,
    window_kv_bytes: f64,
    full_attention_ops: f64,
    window_attention_ops: f64,
    activation_bytes_per_token: f64,
    activation_bytes_per_row: f64,
    kernels: f64,
    all_reduces: f64,
    all_reduce_bytes_per_token: f64,
    page_bytes: f64,
}

/// The experts of all layers.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Mixtures {
    /// Bytes of all of them, of each device.
    bytes: f64,
    /// The share of them that a token passes by.
    missed: f64,
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
        let devices = f64::from(cost.devices);
        // Heads are not cut: of more devices than heads several have the same.
        let kv_devices = devices.min(f64::from(shape.kv_heads));
        let head_devices = devices.min(f64::from(shape.heads));
        let (full, windowed) = (
            f64::from(shape.full_layers()),
            f64::from(shape.window_layers()),
        );
        let kv = shape.kv_bytes_per_layer() / kv_devices;
        let attention = shape.attention_ops_per_layer() / head_devices;
        Ok(Self {
            window: shape.window.map(|it| it.tokens),
            experts: Mixtures::of(shape, devices),
            shared_bytes: shape.shared_weights() * shape.bytes_per_weight / devices,
            output_bytes: shape.output_weights() * shape.bytes_per_output_weight() / devices,
            ops_per_token: 2.0 * shape.active_layer_weights() / devices,
            ops_per_row: 2.0 * shape.output_weights() / devices,
            full_kv_bytes: full * kv,
            window_kv_bytes: windowed * kv,
            full_attention_ops: full * attention,
            window_attention_ops: windowed * attention,
            activation_bytes_per_token: activation_bytes(shape, devices),
            activation_bytes_per_row: LOGIT_BYTES * f64::from(shape.vocabulary) / devices,
            kernels: kernels(shape, cost.products),
            all_reduces: match cost.devices {
                1 => 0.0,
                _ => 2.0 * f64::from(shape.layers),
            },
            // A ring sends and receives each part twice but for the own one (Patarasuk and Yuan 2009).
            all_reduce_bytes_per_token: 2.0 * (devices - 1.0) / devices
                * ACTIVATION_BYTES
                * f64::from(shape.hidden),
            page_bytes: shape.page_bytes(block_size) / kv_devices,
            cost,
        })
    }

    /// The work of a plan.
    #[must_use]
    pub fn work(&self, plan: &StepPlan) -> StepWork {
        StepWork::of(plan, self.window)
    }

    /// The time of a step, without that of drafts.
    #[must_use]
    pub fn price(&self, work: &StepWork) -> StepSeconds {
        let cost = &self.cost;
        let (tokens, rows) = (work.tokens as f64, work.rows as f64);
        let (layer_reads, layer_products) = self.layers(tokens);
        let (output_reads, output_products) = self.roofline(
            self.output_bytes_read(work),
            self.ops_per_row * rows / cost.output_ops_per_second,
        );
        let kv_bytes = self.full_kv_bytes * work.kv_positions as f64
            + self.window_kv_bytes * work.window_positions as f64;
        let attention_ops = self.full_attention_ops * work.attention_pairs as f64
            + self.window_attention_ops * work.window_pairs as f64;
        let activations =
            self.activation_bytes_per_token * tokens + self.activation_bytes_per_row * rows;
        let sent = self.all_reduce_bytes_per_token * tokens / cost.link_bytes_per_second;
        StepSeconds {
            step: cost.step_seconds,
            sequences: cost.sequence_seconds * work.sequences as f64,
            chunks: cost.chunk_seconds * work.chunks as f64,
            kernels: cost.kernel_seconds * self.kernels,
            weight_reads: layer_reads + output_reads,
            weight_products: layer_products + output_products,
            kv: kv_bytes / cost.kv_bytes_per_second + self.copy_seconds(work),
            attention: attention_ops / cost.attention_ops_per_second,
            activations: activations / cost.read_bytes_per_second,
            link: self.all_reduces * (cost.link_seconds + sent),
            drafts: 0.0,
        }
    }

    /// Reading and computing of the layers' weights.
    fn layers(&self, tokens: f64) -> (f64, f64) {
        let products = self.ops_per_token * tokens / self.cost.product_ops_per_second;
        let (reads, products) = self.roofline(self.layer_bytes(tokens), products);
        match self.cost.product_factors.as_slice() {
            [] => (reads, products),
            factors => {
                let factor = between(factors, tokens);
                (factor * reads, factor * products)
            }
        }
    }

    /// The same, added up.
    pub(super) fn layer_seconds(&self, work: &StepWork) -> f64 {
        let (reads, products) = self.layers(work.tokens as f64);
        reads + products
    }

    /// Bytes of weights that a step reads on each device.
    pub(crate) fn weight_bytes(&self, work: &StepWork) -> f64 {
        self.layer_bytes(work.tokens as f64) + self.output_bytes_read(work)
    }

    fn output_bytes_read(&self, work: &StepWork) -> f64 {
        if work.rows > 0 {
            self.output_bytes
        } else {
            0.0
        }
    }

    /// Bytes of the layers' weights that a step of so many tokens reads on each device.
    fn layer_bytes(&self, tokens: f64) -> f64 {
        let Mixtures { bytes, missed } = self.experts;
        let touched = match bytes > 0.0 {
            true => bytes * (1.0 - libm::pow(missed, tokens)),
            false => 0.0,
        };
        self.shared_bytes + touched
    }

    /// What reading so many bytes and computing for so long takes, as far as neither hides behind the other.
    fn roofline(&self, bytes: f64, products: f64) -> (f64, f64) {
        let reads = bytes / self.cost.read_bytes_per_second;
        match reads >= products {
            true => (reads, self.cost.unhidden_share * products),
            false => (self.cost.unhidden_share * reads, products),
        }
    }

    /// What of a step is copying blocks: each is read and written.
    fn copy_seconds(&self, work: &StepWork) -> f64 {
        2.0 * self.page_bytes * work.copied_blocks as f64 / self.cost.read_bytes_per_second
    }

    /// The same, as a time of the simulation.
    pub(crate) fn copy_time(&self, work: &StepWork) -> Time {
        Time::try_from_secs_f64(self.copy_seconds(work)).unwrap_or(Time::MAX)
    }
}

/// The value at `x` on the lines between points in the order of their first numbers, of which there is at least one.
fn between(points: &[(f64, f64)], x: f64) -> f64 {
    let behind = points.partition_point(|point| point.0 <= x);
    let below = points.get(behind.wrapping_sub(1));
    match (below, points.get(behind)) {
        (Some(a), Some(b)) => a.1 + (b.1 - a.1) * (x - a.0) / (b.0 - a.0),
        (Some(end), None) | (None, Some(end)) => end.1,
        (None, None) => 1.0,
    }
}

impl Mixtures {
    fn of(shape: &ModelShape, devices: f64) -> Self {
        let missed = shape
            .experts
            .map_or(1.0, |it| 1.0 - f64::from(it.active) / f64::from(it.count));
        Self {
            bytes: shape.expert_weights() * shape.bytes_per_expert_weight() / devices,
            missed,
        }
    }
}

fn kernels(shape: &ModelShape, products: ProductFormat) -> f64 {
    let quantizing = match products {
        ProductFormat::Bf16 => 0.0,
        ProductFormat::Fp8 | ProductFormat::Int8 => KERNELS_PER_QUANTIZED_LAYER,
    };
    f64::from(shape.layers) * (KERNELS_PER_LAYER + quantizing)
        + shape.expert_layers() * KERNELS_PER_MIXTURE
        + KERNELS_BESIDE_LAYERS
}

/// Bytes that kernels of all layers read and write for a token, weights and cache aside, on each device. The residual stream is on
/// all devices; what lies between products is cut.
///
/// With h the width of the stream, q of the queries, k of the keys and f of the MLP: two norms that add (4h each), queries, keys
/// and values (h + q + 2k), their rotation (2q + 4k), attention (2q), the way back (q + h), gate and up (h + 2f), the activation
/// (3f), and down (f + h). Experts have those of the MLP for each that a token goes through.
fn activation_bytes(shape: &ModelShape, devices: f64) -> f64 {
    let hidden = f64::from(shape.hidden);
    let (query, key) = (shape.query_width(), shape.key_width());
    let layers = f64::from(shape.layers);
    let mixtures = shape.expert_layers();
    let stream = 12.0 * hidden;
    let between = 6.0 * query + 6.0 * key;
    let expert = shape.experts.map_or(0.0, |it| {
        let active = f64::from(it.active);
        active * (2.0 * hidden + 6.0 * f64::from(it.ffn)) + 6.0 * f64::from(it.shared_ffn)
    });
    let mlps = (layers - mixtures) * 6.0 * f64::from(shape.ffn) + mixtures * expert;
    ACTIVATION_BYTES * (layers * stream + (layers * between + mlps) / devices)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::{Experts, Window};

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
            bytes_per_output_weight: None,
            bytes_per_kv_number: 2.0,
            experts: None,
            window: None,
            context: 1024,
        }
    }

    fn cost() -> CostModel {
        CostModel {
            step_seconds: 1.0,
            sequence_seconds: 0.1,
            chunk_seconds: 0.01,
            ..CostModel::limits(1000.0, 10_000.0, 5000.0)
        }
    }

    /// A decode at position 9, and a chunk of 3 tokens behind 5 that ends its prompt.
    fn two_sequences() -> StepWork {
        StepWork {
            sequences: 2,
            chunks: 1,
            tokens: 4,
            rows: 2,
            kv_positions: 10 + 8,
            attention_pairs: 10 + 6 + 7 + 8,
            copied_blocks: 1,
            ..StepWork::default()
        }
    }

    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-9, "{found} {expected}");
    }

    #[test]
    fn a_step_is_priced_by_hand() {
        let pricer = StepPricer::new(&shape(), cost(), 16).unwrap();
        // A layer: 8·8 + 8·8 (query, output) + 2·8·4 (key, value) + 3·8·16 (MLP) = 576 weights.
        let work = two_sequences();
        let priced = pricer.price(&work);
        close(priced.sequences, 0.2);
        close(priced.chunks, 0.01);
        // Reads: (1152 + 800) · 2 bytes in 3.904 s; products: 2 · (1152 · 4 + 800 · 2) in 1.2416 s.
        close(priced.weight_reads, 3.904);
        close(priced.weight_products, 0.0);
        // 2 (key, value) · 2 layers · 2 heads · 2 · 2 bytes = 32 a token; a block of 16 is read and written.
        close(priced.kv, (18.0 * 32.0 + 2.0 * 16.0 * 32.0) / 1000.0);
        // 4 · 4 heads · 2 · 2 layers = 64 operations a pair.
        close(priced.attention, 31.0 * 64.0 / 5000.0);
        // 12·8 + 6·8 + 6·4 + 6·16 = 264 numbers of 2 bytes in each of 2 layers; 100 logits of 8 bytes.
        close(priced.activations, (4.0 * 1056.0 + 2.0 * 800.0) / 1000.0);
        close(
            priced.total(),
            1.0 + 0.2 + 0.01 + 3.904 + priced.kv + priced.attention + priced.activations,
        );
        let many = StepWork {
            tokens: 100,
            ..work
        };
        // The layers' products take longer than their reads now, the output matrix has two rows still.
        close(
            pricer.price(&many).weight_products,
            2304.0 * 100.0 / 10_000.0,
        );
        close(pricer.price(&many).weight_reads, 1.6);
        let silent = StepWork { rows: 0, ..work };
        close(pricer.price(&silent).weight_reads, 2.304);
    }

    #[test]
    fn what_is_not_hidden_counts() {
        let cost = CostModel {
            unhidden_share: 0.25,
            kernel_seconds: 0.5,
            ..cost()
        };
        let pricer = StepPricer::new(&shape(), cost, 16).unwrap();
        let priced = pricer.price(&two_sequences());
        // Layers: 2.304 s of reads, 0.9216 of products; output matrix: 1.6 s of reads, 0.32 of products.
        close(priced.weight_reads, 2.304 + 1.6);
        close(priced.weight_products, 0.25 * (0.9216 + 0.32));
        // 11 kernels in each of 2 layers, and 8.
        close(priced.kernels, 15.0);
    }

    #[test]
    fn products_take_longer_by_the_factor_of_their_tokens() {
        let plain = StepPricer::new(&shape(), cost(), 16).unwrap();
        let factors = vec![(2.0, 1.5), (6.0, 2.5)];
        let cost = CostModel {
            product_factors: factors,
            ..cost()
        };
        let pricer = StepPricer::new(&shape(), cost, 16).unwrap();
        for (tokens, factor) in [(1, 1.5), (2, 1.5), (4, 2.0), (6, 2.5), (50, 2.5)] {
            let work = StepWork {
                tokens,
                ..StepWork::default()
            };
            let (plain, slowed) = (plain.price(&work), pricer.price(&work));
            close(slowed.weight_reads, factor * plain.weight_reads);
            close(slowed.weight_products, factor * plain.weight_products);
        }
    }

    #[test]
    fn two_devices_halve_what_is_cut_and_reduce() {
        let one = StepPricer::new(&shape(), cost(), 16).unwrap();
        let cost = CostModel {
            devices: 2,
            link_bytes_per_second: 100.0,
            link_seconds: 0.001,
            ..cost()
        };
        let two = StepPricer::new(&shape(), cost, 16).unwrap();
        let (one, two) = (one.price(&two_sequences()), two.price(&two_sequences()));
        close(two.weight_reads, one.weight_reads / 2.0);
        close(two.kv, one.kv / 2.0);
        close(two.attention, one.attention / 2.0);
        // 4 all-reduces of 4 tokens · 8 numbers · 2 bytes, of which a device sends 2 · (2 − 1) / 2.
        close(two.link, 4.0 * (0.001 + 64.0 / 100.0));
        assert_eq!(one.link, 0.0);
        // 96 numbers of the stream in each layer stay; the other 168 are halved.
        close(
            two.activations,
            (4.0 * 2.0 * 2.0 * (96.0 + 84.0) + 2.0 * 400.0) / 1000.0,
        );
    }

    #[test]
    fn experts_are_read_if_a_token_goes_through_them() {
        let mut mixture = shape();
        mixture.experts = Some(Experts {
            count: 4,
            active: 1,
            ffn: 16,
            shared_ffn: 0,
            dense_layers: 0,
            bytes_per_weight: None,
        });
        let pricer = StepPricer::new(&mixture, cost(), 16).unwrap();
        let one = StepWork {
            tokens: 1,
            ..StepWork::default()
        };
        // Attention 192, router 32 and one expert of 384 weights in each of 2 layers.
        close(pricer.price(&one).weight_reads, 2.0 * 2.0 * 608.0 / 1000.0);
        // Two tokens touch 4 · (1 − (3/4)²) = 1.75 experts.
        let two = StepWork { tokens: 2, ..one };
        close(
            pricer.price(&two).weight_reads,
            2.0 * 2.0 * (224.0 + 1.75 * 384.0) / 1000.0,
        );
    }

    #[test]
    fn windows_bound_keys_and_attention() {
        let mut windowed = shape();
        windowed.window = Some(Window {
            tokens: 4,
            layers: 1,
        });
        let pricer = StepPricer::new(&windowed, cost(), 16).unwrap();
        let mut work = StepWork::default();
        work.add(9, 1, Some(4));
        let priced = pricer.price(&work);
        // 16 bytes and 32 operations a layer: 10 positions in one, 4 in the other.
        close(priced.kv, 16.0 * 14.0 / 1000.0);
        close(priced.attention, 32.0 * 14.0 / 5000.0);
    }

    #[test]
    fn parameters_that_give_no_time_are_refused() {
        for (name, cost) in [
            (
                "read_bytes_per_second",
                CostModel {
                    read_bytes_per_second: 0.0,
                    ..cost()
                },
            ),
            (
                "step_seconds",
                CostModel {
                    step_seconds: -1.0,
                    ..cost()
                },
            ),
            (
                "sequence_seconds",
                CostModel {
                    sequence_seconds: f64::NAN,
                    ..cost()
                },
            ),
            (
                "product_ops_per_second",
                CostModel {
                    product_ops_per_second: f64::INFINITY,
                    ..cost()
                },
            ),
            (
                "product_factors",
                CostModel {
                    product_factors: vec![(4.0, 1.0), (2.0, 1.0)],
                    ..cost()
                },
            ),
            (
                "product_factors",
                CostModel {
                    product_factors: vec![(4.0, 0.0)],
                    ..cost()
                },
            ),
        ] {
            let said = StepPricer::new(&shape(), cost, 16).unwrap_err().to_string();
            assert!(said.starts_with(name), "{said}");
        }
    }
}
