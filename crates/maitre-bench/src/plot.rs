//! The report as a picture: throughput, and what it costs in latency, over concurrency.

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::{BenchError, Report};

const SIZE: (u32, u32) = (720, 640);
const BLUE: RGBColor = RGBColor(31, 119, 180);
const RED: RGBColor = RGBColor(214, 39, 40);

/// Two panels, one above the other, as an SVG document.
pub(crate) fn svg(report: &Report) -> Result<String, BenchError> {
    let mut document = String::new();
    let throughput: Vec<f64> = report
        .runs
        .iter()
        .map(|run| run.output_tokens_per_second)
        .collect();
    let gap: Vec<f64> = report
        .runs
        .iter()
        .map(|run| run.itl_ms.map_or(0.0, |itl| itl.p99))
        .collect();
    draw(&mut document, report, &throughput, &gap).map_err(|error| BenchError::Plot {
        reason: error.to_string(),
    })?;
    Ok(document)
}

fn draw(
    document: &mut String,
    report: &Report,
    throughput: &[f64],
    gap: &[f64],
) -> Result<(), Box<dyn std::error::Error>> {
    let users: Vec<usize> = report.runs.iter().map(|run| run.concurrency).collect();
    let area = SVGBackend::with_string(document, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let (upper, lower) = area.split_vertically(SIZE.1 / 2);
    panel(&upper, "output tokens per second", &users, throughput, BLUE)?;
    panel(
        &lower,
        "inter-token latency, 99th percentile (ms)",
        &users,
        gap,
        RED,
    )?;
    area.present()?;
    Ok(())
}

/// Concurrencies stand at equal distances: they are usually powers of two.
fn panel(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    title: &str,
    users: &[usize],
    values: &[f64],
    colour: RGBColor,
) -> Result<(), Box<dyn std::error::Error>> {
    let points = || (0_u32..).map(f64::from).zip(values.iter().copied());
    let right = points().last().map_or(0.0, |(x, _)| x) + 0.25;
    let top = values.iter().copied().fold(f64::MIN_POSITIVE, f64::max) * 1.15;
    let label = |x: &f64| {
        let whole = (x.round() - x).abs() < 1e-6 && *x >= 0.0;
        let found = if whole {
            users.get(x.round() as usize)
        } else {
            None
        };
        found.map(usize::to_string).unwrap_or_default()
    };
    let decimals = if top < 10.0 { 2 } else { 0 };
    let tick = |y: &f64| format!("{y:.decimals$}");
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 22))
        .margin(12)
        .x_label_area_size(48)
        .y_label_area_size(72)
        .build_cartesian_2d(-0.25..right, 0.0..top)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .max_light_lines(1)
        .label_style(("sans-serif", 17))
        .x_desc("concurrent users")
        .x_labels(users.len() * 4)
        .x_label_formatter(&label)
        .y_labels(6)
        .y_label_formatter(&tick)
        .draw()?;
    chart.draw_series(LineSeries::new(points(), colour.stroke_width(2)))?;
    chart.draw_series(points().map(|point| Circle::new(point, 4, colour.filled())))?;
    Ok(())
}
