//! Blocks against the same sums in plain Rust, bit for bit.

use half::bf16;

use super::bytes::{ByteSums, PackedBytes, WORDS};
use super::few::{FEW_ROWS, few};
use super::kernels;
use super::registers::{
    Bf16, Int8, Operands, ROWS, Signed, TALL_PANELS, TALL_ROWS, TileDot, WIDE_PANELS,
};
use super::resident::{COLUMNS, FEW_COLUMNS, MOST_BLOCKS, Packed, Products, shapes};
use super::shapes::Tiles;
use crate::attend::CELLS;
use crate::cache::GROUP;
use crate::vector::strips::Ahead;

/// Depths around whole tiles.
const DEPTHS: [usize; 7] = [1, 7, 15, 16, 17, 32, 50];

/// Rows of wide and of tall blocks.
const ROW_COUNTS: [usize; 7] = [1, 2, 15, 16, 17, 31, 32];

/// Words of which every bit looks random.
fn noise(seed: u32, len: usize) -> Vec<u32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> 16
    };
    (0..len).map(|_| next() << 16 | next()).collect()
}

/// Words of two bf16 numbers between -2 and 2.
fn pairs(seed: u32, len: usize) -> Vec<u32> {
    let number = |bits: u32| {
        let value = (bits & 0xfff) as f32 / 1024.0 - 2.0;
        u32::from(bf16::from_f32(value).to_bits())
    };
    let words = noise(seed, len).into_iter();
    words
        .map(|word| number(word >> 16) << 16 | number(word))
        .collect()
}

/// `[rows, 4 panels, 16]`: rows `[rows, depth]` times panels `[4, depth, 16]`, in tiles.
fn in_tiles<D: TileDot>(rows: usize, depth: usize, a: &[u32], b: &[u32]) -> Vec<u32> {
    let panel = |index: usize| b[index * depth * 16..].as_ptr().cast();
    let mut sums = vec![0_u32; rows * WIDE_PANELS * 16];
    let start = sums.as_mut_ptr();
    let (a, a_stride, sums_stride) = (a.as_ptr(), depth * 4, WIDE_PANELS * 64);
    // SAFETY: callers have asked for the permission; rows, panels and sums are as long as they say.
    unsafe {
        if rows <= ROWS {
            let wide = Operands {
                rows,
                depth,
                a,
                a_stride,
                panels: [0, 1, 2, 3].map(panel),
                sums: start.cast(),
                sums_stride,
                ahead: Ahead::NONE,
            };
            wide.run::<D>();
        } else {
            for first in (0..WIDE_PANELS).step_by(TALL_PANELS) {
                let tall = Operands {
                    rows,
                    depth,
                    a,
                    a_stride,
                    panels: [first, first + 1].map(panel),
                    sums: start.wrapping_add(first * 16).cast(),
                    sums_stride,
                    // Any address may be named.
                    ahead: Ahead {
                        start: b.as_ptr().cast(),
                        lines: first,
                    },
                };
                tall.run::<D>();
            }
        }
    }
    sums
}

/// The same of up to [`FEW_ROWS`] rows, without tiles.
fn without_tiles(rows: usize, depth: usize, a: &[u32], b: &[u32]) -> Vec<u32> {
    // What is there before does not matter.
    let mut sums = noise(7, rows * WIDE_PANELS * 16);
    let operands = Operands {
        rows,
        depth,
        a: a.as_ptr(),
        a_stride: depth * 4,
        panels: [0, 1, 2, 3].map(|index| b[index * depth * 16..].as_ptr().cast()),
        sums: sums.as_mut_ptr().cast(),
        sums_stride: WIDE_PANELS * 64,
        ahead: Ahead::NONE,
    };
    // SAFETY: the kernels are there, so AVX-512 is; rows, panels and sums are as long as they say.
    unsafe { few(&operands) };
    sums
}

/// The same, a number at a time; `dot` adds the products of up to sixteen words to a sum.
fn in_order(
    rows: usize,
    depth: usize,
    a: &[u32],
    b: &[u32],
    dot: impl Fn(u32, &[(u32, u32)]) -> u32,
) -> Vec<u32> {
    let mut sums = Vec::new();
    for row in 0..rows {
        for panel in 0..WIDE_PANELS {
            for lane in 0..16 {
                let words: Vec<_> = (0..depth)
                    .map(|k| (a[row * depth + k], b[(panel * depth + k) * 16 + lane]))
                    .collect();
                sums.push(words.chunks(16).fold(0, &dot));
            }
        }
    }
    sums
}

