//! The blocks of `cuda/linear_split.cu`: few token rows by integers, with the input features split over warps.
//!
//! All of them, and the tiles of `tile.rs`, add an output's products up in one order, so the choice is one of
//! speed alone.

use crate::WeightFormat;
use crate::gpu::Grid;
use crate::gpu::weight::RowLayout;

/// Most token rows of a block.
pub(super) const SPLIT_ROWS: usize = 16;

/// Most token rows of the blocks for fewer of them.
const FEWER_ROWS: usize = 8;

/// Stages of each warp.
const STAGES: usize = 4;

/// Input features of a stage.
const SPAN: usize = 128;

/// Most words of int4 scales of a row that a block holds.
const SCALE_WORDS: usize = 192;

/// The extents of a block's work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Split {
    /// Token rows.
    tokens: usize,
    /// Rows of the matrix: of a gated one gates and what they gate together.
    rows: usize,
    warps: usize,
    /// Groups whose sums shared memory holds, of int8 and of int4.
    slots: [usize; 2],
    /// For int8 and int4.
    kernels: [&'static str; 2],
}

const NARROW: usize = 0;
const WIDE: usize = 2;

/// As at the end of `cuda/linear_split.cu`.
const SPLITS: [Split; 4] = [
    Split {
        tokens: 8,
        rows: 16,
        warps: 8,
        slots: [16, 32],
        kernels: ["linear_int8_split_8x16", "linear_int4_split_8x16"],
    },
    Split {
        tokens: 16,
        rows: 16,
        warps: 8,
        slots: [16, 32],
        kernels: ["linear_int8_split_16x16", "linear_int4_split_16x16"],
    },
    Split {
        tokens: 8,
        rows: 32,
        warps: 4,
        slots: [8, 16],
        kernels: ["linear_int8_split_8x32", "linear_int4_split_8x32"],
    },
    Split {
        tokens: 16,
        rows: 32,
        warps: 4,
        slots: [8, 16],
        kernels: ["linear_int8_split_16x32", "linear_int4_split_16x32"],
    },
];

impl Split {
    /// For `m` token rows, at most [`SPLIT_ROWS`], and `rows` of the matrix. Each block reads all tokens: so where
    /// they are more than one the blocks are wide, if three of them are left for each multiprocessor.
    pub(super) fn of(m: usize, rows: usize, multiprocessors: usize) -> &'static Self {
        let is_wide = m > 1 && rows / SPLITS[WIDE].rows >= 3 * multiprocessors;
        let first = if is_wide { WIDE } else { NARROW };
        &SPLITS[first + usize::from(m > FEWER_ROWS)]
    }

    pub(super) fn kernel(&self, format: WeightFormat) -> &'static str {
        self.kernels[usize::from(is_int4(format))]
    }

    pub(super) fn grid(&self, rows: usize, format: WeightFormat, place: &RowLayout) -> Grid {
        Grid {
            blocks: [rows.div_ceil(self.rows), 1, 1],
            threads: self.warps * 32,
            shared_bytes: self.shared_bytes(format, place.scale_words),
        }
    }

    /// The stages of all warps; the sums of groups, with 4 floats between tokens; int4 scales, an odd number of 16
    /// bytes per row.
    fn shared_bytes(&self, format: WeightFormat, scale_words: usize) -> usize {
        let (span_bytes, scales) = if is_int4(format) {
            let pieces = (scale_words.min(SCALE_WORDS) / 4) | 1;
            (SPAN / 2, self.rows * pieces * 16)
        } else {
            (SPAN, 0)
        };
        let slots = self.slots[usize::from(is_int4(format))];
        let sums = slots * self.tokens * (self.rows + 4) * size_of::<f32>();
        self.warps * STAGES * self.rows * span_bytes + sums + scales
    }
}

fn is_int4(format: WeightFormat) -> bool {
    matches!(format, WeightFormat::Int4 { .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_memory_is_what_the_kernels_lay_out_and_any_gpu_since_2020_has() {
        let bytes = SPLITS.map(|split| {
            let int4 = |words| split.shared_bytes(WeightFormat::INT4, words);
            let int8 = split.shared_bytes(WeightFormat::INT8, 1);
            [int8, int4(4), int4(64), int4(1000)]
        });
        let expected = [
            [75_776, 53_504, 57_600, 65_792],
            [86_016, 73_984, 78_080, 86_272],
            [74_752, 51_712, 59_904, 76_288],
            [83_968, 70_144, 78_336, 94_720],
        ];
        assert_eq!(bytes, expected);
        assert!(bytes.iter().flatten().all(|bytes| *bytes <= 99 << 10));
    }

    #[test]
    fn blocks_are_wide_where_enough_of_them_share_tokens() {
        for (m, rows, expected) in [
            (1, 4096, 0),
            (1, 151_936, 0),
            (2, 6144, 0),
            (8, 24_576, 2),
            (9, 4096, 1),
            (16, 24_576, 3),
        ] {
            assert_eq!(
                Split::of(m, rows, 132),
                &SPLITS[expected],
                "{m} tokens, {rows} rows"
            );
        }
    }

    #[test]
    fn the_test_of_invariance_meets_every_block() {
        // The shapes of `a_row_has_the_same_bits_in_any_company`, on the emulator's multiprocessors.
        for (rows, expected) in [(1030, [0, 2, 3]), (800, [0, 2, 3]), (40, [0, 0, 1])] {
            let splits = [1, 2, 16].map(|m| Split::of(m, rows, 8));
            assert_eq!(splits, expected.map(|it| &SPLITS[it]), "{rows} rows");
        }
    }
}
