//! Norms of what a layer adds and of columns, and scaling, against double precision.

use maitre_tensor::{AddNormed, InputFormat, LinearInput, NormColumns};
use proptest::prelude::*;

use crate::numbers::{
    FORMATS, assert_close, backends, bits, buffer, decoded, encoded, noise, wide,
};
use crate::rows::rms_norm;

const EPS: f32 = 1e-6;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_is_added_is_normed_first(
        rows in 0_usize..30,
        dim in 1_usize..700,
        threads in 1_usize..4,
        with_before in any::<bool>(),
        seed in 0_u64..1000,
    ) {
        let (x, delta) = (noise(seed, rows * dim), noise(seed + 1, rows * dim));
        let (after, before) = (noise(seed + 2, dim), noise(seed + 3, dim));
        let normed = rms_norm(&wide(&delta), &wide(&after), EPS.into());
        let sums: Vec<f64> = x.iter().zip(&normed).map(|(x, it)| f64::from(*x) + it).collect();
        for backend in backends(threads) {
            let mut residual = buffer(&x);
            let mut out = LinearInput::new(InputFormat::F32, dim, rows).unwrap();
            let before = with_before.then(|| buffer(&before));
            backend
                .add_normed(AddNormed {
                    residual: &mut residual,
                    delta: &buffer(&delta),
                    after: &buffer(&after),
                    before: before.as_ref(),
                    eps: EPS,
                    out: &mut out,
                    rows,
                })
                .unwrap();
            let residual = residual.f32s().unwrap();
            assert_close(residual, &sums, 1e-5);
            let found = decoded(&out, rows);
            match before {
                None => prop_assert!(bits(&found) == bits(residual)),
                Some(before) => {
                    let weight = wide(before.f32s().unwrap());
                    assert_close(&found, &rms_norm(&wide(residual), &weight, EPS.into()), 1e-5);
                }
            }
        }
    }

    #[test]
    fn the_sum_goes_on_in_the_form_of_the_next_matrix(
        rows in 1_usize..9,
        dim in 1_usize..200,
        format in proptest::sample::select(&FORMATS[..]),
        seed in 0_u64..1000,
    ) {
        let form = format.input();
        let (x, delta, after) = (noise(seed, rows * dim), noise(seed + 1, rows * dim), noise(seed + 2, dim));
        for backend in backends(2) {
            let mut residual = buffer(&x);
            let mut out = LinearInput::new(form, dim, rows).unwrap();
            backend
                .add_normed(AddNormed {
                    residual: &mut residual,
                    delta: &buffer(&delta),
                    after: &buffer(&after),
                    before: None,
                    eps: EPS,
                    out: &mut out,
                    rows,
                })
                .unwrap();
            let then_encoded = encoded(&backend, residual.f32s().unwrap(), dim, form);
            prop_assert!(bits(&decoded(&out, rows)) == bits(&decoded(&then_encoded, rows)));
        }
    }

    #[test]
    fn columns_are_one_vector_and_the_others_stay(
        rows in 0_usize..20,
        [left, dim, right] in [0_usize..40, 1..300, 0..40],
        threads in 1_usize..4,
        seed in 0_u64..1000,
    ) {
        let width = left + dim + right;
        let (x, weight) = (noise(seed, rows * width), noise(seed + 1, dim));
        for backend in backends(threads) {
            let mut found = buffer(&x);
            let columns = NormColumns { width, first: left, weight: &buffer(&weight), eps: EPS };
            backend.rms_norm_columns(&mut found, columns, rows).unwrap();
            let found = found.f32s().unwrap();
            for (found, x) in found.chunks_exact(width).zip(x.chunks_exact(width)) {
                let expected = rms_norm(&wide(&x[left..left + dim]), &wide(&weight), EPS.into());
                assert_close(&found[left..left + dim], &expected, 1e-5);
                prop_assert_eq!(&found[..left], &x[..left]);
                prop_assert_eq!(&found[left + dim..], &x[left + dim..]);
            }
        }
    }

    #[test]
    fn scaling_is_one_product(len in 0_usize..50_000, factor in -9.0_f32..9.0) {
        let mut x = noise(3, len);
        x.push(5.0);
        for backend in backends(3) {
            let mut scaled = buffer(&x);
            backend.scale(&mut scaled, factor, len).unwrap();
            let mut expected: Vec<f32> = x.iter().map(|x| x * factor).collect();
            expected[len] = 5.0;
            prop_assert!(bits(scaled.f32s().unwrap()) == bits(&expected));
        }
    }
}

#[test]
fn columns_beyond_a_row_are_refused() {
    for backend in backends(1) {
        let weight = buffer(&[1.0; 5]);
        let columns = NormColumns {
            width: 7,
            first: 3,
            weight: &weight,
            eps: EPS,
        };
        let refused = backend.rms_norm_columns(&mut buffer(&[0.0; 14]), columns, 2);
        assert_eq!(
            refused.unwrap_err().to_string(),
            "rms_norm_columns: `width` must be at least 8, where the last column ends, but is 7"
        );
    }
}
