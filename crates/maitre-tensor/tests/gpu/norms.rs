//! Norms of what a layer adds and of columns, scaling, and gates that are not SiLU.

use maitre_tensor::{
    Activation, AddNormed, Backend, DType, InputFormat, NormColumns, WeightFormat, WeightView,
};

use crate::linear::{input, numbers, product, reference};
use crate::{assert_close, backends, generations, random, read};

fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|number| number.to_bits()).collect()
}

/// The residual stream and what goes on, after a layer's result has been added.
fn add_normed(
    backend: &Backend,
    [x, delta]: [&[f32]; 2],
    dim: usize,
    with_before: bool,
    format: InputFormat,
) -> [Vec<f32>; 2] {
    let rows = x.len() / dim;
    let mut residual = backend.vector(x).unwrap();
    let delta = backend.vector(delta).unwrap();
    let [after, before] = [3, 4].map(|seed| backend.vector(&random(seed, dim)).unwrap());
    let mut out = backend.linear_input(format, dim, rows + 1).unwrap();
    backend
        .add_normed(AddNormed {
            residual: &mut residual,
            delta: &delta,
            after: &after,
            before: with_before.then_some(&before),
            eps: 1e-5,
            out: &mut out,
            rows,
        })
        .unwrap();
    let out = backend.decode(&out, rows).unwrap();
    [read(backend, &residual), out.f32s().unwrap().to_vec()]
}

#[test]
fn normed_sums_agree_with_the_processors_and_rows_are_independent() {
    let Some((cpu, gpu)) = backends() else { return };
    for (rows, dim) in [(1, 1), (3, 40), (5, 256), (2, 1000), (2, 8201)] {
        let [x, delta] = [1, 2].map(|seed| random(seed, rows * dim));
        for with_before in [false, true] {
            for (format, tolerance) in [(InputFormat::F32, 1e-5), (InputFormat::Bf16, 1.0 / 128.0)]
            {
                let of = |backend, range: std::ops::Range<usize>| {
                    let cut = range.start * dim..range.end * dim;
                    add_normed(
                        backend,
                        [&x[cut.clone()], &delta[cut]],
                        dim,
                        with_before,
                        format,
                    )
                };
                let (expected, actual) = (of(&cpu, 0..rows), of(&gpu, 0..rows));
                assert_close(&expected[0], &actual[0], 1e-5);
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
fn normed_columns_agree_with_the_processors() {
    let Some((cpu, gpu)) = backends() else { return };
    for (rows, left, dim, right) in [
        (1, 0, 1, 0),
        (4, 3, 40, 5),
        (2, 48, 24, 24),
        (2, 7, 8300, 1),
    ] {
        let width = left + dim + right;
        let (x, weight) = (random(1, rows * width), random(2, dim));
        let [expected, actual] = [&cpu, &gpu].map(|backend| {
            let mut x = backend.vector(&x).unwrap();
            let weight = backend.vector(&weight).unwrap();
            let columns = NormColumns {
                width,
                first: left,
                weight: &weight,
                eps: 1e-5,
            };
            backend.rms_norm_columns(&mut x, columns, rows).unwrap();
            read(backend, &x)
        });
        assert_close(&expected, &actual, 1e-5);
        for (expected, actual) in expected.chunks_exact(width).zip(actual.chunks_exact(width)) {
            assert_eq!(expected[..left], actual[..left]);
            assert_eq!(expected[left + dim..], actual[left + dim..]);
        }
    }
    let refused = [&cpu, &gpu].map(|backend| {
        let mut x = backend.vector(&[0.0; 14]).unwrap();
        let weight = backend.vector(&[1.0; 5]).unwrap();
        let columns = NormColumns {
            width: 7,
            first: 3,
            weight: &weight,
            eps: 1e-5,
        };
        backend
            .rms_norm_columns(&mut x, columns, 2)
            .unwrap_err()
            .to_string()
    });
    assert_eq!(refused[0], refused[1]);
}

#[test]
fn scaling_is_one_product() {
    let Some((cpu, gpu)) = backends() else { return };
    for len in [0, 1, 255, 1025] {
        let [expected, actual] = [&cpu, &gpu].map(|backend| {
            let mut x = backend.vector(&random(1, len + 1)).unwrap();
            backend.scale(&mut x, 5.6, len).unwrap();
            bits(&read(backend, &x))
        });
        assert_eq!(expected, actual);
    }
}

/// GELU in double precision.
fn gelu(x: f64) -> f64 {
    let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
    x / 2.0 * (1.0 + inner.tanh())
}

#[test]
fn gates_open_by_gelu_in_every_kernel() {
    let (n, k) = (80, 96);
    let bytes = [1, 2].map(|seed| -> Vec<u8> {
        random(seed, n * k)
            .iter()
            .flat_map(|it| it.to_le_bytes())
            .collect()
    });
    let view = |bytes| WeightView {
        dtype: DType::F32,
        rows: n,
        cols: k,
        bytes,
    };
    for deterministic in [true, false] {
        for gpu in generations(deterministic) {
            for format in [
                WeightFormat::F32,
                WeightFormat::Bf16,
                WeightFormat::INT8,
                WeightFormat::INT4,
            ] {
                let w = gpu
                    .pack_gated(
                        view(&bytes[0]),
                        view(&bytes[1]),
                        Activation::GeluTanh,
                        format,
                    )
                    .unwrap();
                let bias = random(4, 2 * n);
                let bias_buffer = gpu.vector(&bias).unwrap();
                for m in [1, 3, 40] {
                    let x = input(&gpu, &random(3, m * k), &w);
                    let rows = gpu.decode(&x, m).unwrap();
                    let halves = reference(rows.f32s().unwrap(), &numbers(&gpu, &w), &bias, k);
                    let expected: Vec<f32> = halves
                        .chunks_exact(2 * n)
                        .flat_map(|row| {
                            let (gates, ups) = row.split_at(n);
                            gates
                                .iter()
                                .zip(ups)
                                .map(|(gate, up)| (gelu(gate.0) * up.0) as f32)
                        })
                        .collect();
                    let actual = product(&gpu, &x, &w, Some(&bias_buffer), 0..m);
                    assert_close(&expected, &actual, 2e-5);
                }
            }
        }
    }
}
