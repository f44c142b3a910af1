//! The row-wise operators against double precision and candle-nn.

use candle_core::{Device, Tensor};
use maitre_tensor::{Backend, DType};
use proptest::prelude::*;

use crate::numbers::{assert_close, bits, buffer, noise, unwritten, weight, wide};

fn rms_norm(x: &[f64], weight: &[f64], eps: f64) -> Vec<f64> {
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
        let backend = Backend::cpu(threads).unwrap();
        let scaled = |seed| noise(seed, rows * dim).iter().map(|x| x * scale).collect::<Vec<_>>();
        let (x, delta, w) = (scaled(seed), scaled(seed + 1), noise(seed + 2, dim));
        let mut out = unwritten(rows * dim + 1);
        backend.rms_norm(&buffer(&x), &buffer(&w), 1e-6, &mut out, rows).unwrap();
        let expected = rms_norm(&wide(&x), &wide(&w), 1e-6);
        assert_close(&out.f32s().unwrap()[..rows * dim], &expected, 1e-5);

        let mut residual = buffer(&x);
        backend
            .add_rms_norm(&mut residual, &buffer(&delta), &buffer(&w), 1e-6, &mut out, rows)
            .unwrap();
        let sums: Vec<f32> = x.iter().zip(&delta).map(|(x, d)| x + d).collect();
        prop_assert_eq!(bits(residual.f32s().unwrap()), bits(&sums));
        let expected = rms_norm(&wide(&sums), &wide(&w), 1e-6);
        assert_close(&out.f32s().unwrap()[..rows * dim], &expected, 1e-5);
        prop_assert!(out.f32s().unwrap()[rows * dim].is_nan());
    }

    #[test]
    fn gated_activation_equals_double_precision(
        rows in 0_usize..40,
        inter in 1_usize..1500,
        scale in 0.1_f32..200.0,
        seed in 0_u64..1000,
    ) {
        let backend = Backend::cpu(2).unwrap();
        let gate_up: Vec<f32> = noise(seed, rows * 2 * inter).iter().map(|x| x * scale).collect();
        let mut out = unwritten(rows * inter + 1);
        backend.silu_mul(&buffer(&gate_up), inter, &mut out, rows).unwrap();
        let expected: Vec<f64> = wide(&gate_up)
            .chunks_exact(2 * inter)
            .flat_map(|row| {
                let (gate, up) = row.split_at(inter);
                let silu = |x: f64| x / (1.0 + (-x).exp());
                gate.iter().zip(up).map(|(g, u)| silu(*g) * u).collect::<Vec<_>>()
            })
            .collect();
        assert_close(&out.f32s().unwrap()[..rows * inter], &expected, 1e-5);
        prop_assert!(out.f32s().unwrap()[rows * inter].is_nan());
    }

    #[test]
    fn gathering_and_embedding_copy_rows(
        table_rows in 1_usize..50,
        dim in 1_usize..100,
        picks in proptest::collection::vec(0_u32..1000, 0..60),
        bf16 in any::<bool>(),
    ) {
        let backend = Backend::cpu(2).unwrap();
        let picks: Vec<u32> = picks.into_iter().map(|pick| pick % table_rows as u32).collect();
        let dtype = if bf16 { DType::Bf16 } else { DType::F32 };
        let (table, values) = weight(3, table_rows, dim, dtype);
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
fn norm_and_activation_equal_candle_nn() {
    let backend = Backend::cpu(1).unwrap();
    let (rows, dim) = (9, 200);
    let tensor = |values: &[f32], shape: (usize, usize)| {
        Tensor::from_slice(values, shape, &Device::Cpu).unwrap()
    };
    let flat = |tensor: Tensor| wide(&tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap());
    let (x, w) = (noise(1, rows * dim), noise(2, dim));
    let mut out = unwritten(rows * dim);
    backend
        .rms_norm(&buffer(&x), &buffer(&w), 1e-5, &mut out, rows)
        .unwrap();
    let alpha = Tensor::from_slice(&w, dim, &Device::Cpu).unwrap();
    let theirs = candle_nn::ops::rms_norm(&tensor(&x, (rows, dim)), &alpha, 1e-5).unwrap();
    assert_close(out.f32s().unwrap(), &flat(theirs), 1e-5);

    let mut out = unwritten(rows * dim / 2);
    backend
        .silu_mul(&buffer(&x), dim / 2, &mut out, rows)
        .unwrap();
    let theirs = candle_nn::ops::swiglu(&tensor(&x, (rows, dim))).unwrap();
    assert_close(out.f32s().unwrap(), &flat(theirs), 1e-5);
}

#[test]
fn nan_stays_in_its_row() {
    let backend = Backend::cpu(2).unwrap();
    let dim = 20;
    let mut x = noise(1, 3 * 2 * dim);
    x[2 * dim + 5] = f32::NAN;
    let mut out = unwritten(3 * dim);
    backend.silu_mul(&buffer(&x), dim, &mut out, 3).unwrap();
    let nan_rows: Vec<bool> = out
        .f32s()
        .unwrap()
        .chunks_exact(dim)
        .map(|row| row.iter().any(|value| value.is_nan()))
        .collect();
    assert_eq!(nan_rows, [false, true, false]);
}
