//! How large checks are, on a GPU and on the emulator.

use super::shape::{LONG, LONG_TINY, QWEN3_06B, Shape, TINY};

/// How large checks are.
#[derive(Debug)]
pub(super) struct Sizes {
    /// Whether these are for a device that takes a microsecond for a multiplication.
    pub(super) are_small: bool,
    /// Of matrices: token rows, outputs, inputs. Few outputs take the smaller tiles; of many there are more
    /// blocks of the largest than multiprocessors, and the last of these blocks is not full.
    pub(super) rows: &'static [usize],
    pub(super) outputs: &'static [usize],
    pub(super) inputs: usize,
    /// Token rows of fast mode: few, for which there are kernels, and many, which the vendor's library multiplies.
    pub(super) fast_rows: &'static [usize],
    /// Of attention.
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    pub(super) head_dim: usize,
    /// Of other models.
    pub(super) other_head_dim: usize,
    /// The positions a row sees in models that have windows.
    pub(super) window: usize,
    /// Sequences: positions before, tokens now.
    pub(super) sequences: &'static [(usize, usize)],
    /// The context that one row may share among many blocks of threads.
    pub(super) long_context: usize,
    /// Positions of a context whose attention is shared among blocks of threads.
    pub(super) recorded_context: usize,
    /// Rows of logits, and tokens to choose from.
    pub(super) sampled_rows: usize,
    pub(super) vocab: usize,
    /// Greedy tokens, and the prompts they follow.
    pub(super) greedy_tokens: usize,
    pub(super) prompts: usize,
    pub(super) prompt_tokens: usize,
    /// The model of checks that need none in particular.
    pub(super) model: Shape,
    /// The model whose keys and values fill the memory.
    pub(super) long_model: Shape,
    /// Requests of the soak, and how many of them at once.
    pub(super) soak_requests: usize,
    pub(super) soak_at_once: usize,
    /// Bytes that are copied, and rows, inputs and outputs of the square product, to find the rates.
    pub(super) copied_bytes: usize,
    pub(super) product: usize,
}

/// For a GPU.
pub(super) const FULL: Sizes = Sizes {
    are_small: false,
    rows: &[1, 16, 17, 33, 64, 137, 300, 1100],
    outputs: &[1536, 17_024],
    inputs: 2048,
    fast_rows: &[1, 2, 4, 16, 64, 137, 300],
    heads: 32,
    kv_heads: 8,
    head_dim: 128,
    other_head_dim: 64,
    window: 512,
    sequences: &[
        (0, 1),
        (700, 1),
        (1500, 37),
        (0, 130),
        (2999, 1),
        (64, 16),
        (255, 1),
        (15, 2),
    ],
    long_context: 4000,
    recorded_context: 1800,
    sampled_rows: 64,
    vocab: 151_936,
    greedy_tokens: 64,
    prompts: 4,
    prompt_tokens: 24,
    model: QWEN3_06B,
    long_model: LONG,
    soak_requests: 10_000,
    soak_at_once: 192,
    copied_bytes: 2 << 30,
    product: 8192,
};

/// For the emulator.
pub(super) const SMALL: Sizes = Sizes {
    are_small: true,
    rows: &[1, 3, 18],
    outputs: &[48, 968],
    inputs: 64,
    fast_rows: &[1, 2, 3, 18, 66],
    heads: 4,
    kv_heads: 2,
    head_dim: 16,
    other_head_dim: 64,
    window: 7,
    sequences: &[(0, 1), (33, 1), (14, 5), (0, 40)],
    long_context: 300,
    recorded_context: 290,
    sampled_rows: 3,
    vocab: 1000,
    greedy_tokens: 3,
    prompts: 2,
    prompt_tokens: 4,
    model: TINY,
    long_model: LONG_TINY,
    soak_requests: 24,
    soak_at_once: 6,
    copied_bytes: 1 << 20,
    product: 64,
};
