//! The product whose one half gates the other.

use candle_core::{Device, Tensor};
use maitre_tensor::{
    Activation, Backend, Buffer, InputFormat, LinearInput, PackedWeight, WeightFormat, WeightView,
};
use proptest::prelude::*;

use crate::numbers::{
    FORMATS, assert_close, backends, bits, buffer, encoded, linear, noise, unpacked, unwritten,
    wide,
};

/// Gate and up projection, `[inter, cols]` each, packed to be gated and packed to be stacked.
fn pair(
    seed: u64,
    inter: usize,
    cols: usize,
    scale: f32,
    activation: Activation,
    format: WeightFormat,
) -> [PackedWeight; 2] {
    let bytes = |seed| -> Vec<u8> {
        let values = noise(seed, inter * cols);
        values
            .iter()
            .flat_map(|value| (value * scale).to_le_bytes())
            .collect()
    };
    let (gate, up) = (bytes(seed), bytes(seed + 1));
    let view = |bytes| WeightView {
        dtype: maitre_tensor::DType::F32,
        rows: inter,
        cols,
        bytes,
    };
    let backend = Backend::cpu(1).unwrap();
    [
        backend
            .pack_gated(view(&gate), view(&up), activation, format)
            .unwrap(),
        backend.pack(&[view(&gate), view(&up)], format).unwrap(),
    ]
}

fn gated(backend: &Backend, x: &[f32], w: &PackedWeight, bias: Option<&Buffer>) -> Vec<f32> {
    let input = encoded(backend, x, w.cols(), w.format().input());
    let mut out = unwritten(input.rows() * w.rows() / 2);
    backend
        .linear_gated(&input, w, bias, &mut out, 0..input.rows())
        .unwrap();
    out.f32s().unwrap().to_vec()
}

