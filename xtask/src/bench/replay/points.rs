//! What was measured and foreseen, in a file as it is measured: an interrupted run goes on where it was.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::program::Calibrated;

/// How requests were answered: the share of all that kept to the SLO, and latencies in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Numbers {
    pub(super) kept: f64,
    pub(super) ttft_p50: f64,
    pub(super) ttft_p90: f64,
    pub(super) ttft_p99: f64,
    pub(super) tpot_p50: f64,
    pub(super) tpot_p99: f64,
}

impl Numbers {
    /// Of a simulation, or of a run of a measurement: both call them the same.
    pub(super) fn of_report(report: &Value) -> Result<Self> {
        let number = |pointer: &str| {
            let number = report.pointer(pointer).and_then(Value::as_f64);
            number.with_context(|| format!("the report has no {pointer}: {}", report["errors"]))
        };
        Ok(Self {
            kept: number("/goodput/share")?,
            ttft_p50: number("/ttft_ms/p50")?,
            ttft_p90: number("/ttft_ms/p90")?,
            ttft_p99: number("/ttft_ms/p99")?,
            tpot_p50: number("/tpot_ms/p50")?,
            tpot_p99: number("/tpot_ms/p99")?,
        })
    }

    /// As reports have them.
    fn to_json(self) -> Value {
        json!({
            "goodput": {"share": self.kept},
            "ttft_ms": {"p50": self.ttft_p50, "p90": self.ttft_p90, "p99": self.ttft_p99},
            "tpot_ms": {"p50": self.tpot_p50, "p99": self.tpot_p99},
        })
    }
}

/// A policy under a load.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Point {
    pub(super) trace: String,
    pub(super) policy: String,
    /// As a share of the capacity.
    pub(super) load: f64,
    pub(super) measured: Numbers,
    pub(super) foreseen: Numbers,
}

impl Point {
    fn to_json(&self) -> Value {
        json!({
            "trace": self.trace,
            "policy": self.policy,
            "load": self.load,
            "measured": self.measured.to_json(),
            "foreseen": self.foreseen.to_json(),
        })
    }

    fn of_json(line: &Value) -> Result<Self> {
        let text = |name: &str| line[name].as_str().map(str::to_owned);
        Ok(Self {
            trace: text("trace").context("a point without its trace")?,
            policy: text("policy").context("a point without its policy")?,
            load: line["load"].as_f64().context("a point without its load")?,
            measured: Numbers::of_report(&line["measured"])?,
            foreseen: Numbers::of_report(&line["foreseen"])?,
        })
    }
}

/// A file with a line for the flags, then one for each calibration and each point.
pub(super) struct Kept {
    file: File,
    path: PathBuf,
    calibrations: Vec<(String, Calibrated)>,
    points: Vec<Point>,
}

impl Kept {
    /// An empty file, or with `resume` that of an earlier run with the same flags.
    pub(super) fn open(path: &Path, flags: &str, resume: bool) -> Result<Self> {
        let naming = || format!("in {}", path.display());
        let text = match resume && path.exists() {
            true => fs::read_to_string(path).with_context(naming)?,
            false => String::new(),
        };
        let mut options = OpenOptions::new();
        options.create(true).write(true).truncate(true);
        let (calibrations, points) = read(&text, flags).with_context(naming)?;
        let mut kept = Self {
            file: options.open(path).with_context(naming)?,
            path: path.to_path_buf(),
            calibrations: Vec::new(),
            points: Vec::new(),
        };
        // Written anew, without a line that was cut off when the run ended.
        kept.line(&json!({ "flags": flags }))?;
        for (trace, calibrated) in calibrations {
            kept.add_calibration(&trace, calibrated)?;
        }
        for point in points {
            kept.add(point)?;
        }
        Ok(kept)
    }

    pub(super) fn calibration(&self, trace: &str) -> Option<&Calibrated> {
        let mut all = self.calibrations.iter();
        all.find(|it| it.0 == trace).map(|it| &it.1)
    }

