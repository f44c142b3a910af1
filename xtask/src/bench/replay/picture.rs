//! The picture of a trace: what share kept to the SLO, and how long first tokens took, over the load.

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::element::DashedPathElement;
use plotters::prelude::*;

use super::bend::Bend;
use super::points::{Numbers, Point};
use super::table::Curve;

/// Width and height in pixels, of which each chart has half.
const SIZE: (u32, u32) = (760, 760);

/// The colours of the policies, told apart by most eyes (Okabe and Ito 2008).
const COLOURS: [RGBColor; 5] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
];

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Plane = Cartesian2d<RangedCoordf64, RangedCoordf64>;
type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Plane>;
type Drawn = Result<(), Box<dyn std::error::Error>>;
type Pick = fn(&Numbers) -> f64;

/// An SVG document. The bend is where the share falls below what is `wanted`.
pub(super) fn svg(title: &str, curves: &[Curve<'_>], wanted: f64) -> Result<String> {
    let mut text = String::new();
    let draw = |text: &mut String| -> Drawn {
        let area = SVGBackend::with_string(text, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let (upper, lower) = area.split_vertically(SIZE.1 / 2);
        shares(&upper, title, curves, wanted)?;
        first_tokens(&lower, curves)?;
        Ok(area.present()?)
    };
    draw(&mut text).map_err(|error| anyhow!("drawing {title}: {error}"))?;
    Ok(text)
}

/// In percent, with the legend of both charts and the bends.
fn shares(area: &Area<'_>, title: &str, curves: &[Curve<'_>], wanted: f64) -> Drawn {
    let (left, right) = loads(curves);
    let mut chart = builder(area, title).build_cartesian_2d(left..right, 0.0..105.0)?;
    lines(
        &mut chart,
        "answers that kept to the SLO, %",
        curves,
        |it| it.kept * 100.0,
    )?;
    let wanted_line = [(left, wanted * 100.0), (right, wanted * 100.0)];
    chart.draw_series(LineSeries::new(wanted_line, BLACK.mix(0.4)))?;
    for (curve, colour) in curves.iter().zip(COLOURS.iter().cycle()) {
        let [measured, foreseen] = curve.bends(wanted);
        let mark = |style: ShapeStyle, bend: Option<Bend>| {
            let load = bend.and_then(Bend::load);
            load.map(|load| Circle::new((load, wanted * 100.0), 6, style))
        };
        chart.draw_series(mark(colour.filled(), measured))?;
        chart.draw_series(mark(colour.stroke_width(2), foreseen))?;
    }
    legend(&mut chart, curves)
}

/// In milliseconds.
fn first_tokens(area: &Area<'_>, curves: &[Curve<'_>]) -> Drawn {
    let (left, right) = loads(curves);
    let both = |point: &&Point| [point.measured.ttft_p90, point.foreseen.ttft_p90];
    let values = || curves.iter().flat_map(|it| it.points.iter().flat_map(both));
    let most = values().fold(1.0, f64::max);
    let mut chart = builder(area, "").build_cartesian_2d(left..right, 0.0..most * 1.1)?;
    lines(&mut chart, "TTFT p90, ms", curves, |it| it.ttft_p90)
}

fn builder<'a, 'b>(area: &'a Area<'b>, title: &str) -> ChartBuilder<'a, 'b, SVGBackend<'b>> {
    let mut builder = ChartBuilder::on(area);
    builder
        .margin(12)
        .x_label_area_size(42)
        .y_label_area_size(64);
    if !title.is_empty() {
        builder.caption(title, ("sans-serif", 20));
    }
    builder
}

