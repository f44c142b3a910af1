//! The tiles of `cuda/linear_hopper.cu`: which of them computes a product, and how it is launched.
//!
//! All of them add an output's products up in one order, so the choice is one of speed alone.

use crate::gpu::{BoxedMatrix, Grid};

/// Numbers of k in a row of a box.
const DEPTH: usize = 64;

/// Rows of w that a warpgroup multiplies, and its threads.
const GROUP_ROWS: usize = 64;
const GROUP_THREADS: usize = 128;

/// Boxes lie at multiples of so many bytes.
const ALIGNED: usize = 1024;

/// Bytes of a stage's two barriers.
const BARRIERS: usize = 16;

/// The extents of a block's work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HopperTile {
    pub(super) kernel: &'static str,
    /// Warpgroups, of 64 rows of w each.
    groups: usize,
    /// Token rows.
    tokens: usize,
    /// Boxes of 64 numbers of k in a stage.
    slices: usize,
    stages: usize,
    /// What a block of it takes, in microseconds at k = 4096, on an H100 whose multiprocessors all have one.
    cost: usize,
}

const fn tile(
    kernel: &'static str,
    [groups, tokens, slices, stages]: [usize; 4],
    cost: usize,
) -> HopperTile {
    HopperTile {
        kernel,
        groups,
        tokens,
        slices,
        stages,
        cost,
    }
}

/// For few token rows, each the least that holds them: reading w is the work.
const NARROW: [HopperTile; 4] = [
    tile("linear_hopper_64x8", [1, 8, 2, 8], 12),
    tile("linear_hopper_64x16", [1, 16, 2, 8], 12),
    tile("linear_hopper_64x32", [1, 32, 2, 8], 13),
    tile("linear_hopper_64x64", [1, 64, 2, 6], 13),
];

/// For more than those hold.
const WIDE: [HopperTile; 8] = [
    tile("linear_hopper_64x64", [1, 64, 2, 6], 14),
    tile("linear_hopper_64x128", [1, 128, 1, 8], 16),
    tile("linear_hopper_128x64", [2, 64, 1, 8], 17),
    tile("linear_hopper_192x64", [3, 64, 1, 6], 22),
    tile("linear_hopper_128x128", [2, 128, 1, 6], 24),
    tile("linear_hopper_192x128", [3, 128, 1, 5], 35),
    tile("linear_hopper_128x256", [2, 256, 1, 4], 46),
    tile("linear_hopper_192x256", [3, 256, 1, 4], 55),
];

/// A wave of few blocks takes this share of a full one, in percent, and the more of the rest the more blocks it has.
/// With these numbers the choice costs 1.3 % against the fastest tile of each shape that was measured: 40 shapes, 96 to
/// 2,048 token rows.
const LEAST_WAVE: usize = 60;

impl HopperTile {
    /// The tile for `m` token rows and `w_rows` rows of w: the one that is done first if blocks come in waves, one a
    /// multiprocessor.
    pub(super) fn of(m: usize, w_rows: usize, multiprocessors: usize) -> &'static Self {
        let least = NARROW.iter().find(|tile| m <= tile.tokens);
        let all = multiprocessors.max(1);
        least.unwrap_or_else(|| {
            let time = |tile: &&Self| {
                let [x, y, _] = tile.blocks(m, w_rows);
                let (full, rest) = ((x * y) / all, (x * y) % all);
                let last = match rest {
                    0 => 0,
                    _ => LEAST_WAVE * all + (100 - LEAST_WAVE) * rest,
                };
                (full * 100 * all + last) * tile.cost
            };
            WIDE.iter().min_by_key(time).unwrap_or(&WIDE[0])
        })
    }

    pub(super) fn grid(&self, m: usize, w_rows: usize) -> Grid {
        let slice = (self.groups * GROUP_ROWS + self.tokens) * DEPTH * 2;
        Grid {
            blocks: self.blocks(m, w_rows),
            threads: (self.groups + 1) * GROUP_THREADS,
            shared_bytes: ALIGNED + self.stages * (self.slices * slice + BARRIERS),
        }
    }

    fn blocks(&self, m: usize, w_rows: usize) -> [usize; 3] {
        let rows = self.groups * GROUP_ROWS;
        [m.div_ceil(self.tokens), w_rows.div_ceil(rows), 1]
    }

    /// `[m, k]` of x, in boxes of this tile.
    pub(super) fn tokens(&self, m: usize, k: usize) -> BoxedMatrix {
        rows(m, k, self.tokens)
    }

    /// `[w_rows, k]` of w. Gated, a box has 8 rows of the upper half, the 8 of the lower that they gate, and so on.
    pub(super) fn weights(&self, w_rows: usize, k: usize, gated: bool) -> BoxedMatrix {
        let in_box = self.groups * GROUP_ROWS;
        if !gated {
            return rows(w_rows, k, in_box);
        }
        let [n, k, row] = [w_rows / 2, k, 2 * k].map(|it| it as u64);
        BoxedMatrix {
            sizes: [k, 8, 2, n / 8],
            strides: [row, n * row, 8 * row],
            boxes: [DEPTH as u32, 8, 2, in_box as u32 / 16],
            rank: 4,
        }
    }
}

