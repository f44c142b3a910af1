//! One layer's KV cache full of sequences, for lessons on attention.

use anyhow::Result;
use maitre_tensor::{Attention, Backend, BlockTables, Buffer, KvFormat, LayerCache, Span};

/// Slots per block, the server's default.
const BLOCK_SIZE: usize = 16;

/// Heads of an attention layer.
#[derive(Debug, Clone, Copy)]
pub struct Heads {
    /// Query heads.
    pub query: usize,
    /// Heads of keys and values, of which each serves as many query heads.
    pub kv: usize,
    /// Numbers per head.
    pub dim: usize,
}

/// Keys and values of one layer.
#[derive(Debug)]
pub struct Layer {
    heads: Heads,
    cache: LayerCache,
}

/// Sequences of the same length, and where they lie in a layer.
#[derive(Debug)]
pub struct Sequences {
    spans: Vec<Span>,
    tables: BlockTables,
}

impl Layer {
    /// A layer of `slots` positions where `backend` computes, with the key and the value that `kv` has for a slot and a head.
    ///
    /// # Errors
    ///
    /// No memory for it, or a key or value of another length than a head's.
    pub fn new<'a>(
        backend: &Backend,
        heads: Heads,
        format: KvFormat,
        slots: usize,
        kv: impl Fn(usize, usize) -> (&'a [f32], &'a [f32]),
    ) -> Result<Self> {
        let mut cache = backend.cache(slots, heads.kv, heads.dim, format)?;
        for slot in 0..slots {
            for head in 0..heads.kv {
                let (key, value) = kv(slot, head);
                cache.write(slot, head, key, value)?;
            }
        }
        Ok(Self { heads, cache })
    }

    /// Positions there is space for.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.cache.slots()
    }

    /// Bytes it takes.
    #[must_use]
    pub fn size_in_bytes(&self) -> usize {
        self.cache.size_in_bytes()
    }

    /// Attention of queries `[rows, query heads, dim]` into `out` of the same shape.
    ///
    /// # Errors
    ///
    /// What the operator refuses.
    pub fn attend(
        &self,
        backend: &Backend,
        sequences: &Sequences,
        q: &Buffer,
        out: &mut Buffer,
    ) -> Result<()> {
        Ok(backend.paged_attention(Attention {
            q,
            cache: &self.cache,
            spans: &sequences.spans,
            tables: &sequences.tables,
            heads: self.heads.query,
            kv_heads: self.heads.kv,
            head_dim: self.heads.dim,
            scale: (self.heads.dim as f32).powf(-0.5),
            score_bound: None,
            window: None,
            out,
        })?)
    }
}

impl Sequences {
    /// `count` sequences of `context` positions, a multiple of 16, one behind the other from slot
    /// `first_slot` on; the last `tokens` positions of each are the new ones.
    #[must_use]
    pub fn new(first_slot: usize, count: usize, context: usize, tokens: usize) -> Self {
        let blocks = context / BLOCK_SIZE;
        let first = |sequence| first_slot / BLOCK_SIZE + sequence * blocks;
        let span = |sequence| Span {
            first_token: sequence * tokens,
            num_tokens: tokens,
            context_len: context,
        };
        let table = |sequence| (first(sequence)..first(sequence) + blocks).map(|b| b as u32);
        Self {
            spans: (0..count).map(span).collect(),
            tables: BlockTables {
                first_blocks: Vec::new(),
                tables: (0..count).map(|s| table(s).collect()).collect(),
                block_size: BLOCK_SIZE,
            },
        }
    }
}