/// From a little below the smallest load to a little above the largest.
fn loads(curves: &[Curve<'_>]) -> (f64, f64) {
    let loads = || {
        curves
            .iter()
            .flat_map(|it| it.points.iter().map(|point| point.load))
    };
    let least = loads().fold(f64::MAX, f64::min);
    let most = loads().fold(0.0, f64::max).max(least);
    (least - 0.05, most + 0.05)
}

/// The axes, and two lines for each policy: measured with its points, and foreseen, dashed.
fn lines(chart: &mut Chart<'_, '_>, y: &str, curves: &[Curve<'_>], pick: Pick) -> Drawn {
    chart
        .configure_mesh()
        .max_light_lines(0)
        .label_style(("sans-serif", 15))
        .x_desc("offered load, as a share of the capacity")
        .x_label_formatter(&|load| format!("{load:.1}"))
        .y_desc(y)
        .y_label_formatter(&|value| format!("{value:.0}"))
        .draw()?;
    for (curve, colour) in curves.iter().zip(COLOURS.iter().cycle()) {
        let along = |of: fn(&Point) -> Numbers| -> Vec<(f64, f64)> {
            let points = curve.points.iter();
            points.map(|it| (it.load, pick(&of(it)))).collect()
        };
        let measured = along(|point| point.measured);
        let style = colour.stroke_width(2);
        chart.draw_series(LineSeries::new(measured.iter().copied(), style))?;
        let dots = measured
            .iter()
            .map(|&at| Circle::new(at, 3, colour.filled()));
        chart.draw_series(dots)?;
        let foreseen = along(|point| point.foreseen);
        chart.draw_series(DashedLineSeries::new(foreseen, 8, 6, style))?;
    }
    Ok(())
}

fn legend<'a, 'b: 'a>(chart: &mut Chart<'a, 'b>, curves: &[Curve<'_>]) -> Drawn {
    let none = || LineSeries::new(std::iter::empty::<(f64, f64)>(), BLACK);
    for (curve, colour) in curves.iter().zip(COLOURS.iter().cycle()) {
        let sample = move |(x, y)| PathElement::new([(x, y), (x + 24, y)], colour.stroke_width(3));
        chart
            .draw_series(none())?
            .label(curve.policy)
            .legend(sample);
    }
    let measured = |(x, y)| PathElement::new([(x, y), (x + 24, y)], BLACK.stroke_width(2));
    chart
        .draw_series(none())?
        .label("measured")
        .legend(measured);
    let dashes =
        |(x, y)| DashedPathElement::new([(x, y), (x + 24, y)], 8, 6, BLACK.stroke_width(2));
    chart.draw_series(none())?.label("foreseen").legend(dashes);
    let marks = |(x, y)| {
        EmptyElement::at((x, y))
            + Circle::new((6, 0), 5, BLACK.filled())
            + Circle::new((19, 0), 5, BLACK.stroke_width(2))
    };
    chart
        .draw_series(none())?
        .label("bends of both")
        .legend(marks);
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerLeft)
        .label_font(("sans-serif", 14))
        .background_style(WHITE.mix(0.85))
        .border_style(RGBColor(200, 200, 200))
        .draw()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::points::tests::point;
    use super::*;

    /// The circles that are no dots of points, in both charts, and not the legend's.
    fn circles(points: &[Point]) -> usize {
        let curve = Curve {
            policy: "fcfs",
            rows: 400,
            points: points.iter().collect(),
        };
        let drawn = svg("rows", &[curve], 0.95).unwrap();
        assert!(drawn.starts_with("<svg") && drawn.trim_end().ends_with("</svg>"));
        drawn.matches("<circle").count() - 2 * points.len() - 2
    }

    #[test]
    fn each_bend_between_two_loads_is_marked() {
        let low = point("fcfs", 0.4, [1.0, 1.0]);
        let both = [low.clone(), point("fcfs", 0.8, [0.5, 0.9])];
        assert_eq!(circles(&both), 2);
        let measured = [low.clone(), point("fcfs", 0.8, [0.5, 1.0])];
        assert_eq!(circles(&measured), 1);
        assert_eq!(circles(&[low]), 0);
    }
}