/// A subnormal number is a zero of its sign.
fn flushed(number: f32) -> f32 {
    if number.is_subnormal() {
        0.0_f32.copysign(number)
    } else {
        number
    }
}

/// Bit for bit; only the first difference is told.
fn assert_same(found: &[u32], expected: &[u32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert_eq!(found, expected, "{what}, number {i}");
    }
}

/// Even numbers and odd ones are added up apart, then to the sum.
fn dot_bf16(sum: u32, words: &[(u32, u32)]) -> u32 {
    let number = |bits: u32| flushed(f32::from_bits(bits << 16));
    let (mut even, mut odd) = (0.0_f32, 0.0_f32);
    for (a, b) in words {
        even = flushed(number(a & 0xffff).mul_add(number(b & 0xffff), even));
        odd = flushed(number(a >> 16).mul_add(number(b >> 16), odd));
    }
    flushed(flushed(f32::from_bits(sum)) + flushed(even + odd)).to_bits()
}

/// Signed bytes times unsigned ones.
fn dot_int8(sum: u32, words: &[(u32, u32)]) -> u32 {
    let mut sum = sum.cast_signed();
    for (a, b) in words {
        for (a, b) in a.to_le_bytes().into_iter().zip(b.to_le_bytes()) {
            sum += i32::from(a.cast_signed()) * i32::from(b);
        }
    }
    sum.cast_unsigned()
}

/// Signed bytes in both.
fn dot_signed(sum: u32, words: &[(u32, u32)]) -> u32 {
    let mut sum = sum.cast_signed();
    for (a, b) in words {
        for (a, b) in a.to_le_bytes().into_iter().zip(b.to_le_bytes()) {
            sum += i32::from(a.cast_signed()) * i32::from(b.cast_signed());
        }
    }
    sum.cast_unsigned()
}

#[test]
fn blocks_have_the_sums_that_are_documented() {
    if kernels().is_none() {
        eprintln!("skipped: no tiles here");
        return;
    }
    for depth in DEPTHS {
        let (a, b) = (pairs(1, TALL_ROWS * depth), pairs(2, 4 * depth * 16));
        let (c, d) = (noise(3, TALL_ROWS * depth), noise(4, 4 * depth * 16));
        for rows in 1..=FEW_ROWS {
            assert_same(
                &without_tiles(rows, depth, &a, &b),
                &in_order(rows, depth, &a, &b, dot_bf16),
                &format!("bf16 without tiles, {rows} rows, {depth} words"),
            );
        }
        for rows in ROW_COUNTS {
            assert_same(
                &in_tiles::<Bf16>(rows, depth, &a, &b),
                &in_order(rows, depth, &a, &b, dot_bf16),
                &format!("bf16, {rows} rows, {depth} words"),
            );
            assert_same(
                &in_tiles::<Int8>(rows, depth, &c, &d),
                &in_order(rows, depth, &c, &d, dot_int8),
                &format!("int8, {rows} rows, {depth} words"),
            );
            assert_same(
                &in_tiles::<Signed>(rows, depth, &c, &d),
                &in_order(rows, depth, &c, &d, dot_signed),
                &format!("signed bytes, {rows} rows, {depth} words"),
            );
        }
    }
}

#[test]
fn subnormal_numbers_count_as_zero() {
    if kernels().is_none() {
        eprintln!("skipped: no tiles here");
        return;
    }
    // Numbers around 2^-127 times such around 1, and numbers whose products are as small.
    let scaled = |seed, len, exponent: u32| -> Vec<u32> {
        let bits = |half: u32| exponent << 7 | half & 0x80ff;
        let words = noise(seed, len).into_iter();
        words
            .map(|word| bits(word >> 16) << 16 | bits(word))
            .collect()
    };
    for (exponent, other) in [(0, 126), (62, 62), (1, 124)] {
        let (a, b) = (
            scaled(10, 32 * 50, exponent),
            scaled(11, 4 * 50 * 16, other),
        );
        for rows in [1, 2, 16, 32] {
            let expected = in_order(rows, 50, &a, &b, dot_bf16);
            let what = format!("{exponent} and {other}, {rows} rows");
            assert_same(&in_tiles::<Bf16>(rows, 50, &a, &b), &expected, &what);
            if rows <= FEW_ROWS {
                assert_same(&without_tiles(rows, 50, &a, &b), &expected, &what);
            }
        }
    }
}

