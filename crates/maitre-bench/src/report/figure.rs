//! A chart of lines as an SVG document, or as a part of one.

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::BenchError;

/// Width and height of a chart in pixels.
pub(super) const SIZE: (u32, u32) = (720, 320);

/// Colours that are told apart in print and by most people who see fewer (Okabe and Ito 2008).
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 0, 0),
];

/// A line of a chart.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
}

/// A chart of lines.
#[derive(Debug, Clone)]
pub(super) struct Figure {
    pub(super) title: String,
    pub(super) x: String,
    /// What stands at 0, 1, 2, … of the horizontal axis, if that is no axis of numbers.
    pub(super) places: Option<Vec<String>>,
    pub(super) lines: Vec<Line>,
}

type Drawn = Result<(), Box<dyn std::error::Error>>;

impl Figure {
    /// The chart as a document of its own.
    pub(super) fn svg(&self) -> Result<String, BenchError> {
        document(SIZE, |area| self.draw(area))
    }

    /// Into an area of a drawing.
    pub(super) fn draw(&self, area: &DrawingArea<SVGBackend<'_>, Shift>) -> Drawn {
        let (left, right, top) = self.extent();
        let decimals = if top < 10.0 { 2 } else { 0 };
        let mut chart = ChartBuilder::on(area)
            .caption(&self.title, ("sans-serif", 20))
            .margin(12)
            .x_label_area_size(44)
            .y_label_area_size(72)
            .build_cartesian_2d(left..right, 0.0..top)?;
        let x_label = |x: &f64| self.label(*x, right - left);
        let y_label = |y: &f64| format!("{y:.decimals$}");
        let labels = self.places.as_ref().map_or(8, |places| places.len() * 4);
        chart
            .configure_mesh()
            .disable_x_mesh()
            .max_light_lines(1)
            .label_style(("sans-serif", 15))
            .x_desc(&self.x)
            .x_labels(labels)
            .x_label_formatter(&x_label)
            .y_labels(6)
            .y_label_formatter(&y_label)
            .draw()?;
        for (line, colour) in self.lines.iter().zip(COLOURS.iter().cycle()) {
            let points = || line.points.iter().copied();
            let drawn = chart.draw_series(LineSeries::new(points(), colour.stroke_width(2)))?;
            if self.lines.len() > 1 {
                let sample =
                    move |(x, y)| Rectangle::new([(x, y - 1), (x + 16, y + 1)], colour.filled());
                drawn.label(&line.name).legend(sample);
            }
            if self.places.is_some() {
                chart.draw_series(points().map(|point| Circle::new(point, 3, colour.filled())))?;
            }
        }
        if self.lines.len() > 1 {
            chart
                .configure_series_labels()
                .position(SeriesLabelPosition::UpperLeft)
                .label_font(("sans-serif", 14))
                .background_style(WHITE)
                .border_style(RGBColor(200, 200, 200))
                .draw()?;
        }
        Ok(())
    }

    fn extent(&self) -> (f64, f64, f64) {
        let points = || self.lines.iter().flat_map(|line| line.points.iter());
        let top = points()
            .map(|point| point.1)
            .fold(f64::MIN_POSITIVE, f64::max)
            * 1.15;
        match &self.places {
            Some(places) => (-0.25, places.len() as f64 - 0.75, top),
            None => {
                let most = points().map(|point| point.0).fold(0.0, f64::max);
                (0.0, if most > 0.0 { most } else { 1.0 }, top)
            }
        }
    }

    fn label(&self, x: f64, width: f64) -> String {
        let Some(places) = &self.places else {
            let decimals = if width < 10.0 { 1 } else { 0 };
            return format!("{x:.decimals$}");
        };
        let is_place = (x.round() - x).abs() < 1e-6 && x >= 0.0;
        let place = is_place.then(|| places.get(x.round() as usize)).flatten();
        place.cloned().unwrap_or_default()
    }
}

/// An SVG document that is drawn by a function.
pub(super) fn document(
    size: (u32, u32),
    draw: impl Fn(&DrawingArea<SVGBackend<'_>, Shift>) -> Drawn,
) -> Result<String, BenchError> {
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, size).into_drawing_area();
        let whole = |area: &DrawingArea<SVGBackend<'_>, Shift>| -> Drawn {
            area.fill(&WHITE)?;
            draw(area)?;
            Ok(area.present()?)
        };
        whole(&area).map_err(|error| BenchError::Plot {
            reason: error.to_string(),
        })?;
    }
    Ok(text)
}
