//! The table of a trace, in Markdown.

use std::fmt::Write;

use super::bend::Bend;
use super::points::{Numbers, Point};

/// A policy under all loads, from the smallest to the largest.
pub(super) struct Curve<'a> {
    pub(super) policy: &'a str,
    /// How many rows each point is of.
    pub(super) rows: usize,
    pub(super) points: Vec<&'a Point>,
}

/// A number of an answer.
type Pick = fn(&Numbers) -> f64;

/// Latencies of the table.
const LATENCIES: [(&str, Pick); 3] = [
    ("TTFT p50", |it| it.ttft_p50),
    ("TTFT p99", |it| it.ttft_p99),
    ("TPOT p50", |it| it.tpot_p50),
];

impl Curve<'_> {
    /// Measured, and foreseen.
    pub(super) fn bends(&self, wanted: f64) -> [Option<Bend>; 2] {
        if Bend::are_too_few(self.rows, wanted) {
            return [Some(Bend::TooFewRows); 2];
        }
        let bend = |of: fn(&Point) -> Numbers| {
            let points: Vec<(f64, f64)> = self
                .points
                .iter()
                .map(|point| (point.load, of(point).kept))
                .collect();
            Bend::of(&points, wanted)
        };
        [bend(|point| point.measured), bend(|point| point.foreseen)]
    }

    /// The point whose load is nearest to this one.
    fn at(&self, load: f64) -> Option<&Point> {
        let far = |point: &&&Point| (point.load - load).abs();
        let near = self.points.iter();
        near.min_by(|a, b| far(a).total_cmp(&far(b))).copied()
    }
}

/// One line for each policy; latencies are those under a load of about `at`, foreseen ones in brackets.
pub(super) fn table(curves: &[Curve<'_>], wanted: f64, at: f64) -> String {
    let load = curves.iter().find_map(|curve| curve.at(at));
    let load = load.map_or(at, |point| point.load);
    let mut text = "| policy | bend measured | foreseen | difference |".to_owned();
    for (name, _) in LATENCIES {
        let _ = write!(text, " {name} at {load} |");
    }
    text += "\n|---|---|---|---|---|---|---|\n";
    for curve in curves {
        let [measured, foreseen] = curve.bends(wanted);
        let _ = write!(
            text,
            "| `{}` | {} | {} | {} |",
            curve.policy,
            told(measured),
            told(foreseen),
            difference(measured, foreseen)
        );
        for (_, pick) in LATENCIES {
            if let Some(point) = curve.at(at) {
                let (measured, foreseen) = (pick(&point.measured), pick(&point.foreseen));
                let _ = write!(text, " {measured:.1} ({foreseen:.1}) |");
            }
        }
        text.push('\n');
    }
    text
}

fn told(bend: Option<Bend>) -> String {
    bend.map_or_else(|| "not tried".to_owned(), |bend| bend.to_string())
}

/// How far the foreseen bend is from the measured one, where both are between two loads.
fn difference(measured: Option<Bend>, foreseen: Option<Bend>) -> String {
    let load = |bend: Option<Bend>| bend.and_then(Bend::load);
    match (load(measured), load(foreseen)) {
        (Some(measured), Some(foreseen)) => {
            format!("{:+.1} %", (foreseen / measured - 1.0) * 100.0)
        }
        _ => "not known".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::points::tests::point;
    use super::*;

    fn curve<'a>(policy: &'a str, points: &'a [Point]) -> Curve<'a> {
        Curve {
            policy,
            rows: 400,
            points: points.iter().collect(),
        }
    }

    #[test]
    fn a_line_tells_both_bends_and_the_latencies_at_the_nearest_load() {
        let points = [
            point("fcfs", 0.4, [1.0, 1.0]),
            point("fcfs", 0.9, [1.0, 1.0]),
            point("fcfs", 1.4, [0.9, 0.75]),
        ];
        let flat = [
            point("fair", 0.4, [1.0, 0.5]),
            point("fair", 0.9, [1.0, 0.5]),
        ];
        let curves = [curve("fcfs", &points), curve("fair", &flat)];
        let expected = "\
| policy | bend measured | foreseen | difference | TTFT p50 at 0.9 | TTFT p99 at 0.9 | TPOT p50 at 0.9 |
|---|---|---|---|---|---|---|
| `fcfs` | 1.15 | 1.00 | -13.0 % | 9.0 (18.0) | 27.0 (54.0) | 2.0 (4.0) |
| `fair` | above 0.90 | below 0.40 | not known | 9.0 (18.0) | 27.0 (54.0) | 2.0 (4.0) |
";
        assert_eq!(table(&curves, 0.95, 0.8), expected);
    }

    #[test]
    fn too_few_rows_have_no_bend() {
        let points = [
            point("fcfs", 0.4, [1.0, 1.0]),
            point("fcfs", 0.8, [0.9, 1.0]),
        ];
        let few = Curve {
            rows: 27,
            ..curve("fcfs", &points)
        };
        let told = table(&[few], 0.95, 0.8);
        assert!(
            told.contains("| `fcfs` | too few rows | too few rows | not known |"),
            "{told}"
        );
    }
}
