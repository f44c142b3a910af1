//! `linear` against double precision and candle, on every kernel path and in every format.

use candle_core::{Device, Tensor};
use maitre_tensor::{PEAK_BLOCK, WeightFormat};
use proptest::prelude::*;

use crate::numbers::{
    FORMATS, assert_close, backends, bits, buffer, decoded, encoded, linear, noise, packed,
    unwritten, weight,
};

fn any_format() -> impl Strategy<Value = WeightFormat> {
    proptest::sample::select(&FORMATS[..])
}

fn reference(x: &[f32], w: &[f32], bias: &[f32], cols: usize) -> Vec<f64> {
    x.chunks_exact(cols)
        .flat_map(|x| {
            w.chunks_exact(cols).zip(bias).map(move |(w, bias)| {
                let products = x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w));
                products.sum::<f64>() + f64::from(*bias)
            })
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn equals_double_precision_on_odd_shapes(
        rows in 0_usize..140,
        cols in 1_usize..290,
        features in 1_usize..150,
        format in any_format(),
        with_bias in any::<bool>(),
        threads in 1_usize..4,
        seed in 0_u64..1000,
    ) {
        let x = noise(seed, rows * cols);
        let (packed, w) = weight(seed + 1, features, cols, format);
        let bias = if with_bias { noise(seed + 2, features) } else { vec![0.0; features] };
        for backend in backends(threads) {
            let input = encoded(&backend, &x, cols, format.input());
            let mut out = unwritten(rows * features + 3);
            let bias_buffer = buffer(&bias);
            backend
                .linear(&input, &packed, with_bias.then_some(&bias_buffer), &mut out, 0..rows)
                .unwrap();
            let (written, beyond) = out.f32s().unwrap().split_at(rows * features);
            let expected = reference(&decoded(&input, rows), &w, &bias, cols);
            assert_close(written, &expected, 2e-5);
            prop_assert!(beyond.iter().all(|value| value.is_nan()));
        }
    }

    #[test]
    fn integer_formats_give_the_same_bits_on_every_path(
        rows in prop_oneof![1_usize..20, 20_usize..140],
        cols in 1_usize..290,
        features in 1_usize..80,
        format in proptest::sample::select(&FORMATS[3..]),
        seed in 0_u64..1000,
    ) {
        // Rows of very different sizes, so that a scale of the wrong row shows.
        let x: Vec<f32> = noise(seed, rows * cols)
            .iter()
            .enumerate()
            .map(|(i, x)| x * 10.0_f32.powi((i / cols) as i32 % 7 - 3))
            .collect();
        let (packed, _) = weight(seed + 1, features, cols, format);
        let results: Vec<_> =
            backends(2).iter().map(|backend| bits(&linear(backend, &x, &packed, None))).collect();
        prop_assert!(results.windows(2).all(|pair| pair[0] == pair[1]));
    }

    #[test]
    fn a_row_does_not_depend_on_the_others(
        rows in 2_usize..60,
        cols in 1_usize..200,
        features in 1_usize..150,
        format in any_format(),
        threads in 1_usize..4,
        seed in 0_u64..1000,
    ) {
        let x = noise(seed, rows * cols);
        let (packed, _) = weight(seed + 1, features, cols, format);
        for backend in backends(threads) {
            let together = linear(&backend, &x, &packed, None);
            for (x, row) in x.chunks_exact(cols).zip(together.chunks_exact(features)) {
                prop_assert!(bits(&linear(&backend, x, &packed, None)) == bits(row));
            }
        }
    }
}

#[test]
fn each_small_number_of_rows_gives_each_row_its_bits() {
    // Full strips and what is left of one; deep enough to be fetched ahead.
    let (cols, features, most) = (70, 203, 26);
    let x = noise(7, most * cols);
    for format in FORMATS {
        let (packed, _) = weight(8, features, cols, format);
        for backend in backends(2) {
            let row = |x| bits(&linear(&backend, x, &packed, None));
            let alone: Vec<_> = x.chunks_exact(cols).flat_map(row).collect();
            for rows in 1..=most {
                let together = bits(&linear(&backend, &x[..rows * cols], &packed, None));
                assert!(
                    together == alone[..rows * features],
                    "{format}, {rows} rows"
                );
            }
        }
    }
}

#[test]
fn equals_candle() {
    let (rows, cols, features) = (37, 300, 65);
    let x = noise(1, rows * cols);
    let (packed, w) = weight(2, features, cols, WeightFormat::F32);
    let candle_x = Tensor::from_slice(&x, (rows, cols), &Device::Cpu).unwrap();
    let candle_w = Tensor::from_slice(&w, (features, cols), &Device::Cpu).unwrap();
    let product = candle_x.matmul(&candle_w.t().unwrap()).unwrap();
    let expected: Vec<f64> = product
        .flatten_all()
        .unwrap()
        .to_vec1::<f32>()
        .unwrap()
        .into_iter()
        .map(f64::from)
        .collect();
    for backend in backends(2) {
        assert_close(&linear(&backend, &x, &packed, None), &expected, 1e-5);
    }
}

#[test]
fn some_rows_of_an_input_give_what_they_give_among_all() {
    let (rows, cols, features) = (9, 40, 33);
    for format in FORMATS {
        let (w, _) = weight(1, features, cols, format);
        for backend in backends(2) {
            let x = noise(2, rows * cols);
            let all = linear(&backend, &x, &w, None);
            let input = encoded(&backend, &x, cols, format.input());
            let mut out = unwritten(3 * features);
            backend.linear(&input, &w, None, &mut out, 4..7).unwrap();
            assert_eq!(
                bits(out.f32s().unwrap()),
                bits(&all[4 * features..7 * features])
            );
        }
    }
}

