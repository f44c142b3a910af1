//! Matrix products and embeddings: against double precision, against the processor, and against themselves.

use half::bf16;
use maitre_tensor::{
    Activation, Backend, Buffer, DType, InputFormat, LinearInput, PEAK_BLOCK, PackedWeight,
    TensorError, WeightFormat, WeightView,
};
use proptest::prelude::*;

use crate::{backends, emulated, generations, random, read};

/// Every way in which a GPU stores a weight.
const FORMATS: [WeightFormat; 6] = [
    WeightFormat::F32,
    WeightFormat::Bf16,
    WeightFormat::INT8,
    WeightFormat::INT4,
    WeightFormat::Int4 { group: 32 },
    WeightFormat::Int4 { group: 128 },
];

/// GPUs whose kernels for a format differ: bf16 has some of Hopper's alone.
fn gpus(format: WeightFormat, deterministic: bool) -> Vec<Backend> {
    let mut all = generations(deterministic);
    if format != WeightFormat::Bf16 {
        all.truncate(1);
    }
    all
}

fn f32_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|it| it.to_le_bytes()).collect()
}

/// A matrix of `[n, k]` random numbers; gated, of `[2n, k]`.
pub(super) fn weight(
    backend: &Backend,
    (n, k): (usize, usize),
    format: WeightFormat,
    gated: bool,
) -> PackedWeight {
    let bytes = [1, 2].map(|seed| f32_bytes(&random(seed, n * k)));
    let [first, second] = [0, 1].map(|i| WeightView {
        dtype: DType::F32,
        rows: n,
        cols: k,
        bytes: &bytes[i],
    });
    match gated {
        true => backend
            .pack_gated(first, second, Activation::Silu, format)
            .unwrap(),
        false => backend.pack(&[first], format).unwrap(),
    }
}

/// The numbers of a matrix, row by row.
pub(super) fn numbers(backend: &Backend, w: &PackedWeight) -> Vec<f32> {
    let rows: Vec<u32> = (0..w.rows() as u32).collect();
    let mut out = backend.zeros(DType::F32, w.rows() * w.cols()).unwrap();
    backend.embed(w, &rows, &mut out).unwrap();
    read(backend, &out)
}

/// Rows of `w.cols()` numbers in the form that `w` reads.
pub(super) fn input(backend: &Backend, x: &[f32], w: &PackedWeight) -> LinearInput {
    let rows = x.len() / w.cols();
    let mut out = backend.linear_input(w.input(), w.cols(), rows).unwrap();
    let x = backend.vector(x).unwrap();
    backend.encode(&x, &mut out, rows).unwrap();
    out
}

/// The product, gated if `w` is, of rows `rows` of `x`.
pub(super) fn product(
    backend: &Backend,
    x: &LinearInput,
    w: &PackedWeight,
    bias: Option<&Buffer>,
    rows: std::ops::Range<usize>,
) -> Vec<f32> {
    let n = w.rows() / if w.is_gated() { 2 } else { 1 };
    // Three more, to see that nothing is written there.
    let len = rows.len() * n;
    let mut out = backend.vector(&vec![7.0; len + 3]).unwrap();
    let result = match w.is_gated() {
        true => backend.linear_gated(x, w, bias, &mut out, rows),
        false => backend.linear(x, w, bias, &mut out, rows),
    };
    result.unwrap();
    let mut out = read(backend, &out);
    assert_eq!(out.split_off(len), [7.0; 3]);
    out
}

/// Each output in double precision, and the sum of the magnitudes that it is made of.
pub(super) fn reference(x: &[f32], w: &[f32], bias: &[f32], k: usize) -> Vec<(f64, f64)> {
    let output = |x: &[f32], w: &[f32], bias: f32| {
        let products = x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w));
        products.fold((bias.into(), f64::from(bias).abs()), |(sum, most), it| {
            (sum + it, most + it.abs())
        })
    };
    x.chunks_exact(k)
        .flat_map(|x| {
            let rows = w.chunks_exact(k).zip(bias);
            rows.map(move |(w, bias)| output(x, w, *bias))
        })
        .collect()
}

