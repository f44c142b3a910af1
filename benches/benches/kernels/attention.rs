//! Paged attention: decoding reads each sequence's cache once, prefill is bound by arithmetic.

use std::hint::black_box;

use anyhow::Result;
use maitre_benches::{Bench, Peak, Work};
use maitre_tensor::{Attention, BlockTables, Buffer, DType, KvFormat, LayerCache, Span};

use crate::data::{cold_copies, numbers};

const HEADS: usize = 16;
const KV_HEADS: usize = 8;
const HEAD_DIM: usize = 128;
const BLOCK_SIZE: usize = 16;

/// Sequences of `context` positions, each with `tokens` new ones.
#[derive(Clone, Copy)]
struct Shape {
    sequences: usize,
    tokens: usize,
    context: usize,
}

impl Shape {
    const fn new(sequences: usize, tokens: usize, context: usize) -> Self {
        Self {
            sequences,
            tokens,
            context,
        }
    }

    /// Elements of the keys, and of the values, of all sequences.
    fn cells(self) -> usize {
        self.sequences * self.context * KV_HEADS * HEAD_DIM
    }

    /// Each pair of a query and a key it sees takes a product for the score and one for the value. With an int8 cache these
    /// are two products of bytes each, for which a processor takes about as long as for one of bf16.
    fn work(self, format: KvFormat) -> Work {
        let seen: usize = (0..self.tokens).map(|token| self.context - token).sum();
        let scales = 2 * size_of::<f32>() * self.cells() / HEAD_DIM;
        let bytes = match format {
            KvFormat::Int8 => 2 * self.cells() + scales,
            _ => 2 * self.cells() * size_of::<u16>(),
        };
        Work {
            bytes,
            ops: 2 * 2 * self.sequences * seen * HEADS * HEAD_DIM,
            peak: Peak::Bf16,
        }
    }

    /// Blocks of all sequences interleaved, as they are when sequences grow side by side.
    fn tables(self) -> BlockTables {
        let blocks = self.context / BLOCK_SIZE;
        let table = |sequence| move |block| (block * self.sequences + sequence) as u32;
        BlockTables {
            first_blocks: Vec::new(),
            tables: (0..self.sequences)
                .map(|sequence| (0..blocks).map(table(sequence)).collect())
                .collect(),
            block_size: BLOCK_SIZE,
        }
    }

    fn spans(self) -> Vec<Span> {
        let span = |sequence| Span {
            first_token: sequence * self.tokens,
            num_tokens: self.tokens,
            context_len: self.context,
        };
        (0..self.sequences).map(span).collect()
    }
}

pub(crate) fn measure(bench: &mut Bench) -> Result<()> {
    for format in [KvFormat::Bf16, KvFormat::Int8] {
        let name = format!("attention/{format}");
        if bench.wants(&name) {
            measure_format(bench, &name, format)?;
        }
    }
    Ok(())
}

fn measure_format(bench: &mut Bench, name: &str, format: KvFormat) -> Result<()> {
    let mut shapes = vec![
        Shape::new(1, 1, 1024),
        Shape::new(64, 1, 128),
        Shape::new(64, 1, 1024),
        Shape::new(1, 1024, 1024),
        Shape::new(1, 512, 8192),
    ];
    if bench.is_full() {
        shapes.extend([
            Shape::new(1, 1, 8192),
            Shape::new(1, 1, 32_768),
            Shape::new(16, 1, 512),
            Shape::new(16, 1, 4096),
            Shape::new(4, 256, 1024),
            Shape::new(1, 512, 2048),
            Shape::new(1, 512, 32_768),
        ]);
    }
    for shape in shapes {
        measure_shape(bench, name, format, shape)?;
    }
    Ok(())
}

fn measure_shape(bench: &mut Bench, name: &str, format: KvFormat, shape: Shape) -> Result<()> {
    let (backend, work) = (bench.backend(), shape.work(format));
    let layers = (0..cold_copies(work.bytes))
        .map(|_| layer(shape, format))
        .collect::<Result<Vec<_>>>()?;
    let (tables, spans) = (shape.tables(), shape.spans());
    let width = shape.sequences * shape.tokens * HEADS * HEAD_DIM;
    let q = Buffer::from_f32s(&numbers(width))?;
    let mut out = Buffer::zeros(DType::F32, width)?;
    let mut calls = 0;
    let shown = format!(
        "{} x {} at {}",
        shape.sequences, shape.tokens, shape.context
    );
    bench.measure(name, &shown, work, || {
        calls += 1;
        Ok(backend.paged_attention(Attention {
            q: &q,
            cache: &layers[calls % layers.len()],
            spans: &spans,
            tables: &tables,
            heads: HEADS,
            kv_heads: KV_HEADS,
            head_dim: HEAD_DIM,
            scale: 0.088,
            score_bound: None,
            window: None,
            out: black_box(&mut out),
        })?)
    })
}

/// Keys and values of one layer, written to: memory that never was costs nothing to read.
fn layer(shape: Shape, format: KvFormat) -> Result<LayerCache> {
    let slots = shape.cells() / (KV_HEADS * HEAD_DIM);
    let mut cache = LayerCache::new(slots, KV_HEADS, HEAD_DIM, format)?;
    let head = [0.5; HEAD_DIM];
    for slot in 0..slots {
        for kv_head in 0..KV_HEADS {
            cache.write(slot, kv_head, &head, &head)?;
        }
    }
    Ok(cache)
}