#[test]
fn peaks_are_the_largest_logits_of_their_blocks() {
    let (rows, cols) = (3, 8);
    for features in [1, 63, 64, 65, 300] {
        let mut values = noise(5, features * cols);
        // One feature that is +inf for every row, and one that is NaN.
        let spoiled: Vec<usize> = [200, 290].into_iter().filter(|f| *f < features).collect();
        for (feature, value) in spoiled.iter().zip([f32::INFINITY, f32::NAN]) {
            values[feature * cols..(feature + 1) * cols].fill(value);
        }
        let w = packed(&values, cols, WeightFormat::F32);
        for backend in backends(2) {
            let x: Vec<f32> = noise(6, rows * cols)
                .iter()
                .map(|x| x.abs() + 0.1)
                .collect();
            let input = encoded(&backend, &x, cols, w.format().input());
            let blocks = features.div_ceil(PEAK_BLOCK);
            let (mut out, mut peaks) = (
                unwritten(rows * features),
                buffer(&vec![7.0; rows * blocks]),
            );
            backend
                .linear_with_peaks(&input, &w, &mut out, &mut peaks, 0..rows)
                .unwrap();
            assert_eq!(
                bits(out.f32s().unwrap()),
                bits(&linear(&backend, &x, &w, None))
            );
            let logits = out.f32s().unwrap().chunks(features);
            for (logits, peaks) in logits.zip(peaks.f32s().unwrap().chunks(blocks)) {
                for (block, (logits, peak)) in logits.chunks(PEAK_BLOCK).zip(peaks).enumerate() {
                    if spoiled.iter().any(|feature| feature / PEAK_BLOCK == block) {
                        assert!(peak.is_nan());
                    } else {
                        assert_eq!(
                            *peak,
                            logits.iter().copied().fold(f32::NEG_INFINITY, f32::max)
                        );
                    }
                }
            }
        }
    }
}

/// Four token rows of 20 features with one unusual number each.
fn unusual(values: [f32; 4]) -> Vec<f32> {
    let mut x = noise(7, 4 * 20);
    for (row, value) in values.into_iter().enumerate() {
        x[row * 20 + 3 + row] = value;
    }
    x
}

#[test]
fn numbers_that_are_not_finite_spoil_their_own_row_alone() {
    let four = unusual([0.5, f32::NAN, f32::INFINITY, f32::NEG_INFINITY]);
    for format in FORMATS {
        let (w, _) = weight(3, 35, 20, format);
        for backend in backends(2) {
            // Few rows, and more than a tile has.
            for times in [1, 5] {
                let out = linear(&backend, &four.repeat(times), &w, None);
                for (row, out) in out.chunks(35).enumerate() {
                    let expected = row % 4 == 0;
                    assert!(
                        out.iter().all(|value| value.is_finite() == expected),
                        "{format} {}, row {row}",
                        backend.name()
                    );
                }
            }
        }
    }
}

#[test]
fn extreme_numbers_do_what_arithmetic_says() {
    for format in FORMATS {
        let (w, numbers) = weight(3, 35, 20, format);
        for backend in backends(1) {
            // Subnormal, tiny, huge, and a row of zeros.
            let mut x = unusual([f32::from_bits(1), 1e-38, 1e30, 0.0]);
            x[3 * 20..].fill(0.0);
            let out = linear(&backend, &x, &w, None);
            let seen = decoded(&encoded(&backend, &x, 20, format.input()), 4);
            let expected = reference(&seen, &numbers, &[0.0; 35], 20);
            for (out, expected) in out.iter().zip(expected) {
                let error = (f64::from(*out) - expected).abs();
                assert!(
                    error <= 1e-5 * expected.abs().max(1.0),
                    "{format}: {out}, {expected}"
                );
            }
            assert!(out[3 * 35..].iter().all(|value| *value == 0.0));
        }
    }
}

#[test]
fn the_largest_integers_do_not_overflow_and_lose_no_bit() {
    // Every product is as large as it can be, and all of one sign.
    for cols in [3071, 131_072] {
        extremes(cols);
    }
}

fn extremes(cols: usize) {
    let features = 17;
    let integers = FORMATS.into_iter().skip(3);
    for (format, sign) in integers.flat_map(|format| [1.0, -1.0].map(|sign| (format, sign))) {
        let w = packed(&vec![sign; features * cols], cols, format);
        // As many rows as are tiles of sixteen and more.
        let signs: Vec<f32> = (0..33).map(|row| 2.0 - 4.0 * (row % 2) as f32).collect();
        let x: Vec<f32> = signs.iter().flat_map(|x| vec![*x; cols]).collect();
        let results: Vec<_> = backends(1)
            .iter()
            .map(|backend| linear(backend, &x, &w, None))
            .collect();
        for out in &results {
            for (x, out) in signs.iter().zip(out.chunks(features)) {
                let expected = x * sign * cols as f32;
                for out in out {
                    assert!((out / expected - 1.0).abs() < 1e-2, "{out}, {expected}");
                }
            }
            assert_eq!(bits(out), bits(&results[0]), "{format}");
        }
    }
}
