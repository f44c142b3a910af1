//! `cargo xtask bench replay`: recorded requests under several loads and each scheduling policy, measured and simulated.
//!
//! The same rows of a public trace are played faster and faster, `maitre bench` to the engine and `maitre simulate` to the simulator
//! that was calibrated just before. From some load on too few answers keep to the SLO: the bend. What is measured is printed and kept
//! point by point; at the end there is a picture and a table of each trace.

mod arguments;
mod bend;
mod picture;
mod points;
mod program;
mod rows;
mod table;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use maitre_workload::Trace;

pub(super) use self::arguments::Arguments;
use self::bend::Bend;
use self::points::{Kept, Numbers, Point};
use self::program::{Calibrated, Play, Program};
use self::rows::{Recording, Rows};
use self::table::{Curve, table};
use super::build_maitre;
use crate::cargo::target_directory;

/// Rows from which it is estimated how many are enough.
const FIRST_ROWS: usize = 400;

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let arguments = arguments.clone().completed()?;
    let traces = arguments.recordings()?;
    let seconds = arguments.estimated_seconds();
    println!("about {:.0} minutes", (seconds / 60.0).ceil());
    let out = arguments.out.clone();
    let out = out.unwrap_or_else(|| target_directory().join("bench-replay"));
    fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
    // A program is started in the root of the workspace, wherever this one was.
    let out = fs::canonicalize(out)?;
    let flags = arguments.that_matter();
    let mut replay = Replay {
        kept: Kept::open(&out.join("replay.jsonl"), &flags, arguments.resume)?,
        program: Program {
            maitre: match &arguments.program {
                Some(program) => fs::canonicalize(program)
                    .with_context(|| format!("there is no program {}", program.display()))?,
                None => build_maitre()?,
            },
            model: arguments.model.clone(),
            engine: arguments.engine.clone(),
        },
        arguments,
        out,
    };
    let mut page = String::new();
    for (recording, path, scale) in traces {
        let trace = replay.prepare(recording, &path, scale)?;
        replay.play(&trace)?;
        page += &replay.tell(&trace)?;
        fs::write(replay.out.join("replay.md"), &page)?;
    }
    println!("\n{page}\nwritten to {}", replay.out.display());
    Ok(())
}

struct Replay {
    arguments: Arguments,
    program: Program,
    out: PathBuf,
    kept: Kept,
}

/// A trace that is ready to be played.
struct Prepared {
    recording: &'static Recording,
    scale: f64,
    rows: Rows,
    file: PathBuf,
    calibrated: Calibrated,
    hardware: PathBuf,
    /// Requests a second.
    capacity: f64,
    slo: String,
}

impl Replay {
    /// Calibrates, and chooses the rows, the capacity and the bounds by it.
    fn prepare(
        &mut self,
        recording: &'static Recording,
        path: &Path,
        scale: f64,
    ) -> Result<Prepared> {
        let name = recording.name;
        if self.kept.calibration(name).is_none() {
            println!("calibrating before {name}");
            let calibrated = self.program.calibrate(self.arguments.calibrate_seconds)?;
            self.kept.add_calibration(name, calibrated)?;
        }
        let calibrated = self
            .kept
            .calibration(name)
            .context("no calibration")?
            .clone();
        let hardware = self.out.join(format!("{name}-hardware.json"));
        calibrated.write(&hardware)?;
        let trace = rows::that_fit(&Recording::read(path)?, scale, calibrated.context()?);
        let mut prepared = Prepared {
            recording,
            scale,
            rows: Rows::first_of(&trace, FIRST_ROWS)?,
            file: self.out.join(format!("{name}-rows.jsonl")),
            calibrated,
            hardware,
            capacity: 0.0,
            slo: String::new(),
        };
        self.choose_rows(&mut prepared, &trace)?;
        prepared.slo = match &self.arguments.slo {
            Some(slo) => slo.clone(),
            None => {
                let load = self.arguments.loads[0];
                let easiest = prepared.at(load, "fcfs", "ttft=1s");
                let light = self.program.simulate(&easiest, prepared.simulator())?;
                bounds(&light, self.arguments.slack)
            }
        };
        println!(
            "{name}: {} rows, which last {:.1} s at the capacity of {:.2} requests/s, {}",
            prepared.rows.len(),
            prepared.lasts(),
            prepared.capacity,
            prepared.slo
        );
        if let Some(few) = self.too_few(&prepared) {
            println!("{few}");
        }
        Ok(prepared)
    }

    /// As many rows as last so long at their capacity, which depends on how many and which they are.
    fn choose_rows(&self, prepared: &mut Prepared, trace: &Trace) -> Result<()> {
        let capacity_of = |rows: usize| -> Result<f64> {
            prepared.rows = Rows::first_of(trace, rows)?;
            prepared.rows.write(&prepared.file)?;
            let file = (prepared.file.as_path(), prepared.scale);
            self.program.capacity(file, prepared.simulator())
        };
        let (seconds, all) = (self.arguments.seconds, trace.requests.len());
        prepared.capacity = rows::that_last(seconds, FIRST_ROWS, all, capacity_of)?;
        Ok(())
    }