#[test]
fn few_rows_without_tiles_are_those_of_tiles_whatever_the_numbers() {
    if kernels().is_none() {
        eprintln!("skipped: no tiles here");
        return;
    }
    // Of any bits there are numbers that are not finite; the others overflow, vanish and cancel.
    for (depth, seed) in (1..40).zip(20..) {
        let of_any_bits = [
            noise(seed, FEW_ROWS * depth),
            noise(seed + 100, 4 * depth * 16),
        ];
        let finite = of_any_bits.clone().map(|words| {
            let finite = words.into_iter().map(|word| word & 0xbfff_bfff);
            finite.collect::<Vec<_>>()
        });
        for [a, b] in [of_any_bits, finite] {
            for rows in 1..=FEW_ROWS {
                let (found, expected) = (
                    without_tiles(rows, depth, &a, &b),
                    in_tiles::<Bf16>(rows, depth, &a, &b),
                );
                for (found, expected) in found.into_iter().zip(expected) {
                    let nan = |bits: u32| f32::from_bits(bits).is_nan();
                    assert!(
                        found == expected || nan(found) && nan(expected),
                        "{found:#x}, {expected:#x}, {rows} rows of {depth}"
                    );
                }
            }
        }
    }
    // Subnormal numbers are as before.
    let half = std::hint::black_box(f32::MIN_POSITIVE) * std::hint::black_box(0.5);
    assert_eq!(half.to_bits(), 0x0040_0000);
}

/// `[rows, 4 panels, 16]` as [`in_tiles`], computed by `run`.
fn in_rows(
    (rows, depth): (usize, usize),
    a: &[u32],
    b: &[u32],
    run: unsafe fn(Operands<WIDE_PANELS>),
) -> Vec<u32> {
    // What is there before does not matter.
    let mut sums = noise(3, rows * WIDE_PANELS * 16);
    let operands = Operands {
        rows,
        depth,
        a: a.as_ptr(),
        a_stride: depth * 4,
        panels: [0, 1, 2, 3].map(|index| b[index * depth * 16..].as_ptr().cast()),
        sums: sums.as_mut_ptr().cast(),
        sums_stride: WIDE_PANELS * 64,
        ahead: Ahead::NONE,
    };
    // SAFETY: callers have asked for the permission; rows, panels and sums are as long as they say.
    unsafe { run(operands) };
    sums
}

#[test]
fn many_rows_have_the_sums_of_few() {
    if kernels().is_none() {
        eprintln!("skipped: no tiles here");
        return;
    }
    // Depths around the two tiles that stay in registers.
    for depth in [1, 16, 31, 32, 33, 50, 64, 80] {
        for rows in [1, 16, 17, 40, 64, 70] {
            let (size, name) = ((rows, depth), format!("{rows} rows, {depth} words"));
            let (a, b) = (pairs(1, rows * depth), pairs(2, 4 * depth * 16));
            let found = in_rows(size, &a, &b, |operands| {
                // SAFETY: as `in_rows` says.
                unsafe { operands.run_rows() }
            });
            assert_same(&found, &in_order(rows, depth, &a, &b, dot_bf16), &name);
            let (a, b) = (noise(1, rows * depth), noise(2, 4 * depth * 16));
            let found = in_rows(size, &a, &b, |operands| {
                // SAFETY: as `in_rows` says.
                unsafe { operands.run_many::<Int8>() }
            });
            assert_same(&found, &in_order(rows, depth, &a, &b, dot_int8), &name);
        }
    }
}

#[test]
fn values_of_bytes_are_weighted_exactly() {
    if kernels().is_none() {
        eprintln!("skipped: no tiles here");
        return;
    }
    let stride = 112;
    let weights = noise(5, MOST_BLOCKS * ROWS * WORDS);
    let cells = [6, 7, 8, 9].map(|seed| noise(seed, WORDS / CELLS * stride));
    for (count, rows) in [(1, 2), (1, 14), (1, 16), (2, 16), (MOST_BLOCKS, 16)] {
        for (column, tiles) in [(0, 4), (48, 4), (80, 2), (96, 1)] {
            let (mut packed, mut sums) = (PackedBytes::new(), ByteSums::new());
            // SAFETY: the permission was given, and the kernels are there, so AVX-512 is; everything is as long as it says.
            unsafe {
                let start = cells.each_ref().map(|cell| cell[column..].as_ptr());
                packed.copy(start, stride, tiles);
                let _tiles = Tiles::configure(&shapes(rows));
                packed.weigh(count, weights.as_ptr(), &mut sums);
            }
            for row in 0..count * rows {
                for element in 0..tiles * GROUP {
                    // SAFETY: as many numbers were computed.
                    let sum = unsafe { *sums.group(row, element) };
                    let products = (0..WORDS).map(|word| {
                        let slots = word % (WORDS / CELLS) * stride;
                        let values = cells[word / (WORDS / CELLS)][slots + column + element];
                        dot_unsigned(weights[row * WORDS + word], values)
                    });
                    let expected: i32 = products.sum();
                    assert_eq!(sum, expected, "{row} of {count} x {rows}, {element}");
                }
            }
        }
    }
}

