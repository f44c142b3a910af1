//! The charts of a report.

use super::figure::{Figure, Line, SIZE, document};
use super::table;
use crate::{BenchError, Percentiles, Report, Run, Samples};

/// A distribution of a run.
type Pick = fn(&Run) -> Option<Percentiles>;

/// A line over loads: its name and its value for a run.
type OverLoads<'a> = (&'a str, fn(&Run) -> Option<f64>);

/// A distribution by its title, and its values.
type Values<'a> = (&'a str, fn(&Samples) -> Vec<f64>);

/// Throughput and what it costs in latency, one above the other, as an SVG document.
pub(super) fn svg(report: &Report) -> Result<String, BenchError> {
    let itl = over_loads(
        report,
        "inter-token latency, 99th percentile (ms)",
        &[("p99", |run| run.itl_ms.map(|itl| itl.p99))],
    );
    let throughput = throughput(report);
    document((SIZE.0, SIZE.1 * 2), |area| {
        let (upper, lower) = area.split_vertically(SIZE.1);
        throughput.draw(&upper)?;
        itl.draw(&lower)
    })
}

/// All charts: throughput and latencies over loads, one run over time, and distributions.
pub(super) fn all(report: &Report) -> Vec<Figure> {
    let mut figures = vec![throughput(report)];
    let latencies: [(&str, Pick); 3] = [
        ("time to first token (ms)", |run| run.ttft_ms),
        ("time per output token (ms)", |run| run.tpot_ms),
        ("end to end (ms)", |run| run.e2e_ms),
    ];
    for (title, pick) in latencies {
        figures.push(latency(report, title, pick));
    }
    figures.extend(report.runs.last().map(timeline));
    let distributions: [Values<'_>; 4] = [
        ("time to first token", |it| it.ttft_ms.clone()),
        ("time per output token", |it| {
            it.tpot_ms.iter().copied().flatten().collect()
        }),
        ("inter-token latency", |it| it.itl_percentiles_ms.clone()),
        ("end to end", |it| it.e2e_ms.clone()),
    ];
    for (title, pick) in distributions {
        figures.push(distribution(report, title, pick));
    }
    figures
}

fn throughput(report: &Report) -> Figure {
    over_loads(
        report,
        "output tokens per second",
        &[("tokens", |run| Some(run.output_tokens_per_second))],
    )
}

fn latency(report: &Report, title: &str, pick: Pick) -> Figure {
    let line = |name: &str, of: fn(Percentiles) -> f64| Line {
        name: name.to_owned(),
        points: places(report, |run| pick(run).map(of)),
    };
    Figure {
        title: title.to_owned(),
        lines: vec![
            line("p50", |it| it.p50),
            line("p90", |it| it.p90),
            line("p99", |it| it.p99),
        ],
        ..over_loads(report, title, &[])
    }
}

/// Loads stand at equal distances: users are usually powers of two.
fn over_loads(report: &Report, title: &str, lines: &[OverLoads<'_>]) -> Figure {
    let is_closed = report.runs.iter().all(|run| run.concurrency.is_some());
    Figure {
        title: title.to_owned(),
        x: if is_closed {
            "concurrent users"
        } else {
            "load"
        }
        .to_owned(),
        places: Some(report.runs.iter().map(table::load).collect()),
        lines: lines
            .iter()
            .map(|(name, pick)| Line {
                name: (*name).to_owned(),
                points: places(report, pick),
            })
            .collect(),
    }
}

fn places(report: &Report, pick: impl Fn(&Run) -> Option<f64>) -> Vec<(f64, f64)> {
    let runs = report.runs.iter().enumerate();
    runs.filter_map(|(place, run)| Some((place as f64, pick(run)?)))
        .collect()
}

fn timeline(run: &Run) -> Figure {
    let timeline = &run.timeline;
    let line = |name: &str, values: &[Option<f64>]| {
        let values = values.iter().enumerate();
        let at = |piece: usize| (piece as f64 + 0.5) * timeline.piece_s;
        Line {
            name: name.to_owned(),
            points: values
                .filter_map(|(piece, value)| Some((at(piece), (*value)?)))
                .collect(),
        }
    };
    Figure {
        title: format!("inter-token latency over time (ms), {}", run.load),
        x: "seconds".to_owned(),
        places: None,
        lines: vec![
            line("p50", &timeline.itl_p50_ms),
            line("p99", &timeline.itl_p99_ms),
        ],
    }
}

fn distribution(report: &Report, title: &str, pick: fn(&Samples) -> Vec<f64>) -> Figure {
    let line = |run: &Run| {
        let mut values = pick(&run.samples);
        values.sort_by(f64::total_cmp);
        let count = values.len().max(1) as f64;
        let shares = (1..=values.len()).map(|rank| rank as f64 / count * 100.0);
        Line {
            name: run.load.clone(),
            points: values.into_iter().zip(shares).collect(),
        }
    };
    Figure {
        title: format!("{title}: percent of values up to"),
        x: "ms".to_owned(),
        places: None,
        lines: report.runs.iter().map(line).collect(),
    }
}
