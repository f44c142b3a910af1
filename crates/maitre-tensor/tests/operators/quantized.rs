//! What rounding to integers costs, and what groups buy.

use maitre_tensor::WeightFormat;

use crate::numbers::{backends, linear, noise, packed};

/// Numbers that are nearly normally distributed, with deviation 1.
fn normal(seed: u64, len: usize) -> Vec<f32> {
    let uniform = noise(seed, len * 12);
    // Twelve uniform numbers on (-1, 1) have variance 4 together.
    uniform
        .chunks_exact(12)
        .map(|chunk| chunk.iter().sum::<f32>() / 2.0)
        .collect()
}

/// The error of a product in `format`, as a share of its size (root mean squares).
fn relative_error(x: &[f32], w: &[f32], cols: usize, format: WeightFormat) -> f64 {
    let exact = |x: &[f32]| -> Vec<f64> {
        let products = |w: &[f32]| -> f64 {
            x.iter()
                .zip(w)
                .map(|(x, w)| f64::from(*x) * f64::from(*w))
                .sum()
        };
        w.chunks_exact(cols).map(products).collect()
    };
    let expected: Vec<f64> = x.chunks_exact(cols).flat_map(exact).collect();
    let packed = packed(w, cols, format);
    let found = linear(&backends(2)[0], x, &packed, None);
    let square_sum = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>();
    let errors = square_sum(&mut found.iter().zip(&expected).map(|(a, b)| f64::from(*a) - b));
    (errors / square_sum(&mut expected.iter().copied())).sqrt()
}

#[test]
fn errors_are_those_that_the_step_sizes_predict() {
    let (rows, cols, features) = (16, 1024, 64);
    let (x, w) = (normal(1, rows * cols), normal(2, features * cols));
    // A largest magnitude of about 3.2 deviations over 127 steps, uniform error within a step, for
    // weights and activations; int4: about 4.4 deviations over 15 steps.
    let int8 = relative_error(&x, &w, cols, WeightFormat::INT8);
    assert!((0.008..0.013).contains(&int8), "{int8}");
    let int4 = relative_error(&x, &w, cols, WeightFormat::INT4);
    assert!((0.06..0.11).contains(&int4), "{int4}");
    let finer = relative_error(&x, &w, cols, WeightFormat::Int4 { group: 32 });
    assert!(
        finer < 0.95 * int4,
        "{finer} with groups of 32, {int4} with groups of 64"
    );
}

#[test]
fn groups_contain_outliers() {
    let (rows, cols, features) = (16, 2048, 64);
    let mut x = normal(1, rows * cols);
    // One channel in a hundred is fifty times as large; such channels meet small weights.
    let mut w = normal(2, features * cols);
    for col in (7..cols).step_by(100) {
        x.iter_mut()
            .skip(col)
            .step_by(cols)
            .for_each(|value| *value *= 50.0);
        w.iter_mut()
            .skip(col)
            .step_by(cols)
            .for_each(|value| *value /= 50.0);
    }
    let error = |group| {
        let format = WeightFormat::Int8 {
            activation_group: group,
        };
        relative_error(&x, &w, cols, format)
    };
    let (whole, groups) = (error(None), error(Some(32)));
    println!("int8 with outliers: {whole:.4} per token, {groups:.4} per group of 32");
    assert!(whole > 0.1, "one scale per token suffers: {whole}");
    assert!(
        groups < 0.7 * whole,
        "groups help: {groups} against {whole}"
    );
}
