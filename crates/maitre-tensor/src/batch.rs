//! The shape of a ragged paged batch: which token rows belong together, and where their keys and
//! values lie.

use crate::{Buffer, LayerCache};

/// The slot of a token whose key and value are computed but not written (a pad, for instance).
pub const NO_SLOT: u32 = u32::MAX;

/// Consecutive token rows of one sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The first token row.
    pub first_token: usize,
    /// Number of token rows.
    pub num_tokens: usize,
    /// Positions in the sequence's cache after this step's writes. The span's tokens are the last
    /// of them: token `i` is at position `context_len - num_tokens + i` and attends to every
    /// position up to its own, or to the last of these where attention has a window.
    pub context_len: usize,
}

impl Span {
    /// The first position that any of the tokens attends to, where each attends to the last
    /// `window` positions up to its own. Nothing before it is read.
    #[must_use]
    pub fn first_seen(&self, window: Option<usize>) -> usize {
        let seen = self.context_len.saturating_sub(self.num_tokens);
        seen.saturating_add(1)
            .saturating_sub(window.unwrap_or(usize::MAX))
    }
}

/// Where each span's keys and values lie in a [`LayerCache`].
///
/// Position `p` of span `s` is in slot `table[p / block_size - first] * block_size + p % block_size` of its table
/// `table` and first block `first`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockTables {
    /// Block numbers in order of position, one list per span. Where attention has a window, those
    /// of blocks that lie wholly before [`Span::first_seen`] may be any number.
    pub tables: Vec<Vec<u32>>,
    /// Which block of its span a table's first entry is for, one number per span; those before it lie behind the
    /// window. Empty if all tables begin with the first block.
    pub first_blocks: Vec<u32>,
    /// Positions per block.
    pub block_size: usize,
}

impl BlockTables {
    /// The block that the first entry of a span's table is for.
    #[must_use]
    pub fn first_block(&self, span: usize) -> usize {
        self.first_blocks
            .get(span)
            .map_or(0, |&first| first as usize)
    }
}

/// Where the keys and values of a batch lie for layers that attend alike, a KV group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KvGroup {
    /// One block table per span. Where the group's layers have a window, entries of blocks that lie
    /// wholly behind that of the span's first token are not read and may be any number or be left out
    /// ([`BlockTables::first_blocks`]).
    pub tables: BlockTables,
    /// Where each token's key and value go, `[tokens]`: `block · block_size + offset`, or [`NO_SLOT`] to
    /// compute without writing.
    pub slots: Vec<u32>,
}

impl KvGroup {
    /// A group without spans.
    #[must_use]
    pub const fn new(block_size: usize) -> Self {
        Self {
            tables: BlockTables {
                tables: Vec::new(),
                first_blocks: Vec::new(),
                block_size,
            },
            slots: Vec::new(),
        }
    }
}

/// Arguments of [`Backend::rope_and_store`](crate::Backend::rope_and_store); `rows` is
/// `positions.len()`.
#[derive(Debug)]
pub struct RopeStore<'a> {
    /// Fused projections, `[rows, (heads + 2 * kv_heads) * head_dim]`: queries, keys, values.
    pub qkv: &'a Buffer,
    /// RMS normalisation of each query head before the rotation (Qwen3), `[head_dim]`.
    pub q_norm: Option<&'a Buffer>,
    /// RMS normalisation of each key head before the rotation, `[head_dim]`.
    pub k_norm: Option<&'a Buffer>,
    /// Added to the mean square by both normalisations.
    pub eps: f32,
    /// Cosines, `[max_positions, rotary_dim / 2]`.
    pub cos: &'a Buffer,
    /// Sines, `[max_positions, rotary_dim / 2]`.
    pub sin: &'a Buffer,
    /// Factor of rotated queries at each position, `[max_positions]`.
    pub q_factors: Option<&'a Buffer>,
    /// Position of each token row.
    pub positions: &'a [u32],
    /// Cache slot of each token row, or [`NO_SLOT`]. If two rows name one slot, the later row wins.
    pub slots: &'a [u32],
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Elements per head, even.
    pub head_dim: usize,
    /// Elements of each head that are rotated, even: the first ones. The others stay as they are; with 0 all do.
    pub rotary_dim: usize,
    /// Rotated queries, `[rows, heads * head_dim]`.
    pub q_out: &'a mut Buffer,
    /// Where the rotated keys and the values are stored, rounded to the cache's format.
    pub cache: &'a mut LayerCache,
}

/// Arguments of [`Backend::paged_attention`](crate::Backend::paged_attention).
#[derive(Debug)]
pub struct Attention<'a> {
    /// Rotated queries, `[rows, heads * head_dim]`.
    pub q: &'a Buffer,
    /// Keys and values of the layer, this step's included.
    pub cache: &'a LayerCache,
    /// The sequences, in ascending order of their token rows.
    pub spans: &'a [Span],
    /// Where each span's keys and values lie.
    pub tables: &'a BlockTables,
    /// Query heads, a multiple of `kv_heads`: query head `h` reads key head
    /// `h / (heads / kv_heads)`.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Elements per head.
    pub head_dim: usize,
    /// Factor of each score, usually `1 / sqrt(head_dim)`.
    pub scale: f32,
    /// Bound of each score: it becomes `bound * tanh(score / bound)` (Gemma 2, arXiv 2408.00118, section 2). `None` is none.
    pub score_bound: Option<f32>,
    /// How many positions a token sees at most: the last up to its own, which counts (Mistral,
    /// arXiv 2310.06825, section 2). `None` is all of them.
    pub window: Option<usize>,
    /// Attended values, `[rows, heads * head_dim]`. Rows that belong to no span are not written.
    pub out: &'a mut Buffer,
}
