//! Products of few rows by integers, whose kernels cut sums and whose bits are those of whole ones.

use maitre_tensor::WeightFormat;

use crate::linear::{bits, input, numbers, product, reference, weight};
use crate::{emulated, random};

/// The integers of a GPU.
const INTEGERS: [WeightFormat; 4] = [
    WeightFormat::INT8,
    WeightFormat::INT4,
    WeightFormat::Int4 { group: 32 },
    WeightFormat::Int4 { group: 128 },
];

/// Few rows of integers have kernels that split the input features: between warps, into what shared memory has
/// space for, into groups and parts. Their bits are those of the tiles for many rows.
#[test]
fn split_sums_have_the_bits_of_whole_ones() {
    let Some(gpu) = emulated(true) else { return };
    let most = 17;
    for (n, k) in [
        (20, 1),
        (3, 129),
        (20, 900),
        (9, 2350),
        (17, 6500),
        (3, 12_500),
    ] {
        for format in INTEGERS {
            for gated in [false, true] {
                let w = weight(&gpu, (n, k), format, gated);
                let x = input(&gpu, &random(5, most * k), &w);
                let bias = gpu.vector(&random(4, w.rows())).unwrap();
                let whole = bits(&product(&gpu, &x, &w, Some(&bias), 0..most));
                for rows in [0..1, 1..3, 3..11, 0..9, 1..17] {
                    let split = bits(&product(&gpu, &x, &w, Some(&bias), rows.clone()));
                    let expected = &whole[rows.start * n..rows.end * n];
                    assert!(
                        split == expected,
                        "{format}, [{n}, {k}], gated: {gated}, rows {rows:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn wide_blocks_have_the_bits_of_narrow_ones() {
    let Some(gpu) = emulated(true) else { return };
    // As many features as give each of the emulator's multiprocessors three wide blocks.
    let k = 2350;
    for format in INTEGERS {
        for (n, gated) in [(775, false), (388, true)] {
            let w = weight(&gpu, (n, k), format, gated);
            let x = input(&gpu, &random(5, 9 * k), &w);
            let narrow = bits(&product(&gpu, &x, &w, None, 1..2));
            for rows in [1..3, 0..9] {
                let wide = bits(&product(&gpu, &x, &w, None, rows.clone()));
                let same = &wide[(1 - rows.start) * n..][..n];
                assert!(same == narrow, "{format}, gated: {gated}, rows {rows:?}");
            }
        }
    }
}

#[test]
fn long_sums_of_integers_agree_with_double_precision() {
    let Some(gpu) = emulated(true) else { return };
    // More than shared memory holds scales of, twice.
    let (m, n, k) = (8, 5, 24_400);
    for format in INTEGERS {
        let w = weight(&gpu, (n, k), format, false);
        let x = input(&gpu, &random(3, m * k), &w);
        let actual = product(&gpu, &x, &w, None, 0..m);
        let rows = gpu.decode(&x, m).unwrap();
        let numbers = numbers(&gpu, &w);
        let expected = reference(rows.f32s().unwrap(), &numbers, &vec![0.0; n], k);
        for (actual, (value, magnitude)) in actual.iter().zip(expected) {
            let error = (f64::from(*actual) - value).abs();
            assert!(
                error <= 1e-6 * magnitude,
                "{format}: {actual} instead of {value}"
            );
        }
    }
}
