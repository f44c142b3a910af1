//! One tile of attention: scores, weights, weighted values.
//!
//! ```text
//! scores     word of the query x sixteen keys      -> a lane per key, summed word by word
//! weights    e^(score - largest score so far)      -> rounded as the values are, packed in words
//! values     word of the weights x row of values   -> an element per lane, summed word by word
//! ```
//!
//! Scores of positions that a query does not see are computed and left out.
//!
//! A tile costs `2 * 64 * head_dim` stored numbers read, and twice as many multiplications and
//! additions per query. What arithmetic does to the numbers:
//!
//! | cache | query | weights | products |
//! |---|---|---|---|
//! | f32 | f32 | f32 | f32 |
//! | bf16 | rounded to bf16 | rounded to bf16 | summed in f32 |
//! | int8 | 15-bit fixed point | times the values' scales, 16-bit fixed point | summed exactly |

use std::ops::Range;

use super::bound::bound;
use super::exp::exp;
use super::query::{LARGEST_WEIGHT, Magnitude, quantize};
use crate::attend::{Queries, Seen, States, TILE, Tile, TileBuffers};
use crate::cache::{CellShape, GROUP, KvFormat};
use crate::element::Element;

use half::bf16;

/// Keys, or elements of values, that are treated side by side: loops of this form and length the
/// compiler keeps in vector registers.
const LANES: usize = 8;

/// See [`Kernels::attend`](crate::kernels::Kernels::attend).
#[inline(always)]
pub(crate) fn attend(
    tile: &Tile<'_>,
    queries: &Queries<'_>,
    seen: Seen,
    _buffers: &mut TileBuffers<'_>,
    states: &mut States<'_>,
) {
    let (words, stride) = (tile.shape.query_words(), tile.shape.value_stride());
    for query in seen.first..seen.end {
        let rounded = &queries.words[query * words..][..words];
        let sums = queries.sums.get(query * 2..query * 2 + 2).unwrap_or(&[]);
        let mut scores = products(tile, rounded, sums);
        for score in &mut scores {
            *score *= queries.factors[query];
        }
        if let Some(limit) = queries.score_bound {
            bound(&mut scores, limit);
        }
        let state = State {
            max: &mut states.max[query],
            sums: &mut states.sums[query * GROUP..][..GROUP],
            values: &mut states.values[query * stride..][..stride],
        };
        merge(tile, &scores, seen.by(query), state);
    }
}

/// One query's part of [`States`].
struct State<'a> {
    max: &'a mut f32,
    sums: &'a mut [f32],
    values: &'a mut [f32],
}

/// The products of a query with the keys of a tile; those of keys that it does not see may be
/// anything.
#[inline(always)]
fn products(tile: &Tile<'_>, query: &[u32], sums: &[i32]) -> [f32; TILE] {
    let mut products = [0.0; TILE];
    let groups = products.as_chunks_mut::<GROUP>().0;
    for (lanes, cell) in groups.iter_mut().zip(tile.cells) {
        let rows = cell[..tile.shape.values()].as_chunks::<GROUP>().0;
        for (part, lanes) in lanes.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
            let rows = rows.iter().map(|row| &row.as_chunks::<LANES>().0[part]);
            match tile.shape.format {
                KvFormat::F32 => *lanes = dot_f32(query, rows),
                KvFormat::Bf16 => *lanes = dot_bf16(query, rows),
                KvFormat::Int8 => {
                    let (high, low) = query.split_at(rows.len());
                    let [high, low] = [(high, sums[0]), (low, sums[1])].map(|(words, sum)| {
                        dot_int8(words, rows.clone()).map(|lane| lane.wrapping_sub(sum) as f32)
                    });
                    let scales = &cell[tile.shape.scales()[0].start + part * LANES..];
                    for (i, lane) in lanes.iter_mut().enumerate() {
                        *lane = (high[i] * 128.0 + low[i]) * f32::from_bits(scales[i]);
                    }
                }
            }
        }
    }
    products
}

/// A query with as many keys as there are lanes, word by word.
#[inline(always)]
fn dot_f32<'a>(query: &[u32], rows: impl Iterator<Item = &'a [u32; LANES]>) -> [f32; LANES] {
    let mut lanes = [0.0; LANES];
    for (word, row) in query.iter().zip(rows) {
        let number = f32::from_bits(*word);
        for (lane, key) in lanes.iter_mut().zip(row) {
            *lane += number * f32::from_bits(*key);
        }
    }
    lanes
}

/// The same in bf16.
#[inline(always)]
fn dot_bf16<'a>(query: &[u32], rows: impl Iterator<Item = &'a [u32; LANES]>) -> [f32; LANES] {
    let mut lanes = [0.0; LANES];
    for (word, row) in query.iter().zip(rows) {
        let (low, high) = halves(*word);
        for (lane, key) in lanes.iter_mut().zip(row) {
            let (key_low, key_high) = halves(*key);
            *lane = *lane + high * key_high + low * key_low;
        }
    }
    lanes
}