    /// What is said of rows that are too few for a bend, if they are.
    fn too_few(&self, trace: &Prepared) -> Option<String> {
        let (rows, wanted) = (trace.rows.len(), self.arguments.slo_share);
        Bend::are_too_few(rows, wanted).then(|| {
            format!(
                "{rows} rows are too few to tell where fewer than {:.0} % are good, since one bad answer would decide; more --seconds are \
                 more rows",
                wanted * 100.0
            )
        })
    }

    /// All policies under one load before the next load, each time another one first: what changes the machine for minutes changes
    /// all of them.
    fn play(&mut self, trace: &Prepared) -> Result<()> {
        let loads = self.arguments.loads.clone();
        let mut policies = self.arguments.policies.clone();
        for load in loads {
            for policy in &policies {
                self.measure(trace, load, policy)?;
            }
            policies.rotate_left(1);
        }
        Ok(())
    }

    /// A point, unless an earlier run has left it.
    fn measure(&mut self, trace: &Prepared, load: f64, policy: &str) -> Result<()> {
        let name = trace.recording.name;
        let kept = self.kept.points(name, policy);
        if kept.iter().any(|point| point.load == load) {
            return Ok(());
        }
        let play = trace.at(load, policy, &trace.slo);
        let point = Point {
            trace: name.to_owned(),
            policy: policy.to_owned(),
            load,
            measured: self.program.measure(&play)?,
            foreseen: self.program.simulate(&play, trace.simulator())?,
        };
        println!("{}", told(&point));
        self.kept.add(point)
    }

    /// The picture, and a part of the page.
    fn tell(&self, trace: &Prepared) -> Result<String> {
        let arguments = &self.arguments;
        let name = trace.recording.name;
        let curves: Vec<Curve<'_>> = arguments
            .policies
            .iter()
            .map(|policy| Curve {
                policy,
                rows: trace.rows.len(),
                points: self.kept.points(name, policy),
            })
            .collect();
        let title = trace.recording.title;
        let picture = format!("replay-{name}.svg");
        let svg = picture::svg(title, &curves, arguments.slo_share)?;
        fs::write(self.out.join(&picture), svg)?;
        let mut page = String::new();
        write!(
            page,
            "### {title}\n\n![Good answers and time to the first token over the load]({picture})\n\n\
             {} rows of {}, their lengths × {}. A load of 1 is {:.2} requests/s, at which they last {:.1} s. A good answer keeps to `{}`; \
             the bend is where fewer than {:.0} % are good. Latencies are in ms, foreseen \
             ones in brackets.{}\n\n{}\n",
            trace.rows.len(),
            trace.recording.file,
            trace.scale,
            trace.capacity,
            trace.lasts(),
            trace.slo,
            arguments.slo_share * 100.0,
            self.too_few(trace)
                .map_or_else(String::new, |few| format!(" {few}.")),
            table(&curves, arguments.slo_share, arguments.at)
        )?;
        Ok(page)
    }
}

impl Prepared {
    /// Seconds that the rows last at the capacity.
    fn lasts(&self) -> f64 {
        self.rows.len() as f64 / self.capacity
    }

    fn at<'a>(&'a self, load: f64, policy: &'a str, slo: &'a str) -> Play<'a> {
        Play {
            trace: &self.file,
            scale: self.scale,
            speed: self.rows.speed(load * self.capacity),
            policy,
            slo,
        }
    }

    fn simulator(&self) -> (&Calibrated, &Path) {
        (&self.calibrated, &self.hardware)
    }
}

/// An SLO that the latencies of a light load keep to, with two digits.
fn bounds(light: &Numbers, slack: f64) -> String {
    let bound = |ms: f64| {
        let ms = ms * slack;
        let digit = 10_f64.powf(ms.log10().floor() - 1.0);
        // Thousandths, since a sum of powers of ten is not exact.
        format!("{}ms", ((ms / digit).ceil() * digit * 1e3).round() / 1e3)
    };
    format!(
        "ttft={},tpot={}",
        bound(light.ttft_p99),
        bound(light.tpot_p99)
    )
}

fn told(point: &Point) -> String {
    let (measured, foreseen) = (&point.measured, &point.foreseen);
    format!(
        "{:<8} {:>4} {:<8}  good {:5.1} % ({:5.1} %)  TTFT p50 {:7.1} ({:7.1})  p99 {:7.1} ({:7.1})  TPOT p50 {:6.1} ({:6.1}) ms",
        point.trace,
        point.load,
        point.policy,
        measured.kept * 100.0,
        foreseen.kept * 100.0,
        measured.ttft_p50,
        foreseen.ttft_p50,
        measured.ttft_p99,
        foreseen.ttft_p99,
        measured.tpot_p50,
        foreseen.tpot_p50
    )
}

#[cfg(test)]
mod tests {
    use super::points::tests::point;
    use super::*;

    #[test]
    fn bounds_are_rounded_up_to_two_digits() {
        let mut light = point("fcfs", 0.4, [1.0, 1.0]).measured;
        for (ttft, tpot, expected) in [
            (300.0, 5.0, "ttft=380ms,tpot=6.3ms"),
            (80.0, 0.1, "ttft=100ms,tpot=0.13ms"),
            (2441.0, 8.0, "ttft=3100ms,tpot=10ms"),
        ] {
            (light.ttft_p99, light.tpot_p99) = (ttft, tpot);
            assert_eq!(bounds(&light, 1.25), expected);
        }
    }
}
