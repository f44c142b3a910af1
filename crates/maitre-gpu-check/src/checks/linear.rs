//! Matrices: embeddings, products plain, gated, and with peaks, in every format and both modes, with biases.
//!
//! The reference of a product is one of f32 numbers on the processor: of the numbers that the packed matrix holds,
//! and of the rows as the device rounded them. So what is compared is the arithmetic alone, not the rounding that a
//! format is about.

use std::collections::BTreeSet;
use std::ops::Range;

use anyhow::Result;
use maitre_tensor::WeightFormat;
use maitre_tensor::{
    Activation, Backend, DType, LinearInput, PEAK_BLOCK, PackedWeight, WeightView,
};

use super::{F32_LIMIT, RELATIVE_ERROR, compare, identical, read};
use crate::item::{Checked, Item, Outcome};
use crate::numbers::{Dice, bytes_of, random, relative_error};
use crate::site::Site;

const FORMATS: [WeightFormat; 4] = [
    WeightFormat::F32,
    WeightFormat::Bf16,
    WeightFormat::INT8,
    WeightFormat::INT4,
];

/// What becomes of the sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Gated,
    GatedByGelu,
    Peaks,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Plain, Self::Gated, Self::GatedByGelu, Self::Peaks];

    fn id(self) -> &'static str {
        match self {
            Self::Plain => "linear",
            Self::Gated => "linear_silu_mul",
            Self::GatedByGelu => "linear_gelu_mul",
            Self::Peaks => "linear_with_peaks",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Plain => "linear",
            Self::Gated => "linear, gated,",
            Self::GatedByGelu => "linear, gated by GELU,",
            Self::Peaks => "linear with peaks,",
        }
    }

    /// How the matrix's first half gates the second, if it does.
    fn gate(self) -> Option<Activation> {
        match self {
            Self::Gated => Some(Activation::Silu),
            Self::GatedByGelu => Some(Activation::GeluTanh),
            Self::Plain | Self::Peaks => None,
        }
    }
}

pub(super) fn list(items: &mut Vec<Item>) {
    for format in FORMATS {
        items.push(Item::check(
            format!("embed_{format}"),
            format!("embed {format}"),
            move |site| {
                let sizes = site.sizes;
                let [rows, n, k] = [last(sizes.rows), last(sizes.outputs), sizes.inputs];
                compare(site, 0.0, |it| embedded(it, format, [rows, n, k]))
            },
        ));
        for kind in Kind::ALL {
            items.push(Item::check(
                format!("{}_{format}", kind.id()),
                format!("{} {format}", kind.title()),
                move |site| product_check(site, format, kind),
            ));
            if format != WeightFormat::F32 {
                items.push(Item::check(
                    format!("{}_fast_{format}", kind.id()),
                    format!("{} {format}, in fast mode", kind.title()),
                    move |site| fast_product(site, format, kind),
                ));
            }
        }
        items.push(Item::check(
            format!("invariant_linear_{format}"),
            format!("a row's product, {format}: alone = in a crowd"),
            move |site| invariance(site, format),
        ));
    }
}

fn last(sizes: &[usize]) -> usize {
    sizes.last().copied().unwrap_or(1)
}

/// What a product may differ by: tensor cores, which all formats but f32 use, cut off what they add where others
/// round, so that errors of thousands of terms point the same way.
fn limit(format: WeightFormat) -> f64 {
    match format {
        WeightFormat::F32 => F32_LIMIT,
        _ => TENSOR_CORE_LIMIT,
    }
}

const TENSOR_CORE_LIMIT: f64 = 1e-4;

/// A matrix of `[n, k]` random numbers; gated, of `[2n, k]`.
fn matrix(
    backend: &Backend,
    format: WeightFormat,
    (n, k): (usize, usize),
    gate: Option<Activation>,
) -> Result<PackedWeight> {
    let first = bytes_of(&random(11, n * k));
    let second = match gate {
        Some(_) => bytes_of(&random(12, n * k)),
        None => Vec::new(),
    };
    pack(backend, format, [&first, &second], (n, k), gate)
}

fn pack(
    backend: &Backend,
    format: WeightFormat,
    bytes: [&[u8]; 2],
    (rows, cols): (usize, usize),
    gate: Option<Activation>,
) -> Result<PackedWeight> {
    let [first, second] = bytes.map(|bytes| WeightView {
        dtype: DType::F32,
        rows,
        cols,
        bytes,
    });
    Ok(match gate {
        Some(activation) => backend.pack_gated(first, second, activation, format)?,
        None => backend.pack(&[first], format)?,
    })
}

/// Random rows in the form that `w` reads.
fn input(backend: &Backend, w: &PackedWeight, rows: usize) -> Result<LinearInput> {
    let x = backend.vector(&random(13, rows * w.cols()))?;
    let mut out = backend.linear_input(w.input(), w.cols(), rows)?;
    backend.encode(&x, &mut out, rows)?;
    Ok(out)
}