    pub(super) fn add_calibration(&mut self, trace: &str, calibrated: Calibrated) -> Result<()> {
        self.line(&json!({"trace": trace, "calibrated": calibrated.to_json()}))?;
        self.calibrations.push((trace.to_owned(), calibrated));
        Ok(())
    }

    /// Those of a trace and a policy, from the smallest load to the largest.
    pub(super) fn points(&self, trace: &str, policy: &str) -> Vec<&Point> {
        let of = |point: &&Point| point.trace == trace && point.policy == policy;
        let mut points: Vec<&Point> = self.points.iter().filter(of).collect();
        points.sort_by(|a, b| a.load.total_cmp(&b.load));
        points
    }

    pub(super) fn add(&mut self, point: Point) -> Result<()> {
        self.line(&point.to_json())?;
        self.points.push(point);
        Ok(())
    }

    fn line(&mut self, value: &Value) -> Result<()> {
        let written = writeln!(self.file, "{value}");
        written.with_context(|| format!("writing {}", self.path.display()))
    }
}

type Lines = (Vec<(String, Calibrated)>, Vec<Point>);

/// What the lines hold, up to one that was cut off when the run ended.
fn read(text: &str, flags: &str) -> Result<Lines> {
    let mut lines = text.lines().map(serde_json::from_str::<Value>);
    let (mut calibrations, mut points) = (Vec::new(), Vec::new());
    let Some(first) = lines.next() else {
        return Ok((calibrations, points));
    };
    ensure!(
        first?["flags"] == flags,
        "the points are of other flags than these; run without --resume"
    );
    for line in lines.map_while(Result::ok) {
        match (line["trace"].as_str(), line.get("calibrated")) {
            (Some(trace), Some(calibrated)) => {
                let calibrated = Calibrated::of_json(calibrated).context("no calibration")?;
                calibrations.push((trace.to_owned(), calibrated));
            }
            _ => points.push(Point::of_json(&line)?),
        }
    }
    Ok((calibrations, points))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn point(policy: &str, load: f64, kept: [f64; 2]) -> Point {
        // All latencies that are foreseen are twice those that are measured.
        let numbers = |kept: f64, times: f64| Numbers {
            kept,
            ttft_p50: 10.0 * load * times,
            ttft_p90: 20.0 * load * times,
            ttft_p99: 30.0 * load * times,
            tpot_p50: 2.0 * times,
            tpot_p99: 5.0 * times,
        };
        Point {
            trace: "azure".to_owned(),
            policy: policy.to_owned(),
            load,
            measured: numbers(kept[0], 1.0),
            foreseen: numbers(kept[1], 2.0),
        }
    }

    #[test]
    fn an_interrupted_run_goes_on_where_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("replay.jsonl");
        let told = json!({"hardware": {"name": "here"}, "flags": {"max-model-len": 2048}});
        let calibrated = Calibrated::of_json(&told).unwrap();
        let mut kept = Kept::open(&path, "a", true).unwrap();
        kept.add_calibration("azure", calibrated.clone()).unwrap();
        let (low, high) = (
            point("fcfs", 0.4, [1.0, 0.9]),
            point("fcfs", 0.8, [0.5, 0.4]),
        );
        kept.add(high.clone()).unwrap();
        kept.add(point("fair", 0.4, [1.0, 1.0])).unwrap();
        kept.add(low.clone()).unwrap();
        drop(kept);
        // The last line was not written whole.
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text + "{\"trace\": \"azure\", \"pol").unwrap();

        for _ in 0..2 {
            let kept = Kept::open(&path, "a", true).unwrap();
            assert_eq!(kept.calibration("azure"), Some(&calibrated));
            assert_eq!(kept.calibration("mooncake"), None);
            assert_eq!(kept.points("azure", "fcfs"), [&low, &high]);
            assert_eq!(kept.points("azure", "fair").len(), 1);
        }
        let message = format!("{:#}", Kept::open(&path, "b", true).err().unwrap());
        assert!(message.contains("run without --resume"), "{message}");
        let kept = Kept::open(&path, "b", false).unwrap();
        assert!(kept.points.is_empty() && kept.calibrations.is_empty());
        assert!(Kept::open(&path, "b", true).is_ok());
    }
}
