//! Every activation of a step, allocated once.
//!
//! The buffers are as large as the largest step the runner accepts; a smaller step uses their first
//! rows. Addresses never change and a step allocates nothing, so peak memory is known at start.
//!
//! ```text
//! residual, delta           [rows, hidden]              normed     [rows, hidden]
//! qkv                       [rows, (heads + 2·kv_heads)·head_dim]
//! query, attention          [rows, heads·head_dim]      attended   [rows, heads·head_dim]
//! gated                     [rows, intermediate]        activated  [rows, intermediate]
//! logits                    [tile, vocab]               hidden     [output rows, hidden]
//! peaks                     [tile, vocab / 64]
//! ```
//!
//! On the left are f32 numbers; on the right what matrices read, in the form of their format.

use maitre_tensor::{
    Backend, Buffer, DType, InputFormat, LinearInput, PEAK_BLOCK, TensorError, WeightFormat,
};

use crate::batch::BatchLimits;
use crate::config::ModelConfig;
use crate::decoder::Decoder;

/// The most rows of logits that exist at once on the processor, where they stay in its cache.
pub const LOGITS_TILE: usize = 32;

/// The same on a GPU: each tile reads the output matrix once more, which there is the larger cost.
const GPU_LOGITS_TILE: usize = 256;

/// The activations of one runner.
#[derive(Debug)]
pub(crate) struct Workspace {
    residual: Buffer,
    delta: Buffer,
    normed: LinearInput,
    qkv: Buffer,
    query: Buffer,
    attention: Buffer,
    attended: LinearInput,
    gated: Buffer,
    activated: LinearInput,
    hidden: LinearInput,
    logits: Buffer,
    peaks: Buffer,
    logits_tile: usize,
}

/// The roles the buffers play within one step. Roles may be swapped, buffers stay.
pub(crate) struct Activations<'w> {
    /// The residual stream.
    pub(crate) residual: &'w mut Buffer,
    /// What a projection adds to it.
    pub(crate) delta: &'w mut Buffer,
    /// The normalised residual stream, for the layers' matrices.
    pub(crate) normed: &'w mut LinearInput,
    pub(crate) qkv: &'w mut Buffer,
    pub(crate) query: &'w mut Buffer,
    /// What attention computes, and what the output projection reads of it.
    pub(crate) attention: &'w mut Buffer,
    pub(crate) attended: &'w mut LinearInput,
    pub(crate) gated: &'w mut Buffer,
    pub(crate) activated: &'w mut LinearInput,
    /// The normalised residual stream of the output rows, for the output matrix.
    pub(crate) hidden: &'w mut LinearInput,
}

/// The end of a step.
pub(crate) struct Outputs<'w> {
    /// Normalised hidden states, `[output rows, hidden]`.
    pub(crate) hidden: &'w LinearInput,
    /// `[tile, vocab]`.
    pub(crate) logits: &'w mut Buffer,
    /// `[tile, vocab / PEAK_BLOCK]`.
    pub(crate) peaks: &'w mut Buffer,
}

/// Bytes of a workspace and of position tables on a GPU, where matrices of `dtype` read bf16 (or f32, in references); at
/// least what they will be.
pub(crate) fn gpu_bytes(
    config: &ModelConfig,
    dtype: WeightFormat,
    rows: usize,
    output_rows: usize,
) -> usize {
    let f32s = size_of::<f32>();
    let per_input = |width: usize| match dtype {
        WeightFormat::F32 => width * f32s,
        _ => width.next_multiple_of(16) * size_of::<u16>(),
    };
    let (hidden, inter) = (config.hidden_size, config.intermediate_size);
    let query = config.query_size();
    let plain = 2 * hidden + config.qkv_size() + 2 * query + inter;
    let for_matrices = per_input(hidden) + per_input(query) + per_input(inter);
    let logits = output_rows.min(GPU_LOGITS_TILE) * config.vocab_size;
    let peaks = output_rows.min(GPU_LOGITS_TILE) * config.vocab_size.div_ceil(PEAK_BLOCK);
    let angles: usize = config
        .ropes
        .iter()
        .map(|rope| rope.dims + usize::from(rope.query_growth.is_some()))
        .sum();
    let positions = config.max_position_embeddings * angles;
    rows * (plain * f32s + for_matrices)
        + output_rows * per_input(hidden)
        + (logits + peaks + positions) * f32s
}

impl Workspace {
    /// Buffers for steps of up to `rows` rows.
    pub(crate) fn new(
        backend: &Backend,
        config: &ModelConfig,
        decoder: &Decoder,
        limits: &BatchLimits,
    ) -> Result<Self, TensorError> {
        let rows = limits.max_tokens.max(limits.max_output_rows);
        let of_width = |width: usize| backend.zeros(DType::F32, rows * width);
        let forms = decoder.input_forms();
        let for_matrices =
            |form: InputFormat, width: usize| backend.linear_input(form, width, rows);
        let head_form = decoder.head().input();
        let logits_tile = match backend.gpu_info() {
            None => LOGITS_TILE,
            Some(_) => limits.max_output_rows.min(GPU_LOGITS_TILE),
        };
        let (hidden, inter) = (config.hidden_size, config.intermediate_size);
        Ok(Self {
            residual: of_width(hidden)?,
            delta: of_width(hidden)?,
            normed: for_matrices(forms.normed, hidden)?,
            qkv: of_width(config.qkv_size())?,
            query: of_width(config.query_size())?,
            attention: of_width(config.query_size())?,
            attended: for_matrices(forms.attended, config.query_size())?,
            gated: of_width(inter)?,
            activated: for_matrices(forms.activated, inter)?,
            hidden: backend.linear_input(head_form, hidden, limits.max_output_rows)?,
            logits: backend.zeros(DType::F32, logits_tile * config.vocab_size)?,
            peaks: backend.zeros(
                DType::F32,
                logits_tile * config.vocab_size.div_ceil(PEAK_BLOCK),
            )?,
            logits_tile,
        })
    }

    pub(crate) fn activations(&mut self) -> Activations<'_> {
        Activations {
            residual: &mut self.residual,
            delta: &mut self.delta,
            normed: &mut self.normed,
            qkv: &mut self.qkv,
            query: &mut self.query,
            attention: &mut self.attention,
            attended: &mut self.attended,
            gated: &mut self.gated,
            activated: &mut self.activated,
            hidden: &mut self.hidden,
        }
    }

    /// What a step leaves behind, and the place of the logits.
    pub(crate) fn outputs(&mut self) -> Outputs<'_> {
        Outputs {
            hidden: &self.hidden,
            logits: &mut self.logits,
            peaks: &mut self.peaks,
        }
    }

    /// The most rows of logits that exist at once.
    pub(crate) fn logits_tile(&self) -> usize {
        self.logits_tile
    }

    /// What norms write and matrices read.
    pub(crate) fn inputs(&self) -> [&LinearInput; 4] {
        [&self.normed, &self.attended, &self.activated, &self.hidden]
    }

    pub(crate) fn size_in_bytes(&self) -> usize {
        let plain = [
            &self.residual,
            &self.delta,
            &self.qkv,
            &self.query,
            &self.attention,
            &self.gated,
            &self.logits,
            &self.peaks,
        ];
        plain.map(Buffer::size_in_bytes).iter().sum::<usize>()
            + self
                .inputs()
                .map(LinearInput::size_in_bytes)
                .iter()
                .sum::<usize>()
    }
}
