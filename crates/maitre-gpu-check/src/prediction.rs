//! The two-number model: a kernel takes as long as its bytes at the copy rate or its operations at the rate of a
//! large product, whichever is longer, and a step takes the sum over its kernels.
//!
//! That is the roofline (Williams, Waterman and Patterson 2009) kernel by kernel. It knows nothing of launches, of
//! small kernels that fill no GPU, or of the host: what is missing from the measured rate is theirs.
//!
//! ```text
//! of R rows, L output rows, contexts of C positions in all, per layer
//!   matrix [n, k]   n · k · bits/8 + R · (2k + 4n) bytes      2 · R · n · k operations
//!   attention       C · (keys + values) + R · 8 · width       4 · width · (positions all rows see)
//!   rows            norms, rotation, encoding: about R · (20 · hidden + 14 · qkv + 6 · mlp) bytes
//! at the end        the output matrix over L rows, and their logits, written and read once
//! ```

use maitre_model::Model;
use maitre_tensor::WeightFormat;

/// The two numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Rates {
    pub(super) bytes_per_s: f64,
    pub(super) flop_per_s: f64,
}

/// What kernels move and calculate.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Work {
    bytes: f64,
    flop: f64,
}

impl Rates {
    fn seconds(self, work: Work) -> f64 {
        (work.bytes / self.bytes_per_s).max(work.flop / self.flop_per_s)
    }

    /// Seconds of a kernel that moves so many bytes and does so many operations.
    pub(super) fn of_kernel(self, bytes: f64, flop: f64) -> f64 {
        self.seconds(Work { bytes, flop })
    }

    /// Seconds to move so many bytes.
    fn moving(self, bytes: f64) -> f64 {
        bytes / self.bytes_per_s
    }
}

/// What decides how long a step takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct StepSize {
    /// Token rows.
    pub(super) rows: usize,
    /// Rows whose logits are wanted.
    pub(super) outputs: usize,
    /// Positions whose keys and values are read, over all sequences.
    pub(super) contexts: usize,
    /// Positions that rows see, over all rows.
    pub(super) seen: usize,
}

impl StepSize {
    /// One token of each of `users` sequences with `context` positions.
    pub(super) fn decode(users: usize, context: usize) -> Self {
        Self {
            rows: users,
            outputs: users,
            contexts: users * context,
            seen: users * context,
        }
    }

    /// A prompt, of which one row matters.
    pub(super) fn prefill(tokens: usize) -> Self {
        Self {
            rows: tokens,
            outputs: 1,
            contexts: tokens,
            seen: tokens * (tokens + 1) / 2,
        }
    }
}

/// How long a step takes at best, in seconds.
pub(super) fn step_seconds(model: &Model, size: StepSize, rates: Rates) -> f64 {
    let config = model.config();
    let [rows, outputs, hidden, mlp, layers, vocab] = [
        size.rows,
        size.outputs,
        config.hidden_size,
        config.intermediate_size,
        config.num_layers,
        config.vocab_size,
    ]
    .map(|it| it as f64);
    let width = (config.num_heads * config.head_dim) as f64;
    let qkv = width + (2 * config.num_kv_heads * config.head_dim) as f64;
    let bits = model.dtype().bits_per_weight();
    let matrix = |rows: f64, n: f64, k: f64, bits: f64| {
        rates.seconds(Work {
            bytes: n * k * bits / 8.0 + rows * (2.0 * k + 4.0 * n),
            flop: 2.0 * rows * n * k,
        })
    };
    let products = matrix(rows, qkv, hidden, bits)
        + matrix(rows, hidden, width, bits)
        + matrix(rows, 2.0 * mlp, hidden, bits)
        + matrix(rows, hidden, mlp, bits);
    let kv_bytes_per_token = model.kv_bytes_per_token() as f64 / layers;
    let attention = rates.seconds(Work {
        bytes: size.contexts as f64 * kv_bytes_per_token + rows * 8.0 * width,
        flop: 4.0 * width * size.seen as f64,
    });
    let small = rates.moving(rows * (20.0 * hidden + 14.0 * qkv + 6.0 * mlp));
    let head = matrix(outputs, vocab, hidden, vocabulary_bits(model.dtype()))
        + rates.moving(outputs * vocab * 4.0);
    layers * (products + attention + small) + head
}

/// Operations of the matrices for one token whose logits are not needed.
pub(super) fn matrix_flop_per_token(model: &Model) -> f64 {
    let config = model.config();
    let vectors = (config.hidden_size * config.vocab_size) as f64;
    let tables = if config.tie_word_embeddings { 1.0 } else { 2.0 };
    2.0 * (config.num_parameters() as f64 - tables * vectors)
}

/// Bits of a number of the output matrix: int4 models keep it in int8.
fn vocabulary_bits(format: WeightFormat) -> f64 {
    match format {
        WeightFormat::Int4 { .. } => 8.0,
        other => other.bits_per_weight(),
    }
}
