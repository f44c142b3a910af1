//! Pictures as SVG files, drawn with `plotters`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use plotters::prelude::*;

/// The colours of the series, told apart by most eyes (Okabe and Ito 2008).
pub(crate) const COLOURS: [RGBColor; 5] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(213, 94, 0),
];

/// One line of a chart.
#[derive(Debug, Clone)]
pub struct Line {
    /// Its name in the legend.
    pub name: String,
    /// Its points, from left to right.
    pub points: Vec<(f64, f64)>,
}

/// One bar of a Gantt-like picture: a row and consecutive phases, each up to a time.
#[derive(Debug, Clone)]
pub struct Bar {
    /// The row's name.
    pub name: String,
    /// Ends of its phases, in the order of the picture's `phases`, in milliseconds.
    pub ends: Vec<f64>,
    /// Where its first phase begins, in milliseconds.
    pub begin: f64,
}

/// Where pictures go: `target/lessons/NAME.svg` below the current directory.
pub(crate) fn file(name: &str) -> Result<PathBuf> {
    let folder = Path::new("target/lessons");
    std::fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    Ok(folder.join(format!("{name}.svg")))
}

/// The upper corner in which a legend covers fewer of the points.
fn corner(points: impl Iterator<Item = (f64, f64)>, right: f64, top: f64) -> SeriesLabelPosition {
    let balance: f64 = points
        .filter(|point| point.1 > 0.6 * top)
        .map(|point| (point.0 - 0.5 * right).signum())
        .sum();
    if balance < 0.0 {
        SeriesLabelPosition::UpperRight
    } else {
        SeriesLabelPosition::UpperLeft
    }
}

/// Draws lines over a common x axis; returns the file.
///
/// # Errors
///
/// A folder or file that can't be written.
pub fn lines(name: &str, title: &str, x: &str, y: &str, series: &[Line]) -> Result<PathBuf> {
    let path = file(name)?;
    let points = || series.iter().flat_map(|line| line.points.iter().copied());
    let right = points().map(|point| point.0).fold(0.0, f64::max);
    let top = points().map(|point| point.1).fold(0.0, f64::max) * 1.1;
    let draw = || -> Result<(), Box<dyn std::error::Error>> {
        let area = SVGBackend::new(&path, (760, 420)).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(title, ("sans-serif", 20))
            .margin(14)
            .x_label_area_size(42)
            .y_label_area_size(64)
            .build_cartesian_2d(0.0..right, 0.0..top)?;
        chart
            .configure_mesh()
            .x_desc(x)
            .y_desc(y)
            .light_line_style(WHITE)
            .draw()?;
        for (line, colour) in series.iter().zip(COLOURS.iter().cycle()) {
            let style = colour.stroke_width(2);
            chart
                .draw_series(LineSeries::new(line.points.iter().copied(), style).point_size(3))?
                .label(&line.name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
        }
        chart
            .configure_series_labels()
            .position(corner(points(), right, top))
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK.mix(0.3))
            .draw()?;
        area.present()?;
        Ok(())
    };
    draw().map_err(|error| anyhow!("drawing {}: {error}", path.display()))?;
    Ok(path)
}

/// Draws who did what when, one row per bar; returns the file.
///
/// # Errors
///
/// A folder or file that can't be written.
pub fn gantt(name: &str, title: &str, phases: &[&str], bars: &[Bar]) -> Result<PathBuf> {
    let path = file(name)?;
    let right = bars
        .iter()
        .flat_map(|bar| bar.ends.iter().copied())
        .fold(1.0, f64::max)
        * 1.02;
    let rows = bars.len() as i32;
    // A legend with a line for each phase covers about as many bars.
    let on_top = bars
        .iter()
        .take(phases.len())
        .flat_map(|bar| bar.ends.last());
    let legend = if on_top.fold(0.0_f64, |last, end| last.max(*end)) < 0.7 * right {
        SeriesLabelPosition::UpperRight
    } else {
        SeriesLabelPosition::LowerRight
    };
    let draw = || -> Result<(), Box<dyn std::error::Error>> {
        let area = SVGBackend::new(&path, (760, 90 + 26 * bars.len() as u32)).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(title, ("sans-serif", 20))
            .margin(14)
            .x_label_area_size(36)
            .y_label_area_size(90)
            .build_cartesian_2d(0.0..right, (0..rows).into_segmented())?;
        let label = |row: &SegmentValue<i32>| match row {
            SegmentValue::CenterOf(row) => bars
                .get((rows - 1 - row) as usize)
                .map_or_else(String::new, |bar| bar.name.clone()),
            _ => String::new(),
        };
        chart
            .configure_mesh()
            .disable_y_mesh()
            .x_desc("milliseconds")
            .y_labels(bars.len())
            .y_label_formatter(&label)
            .draw()?;
        for (index, phase) in phases.iter().enumerate() {
            let colour = COLOURS[index % COLOURS.len()];
            let rectangles = bars.iter().enumerate().filter_map(|(row, bar)| {
                let begin = if index == 0 {
                    bar.begin
                } else {
                    *bar.ends.get(index - 1)?
                };
                let end = *bar.ends.get(index)?;
                let at = rows - 1 - row as i32;
                let corners = [
                    (begin, SegmentValue::Exact(at)),
                    (end, SegmentValue::Exact(at + 1)),
                ];
                let mut rectangle = Rectangle::new(corners, colour.mix(0.85).filled());
                rectangle.set_margin(4, 4, 0, 0);
                Some(rectangle)
            });
            chart
                .draw_series(rectangles)?
                .label(*phase)
                .legend(move |(x, y)| {
                    Rectangle::new([(x, y - 5), (x + 12, y + 5)], colour.mix(0.85).filled())
                });
        }
        chart
            .configure_series_labels()
            .position(legend.clone())
            .background_style(WHITE.mix(0.9))
            .border_style(BLACK.mix(0.3))
            .draw()?;
        area.present()?;
        Ok(())
    };
    draw().map_err(|error| anyhow!("drawing {}: {error}", path.display()))?;
    Ok(path)
}
