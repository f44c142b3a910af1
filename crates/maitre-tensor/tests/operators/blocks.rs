//! Stored blocks: products are those of the numbers that the file has, on every path, whatever runs beside them.

use maitre_tensor::{
    Activation, Backend, BlockFormat, BlocksView, PackedWeight, TensorError, WeightFormat,
};

use crate::numbers::{
    assert_close, backends, bits, buffer, decoded, encoded, linear, noise, unpacked, unwritten,
};

/// Where a block of the format has scales and minimums of 16 bits.
fn heads(format: BlockFormat) -> &'static [usize] {
    match format {
        BlockFormat::Q4_1 | BlockFormat::Q5_1 | BlockFormat::Q4K | BlockFormat::Q5K => &[0, 2],
        BlockFormat::Q2K => &[80, 82],
        BlockFormat::Q3K => &[108],
        BlockFormat::Q6K => &[208],
        BlockFormat::Mxfp4 => &[],
        _ => &[0],
    }
}

/// Blocks of random bits, with scales of both signs around 0.02.
fn blocks(seed: u64, format: BlockFormat, rows: usize, cols: usize) -> Vec<u8> {
    let count = rows * cols / format.block_len();
    let random = noise(seed, count * format.block_bytes());
    let mut bytes: Vec<u8> = random
        .iter()
        .map(|it| (it * 8_388_608.0) as i32 as u8)
        .collect();
    for (index, block) in bytes.chunks_exact_mut(format.block_bytes()).enumerate() {
        for at in heads(format) {
            let scale = noise(seed + 77 + *at as u64, count)[index] * 0.04;
            block[*at..at + 2].copy_from_slice(&half::f16::from_f32(scale).to_le_bytes());
        }
        if format == BlockFormat::Mxfp4 {
            block[0] = 120 + block[0] % 4;
        }
    }
    bytes
}

fn view(format: BlockFormat, cols: usize, bytes: &[u8]) -> BlocksView<'_> {
    BlocksView {
        format,
        rows: bytes.len() / format.block_bytes() * format.block_len() / cols,
        cols,
        bytes,
    }
}

fn packed(format: BlockFormat, cols: usize, bytes: &[u8]) -> PackedWeight {
    let backend = Backend::cpu(2).unwrap();
    backend.pack_blocks(&[view(format, cols, bytes)]).unwrap()
}

fn numbers(format: BlockFormat, bytes: &[u8]) -> Vec<f32> {
    let mut numbers = vec![0.0; bytes.len() / format.block_bytes() * format.block_len()];
    format.decode(bytes, &mut numbers).unwrap();
    numbers
}

/// Input sizes: several blocks, for blocks of 32 also such as 256 does not divide.
fn widths(format: BlockFormat) -> &'static [usize] {
    match format.block_len() {
        32 => &[32, 96, 544],
        _ => &[256, 768],
    }
}

#[test]
fn a_packed_matrix_holds_the_numbers_of_the_file() {
    for format in BlockFormat::ALL {
        for (rows, cols) in [(1, 256), (16, 512), (37, 768)] {
            let bytes = blocks(1, format, rows, cols);
            let weight = packed(format, cols, &bytes);
            assert_eq!(weight.format(), WeightFormat::Blocks(format));
            assert_eq!(unpacked(&weight), numbers(format, &bytes), "{format}");
            let bits = weight.format().bits_per_weight();
            if rows == 16 {
                assert_eq!(
                    weight.size_in_bytes() as f64 * 8.0,
                    bits * (16 * cols) as f64
                );
            }
            // Little more than the file.
            let in_file = (8 * format.block_bytes()) as f64 / format.block_len() as f64;
            assert!(
                (in_file..=in_file + 0.5).contains(&bits),
                "{format}: {bits}"
            );
        }
    }
}

/// Apart from the rounding of activations, which the reference has too, only sums in f32 are rounded.
#[test]
fn products_are_those_of_the_files_numbers() {
    for format in BlockFormat::ALL {
        for cols in widths(format) {
            let cols = *cols;
            let (rows, features) = (13, 83);
            let bytes = blocks(2, format, features, cols);
            let (weight, w) = (packed(format, cols, &bytes), numbers(format, &bytes));
            let (x, bias) = (noise(3, rows * cols), noise(4, features));
            let mut first: Option<Vec<u32>> = None;
            for backend in backends(2) {
                let input = encoded(&backend, &x, cols, weight.format().input());
                let seen = decoded(&input, rows);
                let found = linear(&backend, &x, &weight, Some(&bias));
                for (row, x) in seen.chunks_exact(cols).enumerate() {
                    for (feature, w) in w.chunks_exact(cols).enumerate() {
                        let terms = x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w));
                        let (sum, size) = terms
                            .fold((f64::from(bias[feature]), 1e-9), |(sum, size), it| {
                                (sum + it, size + it.abs())
                            });
                        let error = f64::from(found[row * features + feature]) - sum;
                        // A group with a minimum is the difference of two larger numbers.
                        assert!(
                            error.abs() <= 4e-6 * size,
                            "{format} {}: off by {error} of {size}",
                            backend.name()
                        );
                    }
                }
                let found = bits(&found);
                assert!(
                    *first.get_or_insert(found.clone()) == found,
                    "{format} {}",
                    backend.name()
                );
            }
        }
    }
}

