//! Normalisation, gathering, encoding.

use maitre_tensor::{Backend, InputFormat, LinearInput};

use crate::{assert_close, backends, random, read};

#[test]
fn norms_agree_with_the_processors() {
    let Some((cpu, gpu)) = backends() else { return };
    // Threads hold rows of up to 8,192 numbers.
    for (rows, dim) in [(1, 1), (3, 40), (5, 256), (2, 1000), (2, 8192), (2, 8201)] {
        let (x, delta) = (random(1, rows * dim), random(2, rows * dim));
        let weight = random(3, dim);
        for (format, tolerance) in [(InputFormat::F32, 1e-6), (InputFormat::Bf16, 1.0 / 128.0)] {
            let [mut expected, mut actual] = [&cpu, &gpu].map(|backend| {
                let mut residual = backend.vector(&x).unwrap();
                let delta = backend.vector(&delta).unwrap();
                let weight = backend.vector(&weight).unwrap();
                let mut out = backend.linear_input(format, dim, rows + 1).unwrap();
                backend
                    .add_rms_norm(&mut residual, &delta, &weight, 1e-5, &mut out, rows)
                    .unwrap();
                let normed = backend.decode(&out, rows).unwrap();
                vec![read(backend, &residual), normed.f32s().unwrap().to_vec()]
            });
            assert_eq!(expected.remove(0), actual.remove(0));
            assert_close(&expected[0], &actual[0], tolerance);
        }
    }
}

const FORMATS: [InputFormat; 2] = [InputFormat::F32, InputFormat::Bf16];

fn decoded(backend: &Backend, input: &LinearInput, rows: usize) -> Vec<f32> {
    let decoded = backend.decode(input, rows).unwrap();
    decoded.f32s().unwrap().to_vec()
}

fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|number| number.to_bits()).collect()
}

#[test]
fn a_normed_row_does_not_depend_on_the_others() {
    let Some((_, gpu)) = backends() else { return };
    let (rows, dim) = (6, 333);
    let (x, weight) = (random(1, rows * dim), gpu.vector(&random(3, dim)).unwrap());
    for format in FORMATS {
        let norm = |x: &[f32]| {
            let (rows, x) = (x.len() / dim, gpu.vector(x).unwrap());
            let mut out = gpu.linear_input(format, dim, rows).unwrap();
            gpu.rms_norm(&x, &weight, 1e-5, &mut out, rows).unwrap();
            assert_eq!(read(&gpu, &x).len(), rows * dim);
            bits(&decoded(&gpu, &out, rows))
        };
        let one_by_one: Vec<u32> = x.chunks(dim).flat_map(norm).collect();
        assert_eq!(norm(&x), one_by_one, "{format}");
    }
}

#[test]
fn rows_are_gathered_as_they_are() {
    let Some((cpu, gpu)) = backends() else { return };
    let shapes = [
        (1, vec![2]),
        (37, vec![]),
        (300, vec![4, 0, 4, 1, 2]),
        (1028, vec![3, 4]),
        (2049, vec![1, 0]),
    ];
    for (dim, rows) in shapes {
        let mut x = random(9, 5 * dim);
        x[2 * dim] = f32::NAN;
        let [expected, actual] = [&cpu, &gpu].map(|backend| {
            let x = backend.vector(&x).unwrap();
            let mut out = backend.vector(&vec![7.0; 6 * dim]).unwrap();
            backend.gather_rows(&x, dim, &rows, &mut out).unwrap();
            bits(&read(backend, &out))
        });
        assert_eq!(expected, actual);
    }
}

#[test]
fn rows_are_rounded_as_the_processor_rounds_them() {
    let Some((cpu, gpu)) = backends() else { return };
    for (cols, format) in [1, 40, 301, 1028, 2049]
        .into_iter()
        .flat_map(|c| FORMATS.map(|f| (c, f)))
    {
        let mut x = random(4, 3 * cols);
        x[cols] = f32::INFINITY;
        x[cols / 2] = 1.0 + 1.0 / 256.0;
        let [expected, actual] = [&cpu, &gpu].map(|backend| {
            let x = backend.vector(&x).unwrap();
            let mut out = backend.linear_input(format, cols, 4).unwrap();
            backend.encode(&x, &mut out, 3).unwrap();
            bits(&decoded(backend, &out, 4))
        });
        assert_eq!(expected, actual, "{cols} {format}");
    }
}

#[test]
fn what_the_processor_refuses_is_refused_in_the_same_words() {
    let Some((cpu, gpu)) = backends() else { return };
    let messages = [&cpu, &gpu].map(|backend| {
        let x = backend.vector(&random(1, 40)).unwrap();
        let (none, weight) = (
            backend.vector(&[]).unwrap(),
            backend.vector(&[1.0; 10]).unwrap(),
        );
        let mut out = backend.vector(&[0.0; 40]).unwrap();
        let input = |cols, rows| backend.linear_input(InputFormat::Bf16, cols, rows).unwrap();
        let results = [
            backend.gather_rows(&x, 0, &[1], &mut out),
            backend.gather_rows(&x, 10, &[1, 4], &mut out),
            backend.gather_rows(&x, 10, &[1; 5], &mut out),
            backend.encode(&x, &mut input(0, 4), 4),
            backend.encode(&x, &mut input(10, 4), 5),
            backend.encode(&x, &mut input(10, 3), 4),
            backend.rms_norm(&x, &none, 1e-5, &mut input(10, 4), 4),
            backend.rms_norm(&x, &weight, 1e-5, &mut input(9, 4), 4),
            backend.rms_norm(&x, &weight, 1e-5, &mut input(10, 5), 5),
            backend.add_rms_norm(&mut out, &weight, &weight, 1e-5, &mut input(10, 4), 4),
        ];
        results.map(|result| result.unwrap_err().to_string())
    });
    assert_eq!(messages[0], messages[1]);
}