/// What an activation is by its definition.
fn exact(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::GeluTanh => {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
            x / 2.0 * (1.0 + inner.tanh())
        }
        _ => x / (1.0 + (-x).exp()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn it_is_the_activation_of_the_plain_products(
        rows in 0_usize..40,
        cols in 1_usize..150,
        inter in 1_usize..120,
        scale in 0.1_f32..40.0,
        with_bias in any::<bool>(),
        activation in proptest::sample::select(vec![Activation::Silu, Activation::GeluTanh]),
        format in proptest::sample::select(&FORMATS[..]),
        threads in 1_usize..4,
        seed in 0_u64..1000,
    ) {
        let [alternating, stacked] = pair(seed, inter, cols, scale, activation, format);
        let x = noise(seed + 2, rows * cols);
        let bias = with_bias.then(|| noise(seed + 3, 2 * inter));
        let bias_buffer = bias.as_deref().map(buffer);
        for backend in backends(threads) {
            let halves = linear(&backend, &x, &stacked, bias.as_deref());
            let expected: Vec<f64> = wide(&halves)
                .chunks_exact(2 * inter)
                .flat_map(|row| {
                    let (gate, up) = row.split_at(inter);
                    gate.iter().zip(up).map(|(g, u)| exact(activation, *g) * u).collect::<Vec<_>>()
                })
                .collect();
            let found = gated(&backend, &x, &alternating, bias_buffer.as_ref());
            assert_close(&found, &expected, 1e-5);
            // Alone, a row has the same bits.
            for (x, found) in x.chunks_exact(cols).zip(found.chunks_exact(inter)).take(5) {
                let alone = gated(&backend, x, &alternating, bias_buffer.as_ref());
                prop_assert!(bits(&alone) == bits(found));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_encoded_at_once_has_the_same_bits(
        rows in 0_usize..80,
        skipped in 0_usize..3,
        cols in 1_usize..150,
        inter in 1_usize..200,
        with_bias in any::<bool>(),
        activation in proptest::sample::select(vec![Activation::Silu, Activation::GeluTanh]),
        format in proptest::sample::select(&FORMATS[..]),
        next in proptest::sample::select(&FORMATS[..]),
        threads in 1_usize..4,
        seed in 0_u64..1000,
    ) {
        let [w, _] = pair(seed, inter, cols, 3.0, activation, format);
        let x = noise(seed + 2, (skipped + rows) * cols);
        let bias = with_bias.then(|| buffer(&noise(seed + 3, 2 * inter)));
        for backend in backends(threads) {
            let x = encoded(&backend, &x, cols, format.input());
            let range = skipped..skipped + rows;
            let mut between = unwritten(rows * inter);
            backend.linear_gated(&x, &w, bias.as_ref(), &mut between, range.clone()).unwrap();
            let expected = encoded(&backend, between.f32s().unwrap(), inter, next.input());
            let mut found = LinearInput::new(next.input(), inter, rows).unwrap();
            let outs = (&mut between, &mut found);
            backend.linear_gated_encoded(&x, &w, bias.as_ref(), outs, range).unwrap();
            let [expected, found] = [expected, found].map(|rows_of| {
                bits(rows_of.decode(rows).unwrap().f32s().unwrap())
            });
            prop_assert!(expected == found);
        }
    }
}

/// Rows of 1,024 numbers are stored a cache line further apart, and more than 96 rows are several tiles.
#[test]
fn wide_rows_are_encoded_at_once_as_afterwards() {
    let (cols, inter, skipped) = (40, 1024, 1);
    for format in [WeightFormat::Bf16, WeightFormat::INT8] {
        let [w, _] = pair(1, inter, cols, 2.0, Activation::Silu, format);
        for (rows, threads) in [(1, 1), (97, 3), (200, 1), (200, 3)] {
            for backend in backends(threads) {
                let x = noise(2, (skipped + rows) * cols);
                let x = encoded(&backend, &x, cols, format.input());
                let range = skipped..skipped + rows;
                let mut between = unwritten(rows * inter);
                backend
                    .linear_gated(&x, &w, None, &mut between, range.clone())
                    .unwrap();
                let values = between.f32s().unwrap().to_vec();
                for next in [InputFormat::Bf16, InputFormat::F32] {
                    let expected = encoded(&backend, &values, inter, next);
                    let mut found = LinearInput::new(next, inter, rows).unwrap();
                    let outs = (&mut between, &mut found);
                    backend
                        .linear_gated_encoded(&x, &w, None, outs, range.clone())
                        .unwrap();
                    let [expected, found] = [expected, found]
                        .map(|input| bits(input.decode(rows).unwrap().f32s().unwrap()));
                    assert!(expected == found, "{rows} rows, {format}, {next:?}");
                }
            }
        }
    }
}

#[test]
fn numbers_that_are_not_finite_are_encoded_at_once_as_afterwards() {
    let (rows, cols, inter) = (3, 4, 40);
    let [w, _] = pair(1, inter, cols, 1.0, Activation::Silu, WeightFormat::Bf16);
    // Of rows of infinities, and of numbers that are not, products are NaN; of large ones infinite.
    let x = [[f32::INFINITY; 4], [f32::NAN; 4], [3e38; 4]].concat();
    for backend in backends(2) {
        let x = encoded(&backend, &x, cols, InputFormat::Bf16);
        let mut between = unwritten(rows * inter);
        backend
            .linear_gated(&x, &w, None, &mut between, 0..rows)
            .unwrap();
        let expected = encoded(&backend, between.f32s().unwrap(), inter, InputFormat::Bf16);
        let mut found = LinearInput::new(InputFormat::Bf16, inter, rows).unwrap();
        let outs = (&mut between, &mut found);
        backend
            .linear_gated_encoded(&x, &w, None, outs, 0..rows)
            .unwrap();
        let [expected, found] =
            [expected, found].map(|numbers| bits(numbers.decode(rows).unwrap().f32s().unwrap()));
        assert_eq!(expected, found);
        assert!(found.iter().any(|bits| f32::from_bits(*bits).is_nan()));
    }
}

#[test]
fn it_equals_candle_nn() {
    let (rows, cols, inter) = (9, 64, 50);
    let x = noise(1, rows * cols);
    let [alternating, stacked] = pair(3, inter, cols, 3.0, Activation::Silu, WeightFormat::F32);
    for backend in backends(2) {
        let halves = linear(&backend, &x, &stacked, None);
        let halves = Tensor::from_slice(&halves, (rows, 2 * inter), &Device::Cpu).unwrap();
        let theirs = candle_nn::ops::swiglu(&halves)
            .unwrap()
            .flatten_all()
            .unwrap();
        let theirs = wide(&theirs.to_vec1::<f32>().unwrap());
        assert_close(&gated(&backend, &x, &alternating, None), &theirs, 1e-5);
    }
}

#[test]
fn a_gated_weight_holds_the_same_numbers() {
    for format in FORMATS {
        for inter in [1, 16, 37] {
            let [alternating, stacked] = pair(3, inter, 40, 1.0, Activation::Silu, format);
            assert_eq!(bits(&unpacked(&alternating)), bits(&unpacked(&stacked)));
        }
    }
}

#[test]
fn each_kind_of_weight_is_refused_by_the_other_operator() {
    let backend = Backend::cpu(1).unwrap();
    let [alternating, stacked] = pair(3, 5, 4, 1.0, Activation::Silu, WeightFormat::F32);
    let x = encoded(&backend, &noise(1, 4), 4, WeightFormat::F32.input());
    let (mut out, mut peaks) = (unwritten(10), unwritten(1));
    let refusals = [
        backend.linear(&x, &alternating, None, &mut out, 0..1),
        backend.linear_with_peaks(&x, &alternating, &mut out, &mut peaks, 0..1),
        backend.linear_gated(&x, &stacked, None, &mut out, 0..1),
    ];
    let expected = [
        "linear: `w` must be packed as it is, not gated, but is gated",
        "linear_with_peaks: `w` must be packed as it is, not gated, but is gated",
        "linear_gated: `w` must be packed as gated, but is not",
    ];
    assert_eq!(
        refusals.map(|refusal| refusal.unwrap_err().to_string()),
        expected
    );

    let bytes = [0; 24];
    let view = |rows| WeightView {
        dtype: maitre_tensor::DType::F32,
        rows,
        cols: 2,
        bytes: &bytes[..rows * 8],
    };
    let error = backend
        .pack_gated(view(3), view(2), Activation::Silu, WeightFormat::F32)
        .unwrap_err();
    let expected = "a gate needs as many output features as what it gates";
    assert!(error.to_string().ends_with(expected), "{error}");
}
