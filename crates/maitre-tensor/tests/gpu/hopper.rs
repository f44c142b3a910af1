//! Products by the kernels of `cuda/linear_hopper.cu`, whose edges are those of boxes, and what others do in their
//! place.

use maitre_tensor::{Backend, LinearInput, PackedWeight, WeightFormat};

use crate::linear::{assert_exact, bits, input, product, weight};
use crate::{generations, random};

const BF16: WeightFormat = WeightFormat::Bf16;

/// All tiles, by the numbers of rows and features, each with more steps than it has stages and with an end within a
/// box in all directions. `ops/linear_hopper.rs` has a test that these are all.
#[test]
fn a_row_has_the_same_bits_in_every_tile() {
    let gpus = generations(true);
    let Some(gpu) = gpus.first() else { return };
    let (most, k, first) = (300, 1_130, 3);
    let x = random(5, (first + most) * k);
    for (gated, features) in [
        (false, [70, 150, 220, 300, 450, 540, 700, 770]),
        (true, [40, 72, 112, 152, 224, 272, 352, 392]),
    ] {
        let mut together: Vec<Vec<u32>> = Vec::new();
        for (rows, n) in [133, 133, 133, 133, 133, 133, 300, 200]
            .into_iter()
            .zip(features)
        {
            let w = weight(gpu, (n, k), BF16, gated);
            let x = input(gpu, &x, &w);
            let all = bits(&product(gpu, &x, &w, None, first..first + rows));
            let rows: Vec<Vec<u32>> = all.chunks_exact(n).map(<[u32]>::to_vec).collect();
            for (row, (wider, narrower)) in rows.iter().zip(&together).enumerate() {
                let same = &wider[..narrower.len()] == narrower;
                assert!(same, "gated: {gated}, row {row} of {n}");
            }
            if together.is_empty() {
                // Tiles for few rows.
                for some in [0..8, 5..17, 3..27, 20..71, 132..133] {
                    let alone = product(gpu, &x, &w, None, first + some.start..first + some.end);
                    let alone = bits(&alone);
                    assert!(
                        alone == rows[some.clone()].concat(),
                        "gated: {gated}, rows {some:?}"
                    );
                }
            }
            together = rows;
        }
    }
}

#[test]
fn ends_within_boxes_are_met() {
    for gpu in generations(true) {
        for (m, n, k) in [
            (1, 1, 1),
            (3, 9, 70),
            (9, 64, 64),
            (17, 72, 129),
            (33, 24, 1_100),
            (66, 200, 63),
            (70, 12, 200),
        ] {
            for (with_bias, first) in [(true, 5), (false, 0)] {
                assert_exact(&gpu, (m, n, k), BF16, [false, with_bias], first);
                // Gates come eight at a time, or other kernels multiply.
                assert_exact(&gpu, (m, n, k), BF16, [true, with_bias], first);
            }
        }
    }
}

/// `linear_gated`, and then `encode`.
fn in_two_steps(
    gpu: &Backend,
    x: &LinearInput,
    w: &PackedWeight,
    out: &mut LinearInput,
    rows: std::ops::Range<usize>,
) {
    let bias = gpu.vector(&random(4, w.rows())).unwrap();
    let mut between = gpu.vector(&vec![7.0; rows.len() * w.rows() / 2]).unwrap();
    let count = rows.len();
    gpu.linear_gated(x, w, Some(&bias), &mut between, rows)
        .unwrap();
    gpu.encode(&between, out, count).unwrap();
}

fn at_once(
    gpu: &Backend,
    x: &LinearInput,
    w: &PackedWeight,
    out: &mut LinearInput,
    rows: std::ops::Range<usize>,
) {
    let bias = gpu.vector(&random(4, w.rows())).unwrap();
    let mut between = gpu.vector(&vec![7.0; rows.len() * w.rows() / 2]).unwrap();
    gpu.linear_gated_encoded(x, w, Some(&bias), (&mut between, out), rows)
        .unwrap();
}

#[test]
fn a_gated_product_may_be_encoded_at_once() {
    let mut backends = vec![Backend::cpu(1).unwrap()];
    backends.extend(generations(true));
    backends.extend(generations(false));
    for gpu in &backends {
        for (format, next) in [
            (BF16, BF16),
            (BF16, WeightFormat::INT8),
            (BF16, WeightFormat::F32),
            (WeightFormat::INT8, BF16),
            (WeightFormat::INT8, WeightFormat::INT8),
        ] {
            for (m, n, k) in [(1, 8, 64), (5, 12, 70), (13, 72, 40), (70, 200, 100)] {
                let first = 2;
                let w = weight(gpu, (n, k), format, true);
                let x = input(gpu, &random(3, (first + m) * k), &w);
                let next_w = weight(gpu, (16, n), next, false);
                // What rows held before must go, and rows behind must stay.
                let before = gpu.vector(&random(8, (m + 2) * n)).unwrap();
                let [expected, actual] = [in_two_steps, at_once].map(|run| {
                    let mut out = gpu.linear_input(next_w.input(), n, m + 2).unwrap();
                    gpu.encode(&before, &mut out, m + 2).unwrap();
                    run(gpu, &x, &w, &mut out, first..first + m);
                    let rows = gpu.decode(&out, m + 2).unwrap();
                    let rows = bits(rows.f32s().unwrap());
                    // All of it is what the next matrix reads, also what pads a row.
                    let result = product(gpu, &out, &next_w, None, 0..m + 2);
                    [rows, bits(&result)].concat()
                });
                let on = gpu.gpu_info().map(|info| info.capability);
                assert!(
                    expected == actual,
                    "{format} before {next}, [{m}, {n}, {k}] on {on:?}"
                );
            }
        }
    }
}