/// Kernels add up products in 16 bits. Here all codes and activations are as large as they can be.
#[test]
fn the_largest_products_do_not_overflow() {
    let (cols, features) = (512, 20);
    for format in BlockFormat::ALL {
        for code in [0x00, 0x7f, 0x80, 0xff] {
            let mut bytes = vec![code; features * cols / format.block_len() * format.block_bytes()];
            for block in bytes.chunks_exact_mut(format.block_bytes()) {
                for at in heads(format) {
                    block[*at..at + 2].copy_from_slice(&half::f16::ONE.to_le_bytes());
                }
                if format == BlockFormat::Mxfp4 {
                    block[0] = 127;
                }
            }
            let (weight, w) = (packed(format, cols, &bytes), numbers(format, &bytes));
            let x: Vec<f32> = [[1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]]
                .iter()
                .flat_map(|pair| pair.repeat(cols / 2))
                .collect();
            let expected: Vec<f64> = x
                .chunks_exact(cols)
                .flat_map(|x| w.chunks_exact(cols).map(move |w| (x, w)))
                .map(|(x, w)| x.iter().zip(w).map(|(x, w)| f64::from(x * w)).sum())
                .collect();
            for backend in backends(2) {
                let found = linear(&backend, &x, &weight, None);
                assert_close(&found, &expected, 1e-5);
            }
        }
    }
}

#[test]
fn a_row_has_the_same_bits_in_any_company() {
    for format in BlockFormat::ALL {
        let (cols, features) = (512, 150);
        let weight = packed(format, cols, &blocks(5, format, features, cols));
        let x = noise(6, 40 * cols);
        for backend in backends(3) {
            let alone: Vec<u32> = x
                .chunks_exact(cols)
                .flat_map(|x| bits(&linear(&backend, x, &weight, None)))
                .collect();
            for rows in [2, 3, 4, 5, 6, 7, 8, 12, 13, 40] {
                let found = linear(&backend, &x[..rows * cols], &weight, None);
                assert!(
                    bits(&found) == alone[..rows * features],
                    "{format}, {rows} rows"
                );
            }
        }
    }
}

/// Query, key and value are often stored in different formats.
#[test]
fn pieces_of_different_formats_are_one_matrix() {
    let cols = 256;
    let parts = [
        (BlockFormat::Q4K, 48),
        (BlockFormat::Q4K, 16),
        (BlockFormat::Q6K, 80),
        (BlockFormat::Q8_0, 7),
    ];
    let bytes: Vec<_> = parts
        .iter()
        .map(|(format, rows)| blocks(*rows as u64, *format, *rows, cols))
        .collect();
    let views: Vec<_> = parts
        .iter()
        .zip(&bytes)
        .map(|((format, _), bytes)| view(*format, cols, bytes))
        .collect();
    let (x, bias) = (noise(1, 9 * cols), noise(2, 151));
    for backend in backends(2) {
        let whole = backend.pack_blocks(&views).unwrap();
        assert_eq!((whole.rows(), whole.cols()), (151, cols));
        let found = linear(&backend, &x, &whole, Some(&bias));
        let mut first = 0;
        for view in &views {
            let part = backend.pack_blocks(&[*view]).unwrap();
            let of_part = linear(&backend, &x, &part, Some(&bias[first..first + view.rows]));
            for (whole, part) in found.chunks_exact(151).zip(of_part.chunks_exact(view.rows)) {
                assert_eq!(bits(&whole[first..first + view.rows]), bits(part));
            }
            first += view.rows;
        }
        let all: Vec<f32> = views
            .iter()
            .flat_map(|view| numbers(view.format, view.bytes))
            .collect();
        assert_eq!(unpacked(&whole), all);
        // Logits and their peaks.
        let input = encoded(&backend, &x, cols, whole.format().input());
        let (mut logits, mut peaks) = (unwritten(9 * 151), unwritten(9 * 3));
        backend
            .linear_with_peaks(&input, &whole, &mut logits, &mut peaks, 0..9)
            .unwrap();
        assert_eq!(
            bits(logits.f32s().unwrap()),
            bits(&linear(&backend, &x, &whole, None))
        );
        let expected: Vec<f32> = logits
            .f32s()
            .unwrap()
            .chunks_exact(151)
            .flat_map(|row| row.chunks(64))
            .map(|block| block.iter().copied().fold(f32::NEG_INFINITY, f32::max))
            .collect();
        assert_eq!(peaks.f32s().unwrap(), expected);
    }
}

