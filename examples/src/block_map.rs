//! The blocks of a KV pool over time, coloured by their holders.

use std::path::PathBuf;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use crate::picture::{COLOURS, file};

/// Blocks that several requests hold.
const SHARED: RGBColor = RGBColor(60, 60, 60);
/// Blocks that no request holds, kept for their contents.
const KEPT: RGBColor = RGBColor(205, 205, 205);

/// What is in a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell {
    /// Nothing that a later request could use.
    Empty,
    /// Something that a later request may begin with; no request holds it now.
    Kept,
    /// Something that only this owner holds, by its number.
    Held(usize),
    /// Something that several requests hold.
    Shared,
}

impl Cell {
    /// One character for the terminal: the owner's letter, `#` for shared, `-` for kept, `.` for empty.
    #[must_use]
    pub fn letter(self) -> char {
        match self {
            Self::Empty => '.',
            Self::Kept => '-',
            Self::Held(owner) => char::from(b'A' + (owner % 26) as u8),
            Self::Shared => '#',
        }
    }

    fn colour(self) -> Option<RGBColor> {
        match self {
            Self::Empty => None,
            Self::Kept => Some(KEPT),
            Self::Held(owner) => Some(COLOURS[owner % COLOURS.len()]),
            Self::Shared => Some(SHARED),
        }
    }
}

/// The pool at one moment.
#[derive(Debug, Clone)]
pub struct Frame {
    /// What the row is called.
    pub name: String,
    /// What is in each block, `[blocks]`.
    pub cells: Vec<Cell>,
}

/// Draws one row for each of `frames`, the first on top; returns the file.
///
/// # Errors
///
/// A folder or file that can't be written.
pub fn draw(name: &str, title: &str, owners: &[&str], frames: &[Frame]) -> Result<PathBuf> {
    let path = file(name)?;
    let blocks = frames.iter().map(|frame| frame.cells.len()).max();
    let (blocks, rows) = (blocks.unwrap_or(0) as i32, frames.len() as i32);
    let kinds: Vec<(&str, Cell)> = owners
        .iter()
        .enumerate()
        .map(|(owner, name)| (*name, Cell::Held(owner)))
        .chain([("held by several", Cell::Shared), ("kept", Cell::Kept)])
        .collect();
    let draw = || -> Result<(), Box<dyn std::error::Error>> {
        let area =
            SVGBackend::new(&path, (760, 110 + 20 * frames.len() as u32)).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(title, ("sans-serif", 20))
            .margin(14)
            .x_label_area_size(40)
            .y_label_area_size(64)
            // To the right of the blocks is space for the legend.
            .build_cartesian_2d(0..blocks * 5 / 4, (0..rows).into_segmented())?;
        let label = |row: &SegmentValue<i32>| match row {
            SegmentValue::CenterOf(row) => frames
                .get((rows - 1 - row) as usize)
                .map_or_else(String::new, |frame| frame.name.clone()),
            _ => String::new(),
        };
        chart
            .configure_mesh()
            .disable_mesh()
            .x_desc("block")
            .x_label_formatter(&|block| {
                if *block < blocks {
                    block.to_string()
                } else {
                    String::new()
                }
            })
            .y_labels(frames.len())
            .y_label_formatter(&label)
            .draw()?;
        let outline = frames
            .iter()
            .enumerate()
            .flat_map(|(row, frame)| (0..frame.cells.len()).map(move |block| (row, block)))
            .map(|(row, block)| square(rows, row, block, BLACK.mix(0.15).stroke_width(1)));
        chart.draw_series(outline)?;
        for (name, kind) in kinds {
            let Some(colour) = kind.colour() else {
                continue;
            };
            let squares = frames.iter().enumerate().flat_map(|(row, frame)| {
                let cells = frame.cells.iter().enumerate();
                cells
                    .filter(move |(_, cell)| **cell == kind)
                    .map(move |(block, _)| square(rows, row, block, colour.filled()))
            });
            chart
                .draw_series(squares)?
                .label(name)
                .legend(move |(x, y)| {
                    Rectangle::new([(x, y - 5), (x + 12, y + 5)], colour.filled())
                });
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .background_style(WHITE.mix(0.9))
            .border_style(BLACK.mix(0.3))
            .draw()?;
        area.present()?;
        Ok(())
    };
    draw().map_err(|error| anyhow!("drawing {}: {error}", path.display()))?;
    Ok(path)
}

type Corner = (i32, SegmentValue<i32>);

/// One block in one row.
fn square(rows: i32, row: usize, block: usize, style: ShapeStyle) -> Rectangle<Corner> {
    let (at, block) = (rows - 1 - row as i32, block as i32);
    let mut square = Rectangle::new(
        [
            (block, SegmentValue::Exact(at)),
            (block + 1, SegmentValue::Exact(at + 1)),
        ],
        style,
    );
    square.set_margin(1, 1, 1, 1);
    square
}
