//! Reproducible numbers, weights made of them, and comparison with references in double precision.

use half::{bf16, f16};
use maitre_tensor::{Buffer, DType, PackedWeight, WeightView};

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

/// A weight of `[rows, cols]` and, as seen by the operators, its numbers.
pub(crate) fn weight(
    seed: u64,
    rows: usize,
    cols: usize,
    dtype: DType,
) -> (PackedWeight, Vec<f32>) {
    let values = noise(seed, rows * cols);
    let bytes: Vec<u8> = values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    let view = WeightView {
        dtype: DType::F32,
        rows,
        cols,
        bytes: &bytes,
    };
    let packed = PackedWeight::pack(&[view], dtype).unwrap();
    (packed, rounded(&values, dtype))
}

/// The numbers that a format can hold nearest to `values`.
pub(crate) fn rounded(values: &[f32], dtype: DType) -> Vec<f32> {
    let round = |value: &f32| match dtype {
        DType::F32 => *value,
        DType::Bf16 => bf16::from_f32(*value).to_f32(),
        DType::F16 => f16::from_f32(*value).to_f32(),
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
