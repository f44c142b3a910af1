//! `linear` against double precision and candle.

use candle_core::{Device, Tensor};
use maitre_tensor::{Backend, DType, PackedWeight, WeightView};
use proptest::prelude::*;

use crate::numbers::{assert_close, bits, buffer, noise, rounded, unwritten, weight};

fn any_dtype() -> impl Strategy<Value = DType> {
    prop_oneof![Just(DType::F32), Just(DType::Bf16), Just(DType::F16)]
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
        rows in 0_usize..70,
        cols in 1_usize..90,
        features in 1_usize..110,
        dtype in any_dtype(),
        with_bias in any::<bool>(),
        threads in 1_usize..4,
        seed in 0_u64..1000,
    ) {
        let backend = Backend::cpu(threads).unwrap();
        let x = noise(seed, rows * cols);
        let (packed, w) = weight(seed + 1, features, cols, dtype);
        let bias = if with_bias { noise(seed + 2, features) } else { vec![0.0; features] };
        let mut out = unwritten(rows * features + 3);
        let bias_buffer = buffer(&bias);
        backend
            .linear(&buffer(&x), &packed, with_bias.then_some(&bias_buffer), &mut out, rows)
            .unwrap();
        let (written, beyond) = out.f32s().unwrap().split_at(rows * features);
        assert_close(written, &reference(&rounded(&x, dtype), &w, &bias, cols), 1e-5);
        prop_assert!(beyond.iter().all(|value| value.is_nan()));
    }
}

#[test]
fn equals_candle() {
    let (rows, cols, features) = (37, 300, 65);
    let x = noise(1, rows * cols);
    let (packed, w) = weight(2, features, cols, DType::F32);
    let mut out = unwritten(rows * features);
    Backend::cpu(2)
        .unwrap()
        .linear(&buffer(&x), &packed, None, &mut out, rows)
        .unwrap();

    let x = Tensor::from_vec(x, (rows, cols), &Device::Cpu).unwrap();
    let w = Tensor::from_vec(w, (features, cols), &Device::Cpu).unwrap();
    let product = x.matmul(&w.t().unwrap()).unwrap().flatten_all().unwrap();
    let expected: Vec<f64> = product
        .to_vec1::<f32>()
        .unwrap()
        .into_iter()
        .map(f64::from)
        .collect();
    assert_close(out.f32s().unwrap(), &expected, 1e-5);
}

#[test]
fn a_fused_weight_gives_what_its_parts_give() {
    let backend = Backend::cpu(2).unwrap();
    let (rows, cols) = (5, 33);
    let x = buffer(&noise(1, rows * cols));
    let bytes: Vec<Vec<u8>> = [(2, 7), (3, 40)]
        .map(|(seed, out)| {
            noise(seed, out * cols)
                .iter()
                .flat_map(|v| v.to_le_bytes())
                .collect()
        })
        .to_vec();
    let views: Vec<WeightView<'_>> = bytes
        .iter()
        .map(|bytes| WeightView {
            dtype: DType::F32,
            rows: bytes.len() / 4 / cols,
            cols,
            bytes,
        })
        .collect();
    let run = |parts: &[WeightView<'_>]| {
        let packed = PackedWeight::pack(parts, DType::Bf16).unwrap();
        let mut out = unwritten(rows * packed.rows());
        backend.linear(&x, &packed, None, &mut out, rows).unwrap();
        let rows = out.f32s().unwrap().chunks_exact(packed.rows()).map(bits);
        rows.collect::<Vec<_>>()
    };
    let (upper, lower) = (run(&views[..1]), run(&views[1..]));
    let separate: Vec<_> = upper
        .into_iter()
        .zip(lower)
        .map(|(a, b)| [a, b].concat())
        .collect();
    assert_eq!(run(&views), separate);
}
