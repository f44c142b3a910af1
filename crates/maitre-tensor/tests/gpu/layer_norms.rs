//! Norms by mean and variance, sums, and activations without a gate.

use maitre_tensor::{Activation, Backend, InputFormat, LayerNorm};

use crate::{assert_close, backends, random, read};

fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|number| number.to_bits()).collect()
}

/// The residual stream and what is made of it.
fn layer_norm(
    backend: &Backend,
    [x, delta]: [&[f32]; 2],
    dim: usize,
    with: [bool; 2],
    format: InputFormat,
) -> [Vec<f32>; 2] {
    let rows = x.len() / dim;
    let mut residual = backend.vector(x).unwrap();
    let delta = backend.vector(delta).unwrap();
    let [weight, bias] = [3, 4].map(|seed| backend.vector(&random(seed, dim)).unwrap());
    let mut out = backend.linear_input(format, dim, rows + 1).unwrap();
    backend
        .layer_norm(LayerNorm {
            residual: &mut residual,
            delta: with[0].then_some(&delta),
            weight: &weight,
            bias: with[1].then_some(&bias),
            eps: 1e-5,
            out: &mut out,
            rows,
        })
        .unwrap();
    let out = backend.decode(&out, rows).unwrap();
    [read(backend, &residual), out.f32s().unwrap().to_vec()]
}

#[test]
fn norms_agree_with_the_processors_and_rows_are_independent() {
    let Some((cpu, gpu)) = backends() else { return };
    for (rows, dim) in [(1, 1), (3, 40), (5, 256), (2, 1000), (2, 8201)] {
        let [x, delta] = [1, 2].map(|seed| random(seed, rows * dim));
        for with in [[false, false], [true, false], [false, true], [true, true]] {
            for (format, tolerance) in [(InputFormat::F32, 1e-5), (InputFormat::Bf16, 1.0 / 128.0)]
            {
                let of = |backend, range: std::ops::Range<usize>| {
                    let cut = range.start * dim..range.end * dim;
                    layer_norm(backend, [&x[cut.clone()], &delta[cut]], dim, with, format)
                };
                let (expected, actual) = (of(&cpu, 0..rows), of(&gpu, 0..rows));
                assert_eq!(bits(&expected[0]), bits(&actual[0]));
                assert_close(&expected[1], &actual[1], tolerance);
                let alone: Vec<f32> = (0..rows)
                    .flat_map(|row| of(&gpu, row..row + 1)[1].clone())
                    .collect();
                assert_eq!(bits(&alone), bits(&actual[1]));
            }
        }
    }
}

#[test]
fn sums_are_the_processors() {
    let Some((cpu, gpu)) = backends() else { return };
    for len in [0, 1, 255, 1025] {
        let [expected, actual] = [&cpu, &gpu].map(|backend| {
            let mut sum = backend.vector(&random(1, len + 1)).unwrap();
            let delta = backend.vector(&random(2, len + 1)).unwrap();
            backend.add(&mut sum, &delta, len).unwrap();
            bits(&read(backend, &sum))
        });
        assert_eq!(expected, actual);
    }
}

#[test]
fn activations_agree_with_the_processors() {
    let Some((cpu, gpu)) = backends() else { return };
    for (rows, cols) in [(1, 1), (3, 40), (2, 300)] {
        let x: Vec<f32> = random(1, rows * cols).iter().map(|it| 5.0 * it).collect();
        for activation in [Activation::Silu, Activation::GeluTanh] {
            for (format, tolerance) in [(InputFormat::F32, 1e-5), (InputFormat::Bf16, 1.0 / 128.0)]
            {
                let [expected, actual] = [&cpu, &gpu].map(|backend| {
                    let x = backend.vector(&x).unwrap();
                    let mut out = backend.linear_input(format, cols, rows).unwrap();
                    backend.activate(&x, activation, &mut out, rows).unwrap();
                    let out = backend.decode(&out, rows).unwrap();
                    out.f32s().unwrap().to_vec()
                });
                assert_close(&expected, &actual, tolerance);
            }
        }
    }
}

#[test]
fn what_has_no_kernel_is_refused() {
    let Some((_, gpu)) = backends() else { return };
    let mut x = gpu.vector(&[1.0; 4]).unwrap();
    let refused = gpu.bound(&mut x, 30.0, 4).unwrap_err().to_string();
    assert_eq!(
        refused,
        "bound: the GPU has no kernel for numbers bounded by 30; use the processor"
    );
}