/// The same in int8, exactly: keys are unsigned, one part of a query is signed.
#[inline(always)]
fn dot_int8<'a>(query: &[u32], rows: impl Iterator<Item = &'a [u32; LANES]>) -> [i32; LANES] {
    let mut lanes = [0_i32; LANES];
    for (word, row) in query.iter().zip(rows) {
        for (byte, number) in word.to_le_bytes().into_iter().enumerate() {
            let number = i32::from(number as i8);
            for (lane, key) in lanes.iter_mut().zip(row) {
                let key = (*key >> (8 * byte) & 0xff) as i32;
                *lane = lane.wrapping_add(key * number);
            }
        }
    }
    lanes
}

/// Merges the scores seen into a query's state, which afterwards is relative to the new maximum.
#[inline(always)]
fn merge(tile: &Tile<'_>, scores: &[f32; TILE], seen: Range<usize>, state: State<'_>) {
    let shape = tile.shape;
    let most = scores[seen.clone()]
        .iter()
        .copied()
        .fold(f32::MIN, f32::max);
    let max = state.max.max(most);
    let decay = exp(*state.max - max);
    *state.max = max;
    let mut weights = [0.0; TILE];
    for (weight, score) in weights[seen.clone()].iter_mut().zip(&scores[seen.clone()]) {
        *weight = exp(*score - max);
    }
    if shape.format == KvFormat::Bf16 {
        for weight in &mut weights {
            *weight = <bf16 as Element>::round(*weight).widen();
        }
    }
    for (lane, sum) in state.sums.iter_mut().enumerate() {
        let weight = |cell: usize| weights[cell * GROUP + lane];
        *sum = *sum * decay + ((weight(0) + weight(1)) + (weight(2) + weight(3)));
    }
    for value in state.values.iter_mut() {
        *value *= decay;
    }
    match shape.format {
        KvFormat::F32 => {
            weigh(tile, &weights, seen, state.values, |word, _| {
                f32::from_bits(word)
            });
        }
        KvFormat::Bf16 => weigh(tile, &weights, seen, state.values, |word, slot| {
            let (low, high) = halves(word);
            if slot.is_multiple_of(2) { low } else { high }
        }),
        KvFormat::Int8 => weigh_bytes(tile, &weights, seen, state.values),
    }
}

/// Adds the values seen by weight, in order of position.
#[inline(always)]
fn weigh(
    tile: &Tile<'_>,
    weights: &[f32; TILE],
    seen: Range<usize>,
    out: &mut [f32],
    number: impl Fn(u32, usize) -> f32 + Copy,
) {
    for position in seen {
        let row = value_row(tile.shape, tile.cells[position / GROUP], position % GROUP);
        for (out, word) in out.iter_mut().zip(row) {
            *out += weights[position] * number(*word, position);
        }
    }
}

/// The same for int8 values: exact sums of products with weights in fixed point.
#[inline(always)]
fn weigh_bytes(tile: &Tile<'_>, weights: &[f32; TILE], seen: Range<usize>, out: &mut [f32]) {
    let scales = tile.shape.scales()[1].start;
    let mut scaled = [0.0; TILE];
    for position in seen.clone() {
        let scale = tile.cells[position / GROUP][scales + position % GROUP];
        scaled[position] = weights[position] * f32::from_bits(scale);
    }
    let magnitude = Magnitude::of(&scaled[seen.clone()], LARGEST_WEIGHT);
    let mut integers = [0_i32; TILE];
    for (integer, scaled) in integers.iter_mut().zip(scaled) {
        *integer = quantize(scaled, magnitude);
    }
    // Rows of values are padded to whole groups.
    for (part, out) in out.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
        let mut sums = [0_i32; LANES];
        for position in seen.clone() {
            let row = value_row(tile.shape, tile.cells[position / GROUP], position % GROUP);
            let shift = position % 4 * 8;
            for (sum, word) in sums.iter_mut().zip(&row.as_chunks::<LANES>().0[part]) {
                *sum += integers[position] * i32::from((*word >> shift) as u8 as i8);
            }
        }
        for (out, sum) in out.iter_mut().zip(sums) {
            *out += sum as f32 * magnitude.unit;
        }
    }
}

/// The row of values that a slot shares with its neighbours.
#[inline(always)]
fn value_row(shape: CellShape, cell: &[u32], slot: usize) -> &[u32] {
    let row = shape.values() + slot / shape.format.per_word() * shape.value_stride();
    &cell[row..row + shape.value_stride()]
}

/// Both bf16 numbers of a word.
#[inline(always)]
fn halves(word: u32) -> (f32, f32) {
    (
        f32::from_bits(word << 16),
        f32::from_bits(word & 0xffff_0000),
    )
}
