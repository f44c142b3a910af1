//! Products of the sizes of Qwen3-8B, alone.
//!
//! They go through several equal matrices in turn, together [`BEYOND_CACHE`] bytes or more: a step reads each matrix once,
//! from memory, and a matrix that is read again and again would come from the second-level cache (50 MB on an H200).

use anyhow::Result;
use maitre_tensor::WeightFormat;
use maitre_tensor::{Activation, Backend, DType, InputFormat, PackedWeight, StepLists, WeightView};

use super::Mode;
use super::operators::{MOST_S, TIMES, of_rows, time_together};
use crate::item::{Item, Outcome, Timed, Unit, figures};
use crate::numbers::random;
use crate::site::Site;
use crate::{Options, ShapeChoice};

/// Bytes of the matrices that a product goes through in turn.
const BEYOND_CACHE: f64 = 256e6;

/// Rows of a matrix that are made up; the others are the same again.
const ROWS: usize = 8;

/// Of `[outputs, inputs]`; a gated one has as many gates beside.
#[derive(Debug, Clone, Copy)]
struct Matrix {
    outputs: usize,
    inputs: usize,
    is_gated: bool,
}

const fn plain(outputs: usize, inputs: usize) -> Matrix {
    Matrix {
        outputs,
        inputs,
        is_gated: false,
    }
}

/// Queries, keys and values; what attention found; gates; the way back; logits.
const LARGE: [Matrix; 5] = [
    plain(6144, 4096),
    plain(4096, 4096),
    Matrix {
        is_gated: true,
        ..plain(12_288, 4096)
    },
    plain(4096, 12_288),
    plain(151_936, 4096),
];

const TINY: [Matrix; 2] = [
    plain(64, 32),
    Matrix {
        is_gated: true,
        ..plain(64, 32)
    },
];

pub(super) fn list(options: &Options, items: &mut Vec<Item>) {
    let is_tiny = options.shape == ShapeChoice::Tiny;
    let (matrices, all_rows): (&[Matrix], &[usize]) = match is_tiny {
        true => (&TINY, &[1, 18]),
        false => (&LARGE, &[1, 16, 64, 256, 2048]),
    };
    for &matrix in matrices {
        // One matrix after the other: the last one packed is kept.
        for &rows in all_rows {
            for mode in Mode::BOTH {
                product(matrix, WeightFormat::Bf16, rows, mode, items);
            }
        }
        for format in [WeightFormat::INT8, WeightFormat::INT4] {
            for mode in Mode::BOTH {
                product(matrix, format, 1, mode, items);
            }
        }
    }
}

fn product(matrix: Matrix, format: WeightFormat, rows: usize, mode: Mode, items: &mut Vec<Item>) {
    let Matrix {
        outputs, inputs, ..
    } = matrix;
    let (name, mode_name) = (
        if matrix.is_gated { "gated" } else { "linear" },
        mode.name(),
    );
    let said = of_rows(rows);
    items.push(
        Item::speed(
            format!("{name}_{outputs}x{inputs}_{format}_{rows}r_{mode_name}"),
            format!("{name} {outputs} x {inputs} {format}, {said}, {mode_name}"),
            move |site| time_product(site, matrix, format, rows, mode),
        )
        .within(MOST_S),
    );
}

fn time_product(
    site: &mut Site,
    matrix: Matrix,
    format: WeightFormat,
    rows: usize,
    mode: Mode,
) -> Result<Outcome> {
    let Matrix {
        outputs: n,
        inputs: k,
        is_gated,
    } = matrix;
    let features = if is_gated { 2 * n } else { n };
    let bytes = (features * k) as f64 * format.bits_per_weight() / 8.0;
    let count = match site.sizes.are_small {
        true => 2,
        false => (BEYOND_CACHE / bytes).ceil() as usize,
    };
    let weights = site.matrices((n, k, is_gated, format), |backend| {
        (0..count).map(|_| pack(backend, matrix, format)).collect()
    })?;
    let backend = site.backend(mode.is_deterministic());
    let first = weights
        .first()
        .map_or(InputFormat::Bf16, PackedWeight::input);
    let mut x = backend.linear_input(first, k, rows)?;
    backend.encode(&backend.vector(&random(93, rows * k))?, &mut x, rows)?;
    let mut out = backend.zeros(DType::F32, rows * n)?;
    let seconds = time_together(backend, StepLists::default(), || {
        for weight in weights.iter().cycle().take(TIMES) {
            match is_gated {
                true => backend.linear_gated(&x, weight, None, &mut out, 0..rows)?,
                false => backend.linear(&x, weight, None, &mut out, 0..rows)?,
            }
        }
        Ok(())
    })? / TIMES as f64;
    let moved = bytes + (rows * (2 * k + 4 * n)) as f64;
    let flop = 2.0 * (rows * features * k) as f64;
    let mut timed = Timed::new(Unit::Microseconds, seconds * 1e6);
    timed.predicted = site.rates().map(|rates| rates.of_kernel(moved, flop) * 1e6);
    timed.figures = figures([
        ("matrices_in_turn", count as f64),
        ("matrix_bytes", bytes),
        ("launches", TIMES as f64),
        ("gigabytes_per_s", moved / seconds / 1e9),
        ("teraflops_per_s", flop / seconds / 1e12),
    ]);
    if rows == 1 && mode == Mode::Strict && !site.sizes.are_small {
        let megabytes = count as f64 * bytes / 1e6;
        timed.note = Some(format!("{count} matrices in turn, {megabytes:.0} MB"));
    }
    Ok(timed.into())
}

fn pack(backend: &Backend, matrix: Matrix, format: WeightFormat) -> Result<PackedWeight> {
    let Matrix {
        outputs: rows,
        inputs: cols,
        is_gated,
    } = matrix;
    let halves = random(94, ROWS * cols).into_iter().flat_map(|it| {
        // The upper half of an f32 is a bf16.
        let [_, _, low, high] = it.to_le_bytes();
        [low, high]
    });
    let bytes = halves.collect::<Vec<u8>>().repeat(rows / ROWS);
    let view = || WeightView {
        dtype: DType::Bf16,
        rows,
        cols,
        bytes: &bytes,
    };
    Ok(match is_gated {
        true => backend.pack_gated(view(), view(), Activation::Silu, format)?,
        false => backend.pack(&[view()], format)?,
    })
}