/// That a product of random rows, the first of them row `first` of its input, agrees with double precision.
#[track_caller]
pub(super) fn assert_exact(
    gpu: &Backend,
    (m, n, k): (usize, usize, usize),
    format: WeightFormat,
    [gated, with_bias]: [bool; 2],
    first: usize,
) {
    let w = weight(gpu, (n, k), format, gated);
    let x = input(gpu, &random(3, (first + m) * k), &w);
    let bias = random(4, w.rows());
    let bias_buffer = with_bias.then(|| gpu.vector(&bias).unwrap());
    let bias = if with_bias { bias } else { vec![0.0; w.rows()] };
    let actual = product(gpu, &x, &w, bias_buffer.as_ref(), first..first + m);
    let rows = gpu.decode(&x, first + m).unwrap();
    let rows = &rows.f32s().unwrap()[first * k..];
    let mut expected = reference(rows, &numbers(gpu, &w), &bias, k);
    if gated {
        expected = joined(&expected, n);
    }
    assert_eq!(actual.len(), expected.len());
    for (at, (actual, (value, magnitude))) in actual.iter().zip(expected).enumerate() {
        let error = (f64::from(*actual) - value).abs();
        assert!(
            error <= 1e-5 * magnitude,
            "[{m}, {n}, {k}]: number {at} is {actual}, not {value}"
        );
    }
}

/// Joins the halves of each row of `2n` as a gate does.
fn joined(both: &[(f64, f64)], n: usize) -> Vec<(f64, f64)> {
    both.chunks_exact(2 * n)
        .flat_map(|row| {
            let (gates, ups) = row.split_at(n);
            gates.iter().zip(ups).map(|((gate, a), (up, b))| {
                (gate / (1.0 + (-gate).exp()) * up, (1.0 + a) * (1.0 + b))
            })
        })
        .collect()
}

pub(super) fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|it| it.to_bits()).collect()
}