/// A matrix of rows that lie one behind the other, so many of them in a box.
fn rows(rows: usize, k: usize, in_box: usize) -> BoxedMatrix {
    let row = 2 * k as u64;
    BoxedMatrix {
        sizes: [k as u64, rows as u64, 1, 1],
        strides: [row, 0, 0],
        boxes: [DEPTH as u32, in_box as u32, 1, 1],
        rank: 2,
    }
}

/// Whether the kernels take a matrix: pairs of rows come eight at a time.
pub(super) fn takes(w_rows: usize, gated: bool) -> bool {
    !gated || w_rows.is_multiple_of(16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_memory_fits_a_multiprocessor_of_hopper() {
        for tile in NARROW.iter().chain(&WIDE) {
            let bytes = tile.grid(1, 64).shared_bytes;
            assert!(bytes <= 227 << 10, "{tile:?}: {bytes}");
        }
    }

    #[test]
    fn a_tile_is_chosen_by_the_waves_of_its_blocks() {
        for (m, w_rows, expected) in [
            (1, 4096, "64x8"),
            (8, 4096, "64x8"),
            (9, 4096, "64x16"),
            (33, 4096, "64x64"),
            (64, 151_936, "64x64"),
            (128, 4096, "64x128"),
            (192, 4096, "128x64"),
            (192, 6144, "192x64"),
            (256, 4096, "64x128"),
            (256, 6144, "128x128"),
            (256, 24_576, "192x256"),
            (256, 151_936, "192x256"),
            (512, 6144, "192x128"),
            (2048, 4096, "128x256"),
            (2048, 24_576, "192x256"),
        ] {
            let tile = HopperTile::of(m, w_rows, 132).kernel;
            assert_eq!(
                tile,
                format!("linear_hopper_{expected}"),
                "{m} rows, {w_rows} features"
            );
        }
    }

    #[test]
    fn the_test_of_invariance_meets_every_tile() {
        // The shapes of `a_row_has_the_same_bits_in_every_tile`, on the emulator's multiprocessors.
        let tile = |m, w_rows| HopperTile::of(m, w_rows, 8).kernel;
        let rows = [133, 133, 133, 133, 133, 133, 300, 200];
        let plain = [70, 150, 220, 300, 450, 540, 700, 770];
        let gated = [40, 72, 112, 152, 224, 272, 352, 392].map(|n| 2 * n);
        let mut wide = WIDE.map(|tile| tile.kernel);
        wide.swap(6, 7);
        for features in [plain, gated] {
            let met: Vec<&str> = rows
                .into_iter()
                .zip(features)
                .map(|(m, n)| tile(m, n))
                .collect();
            assert_eq!(met, wide);
        }
        let narrow = NARROW.map(|tile| tile.kernel);
        for w_rows in [70, 80] {
            assert_eq!([8, 12, 24, 51].map(|m| tile(m, w_rows)), narrow);
        }
        // Every stage is used a second time.
        let steps = |tile: &HopperTile| 1_130_usize.div_ceil(tile.slices * DEPTH);
        assert!(NARROW.iter().chain(&WIDE).all(|it| steps(it) > it.stages));
    }

    #[test]
    fn gates_lie_beside_what_they_gate() {
        let matrix = NARROW[0].weights(48, 80, true);
        assert_eq!(matrix.sizes, [80, 8, 2, 3]);
        assert_eq!(matrix.strides, [160, 24 * 160, 8 * 160]);
        assert_eq!(matrix.boxes, [64, 8, 2, 4]);
        assert!(takes(48, true) && !takes(40, true) && takes(41, false));
    }
}
