//! `layer_norm`, `add` and `activate` against double precision, and their bits.

use maitre_tensor::{Activation, Backend, InputFormat, LayerNorm, LinearInput, TensorError};
use proptest::prelude::*;

use crate::numbers::{
    FORMATS, assert_close, backends, bits, buffer, decoded, encoded, noise, wide,
};

const EPS: f32 = 1e-5;

fn layer_norm(x: &[f64], weight: &[f64], bias: Option<&[f64]>, eps: f64) -> Vec<f64> {
    let dim = weight.len();
    x.chunks_exact(dim)
        .flat_map(|row| {
            let mean = row.iter().sum::<f64>() / dim as f64;
            let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / dim as f64;
            (0..dim).map(move |i| {
                let shift = bias.map_or(0.0, |bias| bias[i]);
                (row[i] - mean) / (variance + eps).sqrt() * weight[i] + shift
            })
        })
        .collect()
}

/// The residual stream and what is made of it.
fn run(
    backend: &Backend,
    [x, delta]: [&[f32]; 2],
    (weight, bias): (&[f32], Option<&[f32]>),
    format: InputFormat,
) -> (Vec<f32>, LinearInput) {
    let rows = x.len() / weight.len();
    let mut residual = buffer(x);
    let mut out = LinearInput::new(format, weight.len(), rows).unwrap();
    let delta = (!delta.is_empty()).then(|| buffer(delta));
    let bias = bias.map(buffer);
    backend
        .layer_norm(LayerNorm {
            residual: &mut residual,
            delta: delta.as_ref(),
            weight: &buffer(weight),
            bias: bias.as_ref(),
            eps: EPS,
            out: &mut out,
            rows,
        })
        .unwrap();
    (residual.f32s().unwrap().to_vec(), out)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn norms_equal_double_precision(
        rows in 0_usize..30,
        dim in 1_usize..1200,
        threads in 1_usize..4,
        [with_delta, with_bias] in [any::<bool>(), any::<bool>()],
        // A mean that is large beside what is left of the numbers: the reason for two passes.
        shift in prop_oneof![Just(0.0_f32), Just(100.0)],
        seed in 0_u64..1000,
    ) {
        let x: Vec<f32> = noise(seed, rows * dim).iter().map(|x| x + shift).collect();
        let delta = noise(seed + 1, if with_delta { rows * dim } else { 0 });
        let (weight, bias) = (noise(seed + 2, dim), noise(seed + 3, dim));
        let bias = with_bias.then_some(bias.as_slice());
        let sums: Vec<f32> = match with_delta {
            true => x.iter().zip(&delta).map(|(x, it)| x + it).collect(),
            false => x.clone(),
        };
        let wide_bias = bias.map(wide);
        let expected = layer_norm(&wide(&sums), &wide(&weight), wide_bias.as_deref(), EPS.into());
        for backend in backends(threads) {
            let (residual, out) = run(&backend, [&x, &delta], (&weight, bias), InputFormat::F32);
            prop_assert!(bits(&residual) == bits(&sums));
            let tolerance = if shift == 0.0 { 1e-5 } else { 1e-3 };
            assert_close(&decoded(&out, rows), &expected, tolerance);
        }
    }

    #[test]
    fn a_row_is_the_same_alone_and_in_every_form(
        rows in 1_usize..9,
        dim in 1_usize..200,
        format in proptest::sample::select(&FORMATS[..]),
        seed in 0_u64..1000,
    ) {
        let form = format.input();
        let (x, weight, bias) = (noise(seed, rows * dim), noise(seed + 1, dim), noise(seed + 2, dim));
        let weights = (weight.as_slice(), Some(bias.as_slice()));
        for backend in backends(2) {
            let (_, plain) = run(&backend, [&x, &[]], weights, InputFormat::F32);
            let plain = decoded(&plain, rows);
            let alone: Vec<f32> = x
                .chunks_exact(dim)
                .flat_map(|row| decoded(&run(&backend, [row, &[]], weights, InputFormat::F32).1, 1))
                .collect();
            prop_assert!(bits(&alone) == bits(&plain));
            let (_, out) = run(&backend, [&x, &[]], weights, form);
            let then_encoded = encoded(&backend, &plain, dim, form);
            prop_assert!(bits(&decoded(&out, rows)) == bits(&decoded(&then_encoded, rows)));
        }
    }

    #[test]
    fn sums_are_sums(len in 0_usize..50_000) {
        let (mut x, delta) = (noise(3, len), noise(4, len));
        x.push(5.0);
        for backend in backends(3) {
            let mut sum = buffer(&x);
            backend.add(&mut sum, &buffer(&delta), len).unwrap();
            let mut expected: Vec<f32> = x.iter().zip(&delta).map(|(x, it)| x + it).collect();
            expected.push(5.0);
            prop_assert!(bits(sum.f32s().unwrap()) == bits(&expected));
        }
    }

    #[test]
    fn bounded_numbers_equal_double_precision(len in 0_usize..3000, limit in 0.01_f32..100.0) {
        let mut x: Vec<f32> = noise(6, len).iter().map(|x| 60.0 * x).collect();
        x.push(500.0);
        for backend in backends(2) {
            let mut bounded = buffer(&x);
            backend.bound(&mut bounded, limit, len).unwrap();
            let wide_limit = f64::from(limit);
            let bound = |x: f64| wide_limit * (x / wide_limit).tanh();
            let mut expected: Vec<f64> = wide(&x).into_iter().map(bound).collect();
            expected[len] = 500.0;
            assert_close(&bounded.f32s().unwrap()[..len], &expected[..len], 1e-5 * wide_limit.max(1.0));
            prop_assert_eq!(bounded.f32s().unwrap()[len], 500.0);
        }
    }

    #[test]
    fn activations_equal_double_precision(
        rows in 1_usize..9,
        dim in 1_usize..300,
        format in proptest::sample::select(&FORMATS[..]),
        threads in 1_usize..4,
    ) {
        let x: Vec<f32> = noise(5, rows * dim).iter().map(|x| 6.0 * x).collect();
        for (activation, function) in [
            (Activation::Silu, silu as fn(f64) -> f64),
            (Activation::GeluTanh, gelu),
        ] {
            let expected: Vec<f64> = wide(&x).into_iter().map(function).collect();
            for backend in backends(threads) {
                let mut plain = LinearInput::new(InputFormat::F32, dim, rows).unwrap();
                backend.activate(&buffer(&x), activation, &mut plain, rows).unwrap();
                let plain = decoded(&plain, rows);
                assert_close(&plain, &expected, 1e-5);
                let mut out = LinearInput::new(format.input(), dim, rows).unwrap();
                backend.activate(&buffer(&x), activation, &mut out, rows).unwrap();
                let then_encoded = encoded(&backend, &plain, dim, format.input());
                prop_assert!(bits(&decoded(&out, rows)) == bits(&decoded(&then_encoded, rows)));
            }
        }
    }
}

