//! The tiles of `cuda/linear_tile.cu`: their extents, and which of them computes a product.
//!
//! All of them add an output's products up in one order, so the choice is one of speed alone.

use crate::WeightFormat;
use crate::gpu::Grid;

/// Most rows of the tiles for few rows.
const DECODE_ROWS: usize = 16;

/// Most rows of the tiles for some rows: beyond them the largest would be half empty.
const BATCH_ROWS: usize = 64;

/// The extents of a block's work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tile {
    /// Token rows.
    rows: usize,
    /// Output features; of a gated matrix gates and what they gate together.
    features: usize,
    /// Input features per step.
    depth: usize,
    /// Steps in shared memory.
    stages: usize,
    threads: usize,
    /// For bf16; where there are more than 16 rows for int8 and int4 too.
    kernels: &'static [&'static str],
}

const NARROW: usize = 0;
const WIDE: usize = 1;
const SQUARE_NARROW: usize = 2;
const SQUARE: usize = 3;
const LARGE: usize = 4;

/// As at the head of `cuda/linear_tile.cu`.
pub(super) const TILES: [Tile; 5] = [
    Tile {
        rows: 16,
        features: 32,
        depth: 128,
        stages: 6,
        threads: 128,
        kernels: &["linear_bf16_16x32"],
    },
    Tile {
        rows: 16,
        features: 64,
        depth: 128,
        stages: 3,
        threads: 128,
        kernels: &["linear_bf16_16x64"],
    },
    Tile {
        rows: 64,
        features: 32,
        depth: 128,
        stages: 4,
        threads: 128,
        kernels: &[
            "linear_bf16_64x32",
            "linear_int8_64x32",
            "linear_int4_64x32",
        ],
    },
    Tile {
        rows: 64,
        features: 64,
        depth: 64,
        stages: 4,
        threads: 128,
        kernels: &[
            "linear_bf16_64x64",
            "linear_int8_64x64",
            "linear_int4_64x64",
        ],
    },
    Tile {
        rows: 128,
        features: 128,
        depth: 64,
        stages: 3,
        threads: 256,
        kernels: &[
            "linear_bf16_128x128",
            "linear_int8_128x128",
            "linear_int4_128x128",
        ],
    },
];

impl Tile {
    /// Number of the tile for `m` token rows and `n` numbers per row of the result: as large as leaves each
    /// multiprocessor some work, one and a half or two blocks where reading the weights is all of it. Of the
    /// narrowest, which has no space for gates, a multiprocessor holds three blocks, no more than this leaves it.
    /// Up to 16 rows of integers are for `split.rs`.
    pub(super) fn of(m: usize, n: usize, gated: bool, multiprocessors: usize) -> usize {
        let blocks = |tile: usize| {
            let [x, y, _] = TILES[tile].blocks(m, n, gated);
            x * y
        };
        let (large, small, at_least) = match m {
            0..=DECODE_ROWS if gated => return WIDE,
            0..=DECODE_ROWS => (WIDE, NARROW, (3 * multiprocessors).div_ceil(2)),
            _ if m <= BATCH_ROWS => (SQUARE, SQUARE_NARROW, 2 * multiprocessors),
            _ => (LARGE, SQUARE, multiprocessors),
        };
        if blocks(large) >= at_least {
            large
        } else {
            small
        }
    }

    pub(super) fn kernel(&self, format: WeightFormat) -> &'static str {
        self.kernels[match format {
            WeightFormat::Int8 { .. } => 1,
            WeightFormat::Int4 { .. } => 2,
            _ => 0,
        }]
    }

    pub(super) fn grid(&self, m: usize, n: usize, gated: bool, format: WeightFormat) -> Grid {
        Grid {
            blocks: self.blocks(m, n, gated),
            threads: self.threads,
            shared_bytes: self.shared_bytes(format),
        }
    }

    fn blocks(&self, m: usize, n: usize, gated: bool) -> [usize; 3] {
        let outputs = if gated {
            self.features / 2
        } else {
            self.features
        };
        [m.div_ceil(self.rows), n.div_ceil(outputs), 1]
    }

    /// Numbers of x and w of all stages; int4 has 16 bytes of scales per feature and stage beside.
    fn shared_bytes(&self, format: WeightFormat) -> usize {
        let weights = match format {
            WeightFormat::Int8 { .. } => self.features * self.depth,
            WeightFormat::Int4 { .. } => self.features * (self.depth / 2 + 16),
            _ => self.features * self.depth * 2,
        };
        self.stages * (self.rows * self.depth * 2 + weights)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_memory_is_what_the_kernels_lay_out_and_any_gpu_since_2020_has() {
        let bytes = TILES.map(|tile| {
            [WeightFormat::Bf16, WeightFormat::INT8, WeightFormat::INT4]
                .map(|format| tile.shared_bytes(format))
        });
        let expected = [
            [73_728, 49_152, 39_936],
            [61_440, 36_864, 27_648],
            [98_304, 81_920, 75_776],
            [65_536, 49_152, 45_056],
            [98_304, 73_728, 67_584],
        ];
        assert_eq!(bytes, expected);
        assert!(bytes.iter().flatten().all(|bytes| *bytes <= 99 << 10));
    }

    #[test]
    fn a_tile_leaves_no_multiprocessor_idle_that_a_smaller_one_would_feed() {
        for (m, n, gated, expected) in [
            (1, 4096, false, NARROW),
            (16, 12_288, false, NARROW),
            (16, 12_672, false, WIDE),
            (16, 512, true, WIDE),
            (17, 4096, false, SQUARE_NARROW),
            (64, 4096, false, SQUARE_NARROW),
            (64, 12_288, false, SQUARE_NARROW),
            (64, 24_576, false, SQUARE),
            (64, 12_288, true, SQUARE),
            (64, 2048, true, SQUARE_NARROW),
            (65, 4096, false, SQUARE),
            (512, 4096, false, SQUARE),
            (2048, 4096, false, LARGE),
            (256, 12_288, true, LARGE),
        ] {
            assert_eq!(
                Tile::of(m, n, gated, 132),
                expected,
                "{m} rows, {n} features"
            );
        }
    }

    #[test]
    fn the_test_of_invariance_meets_every_tile() {
        // The shapes of `a_row_has_the_same_bits_in_any_company`, on the emulator's multiprocessors.
        let tiles = |n: usize, gated: bool, rows: &[usize]| -> Vec<usize> {
            rows.iter().map(|m| Tile::of(*m, n, gated, 8)).collect()
        };
        let rows = [1, 2, 16, 17, 65, 133];
        assert_eq!(
            tiles(1030, false, &rows),
            [WIDE, WIDE, WIDE, SQUARE, LARGE, LARGE]
        );
        assert_eq!(
            tiles(400, true, &rows),
            [WIDE, WIDE, WIDE, SQUARE_NARROW, SQUARE, LARGE]
        );
        assert_eq!(tiles(40, false, &[2, 47]), [NARROW, SQUARE_NARROW]);
    }
}
