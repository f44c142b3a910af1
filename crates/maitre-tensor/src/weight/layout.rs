//! Where each number of a packed weight lies.
//!
//! ```text
//! weight   [panel 0][panel 1] ...      a panel holds 16 output features, one per vector lane
//!          of a gated matrix, panels of gate and up projection alternate
//! panel    f32, f16, bf16   [row][row] ...
//!          int8             [16 scales][row][row] ...
//!          int4             ([16 scales, 16 zero points][row] ... of a group) ...
//!          stored blocks    see `weight::blocks`: a row is a unit of them
//! row      lane 0 | lane 1 | ... | lane 15     64 bytes: 1 f32, 2 bf16, 4 int8 or 8 int4 per lane
//! ```
//!
//! A row meets one word of activations (int4: two), broadcast to all lanes; so a kernel walks a
//! panel from its first byte to its last, in the order of the reduction, at any number of tokens.
//! Everything but f16 (32 bytes a row) comes in whole cache lines. What is missing at the end of
//! either dimension is stored as zeros.

use super::blocks::{BlockLayout, UNIT};
use crate::Activation;
use crate::format::WeightFormat;

/// Output features per panel: the f32 lanes of a 512-bit register.
pub(crate) const LANES: usize = 16;

/// A cache line; also a row of all formats but f16, and the header of a group.
pub(crate) const LINE: usize = 64;

/// Where a matrix's numbers lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) format: WeightFormat,
    /// Output features.
    pub(crate) rows: usize,
    /// Input features.
    pub(crate) cols: usize,
    /// How the first half of the output features gates the second, if it does: then panels of the two
    /// halves alternate, so that a gate and what it gates are computed side by side.
    pub(crate) gate: Option<Activation>,
}

impl Layout {
    /// Of a matrix without output features.
    pub(crate) const EMPTY: Self = Self {
        format: WeightFormat::F32,
        rows: 0,
        cols: 0,
        gate: None,
    };

    /// Number of panels.
    pub(crate) fn panels(&self) -> usize {
        if self.gate.is_some() {
            2 * (self.rows / 2).div_ceil(LANES)
        } else {
            self.rows.div_ceil(LANES)
        }
    }

    /// The output feature in a lane of a panel; none where a panel is filled up.
    pub(crate) fn feature(&self, panel: usize, lane: usize) -> Option<usize> {
        if self.gate.is_some() {
            let (feature, half) = (panel / 2 * LANES + lane, self.rows / 2);
            (feature < half).then_some(feature + panel % 2 * half)
        } else {
            let feature = panel * LANES + lane;
            (feature < self.rows).then_some(feature)
        }
    }

    /// Where an output feature is: the panel and the lane.
    pub(crate) fn place(&self, feature: usize) -> (usize, usize) {
        let half = self.rows / 2;
        if self.gate.is_some() {
            let (feature, is_up) = (feature % half, feature / half);
            (feature / LANES * 2 + is_up, feature % LANES)
        } else {
            (feature / LANES, feature % LANES)
        }
    }

    /// Input features that a row of a panel covers.
    pub(crate) fn row_depth(&self) -> usize {
        match self.format {
            WeightFormat::F32 | WeightFormat::F16 => 1,
            WeightFormat::Bf16 => 2,
            WeightFormat::Int8 { .. } => 4,
            WeightFormat::Int4 { .. } => 8,
            WeightFormat::Blocks(_) => UNIT,
        }
    }

    /// Bytes of a row of a panel.
    pub(crate) fn row_bytes(&self) -> usize {
        match self.format {
            WeightFormat::F16 => LINE / 2,
            WeightFormat::Blocks(format) => BlockLayout::of(format).unit_bytes,
            _ => LINE,
        }
    }

    /// Rows of a panel.
    pub(crate) fn depth(&self) -> usize {
        self.cols.div_ceil(self.row_depth())
    }

    /// Bytes of a panel, a multiple of [`LINE`].
    pub(crate) fn panel_bytes(&self) -> usize {
        let headers = match self.format {
            WeightFormat::Int8 { .. } => 1,
            WeightFormat::Int4 { group } => self.cols.div_ceil(group),
            WeightFormat::Blocks(format) => {
                let blocks = self.cols / format.block_len();
                return (blocks * BlockLayout::of(format).block_bytes()).next_multiple_of(LINE);
            }
            _ => 0,
        };
        (headers * LINE + self.depth() * self.row_bytes()).next_multiple_of(LINE)
    }

    /// Bytes of the whole matrix; `None` beyond the address space.
    pub(crate) fn total_bytes(&self) -> Option<usize> {
        // The largest factor is `cols * 4`, which the caller's own bytes have proven to fit.
        self.panels().checked_mul(self.panel_bytes())
    }

    /// Byte offset, within its panel, of the row that holds input feature `col`.
    pub(crate) fn row_offset(&self, col: usize) -> usize {
        let headers = match self.format {
            WeightFormat::Int8 { .. } => 1,
            WeightFormat::Int4 { group } => col / group + 1,
            WeightFormat::Blocks(format) => {
                let (layout, len) = (BlockLayout::of(format), format.block_len());
                return col / len * layout.block_bytes() + layout.codes_at(col % len / UNIT);
            }
            _ => 0,
        };
        headers * LINE + col / self.row_depth() * self.row_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_headers_fill_a_panel_without_overlap() {
        let formats = [
            "f32",
            "f16",
            "bf16",
            "int8",
            "int8-g32",
            "int4-g32",
            "int4",
            "int4-g128",
        ];
        for format in formats.map(|name| name.parse().unwrap()) {
            for cols in [1, 2, 7, 31, 32, 33, 100, 128, 300] {
                let layout = Layout {
                    format,
                    rows: 17,
                    cols,
                    gate: None,
                };
                assert_eq!(layout.panels(), 2);
                let mut offsets: Vec<usize> = (0..cols).map(|col| layout.row_offset(col)).collect();
                offsets.dedup();
                assert_eq!(offsets.len(), layout.depth(), "{format}, {cols}");
                assert!(offsets.is_sorted());
                let end = offsets.last().unwrap() + layout.row_bytes();
                assert_eq!(
                    end.next_multiple_of(LINE),
                    layout.panel_bytes(),
                    "{format}, {cols}"
                );
            }
        }
    }

    #[test]
    fn every_feature_has_one_place() {
        for (rows, gated, panels) in [(1, false, 1), (40, false, 3), (40, true, 4), (64, true, 4)] {
            let format = WeightFormat::F32;
            let layout = Layout {
                format,
                rows,
                cols: 1,
                gate: gated.then_some(Activation::Silu),
            };
            assert_eq!(layout.panels(), panels);
            let places = (0..panels).flat_map(|panel| (0..LANES).map(move |lane| (panel, lane)));
            let mut features = 0;
            for (panel, lane) in places {
                if let Some(feature) = layout.feature(panel, lane) {
                    assert_eq!(layout.place(feature), (panel, lane));
                    features += 1;
                }
            }
            assert_eq!(features, rows);
        }
    }
}
