//! The operators at the shapes of a small (0.6B) model: what a decode step and a prefill chunk
//! spend, and what a barrier of the compute team costs.
//!
//! `linear` reports weight bytes per second for one row (it should come near what memory delivers)
//! and multiply-adds per second for many.

use std::hint::black_box;

use anyhow::Result;
use criterion::{BenchmarkId, Criterion, Throughput};
use maitre_tensor::{
    Attention, Backend, BlockTables, Buffer, DType, KvFormat, LayerCache, PackedWeight, Span,
    WeightView,
};

const HIDDEN: usize = 1024;
const INTER: usize = 3072;
const HEADS: usize = 16;
const KV_HEADS: usize = 8;
const HEAD_DIM: usize = 128;
const BLOCK_SIZE: usize = 16;

/// Numbers in [-1, 1) that repeat only after a while.
fn numbers(len: usize) -> Vec<f32> {
    (0..len as u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 23) as f32 - 1.0)
        .collect()
}

fn weight(rows: usize, cols: usize, dtype: DType) -> Result<PackedWeight> {
    let bytes: Vec<u8> = numbers(rows * cols)
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    let view = WeightView {
        dtype: DType::F32,
        rows,
        cols,
        bytes: &bytes,
    };
    Ok(PackedWeight::pack(&[view], dtype)?)
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn linear(criterion: &mut Criterion, backend: &Backend) -> Result<()> {
    for dtype in [DType::F32, DType::Bf16, DType::F16] {
        let mut group = criterion.benchmark_group(format!("linear/{dtype}"));
        // Large enough that the weights of one row do not stay in a cache.
        let weight = weight(8 * INTER, HIDDEN, dtype)?;
        for rows in [1, 4, 32, 256] {
            let x = Buffer::from_f32s(&numbers(rows * HIDDEN))?;
            let mut out = Buffer::zeros(DType::F32, rows * weight.rows())?;
            group.throughput(if rows == 1 {
                Throughput::Bytes(weight.size_in_bytes() as u64)
            } else {
                Throughput::Elements((rows * weight.rows() * weight.cols()) as u64)
            });
            group.bench_function(BenchmarkId::from_parameter(rows), |bencher| {
                backend.step(|| {
                    bencher.iter(|| backend.linear(&x, &weight, None, black_box(&mut out), rows));
                });
            });
        }
    }
    Ok(())
}

/// Sequences of `context` positions, each with `tokens` new ones.
fn attention(criterion: &mut Criterion, backend: &Backend) -> Result<()> {
    let mut group = criterion.benchmark_group("attention/bf16");
    for (sequences, tokens, context) in [(1, 1, 1024), (16, 1, 512), (1, 256, 256)] {
        let blocks = context / BLOCK_SIZE;
        let slots = sequences * blocks * BLOCK_SIZE;
        let cache = LayerCache::new(slots, KV_HEADS, HEAD_DIM, KvFormat::Bf16)?;
        let table = |sequence| (0..blocks).map(move |block| (block * sequences + sequence) as u32);
        let tables = BlockTables {
            tables: (0..sequences)
                .map(|sequence| table(sequence).collect())
                .collect(),
            block_size: BLOCK_SIZE,
        };
        let spans: Vec<Span> = (0..sequences)
            .map(|sequence| Span {
                first_token: sequence * tokens,
                num_tokens: tokens,
                context_len: context,
            })
            .collect();
        let width = HEADS * HEAD_DIM;
        let q = Buffer::from_f32s(&numbers(sequences * tokens * width))?;
        let mut out = Buffer::zeros(DType::F32, sequences * tokens * width)?;
        let name = format!("{sequences}x{tokens}@{context}");
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            backend.step(|| {
                bencher.iter(|| {
                    backend.paged_attention(Attention {
                        q: &q,
                        cache: &cache,
                        spans: &spans,
                        tables: &tables,
                        heads: HEADS,
                        kv_heads: KV_HEADS,
                        head_dim: HEAD_DIM,
                        scale: 0.088,
                        out: black_box(&mut out),
                    })
                });
            });
        });
    }
    Ok(())
}

fn rows(criterion: &mut Criterion, backend: &Backend) -> Result<()> {
    let mut group = criterion.benchmark_group("rows");
    let x = Buffer::from_f32s(&numbers(256 * 2 * INTER))?;
    let norm = Buffer::from_f32s(&numbers(HIDDEN))?;
    let mut out = Buffer::zeros(DType::F32, 256 * INTER)?;
    for rows in [1, 256] {
        group.bench_function(BenchmarkId::new("rms_norm", rows), |bencher| {
            backend.step(|| bencher.iter(|| backend.rms_norm(&x, &norm, 1e-6, &mut out, rows)));
        });
        group.bench_function(BenchmarkId::new("silu_mul", rows), |bencher| {
            backend.step(|| bencher.iter(|| backend.silu_mul(&x, INTER, &mut out, rows)));
        });
    }
    Ok(())
}

/// Copying one large row each on two members, awake or asleep, and on the caller alone: the
/// difference is the price of handing out and waiting.
fn barrier(criterion: &mut Criterion, backend: &Backend) -> Result<()> {
    const ROW: usize = 16 * 1024;
    let x = Buffer::from_f32s(&numbers(ROW))?;
    let mut out = Buffer::zeros(DType::F32, 2 * ROW)?;
    let mut group = criterion.benchmark_group("barrier");
    group.bench_function("awake", |bencher| {
        backend.step(|| bencher.iter(|| backend.gather_rows(&x, ROW, &[0, 0], &mut out)));
    });
    group.bench_function("asleep", |bencher| {
        bencher.iter(|| backend.gather_rows(&x, ROW, &[0, 0], &mut out));
    });
    group.bench_function("alone", |bencher| {
        bencher.iter(|| backend.gather_rows(&x, ROW, &[0], &mut out));
    });
    Ok(())
}

fn main() -> Result<()> {
    let mut criterion = Criterion::default().configure_from_args();
    let backend = Backend::cpu(threads())?;
    linear(&mut criterion, &backend)?;
    attention(&mut criterion, &backend)?;
    rows(&mut criterion, &backend)?;
    barrier(&mut criterion, &backend)?;
    criterion.final_summary();
    Ok(())
}
