//! Rows of a table, widened.

use half::{bf16, f16};

use super::blocks;
use crate::element::Element;
use crate::format::WeightFormat;
use crate::weight::layout::{LANES, LINE};
use crate::weight::{INT8_ZERO, PackedView};

/// See [`Kernels::embed`](crate::kernels::Kernels::embed).
///
/// A row of the table is a lane of a panel: one number, or a few, of each cache line. The few rows
/// of a step cost little beside its products, which a table in another order would cost a copy.
pub(crate) fn embed(table: PackedView<'_>, row: usize, out: &mut [f32]) {
    let layout = table.layout;
    let (panel, lane) = layout.place(row);
    let panel = table.panel(panel);
    match layout.format {
        WeightFormat::Blocks(format) => blocks::embed(format, table, row, out),
        WeightFormat::F32 => each::<4>(panel, lane, 1, out, |word, _| f32::from_le_bytes(*word)),
        WeightFormat::F16 => {
            each::<2>(panel, lane, 1, out, |word, _| {
                f16::from_le_bytes(*word).widen()
            });
        }
        WeightFormat::Bf16 => each::<4>(panel, lane, 2, out, |word, i| {
            <bf16 as Element>::from_le_bytes(&word[i * 2..]).widen()
        }),
        WeightFormat::Int8 { .. } => {
            let scale = f32::from_le_bytes(panel[..LINE].as_chunks().0[lane]);
            each::<4>(&panel[LINE..], lane, 4, out, |word, i| {
                (i32::from(word[i]) - INT8_ZERO) as f32 * scale
            });
        }
        WeightFormat::Int4 { group } => {
            let groups = panel.chunks((group / 8 + 1) * LINE);
            for (bytes, out) in groups.zip(out.chunks_mut(group)) {
                let (header, rows) = bytes.split_at(LINE);
                let scale = <bf16 as Element>::from_le_bytes(&header[lane * 2..]).widen();
                let zero = i32::from(header[2 * LANES + lane]);
                each::<4>(rows, lane, 8, out, |word, i| {
                    let step = word[i % 4] >> (i / 4 * 4) & 15;
                    (i32::from(step) - zero) as f32 * scale
                });
            }
        }
    }
}

/// Numbers of one lane, `depth` to a row.
#[inline(always)]
fn each<const SIZE: usize>(
    rows: &[u8],
    lane: usize,
    depth: usize,
    out: &mut [f32],
    number: impl Fn(&[u8; SIZE], usize) -> f32,
) {
    let rows = rows.chunks_exact(LANES * SIZE);
    for (row, out) in rows.zip(out.chunks_mut(depth)) {
        let word = &row.as_chunks::<SIZE>().0[lane];
        for (i, out) in out.iter_mut().enumerate() {
            *out = number(word, i);
        }
    }
}