#[test]
fn a_gate_gates_what_it_belongs_to() {
    let (cols, inter, rows) = (256, 45, 7);
    for format in BlockFormat::ALL {
        let (gate, up) = (
            blocks(1, format, inter, cols),
            blocks(2, format, inter, cols),
        );
        let views = [view(format, cols, &gate), view(format, cols, &up)];
        let (x, bias) = (noise(3, rows * cols), noise(4, 2 * inter));
        for backend in backends(2) {
            let weight = backend
                .pack_gated_blocks(views[0], views[1], Activation::Silu)
                .unwrap();
            let input = encoded(&backend, &x, cols, weight.format().input());
            let mut out = unwritten(rows * inter);
            backend
                .linear_gated(&input, &weight, Some(&buffer(&bias)), &mut out, 0..rows)
                .unwrap();
            let product = |part: usize| {
                let weight = backend.pack_blocks(&views[part..=part]).unwrap();
                linear(&backend, &x, &weight, Some(&bias[part * inter..][..inter]))
            };
            let expected: Vec<f64> = product(0)
                .iter()
                .zip(product(1))
                .map(|(gate, up)| {
                    let gate = f64::from(*gate);
                    gate / (1.0 + (-gate).exp()) * f64::from(up)
                })
                .collect();
            assert_close(out.f32s().unwrap(), &expected, 1e-5);
        }
    }
}

#[test]
fn what_cannot_be_packed_is_refused_by_name() {
    let backend = Backend::cpu(1).unwrap();
    let refused = |parts: &[BlocksView<'_>]| backend.pack_blocks(parts).unwrap_err().to_string();
    let q8 = blocks(1, BlockFormat::Q8_0, 8, 32);
    let q8 = view(BlockFormat::Q8_0, 32, &q8);
    let q4 = blocks(1, BlockFormat::Q4_0, 8, 32);
    let q4 = view(BlockFormat::Q4_0, 32, &q4);
    for (parts, expected) in [
        (&[][..], "there are none"),
        (
            &[BlocksView { cols: 48, ..q8 }],
            "rows of 48 numbers cannot be stored in Q8_0, whose blocks have 32",
        ),
        (&[BlocksView { cols: 0, ..q8 }], "rows of 0 numbers"),
        (
            &[BlocksView { rows: 9, ..q8 }],
            "a matrix of 9 x 32 in Q8_0 takes 306 bytes, but has 272",
        ),
        (
            &[BlocksView {
                rows: usize::MAX,
                ..q8
            }],
            "but has 272",
        ),
        (
            &[
                q8,
                BlocksView {
                    cols: 64,
                    rows: 4,
                    ..q8
                },
            ],
            "the same input size",
        ),
        (&[q8, q4], "a multiple of 16 output features"),
    ] {
        let message = refused(parts);
        assert!(message.contains(expected), "{message}");
    }
    let error = backend
        .pack_gated_blocks(q8, q4, Activation::Silu)
        .unwrap_err();
    assert!(error.to_string().contains("in the same format"), "{error}");
    let error = backend
        .pack(&[], WeightFormat::Blocks(BlockFormat::Q4K))
        .unwrap_err();
    assert!(matches!(error, TensorError::WeightParts { .. }));
}

#[test]
fn scales_that_are_not_finite_are_found() {
    for format in BlockFormat::ALL {
        for (index, at) in heads(format).iter().enumerate() {
            for value in [half::f16::NAN, half::f16::INFINITY] {
                let good = blocks(1, format, 3, 512);
                let mut bad = blocks(2, format, 40, 512);
                // The second block of row 21.
                let block = 21 * 512 / format.block_len() + 1;
                let at = block * format.block_bytes() + at;
                bad[at..at + 2].copy_from_slice(&value.to_le_bytes());
                let parts = [view(format, 512, &good), view(format, 512, &bad)];
                let error = Backend::cpu(2).unwrap().pack_blocks(&parts).unwrap_err();
                let TensorError::NonFiniteScale {
                    part,
                    row,
                    col,
                    value,
                } = error
                else {
                    panic!("{error}")
                };
                assert_eq!(
                    (part, row, col),
                    (1, 21, format.block_len()),
                    "{format} {index}"
                );
                assert!(!value.is_finite());
            }
        }
    }
}