fn silu(x: f64) -> f64 {
    x / (1.0 + (-x).exp())
}

fn gelu(x: f64) -> f64 {
    let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
    x / 2.0 * (1.0 + inner.tanh())
}

#[test]
fn wrong_shapes_are_refused() {
    let backend = Backend::cpu(1).unwrap();
    let refused = |result: Result<(), TensorError>, expected: &str| {
        assert_eq!(result.unwrap_err().to_string(), expected);
    };
    let zeros = |len: usize| buffer(&vec![0.0; len]);
    let norm = |sizes: [usize; 4], rows: usize| {
        let [residual, delta, weight, bias] = sizes;
        backend.layer_norm(LayerNorm {
            residual: &mut zeros(residual),
            delta: Some(&zeros(delta)),
            weight: &zeros(weight),
            bias: Some(&zeros(bias)),
            eps: EPS,
            out: &mut LinearInput::new(InputFormat::F32, 4, 3).unwrap(),
            rows,
        })
    };
    norm([12, 12, 4, 4], 3).unwrap();
    refused(
        norm([12, 12, 0, 0], 3),
        "layer_norm: `weight` must be at least 1 element, but is empty",
    );
    refused(
        norm([12, 12, 4, 3], 3),
        "layer_norm: `bias` must be 4 f32 elements, but is 3 f32 elements",
    );
    refused(
        norm([12, 11, 4, 4], 3),
        "layer_norm: `delta` must be at least [3, 4] f32 elements, but is 11 f32 elements",
    );
    refused(
        norm([11, 12, 4, 4], 3),
        "layer_norm: `residual` must be at least [3, 4] f32 elements, but is 11 f32 elements",
    );
    refused(
        norm([16, 16, 4, 4], 4),
        "layer_norm: `out` must be at least [4, 4] f32 activations, but is [3, 4] f32 activations",
    );
    refused(
        backend.add(&mut zeros(3), &zeros(4), 4),
        "add: `sum` must be at least [4, 1] f32 elements, but is 3 f32 elements",
    );
    refused(
        backend.add(&mut zeros(4), &zeros(3), 4),
        "add: `delta` must be at least [4, 1] f32 elements, but is 3 f32 elements",
    );
    refused(
        backend.bound(&mut zeros(4), f32::NAN, 4),
        "bound: `limit` must be finite and above 0, but is NaN",
    );
    let mut out = LinearInput::new(InputFormat::F32, 4, 3).unwrap();
    refused(
        backend.activate(&zeros(11), Activation::Silu, &mut out, 3),
        "activate: `x` must be at least [3, 4] f32 elements, but is 11 f32 elements",
    );
    refused(
        backend.activate(&zeros(16), Activation::Silu, &mut out, 4),
        "activate: `out` must be at least [4, 4] f32 activations, but is [3, 4] f32 activations",
    );
}