/// Unsigned bytes times signed ones.
fn dot_unsigned(a: u32, b: u32) -> i32 {
    let bytes = a.to_le_bytes().into_iter().zip(b.to_le_bytes());
    bytes
        .map(|(a, b)| i32::from(a) * i32::from(b.cast_signed()))
        .sum()
}

#[test]
fn values_are_added_two_cells_at_a_time() {
    if kernels().is_none() {
        eprintln!("skipped: no tiles here");
        return;
    }
    let (stride, words) = (80, CELLS * GROUP / 2);
    let most = MOST_BLOCKS * ROWS;
    let weights = pairs(5, most * words);
    let cells = [6, 7, 8, 9].map(|seed| pairs(seed, GROUP / 2 * stride));
    for (count, rows) in [(1, 1), (1, 2), (1, 15), (1, 16), (2, 16), (MOST_BLOCKS, 16)] {
        for column in [0, 16, 48] {
            let (mut packed, mut products) = (Packed::new(), Products::new());
            // SAFETY: the permission was given, and the kernels are there, so AVX-512 is; everything is as long as it says.
            unsafe {
                packed.fill(
                    cells.each_ref().map(|cell| cell[column..].as_ptr()),
                    stride,
                    COLUMNS,
                );
                let _tiles = Tiles::configure(&shapes(rows));
                packed.weigh(count, weights.as_ptr(), words * 4, &mut products);
            }
            for (query, element) in
                (0..count * rows).flat_map(|q| (0..COLUMNS).map(move |e| (q, e)))
            {
                // SAFETY: as many numbers were computed.
                let sum = unsafe { *products.row(query).add(element) };
                let pair = |slots: usize| {
                    let (cell, row) = (slots / (GROUP / 2), slots % (GROUP / 2));
                    let value = cells[cell][row * stride + column + element];
                    (weights[query * words + slots], value)
                };
                let pairs: Vec<_> = (0..words).map(pair).collect();
                let expected = pairs.chunks(16).fold(0, dot_bf16);
                assert_eq!(
                    sum.to_bits(),
                    expected,
                    "{query} of {count} x {rows}, {element}"
                );
            }
        }
    }
}

#[test]
fn values_of_few_rows_are_those_of_tiles() {
    if kernels().is_none() {
        eprintln!("skipped: no tiles here");
        return;
    }
    let (stride, words) = (112, CELLS * GROUP / 2);
    let weights = pairs(5, FEW_ROWS * words);
    let cells = [6, 7, 8, 9].map(|seed| pairs(seed, GROUP / 2 * stride));
    let start = |column: usize| cells.each_ref().map(|cell| cell[column..].as_ptr());
    for rows in 1..=FEW_ROWS {
        for (column, columns) in [(0, FEW_COLUMNS), (48, FEW_COLUMNS), (64, COLUMNS)] {
            let mut few = Packed::new();
            let mut sums = [[7.0; FEW_COLUMNS]; FEW_ROWS];
            // SAFETY: the kernels are there, so AVX-512 is; everything is as long as it says.
            unsafe {
                few.fill(start(column), stride, columns);
                few.weigh_few((rows, columns), weights.as_ptr(), words * 4, &mut sums);
            }
            for part in (0..columns).step_by(COLUMNS) {
                let (mut packed, mut products) = (Packed::new(), Products::new());
                // SAFETY: the permission was given.
                unsafe {
                    packed.fill(start(column + part), stride, COLUMNS);
                    let _tiles = Tiles::configure(&shapes(rows));
                    packed.weigh(1, weights.as_ptr(), words * 4, &mut products);
                }
                for (row, sums) in sums[..rows].iter().enumerate() {
                    for (element, sum) in sums[part..part + COLUMNS].iter().enumerate() {
                        // SAFETY: as many numbers were computed.
                        let expected = unsafe { *products.row(row).add(element) };
                        assert_eq!(sum.to_bits(), expected.to_bits(), "{row}, {element}");
                    }
                }
            }
        }
    }
}
