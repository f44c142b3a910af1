//! Normalisation, gathering, encoding.

use maitre_tensor::InputFormat;

use crate::{assert_close, backends, random, read};

#[test]
fn norms_agree_with_the_processors() {
    let Some((cpu, gpu)) = backends() else { return };
    for (rows, dim) in [(1, 1), (3, 40), (5, 256), (2, 1000)] {
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
