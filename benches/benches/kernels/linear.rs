//! The matrix product: bound by reading the weights for few rows, by arithmetic for many.

use std::hint::black_box;

use anyhow::Result;
use maitre_benches::{Bench, Peak, Work};
use maitre_tensor::{
    Backend, BlockFormat, BlocksView, Buffer, DType, LinearInput, PackedWeight, WeightFormat,
    WeightView,
};

use crate::data::{bf16_bytes, cold_copies, numbers};

const FORMATS: [WeightFormat; 4] = [
    WeightFormat::F32,
    WeightFormat::Bf16,
    WeightFormat::INT8,
    WeightFormat::INT4,
];

/// All formats, and those of GGUF files.
fn formats() -> impl Iterator<Item = WeightFormat> {
    let blocks = BlockFormat::ALL.map(WeightFormat::Blocks);
    FORMATS.into_iter().chain(blocks)
}

/// Input and output features: gate and up; down; query, key and value; attention's output.
const LAYERS: [(usize, usize); 4] = [(1024, 6144), (3072, 1024), (1024, 4096), (2048, 1024)];

/// The output layer, which runs in tiles of rows.
const HEAD: (usize, usize) = (1024, 151_936);
const HEAD_ROWS: [usize; 3] = [1, 4, 32];

pub(crate) fn measure(bench: &mut Bench) -> Result<()> {
    let rows: &[usize] = if bench.is_full() {
        &[1, 4, 16, 64, 256, 1024]
    } else {
        &[1, 16, 64, 1024]
    };
    let layers = if bench.is_full() {
        &LAYERS
    } else {
        &LAYERS[..2]
    };
    let wanted: Vec<_> = formats()
        .filter(|format| bench.wants(&format!("linear/{format}")))
        .collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let source = bf16_bytes(HEAD.0 * HEAD.1);
    for format in wanted {
        bench.refresh_limits()?;
        for &shape in layers {
            measure_shape(bench, &source, format, shape, rows)?;
        }
        measure_shape(bench, &source, format, HEAD, &HEAD_ROWS)?;
    }
    Ok(())
}

fn measure_shape(
    bench: &mut Bench,
    source: &[u8],
    format: WeightFormat,
    (cols, out_features): (usize, usize),
    rows: &[usize],
) -> Result<()> {
    let backend = bench.backend();
    let packed = || pack(&backend, source, format, (cols, out_features));
    let first = packed()?;
    let bytes = first.size_in_bytes();
    let mut weights = vec![first];
    for _ in 1..cold_copies(bytes) {
        weights.push(packed()?);
    }
    for &rows in rows {
        let mut product = Product::new(&backend, &weights, rows)?;
        let work = Work {
            bytes,
            ops: 2 * rows * cols * out_features,
            peak: Peak::of(format),
        };
        let shape = format!("{cols} to {out_features}, m {rows}");
        bench.measure(&format!("linear/{format}"), &shape, work, || product.next())?;
    }
    Ok(())
}

/// Weights of a format. Those of blocks are whatever numbers the source's bits are, but for their exponents: those of
/// scales must be finite.
fn pack(
    backend: &Backend,
    source: &[u8],
    format: WeightFormat,
    (cols, rows): (usize, usize),
) -> Result<PackedWeight> {
    if let WeightFormat::Blocks(format) = format {
        let count = rows * cols / format.block_len() * format.block_bytes();
        let bytes: Vec<u8> = source[..count].iter().map(|byte| byte & 0x3b).collect();
        let bytes = &bytes;
        let view = BlocksView {
            format,
            rows,
            cols,
            bytes,
        };
        return Ok(backend.pack_blocks(&[view])?);
    }
    let view = WeightView {
        dtype: DType::Bf16,
        rows,
        cols,
        bytes: &source[..rows * cols * size_of::<u16>()],
    };
    Ok(backend.pack(&[view], format)?)
}

/// Calls of the operator with one weight after the other.
struct Product<'a> {
    backend: &'a Backend,
    weights: &'a [PackedWeight],
    calls: usize,
    rows: usize,
    x: LinearInput,
    out: Buffer,
}

impl<'a> Product<'a> {
    fn new(backend: &'a Backend, weights: &'a [PackedWeight], rows: usize) -> Result<Self> {
        let like = &weights[0];
        let mut x = LinearInput::new(like.format().input(), like.cols(), rows)?;
        backend.encode(
            &Buffer::from_f32s(&numbers(rows * like.cols()))?,
            &mut x,
            rows,
        )?;
        Ok(Self {
            backend,
            weights,
            calls: 0,
            rows,
            x,
            out: Buffer::zeros(DType::F32, rows * like.rows())?,
        })
    }

    fn next(&mut self) -> Result<()> {
        let weight = &self.weights[self.calls % self.weights.len()];
        self.calls += 1;
        let out = black_box(&mut self.out);
        Ok(self
            .backend
            .linear(&self.x, weight, None, out, 0..self.rows)?)
    }
}