#[test]
fn packed_numbers_are_the_processors() {
    let Some((cpu, gpu)) = backends() else { return };
    for (n, k) in [(5, 3), (70, 33), (3, 300)] {
        let values = random(7, n * k);
        let halves = |to: fn(f32) -> u16| -> Vec<u8> {
            values.iter().flat_map(|it| to(*it).to_le_bytes()).collect()
        };
        let files = [
            (DType::F32, f32_bytes(&values)),
            (DType::Bf16, halves(|it| bf16::from_f32(it).to_bits())),
            (DType::F16, halves(|it| half::f16::from_f32(it).to_bits())),
        ];
        for (dtype, bytes) in &files {
            let view = WeightView {
                dtype: *dtype,
                rows: n,
                cols: k,
                bytes,
            };
            for format in FORMATS {
                let [stacked, expected] = [&gpu, &cpu].map(|it| {
                    let plain = it.pack(&[view, view], format).unwrap();
                    let gated = it.pack_gated(view, view, Activation::Silu, format).unwrap();
                    [numbers(it, &plain), numbers(it, &gated)].map(|it| bits(&it))
                });
                assert_eq!(stacked, expected, "{format} from {dtype}, [{n}, {k}]");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn products_agree_with_double_precision(
        (m, n, k) in (prop_oneof![0_usize..5, 5_usize..70], 1_usize..150, 1_usize..300),
        format in proptest::sample::select(&FORMATS[..]),
        (with_bias, gated, deterministic) in any::<(bool, bool, bool)>(),
        first in 0_usize..3,
    ) {
        for gpu in gpus(format, deterministic) {
            assert_exact(&gpu, (m, n, k), format, [gated, with_bias], first);
        }
    }
}

#[test]
fn products_of_floats_agree_with_the_processors() {
    let cpu = Backend::cpu(1).unwrap();
    for (m, n, k) in [(1, 20, 64), (19, 33, 129), (66, 70, 40)] {
        for format in [WeightFormat::F32, WeightFormat::Bf16] {
            for gated in [false, true] {
                let run = |it: &Backend| {
                    let w = weight(it, (n, k), format, gated);
                    let bias = it.vector(&random(4, w.rows())).unwrap();
                    let x = input(it, &random(3, m * k), &w);
                    product(it, &x, &w, Some(&bias), 0..m)
                };
                let expected = run(&cpu);
                for gpu in gpus(format, true) {
                    crate::assert_close(&expected, &run(&gpu), 1e-5);
                }
            }
        }
    }
}

#[test]
fn a_row_has_the_same_bits_in_any_company() {
    // Enough features for every tile on the emulator's eight multiprocessors.
    let (most, n, k) = (133, 1030, 150);
    let formats = FORMATS.map(|format| (format, gpus(format, true)));
    for (format, gpu) in formats
        .iter()
        .flat_map(|(format, gpus)| gpus.iter().map(|gpu| (*format, gpu)))
    {
        for gated in [false, true] {
            let n = if gated { 400 } else { n };
            let w = weight(gpu, (n, k), format, gated);
            let x = input(gpu, &random(5, most * k), &w);
            let together = bits(&product(gpu, &x, &w, None, 0..most));
            for rows in [0..1, 2..4, 5..21, 30..47, 60..125, 132..133] {
                let some = bits(&product(gpu, &x, &w, None, rows.clone()));
                let expected = &together[rows.start * n..rows.end * n];
                assert!(some == expected, "{format}, gated: {gated}, rows {rows:?}");
            }
            if !gated {
                // A narrow matrix has other tiles: the same features of it have the same bits.
                let narrow = weight(gpu, (40, k), format, false);
                for rows in [7..9, 60..107] {
                    let some = bits(&product(gpu, &x, &narrow, None, rows.clone()));
                    let all = together[rows.start * n..].chunks(n);
                    for (some, all) in some.chunks_exact(40).zip(all) {
                        assert!(some == &all[..40], "{format}, 40 features, rows {rows:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn what_is_not_finite_stays_in_its_row() {
    // Rows 1 and 2 share their lanes of a multiplication with rows 9 and 10.
    let (m, n, k) = (11, 40, 70);
    for (deterministic, format) in [true, false]
        .into_iter()
        .flat_map(|it| FORMATS.map(|format| (it, format)))
    {
        for gpu in gpus(format, deterministic) {
            for rows in [1, 2, 3, m] {
                let w = weight(&gpu, (n, k), format, true);
                let sound = random(6, rows * k);
                let mut spoiled = sound.clone();
                let bad = [(k + 3, f32::NAN), (2 * k + 69, f32::INFINITY)];
                for (at, value) in bad.into_iter().filter(|(at, _)| *at < rows * k) {
                    spoiled[at] = value;
                }
                let [sound, spoiled] = [sound, spoiled]
                    .map(|x| product(&gpu, &input(&gpu, &x, &w), &w, None, 0..rows));
                let mut spoiled_rows = spoiled.chunks_exact(n).skip(1);
                assert!(
                    spoiled_rows
                        .next()
                        .is_none_or(|row| row.iter().all(|it| it.is_nan()))
                );
                assert!(
                    spoiled_rows
                        .next()
                        .is_none_or(|row| row.iter().any(|it| !it.is_finite()))
                );
                assert_eq!(bits(&sound[..n]), bits(&spoiled[..n]));
                let behind = (3 * n).min(rows * n);
                assert_eq!(bits(&sound[behind..]), bits(&spoiled[behind..]));
            }
        }
    }
}

#[test]
fn peaks_are_the_largest_logits_of_their_blocks() {
    let Some(gpu) = emulated(true) else { return };
    let (m, n, k) = (5_usize, 200_usize, 8);
    let blocks = n.div_ceil(PEAK_BLOCK);
    // Weights that are a number each: a row of ones and zeros picks logits by hand.
    let mut values = vec![0.0; n * k];
    for (feature, row) in values.chunks_exact_mut(k).enumerate() {
        row[0] = (feature as f32 * 0.7).sin();
        row[1] = if feature == 70 { f32::INFINITY } else { 0.0 };
        row[2] = if feature == 199 {
            f32::NEG_INFINITY
        } else {
            0.0
        };
        row[3] = -1.0;
    }
    let bytes = f32_bytes(&values);
    let view = WeightView {
        dtype: DType::F32,
        rows: n,
        cols: k,
        bytes: &bytes,
    };
    let w = gpu.pack(&[view], WeightFormat::F32).unwrap();
    let mut x = vec![0.0; (m + 1) * k];
    for (row, col) in [(1, 0), (2, 3), (3, 1), (4, 2), (5, 0)] {
        x[row * k + col] = 1.0;
    }
    let x = input(&gpu, &x, &w);
    let mut out = gpu.vector(&vec![7.0; m * n]).unwrap();
    let mut peaks = gpu.vector(&vec![7.0; m * blocks + 1]).unwrap();
    gpu.linear_with_peaks(&x, &w, &mut out, &mut peaks, 1..1 + m)
        .unwrap();
    let (out, peaks) = (read(&gpu, &out), read(&gpu, &peaks));
    for (row, (logits, peaks)) in out.chunks_exact(n).zip(peaks.chunks(blocks)).enumerate() {
        for (logits, peak) in logits.chunks(PEAK_BLOCK).zip(peaks) {
            let largest = logits.iter().fold(f32::NEG_INFINITY, |a, b| a.max(*b));
            if logits.iter().all(|it| *it < f32::INFINITY) {
                assert_eq!(largest.to_bits(), peak.to_bits(), "row {row}");
            } else {
                assert!(peak.is_nan(), "row {row}");
            }
        }
    }
    // Zeros that meet an infinite weight are NaN: each row lacks the peak of block 1, and that of block 3
    // unless -inf is what it asks for.
    assert_eq!(peaks.iter().filter(|it| it.is_nan()).count(), 2 * m - 1);
    assert_eq!(peaks[m * blocks], 7.0);
}

#[track_caller]
fn refused<T>(result: Result<T, TensorError>, expected: &str) {
    let error = result.err().map(|it| it.to_string());
    assert_eq!(error.as_deref(), Some(expected));
}

#[test]
fn wrong_shapes_are_refused_in_the_processors_words() {
    let Some((cpu, gpu)) = backends() else { return };
    for b in [&cpu, &gpu] {
        let w = weight(b, (5, 4), WeightFormat::Bf16, false);
        let gated = weight(b, (5, 4), WeightFormat::Bf16, true);
        let f32s = weight(b, (5, 4), WeightFormat::F32, false);
        let x = b.linear_input(InputFormat::Bf16, 4, 3).unwrap();
        let zeros = |len| b.zeros(DType::F32, len).unwrap();
        let (mut out, mut peaks) = (zeros(15), zeros(3));
        refused(
            b.linear(&x, &w, None, &mut out, 1..4),
            "linear: `x` must be at least [4, 4] bf16 activations, but is [3, 4] bf16 activations",
        );
        refused(
            b.linear(&x, &f32s, None, &mut out, 0..1),
            "linear: `x` must be at least [1, 4] f32 activations, but is [3, 4] bf16 activations",
        );
        refused(
            b.linear(&x, &gated, None, &mut out, 0..1),
            "linear: `w` must be packed as it is, not gated, but is gated",
        );
        refused(
            b.linear_gated(&x, &w, None, &mut out, 0..1),
            "linear_gated: `w` must be packed as gated, but is not",
        );
        refused(
            b.linear(&x, &w, Some(&zeros(4)), &mut out, 0..1),
            "linear: `bias` must be 5 f32 elements, but is 4 f32 elements",
        );
        refused(
            b.linear_gated(&x, &gated, None, &mut zeros(9), 0..2),
            "linear_gated: `out` must be at least [2, 5] f32 elements, but is 9 f32 elements",
        );
        refused(
            b.linear_with_peaks(&x, &w, &mut out, &mut zeros(2), 0..3),
            "linear_with_peaks: `peaks` must be at least [3, 1] f32 elements, but is 2 f32 elements",
        );
        refused(
            b.embed(&w, &[0, 5], &mut out),
            "embed: `tokens`[1] is 5, but must be below 5",
        );
        refused(
            b.embed(&w, &[0; 4], &mut out),
            "embed: `out` must be at least [4, 4] f32 elements, but is 15 f32 elements",
        );
        b.linear_with_peaks(&x, &w, &mut out, &mut peaks, 3..3)
            .unwrap();
        b.embed(&w, &[], &mut out).unwrap();
        assert_eq!(read(b, &out), [0.0; 15]);
    }
}

#[test]
fn packing_refuses_what_cannot_be_stored() {
    let Some((cpu, gpu)) = backends() else { return };
    let mut values = random(1, 12);
    values[7] = f32::NAN;
    let bytes = f32_bytes(&values);
    let view = WeightView {
        dtype: DType::F32,
        rows: 3,
        cols: 4,
        bytes: &bytes,
    };
    for format in [WeightFormat::INT8, WeightFormat::INT4] {
        let [expected, actual] =
            [&cpu, &gpu].map(|it| it.pack(&[view, view], format).unwrap_err().to_string());
        assert_eq!(expected, actual);
    }
    refused(
        gpu.pack(&[view], WeightFormat::F16),
        "pack: the GPU has no kernel for f16 weights; use bf16 or f32",
    );
    let on_host = cpu.pack(&[view], WeightFormat::F32).unwrap();
    refused(
        gpu.embed(&on_host, &[0], &mut gpu.zeros(DType::F32, 4).unwrap()),
        "embed: `table` must be in GPU memory (made by the backend that runs the operator), but is in host memory",
    );
}
