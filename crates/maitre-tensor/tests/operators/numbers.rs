//! Reproducible numbers, weights made of them, and comparison with references in double precision.

use maitre_tensor::{
    Activation, Backend, Buffer, CpuPath, DType, InputFormat, LinearInput, PackedWeight,
    WeightFormat, WeightView,
};

/// `len` numbers in (-1, 1) that look random (splitmix64).
pub(crate) fn noise(seed: u64, len: usize) -> Vec<f32> {
    (0..len as u64)
        .map(|i| {
            let mut z = (seed << 32 | i)
                .wrapping_add(1)
                .wrapping_mul(0x9e37_79b9_7f4a_7c15);
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((z ^ (z >> 31)) >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
        })
        .collect()
}

pub(crate) fn buffer(values: &[f32]) -> Buffer {
    Buffer::from_f32s(values).unwrap()
}

/// A buffer full of NaN: what an operator leaves out is noticed.
pub(crate) fn unwritten(len: usize) -> Buffer {
    buffer(&vec![f32::NAN; len])
}

/// Every way to store a weight.
pub(crate) const FORMATS: [WeightFormat; 10] = [
    WeightFormat::F32,
    WeightFormat::F16,
    WeightFormat::Bf16,
    WeightFormat::INT8,
    WeightFormat::Int8 {
        activation_group: Some(32),
    },
    WeightFormat::Int8 {
        activation_group: Some(64),
    },
    WeightFormat::Int8 {
        activation_group: Some(128),
    },
    WeightFormat::INT4,
    WeightFormat::Int4 { group: 32 },
    WeightFormat::Int4 { group: 128 },
];

/// A backend for each kernel path that this processor has.
pub(crate) fn backends(threads: usize) -> Vec<Backend> {
    CpuPath::available()
        .map(|path| Backend::with_path(threads, path).unwrap())
        .collect()
}

/// `values` `[rows, cols]` as a weight.
pub(crate) fn packed(values: &[f32], cols: usize, format: WeightFormat) -> PackedWeight {
    let bytes: Vec<u8> = values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    let view = WeightView {
        dtype: DType::F32,
        rows: values.len() / cols,
        cols,
        bytes: &bytes,
    };
    Backend::cpu(1).unwrap().pack(&[view], format).unwrap()
}

/// A weight of `[rows, cols]` and, as seen by the operators, its numbers.
pub(crate) fn weight(
    seed: u64,
    rows: usize,
    cols: usize,
    format: WeightFormat,
) -> (PackedWeight, Vec<f32>) {
    let weight = packed(&noise(seed, rows * cols), cols, format);
    let numbers = unpacked(&weight);
    (weight, numbers)
}

/// A gate and an up projection, `[inter, cols]` each.
pub(crate) fn gated(seed: u64, inter: usize, cols: usize, format: WeightFormat) -> PackedWeight {
    let bytes = |seed| -> Vec<u8> {
        let values = noise(seed, inter * cols);
        values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect()
    };
    let (gate, up) = (bytes(seed), bytes(seed + 1000));
    let view = |bytes| WeightView {
        dtype: DType::F32,
        rows: inter,
        cols,
        bytes,
    };
    let backend = Backend::cpu(1).unwrap();
    backend
        .pack_gated(view(&gate), view(&up), Activation::Silu, format)
        .unwrap()
}

/// The numbers of a weight, row by row.
pub(crate) fn unpacked(weight: &PackedWeight) -> Vec<f32> {
    let mut out = unwritten(weight.rows() * weight.cols());
    let rows: Vec<u32> = (0..weight.rows() as u32).collect();
    Backend::cpu(1)
        .unwrap()
        .embed(weight, &rows, &mut out)
        .unwrap();
    out.f32s().unwrap().to_vec()
}

/// Rows of `cols` numbers in the form that weights of `format` read.
pub(crate) fn encoded(
    backend: &Backend,
    x: &[f32],
    cols: usize,
    format: InputFormat,
) -> LinearInput {
    let rows = x.len() / cols;
    let mut input = LinearInput::new(format, cols, rows).unwrap();
    backend.encode(&buffer(x), &mut input, rows).unwrap();
    input
}

/// `x * w^T + bias` of all rows of `x`.
pub(crate) fn linear(
    backend: &Backend,
    x: &[f32],
    w: &PackedWeight,
    bias: Option<&[f32]>,
) -> Vec<f32> {
    let input = encoded(backend, x, w.cols(), w.format().input());
    let mut out = unwritten(input.rows() * w.rows());
    let bias = bias.map(buffer);
    backend
        .linear(&input, w, bias.as_ref(), &mut out, 0..input.rows())
        .unwrap();
    out.f32s().unwrap().to_vec()
}

/// The first `rows` rows of an input as numbers.
pub(crate) fn decoded(input: &LinearInput, rows: usize) -> Vec<f32> {
    input.decode(rows).unwrap().f32s().unwrap().to_vec()
}

/// The numbers that a format can hold nearest to `values`.
pub(crate) fn rounded(values: &[f32], dtype: DType) -> Vec<f32> {
    let round = |value: &f32| match dtype {
        DType::F32 => *value,
        DType::Bf16 => half::bf16::from_f32(*value).to_f32(),
        DType::F16 => half::f16::from_f32(*value).to_f32(),
    };
    values.iter().map(round).collect()
}

/// That each number is within `tolerance` of the reference, absolutely or relatively.
#[track_caller]
pub(crate) fn assert_close(actual: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(actual.len(), expected.len());
    for (i, (actual, expected)) in actual.iter().zip(expected).enumerate() {
        let error = (f64::from(*actual) - expected).abs();
        let limit = tolerance * expected.abs().max(1.0);
        // NaN compares as false, and must not pass.
        assert!(
            error <= limit,
            "element {i} is {actual}, expected {expected}"
        );
    }
}

/// The bits of numbers, for exact comparison.
pub(crate) fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

pub(crate) fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().copied().map(f64::from).collect()
}