/// The product, and the peaks behind it if they are asked for; without these a bias is added.
fn product(
    backend: &Backend,
    x: &LinearInput,
    w: &PackedWeight,
    kind: Kind,
    rows: Range<usize>,
) -> Result<Vec<f32>> {
    let n = w.rows() / if w.is_gated() { 2 } else { 1 };
    let mut out = backend.zeros(DType::F32, rows.len() * n)?;
    let mut peaks = backend.zeros(DType::F32, rows.len() * n.div_ceil(PEAK_BLOCK))?;
    let bias = Some(&backend.vector(&random(15, w.rows()))?);
    match kind {
        Kind::Plain => backend.linear(x, w, bias, &mut out, rows)?,
        Kind::Gated | Kind::GatedByGelu => backend.linear_gated(x, w, bias, &mut out, rows)?,
        Kind::Peaks => {
            backend.linear_with_peaks(x, w, &mut out, &mut peaks, rows)?;
        }
    }
    let mut numbers = read(backend, &out)?;
    if kind == Kind::Peaks {
        numbers.extend(read(backend, &peaks)?);
    }
    Ok(numbers)
}

fn product_check(site: &mut Site, format: WeightFormat, kind: Kind) -> Result<Outcome> {
    let (cpu, device, sizes) = (&site.cpu, &site.strict, site.sizes);
    let (k, gate) = (sizes.inputs, kind.gate());
    let mut worst = 0.0_f64;
    for &n in sizes.outputs {
        let w = matrix(device, format, (n, k), gate)?;
        let exact = same_in_f32(cpu, format, (n, k), gate)?;
        for &rows in sizes.rows {
            let x = input(device, &w, rows)?;
            let rounded = device.decode(&x, rows)?;
            let mut exact_x = cpu.linear_input(exact.input(), k, rows)?;
            cpu.encode(&rounded, &mut exact_x, rows)?;
            let expected = product(cpu, &exact_x, &exact, kind, 0..rows)?;
            let actual = product(device, &x, &w, kind, 0..rows)?;
            worst = worst.max(relative_error(&expected, &actual));
        }
    }
    Ok(Checked::at_most(RELATIVE_ERROR, worst, limit(format)).into())
}

/// The numbers of a matrix in `format`, as a matrix of f32 on the processor.
fn same_in_f32(
    cpu: &Backend,
    format: WeightFormat,
    (n, k): (usize, usize),
    gate: Option<Activation>,
) -> Result<PackedWeight> {
    let packed = matrix(cpu, format, (n, k), gate)?;
    let rows: Vec<u32> = (0..packed.rows() as u32).collect();
    let mut numbers = cpu.zeros(DType::F32, packed.rows() * k)?;
    cpu.embed(&packed, &rows, &mut numbers)?;
    let bytes = bytes_of(numbers.f32s()?);
    let (first, second) = bytes.split_at(n * k * size_of::<f32>());
    pack(cpu, WeightFormat::F32, [first, second], (n, k), gate)
}

fn embedded(backend: &Backend, format: WeightFormat, [rows, n, k]: [usize; 3]) -> Result<Vec<f32>> {
    let table = matrix(backend, format, (n, k), None)?;
    let mut dice = Dice::new(14);
    let tokens: Vec<u32> = (0..rows).map(|_| dice.below(n) as u32).collect();
    let mut out = backend.zeros(DType::F32, rows * k)?;
    backend.embed(&table, &tokens, &mut out)?;
    read(backend, &out)
}

/// Parts of a crowd whose rows are computed alone too: from one in so many, so that they stand all over the tiles.
const LONE_ROWS: usize = 9;

/// A row's numbers alone and in crowds of all sizes, of rows that stand all over them: plain ones, and gated.
fn invariance(site: &mut Site, format: WeightFormat) -> Result<Outcome> {
    let (device, sizes) = (&site.strict, site.sizes);
    let (mut expected, mut actual) = (Vec::new(), Vec::new());
    for (&n, kind) in sizes
        .outputs
        .iter()
        .flat_map(|n| [(n, Kind::Plain), (n, Kind::Gated), (n, Kind::GatedByGelu)])
    {
        let w = matrix(device, format, (n, sizes.inputs), kind.gate())?;
        let x = input(device, &w, last(sizes.rows))?;
        for &rows in sizes.rows {
            let crowd = product(device, &x, &w, kind, 0..rows)?;
            let lone = (0..LONE_ROWS).map(|part| part * (rows - 1) / (LONE_ROWS - 1));
            for row in lone.collect::<BTreeSet<_>>() {
                expected.extend(product(device, &x, &w, kind, row..row + 1)?);
                actual.extend_from_slice(&crowd[row * n..][..n]);
            }
        }
    }
    Ok(identical(&expected, &actual))
}

/// Fast mode beside deterministic mode, which is held against the processor.
fn fast_product(site: &mut Site, format: WeightFormat, kind: Kind) -> Result<Outcome> {
    let (device, sizes) = (&site.fast, site.sizes);
    let mut worst = 0.0_f64;
    for &n in sizes.outputs {
        let w = matrix(device, format, (n, sizes.inputs), kind.gate())?;
        for &rows in sizes.fast_rows {
            let x = input(device, &w, rows)?;
            let expected = product(&site.strict, &x, &w, kind, 0..rows)?;
            let actual = product(device, &x, &w, kind, 0..rows)?;
            worst = worst.max(relative_error(&expected, &actual));
        }
    }
    Ok(Checked::at_most(RELATIVE_ERROR, worst, TENSOR_CORE_LIMIT).into())
}
