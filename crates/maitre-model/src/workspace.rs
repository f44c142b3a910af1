//! Every activation of a step, allocated once.
//!
//! The buffers are as large as the largest step the runner accepts; a smaller step uses their first
//! rows. Addresses never change and a step allocates nothing, so peak memory is known at start.
//!
//! ```text
//! residual, normed, delta   [rows, hidden]
//! qkv                       [rows, (heads + 2·kv_heads)·head_dim]
//! query, attention          [rows, heads·head_dim]
//! gate_up                   [rows, 2·intermediate]      activated  [rows, intermediate]
//! tile                      [LOGITS_TILE, hidden]       logits     [LOGITS_TILE, vocab]
//! ```

use maitre_tensor::{Buffer, DType, TensorError};

use crate::config::ModelConfig;

/// The most rows of logits that exist at once.
pub const LOGITS_TILE: usize = 32;

/// The activations of one runner.
#[derive(Debug)]
pub(crate) struct Workspace {
    residual: Buffer,
    normed: Buffer,
    delta: Buffer,
    qkv: Buffer,
    query: Buffer,
    attention: Buffer,
    gate_up: Buffer,
    activated: Buffer,
    tile: Buffer,
    logits: Buffer,
}

/// The roles the buffers play within one step. Roles may be swapped, buffers stay.
pub(crate) struct Activations<'w> {
    pub(crate) residual: &'w mut Buffer,
    pub(crate) normed: &'w mut Buffer,
    pub(crate) delta: &'w mut Buffer,
    pub(crate) qkv: &'w mut Buffer,
    pub(crate) query: &'w mut Buffer,
    pub(crate) attention: &'w mut Buffer,
    pub(crate) gate_up: &'w mut Buffer,
    pub(crate) activated: &'w mut Buffer,
}

impl Workspace {
    /// Buffers for steps of up to `rows` rows.
    pub(crate) fn new(config: &ModelConfig, rows: usize) -> Result<Self, TensorError> {
        let of_width = |width: usize| Buffer::zeros(DType::F32, rows * width);
        Ok(Self {
            residual: of_width(config.hidden_size)?,
            normed: of_width(config.hidden_size)?,
            delta: of_width(config.hidden_size)?,
            qkv: of_width(config.qkv_size())?,
            query: of_width(config.query_size())?,
            attention: of_width(config.query_size())?,
            gate_up: of_width(2 * config.intermediate_size)?,
            activated: of_width(config.intermediate_size)?,
            tile: Buffer::zeros(DType::F32, LOGITS_TILE * config.hidden_size)?,
            logits: Buffer::zeros(DType::F32, LOGITS_TILE * config.vocab_size)?,
        })
    }

    pub(crate) fn activations(&mut self) -> Activations<'_> {
        Activations {
            residual: &mut self.residual,
            normed: &mut self.normed,
            delta: &mut self.delta,
            qkv: &mut self.qkv,
            query: &mut self.query,
            attention: &mut self.attention,
            gate_up: &mut self.gate_up,
            activated: &mut self.activated,
        }
    }

    /// What a step leaves behind, the tile of it that logits are computed from, and their place:
    /// normalised hidden states `[output rows, hidden]`, `[LOGITS_TILE, hidden]`,
    /// `[LOGITS_TILE, vocab]`.
    ///
    /// The hidden states lie in the buffer that begins the step as the residual stream: its role
    /// and that of `normed` are swapped once, in the last layer.
    pub(crate) fn outputs(&mut self) -> (&Buffer, &mut Buffer, &mut Buffer) {
        (&self.residual, &mut self.tile, &mut self.logits)
    }

    pub(crate) fn size_in_bytes(&self) -> usize {
        [
            &self.residual,
            &self.normed,
            &self.delta,
            &self.qkv,
            &self.query,
            &self.attention,
            &self.gate_up,
            &self.activated,
            &self.tile,
            &self.logits,
        ]
        .map(Buffer::size_in_bytes)
        .iter()
        .sum()
    }
}
