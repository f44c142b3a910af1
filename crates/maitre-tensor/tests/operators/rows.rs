//! The row-wise operators against double precision and candle-nn.

use candle_core::{Device, Tensor};
use maitre_tensor::{Backend, InputFormat, LinearInput, WeightFormat};
use proptest::prelude::*;

use crate::numbers::{
    FORMATS, assert_close, backends, bits, buffer, decoded, encoded, noise, unwritten, weight, wide,
};

pub(super) fn rms_norm(x: &[f64], weight: &[f64], eps: f64) -> Vec<f64> {
    let dim = weight.len();
    x.chunks_exact(dim)
        .flat_map(|row| {
            let mean = row.iter().map(|x| x * x).sum::<f64>() / dim as f64;
            row.iter()
                .zip(weight)
                .map(move |(x, w)| x / (mean + eps).sqrt() * w)
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn norms_equal_double_precision(
        rows in 0_usize..40,
        dim in 1_usize..1500,
        threads in 1_usize..4,
        // Small enough at times that `eps` is what keeps the result small.
        scale in prop_oneof![Just(1.0_f32), Just(1e-3), Just(0.0)],
        seed in 0_u64..1000,
    ) {
        let scaled = |seed| noise(seed, rows * dim).iter().map(|x| x * scale).collect::<Vec<_>>();
        let (x, delta, w) = (scaled(seed), scaled(seed + 1), noise(seed + 2, dim));
        for backend in backends(threads) {
            let mut out = LinearInput::new(InputFormat::F32, dim, rows).unwrap();
            backend.rms_norm(&buffer(&x), &buffer(&w), 1e-6, &mut out, rows).unwrap();
            let expected = rms_norm(&wide(&x), &wide(&w), 1e-6);
            assert_close(&decoded(&out, rows), &expected, 1e-5);

            let mut residual = buffer(&x);
            backend
                .add_rms_norm(&mut residual, &buffer(&delta), &buffer(&w), 1e-6, &mut out, rows)
                .unwrap();
            let sums: Vec<f32> = x.iter().zip(&delta).map(|(x, d)| x + d).collect();
            prop_assert_eq!(bits(residual.f32s().unwrap()), bits(&sums));
            let expected = rms_norm(&wide(&sums), &wide(&w), 1e-6);
            assert_close(&decoded(&out, rows), &expected, 1e-5);
        }
    }

    #[test]
    fn a_fused_row_is_the_plain_row_encoded(
        rows in 1_usize..12,
        dim in 1_usize..300,
        format in proptest::sample::select(&FORMATS[..]),
        seed in 0_u64..1000,
    ) {
        let form = format.input();
        let (x, w) = (noise(seed, rows * dim), noise(seed + 1, dim));
        for backend in backends(2) {
            let mut plain = LinearInput::new(InputFormat::F32, dim, rows).unwrap();
            backend.rms_norm(&buffer(&x), &buffer(&w), 1e-6, &mut plain, rows).unwrap();
            let mut fused = LinearInput::new(form, dim, rows).unwrap();
            backend.rms_norm(&buffer(&x), &buffer(&w), 1e-6, &mut fused, rows).unwrap();
            let then_encoded = encoded(&backend, &decoded(&plain, rows), dim, form);
            prop_assert!(bits(&decoded(&fused, rows)) == bits(&decoded(&then_encoded, rows)));
        }
    }

    #[test]
    fn encoding_is_the_same_on_every_path_and_near_the_numbers(
        rows in 1_usize..12,
        cols in 1_usize..300,
        format in proptest::sample::select(&FORMATS[..]),
        seed in 0_u64..1000,
    ) {
        let x = noise(seed, rows * cols);
        let results: Vec<Vec<f32>> = backends(2)
            .iter()
            .map(|backend| decoded(&encoded(backend, &x, cols, format.input()), rows))
            .collect();
        for result in &results {
            prop_assert!(bits(result) == bits(&results[0]));
            // Half a step of a bf16 below 1, or of 1/127.
            let limit = match format.input() {
                InputFormat::F32 => 0.0,
                InputFormat::Bf16 => 1.0 / 512.0,
                _ => 0.5001 / 127.0,
            };
            for (x, seen) in x.iter().zip(result) {
                prop_assert!((x - seen).abs() <= limit, "{x} became {seen}");
            }
        }
    }

    #[test]
    fn gathering_and_embedding_copy_rows(
        table_rows in 1_usize..50,
        dim in 1_usize..100,
        picks in proptest::collection::vec(0_u32..1000, 0..60),
        format in proptest::sample::select(&FORMATS[..]),
    ) {
        let backend = Backend::cpu(2).unwrap();
        let picks: Vec<u32> = picks.into_iter().map(|pick| pick % table_rows as u32).collect();
        let (table, values) = weight(3, table_rows, dim, format);
        // Of the integer formats, int4 may clip what lies far out.
        let limit = match format {
            WeightFormat::Int4 { .. } => 0.25,
            _ => 0.51 / 127.0,
        };
        for (stored, value) in values.iter().zip(noise(3, table_rows * dim)) {
            prop_assert!((stored - value).abs() < limit, "{value} became {stored}");
        }
        let expected: Vec<f32> = picks
            .iter()
            .flat_map(|&pick| values[pick as usize * dim..][..dim].to_vec())
            .collect();
        let mut out = unwritten(picks.len() * dim);
        backend.embed(&table, &picks, &mut out).unwrap();
        prop_assert_eq!(bits(out.f32s().unwrap()), bits(&expected));
        let mut out = unwritten(picks.len() * dim);
        backend.gather_rows(&buffer(&values), dim, &picks, &mut out).unwrap();
        prop_assert_eq!(bits(out.f32s().unwrap()), bits(&expected));
    }
}

#[test]
fn norms_equal_candle_nn() {
    let (rows, dim) = (9, 200);
    let tensor = |values: &[f32], shape: (usize, usize)| {
        Tensor::from_slice(values, shape, &Device::Cpu).unwrap()
    };
    let flat = |tensor: Tensor| wide(&tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap());
    let (x, w) = (noise(1, rows * dim), noise(2, dim));
    let alpha = Tensor::from_slice(&w, dim, &Device::Cpu).unwrap();
    let normed = flat(candle_nn::ops::rms_norm(&tensor(&x, (rows, dim)), &alpha, 1e-5).unwrap());
    for backend in backends(1) {
        let mut out = LinearInput::new(InputFormat::F32, dim, rows).unwrap();
        backend
            .rms_norm(&buffer(&x), &buffer(&w), 1e-5, &mut out, rows)
            .unwrap();
        assert_close(&decoded(&out, rows), &normed, 1e-5);
    }
}

#[test]
fn nan_stays_in_its_row() {
    let dim = 20;
    let mut x = noise(1, 3 * dim);
    x[dim + 5] = f32::NAN;
    for backend in backends(2) {
        for format in FORMATS {
            let rows = decoded(&encoded(&backend, &x, dim, format.input()), 3);
            let nan_rows: Vec<bool> = rows
                .chunks_exact(dim)
                .map(|row| row.iter().any(|value| value.is_nan()))
                .collect();
            assert_eq!(nan_rows, [false, true, false], "{format}");
        }
    }
}
