//! Sequences in a device's memory, and attention over them.

use anyhow::Result;
use maitre_tensor::KvFormat;
use maitre_tensor::{Attention, Backend, BlockCopy, BlockTables, Buffer, DType, LayerCache, Span};

use super::read;
use crate::numbers::random;
use crate::site::Sizes;

pub(super) const BLOCK_SIZE: usize = 16;

/// The heads of attention, and how far back they see.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heads {
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    pub(super) head_dim: usize,
    /// Numbers of a head that are rotated.
    pub(super) rotary_dim: usize,
    pub(super) window: Option<usize>,
}

impl Heads {
    /// Of most models.
    pub(super) fn usual(sizes: &Sizes) -> Self {
        Self {
            heads: sizes.heads,
            kv_heads: sizes.kv_heads,
            head_dim: sizes.head_dim,
            rotary_dim: sizes.head_dim,
            window: None,
        }
    }

    /// Smaller ones, rotated in part.
    pub(super) fn other(sizes: &Sizes) -> Self {
        Self {
            head_dim: sizes.other_head_dim,
            rotary_dim: (sizes.other_head_dim * 3 / 8).max(1) * 2,
            ..Self::usual(sizes)
        }
    }

    /// Ones that do not see all.
    pub(super) fn windowed(sizes: &Sizes) -> Self {
        Self {
            window: Some(sizes.window),
            ..Self::usual(sizes)
        }
    }
}

/// Sequences in the memory of a backend. What a sequence holds depends on its site in the list.
pub(super) struct Case {
    pub(super) of: Heads,
    pub(super) q: Buffer,
    pub(super) cache: LayerCache,
    pub(super) spans: Vec<Span>,
    pub(super) tables: BlockTables,
}

impl Case {
    /// `sequences` are positions before and tokens now; blocks of sequences alternate. There are as many blocks
    /// again behind them, to copy to.
    pub(super) fn new(
        backend: &Backend,
        of: Heads,
        format: KvFormat,
        sequences: &[(usize, usize)],
    ) -> Result<Self> {
        let Heads {
            heads,
            kv_heads,
            head_dim,
            ..
        } = of;
        let mut dealt = deal_blocks(sequences).into_iter();
        let blocks: usize = dealt.clone().map(|table| table.len()).sum();
        let slots = 2 * blocks * BLOCK_SIZE;
        let mut host = backend.host_cache(slots, kv_heads, head_dim, format)?;
        let (mut spans, mut tables, mut q) = (Vec::new(), Vec::new(), Vec::new());
        let mut first_token = 0;
        for (s, &(before, now)) in sequences.iter().enumerate() {
            let table = dealt.next().unwrap_or_default();
            for position in 0..before + now {
                let slot = table[position / BLOCK_SIZE] as usize * BLOCK_SIZE;
                let seed = (s as u64) << 32 | (position as u64) << 1;
                let width = kv_heads * head_dim;
                let (keys, values) = (random(seed, width), random(seed | 1, width));
                for (head, (key, value)) in keys
                    .chunks_exact(head_dim)
                    .zip(values.chunks_exact(head_dim))
                    .enumerate()
                {
                    host.write(slot + position % BLOCK_SIZE, head, key, value)?;
                }
            }
            for position in before..before + now {
                let seed = 1 << 62 | (s as u64) << 32 | position as u64;
                q.extend(random(seed, heads * head_dim));
            }
            tables.push(table);
            spans.push(Span {
                first_token,
                num_tokens: now,
                context_len: before + now,
            });
            first_token += now;
        }
        Ok(Self {
            of,
            q: backend.vector(&q)?,
            cache: moved(backend, of, host, format)?,
            spans,
            tables: BlockTables {
                first_blocks: Vec::new(),
                tables,
                block_size: BLOCK_SIZE,
            },
        })
    }

    pub(super) fn attend(&self, backend: &Backend) -> Result<Vec<f32>> {
        self.attend_spans(backend, &self.spans, &self.tables, &self.cache)
    }

    pub(super) fn attend_spans(
        &self,
        backend: &Backend,
        spans: &[Span],
        tables: &BlockTables,
        cache: &LayerCache,
    ) -> Result<Vec<f32>> {
        let mut out = backend.zeros(DType::F32, self.q.len())?;
        backend.paged_attention(Attention {
            q: &self.q,
            cache,
            spans,
            tables,
            heads: self.of.heads,
            kv_heads: self.of.kv_heads,
            head_dim: self.of.head_dim,
            scale: 1.0 / (self.of.head_dim as f32).sqrt(),
            score_bound: None,
            window: self.of.window,
            out: &mut out,
        })?;
        read(backend, &out)
    }

    /// Numbers of a row of queries.
    pub(super) fn width(&self) -> usize {
        self.of.heads * self.of.head_dim
    }
}

/// Block tables of sequences that took their blocks in turn.
fn deal_blocks(sequences: &[(usize, usize)]) -> Vec<Vec<u32>> {
    let needs = sequences
        .iter()
        .map(|(before, now)| (before + now).div_ceil(BLOCK_SIZE));
    let needs: Vec<usize> = needs.collect();
    let mut tables = vec![Vec::new(); needs.len()];
    let mut next = 0;
    for round in 0..needs.iter().copied().max().unwrap_or(0) {
        for (table, _) in tables.iter_mut().zip(&needs).filter(|it| round < *it.1) {
            table.push(next);
            next += 1;
        }
    }
    tables
}

/// A cache in the backend's memory that holds the same.
fn moved(backend: &Backend, of: Heads, host: LayerCache, format: KvFormat) -> Result<LayerCache> {
    let mut cache = backend.cache(host.slots(), of.kv_heads, of.head_dim, format)?;
    backend.copy_blocks_from(&host, &mut cache, BLOCK_SIZE, &same_blocks(host.slots()))?;
    Ok(cache)
}

/// Every block to the block of its number.
pub(super) fn same_blocks(slots: usize) -> Vec<BlockCopy> {
    let blocks = 0..(slots / BLOCK_SIZE) as u32;
    let copy = |block| BlockCopy {
        from: block,
        to: block,
        positions: BLOCK_SIZE,
    };
    blocks.map(copy).collect()
}
