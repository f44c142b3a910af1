//! Lesson 14: as many replicas as the hour needs.
//!
//! Lets a load rise and fall over simulated replicas that are started and stopped: by the queue, by the use of the KV cache, by the
//! SLO, with targets and cold starts that differ. Run it with `cargo run --release --example lesson14_autoscaling`; the page is
//! `docs/src/lessons/lesson14_autoscaling.md`.

use std::time::Duration;

use anyhow::{Result, ensure};
use maitre_examples::picture::{self, Line};
use maitre_examples::traffic::{Traffic, llama_on_h100};
use maitre_examples::{quick, table};
use maitre_sim::routing::Routing;
use maitre_sim::{Autoscaling, Report, ScaleBy};

/// Requests a second that one replica takes within the SLO (lesson 7 finds it).
const OF_A_REPLICA: f64 = 20.0;

const SLO: &str = "ttft=500ms,tpot=25ms";

fn main() -> Result<()> {
    let hour = Hour::new();
    println!("\n{}\n", hour.told());
    let plain = hour.compare()?;
    hour.targets()?;
    hour.cold_starts()?;
    hour.draw(&plain)
}

/// A load that rises to several times what it was, stays there, and falls, with a burst before the end.
struct Hour {
    peak: f64,
    seconds: f64,
    traffic: Traffic,
}

impl Hour {
    fn new() -> Self {
        // A short one for builds that check every step.
        let (peak, seconds) = if quick() { (8.0, 12.0) } else { (100.0, 600.0) };
        let (prompt, output) = match quick() {
            true => ((20, 60), (5, 20)),
            false => ((200, 1800), (100, 300)),
        };
        let traffic = Traffic::varying(
            |at| rate(at / seconds) * peak,
            peak,
            seconds,
            prompt,
            output,
            14,
        );
        Self {
            peak,
            seconds,
            traffic,
        }
    }

    /// Replicas for the peak.
    fn most(&self) -> usize {
        (self.peak / OF_A_REPLICA).ceil() as usize
    }

    fn told(&self) -> String {
        format!(
            "{} requests in {:.0} s: from {:.0} a second to {:.0}, and a burst of {:.0}; kept to {SLO}",
            self.traffic.len(),
            self.seconds,
            self.peak * rate(0.0),
            self.peak * rate(0.5),
            self.peak * rate(0.85)
        )
    }

    fn cold_start(&self) -> Duration {
        Duration::from_secs_f64(self.seconds / 30.0)
    }

    fn scaling(&self, by: ScaleBy, cold_start: Duration) -> Autoscaling {
        Autoscaling {
            cold_start,
            every: Duration::from_secs_f64(self.seconds / 360.0),
            cooldown: Duration::from_secs_f64(self.seconds / 30.0),
            ..Autoscaling::new(by, 1, self.most() + 2)
        }
    }

    fn simulate(&self, replicas: usize, scaling: Option<Autoscaling>) -> Result<Report> {
        let mut simulation = llama_on_h100()?;
        simulation.replicas = replicas;
        simulation.routing = Routing::LeastLoaded;
        simulation.slo = SLO.parse()?;
        simulation.autoscaling = scaling;
        Ok(simulation.run(&mut self.traffic.clone())?)
    }

    fn scaled(&self, by: ScaleBy, cold_start: Duration) -> Result<Report> {
        // As many at first as the first load needs.
        let first = (self.peak * rate(0.0) / OF_A_REPLICA).ceil() as usize;
        self.simulate(first, Some(self.scaling(by, cold_start)))
    }

    /// Fixed fleets beside one of each kind that scales.
    fn compare(&self) -> Result<Vec<(String, Report)>> {
        let mut reports = Vec::new();
        for replicas in [self.most(), self.most().div_ceil(2)] {
            let plural = if replicas == 1 { "" } else { "s" };
            let name = format!("{replicas} replica{plural}");
            reports.push((name, self.simulate(replicas, None)?));
        }
        for by in [ScaleBy::Queue(2.0), ScaleBy::KvUse(0.1), ScaleBy::Slo(0.99)] {
            reports.push((by.to_string(), self.scaled(by, self.cold_start())?));
        }
        print(&reports);
        let of_peak = kept(&reports[0].1);
        ensure!(of_peak > 0.99, "the fleet for the peak keeps {of_peak}");
        Ok(reports)
    }

    /// Each kind with other targets: what is kept, against what is paid.
    fn targets(&self) -> Result<()> {
        let kinds: [(&str, Vec<ScaleBy>); 3] = [
            ("queue", [0.25, 0.5, 1.0, 2.0].map(ScaleBy::Queue).into()),
            (
                "KV cache",
                [0.05, 0.07, 0.1, 0.15].map(ScaleBy::KvUse).into(),
            ),
            ("SLO", [0.999, 0.99, 0.97, 0.9].map(ScaleBy::Slo).into()),
        ];
        let mut lines = Vec::new();
        let mut rows = Vec::new();
        for (name, targets) in kinds {
            let targets = if quick() { &targets[..1] } else { &targets[..] };
            let mut points = Vec::new();
            for by in targets {
                let report = self.scaled(*by, self.cold_start())?;
                points.push((report.replica_seconds / 3600.0, 100.0 * kept(&report)));
                rows.push((by.to_string(), report));
            }
            points.sort_by(|a, b| a.0.total_cmp(&b.0));
            lines.push(Line {
                name: format!("by the {name}"),
                points,
            });
        }
        let mut fixed = Vec::new();
        for replicas in self.most().div_ceil(2)..=self.most() {
            let report = self.simulate(replicas, None)?;
            fixed.push((report.replica_seconds / 3600.0, 100.0 * kept(&report)));
        }
        lines.push(Line {
            name: "fixed fleets".into(),
            points: fixed,
        });
        println!("The same with other targets\n");
        print(&rows);
        let path = picture::lines(
            "lesson14_paid",
            "What is kept against what is paid",
            "replica-hours",
            "percent kept to the SLO",
            &lines,
        )?;
        println!("picture: {}\n", path.display());
        Ok(())
    }

    /// The same rule with replicas that start sooner and later.
    fn cold_starts(&self) -> Result<()> {
        let times: &[f64] = if quick() {
            &[0.0, 1.0]
        } else {
            &[0.0, 0.25, 0.5, 1.0, 2.0, 4.0]
        };
        let mut rows = Vec::new();
        let mut reports = Vec::new();
        for times in times {
            let cold_start = self.cold_start().mul_f64(*times);
            let report = self.scaled(ScaleBy::Queue(2.0), cold_start)?;
            rows.push(vec![
                format!("{:.0} s", cold_start.as_secs_f64()),
                percent(kept(&report)),
                hours(report.replica_seconds),
                format!("{:.0}", report.ttft_ms.map_or(0.0, |times| times.p99)),
                report.requests.refused.values().sum::<u64>().to_string(),
            ]);
            reports.push(report);
        }
        println!("By the queue, with other cold starts\n");
        table::print(
            &[
                "cold start",
                "kept",
                "replica-hours",
                "TTFT p99 (ms)",
                "refused",
            ],
            &rows,
        );
        if let ([first, ..], [.., last]) = (&reports[..], &reports[..]) {
            ensure!(
                kept(first) >= kept(last),
                "a replica that is there at once keeps at least as much as one that is late"
            );
        }
        Ok(())
    }

    /// Replicas over time, with what the load would need.
    fn draw(&self, reports: &[(String, Report)]) -> Result<()> {
        let minutes = |seconds: f64| seconds / 60.0;
        let needed = (0..=120).map(|it| {
            let share = f64::from(it) / 120.0;
            (
                minutes(share * self.seconds),
                rate(share) * self.peak / OF_A_REPLICA,
            )
        });
        let mut lines = vec![Line {
            name: "load, in replicas".into(),
            points: needed.collect(),
        }];
        for (name, report) in reports {
            let Some(scaling) = &report.scaling else {
                continue;
            };
            let mut points: Vec<(f64, f64)> = Vec::new();
            for size in &scaling.sizes {
                let paid = size.paid() as f64;
                // A step, not a slope.
                points.extend(points.last().map(|last| (minutes(size.at_s), last.1)));
                points.push((minutes(size.at_s), paid));
            }
            lines.push(Line {
                name: name.clone(),
                points,
            });
        }
        let path = picture::lines(
            "lesson14_replicas",
            "Replicas that are paid for",
            "minutes",
            "replicas",
            &lines,
        )?;
        println!("picture: {}", path.display());
        Ok(())
    }
}

/// The load after a share of the time, as a share of its peak.
fn rate(share: f64) -> f64 {
    const LOW: f64 = 0.12;
    match share {
        it if it < 0.1 => LOW,
        it if it < 0.35 => LOW + (1.0 - LOW) * (it - 0.1) / 0.25,
        it if it < 0.55 => 1.0,
        it if it < 0.7 => LOW + (1.0 - LOW) * (0.7 - it) / 0.15,
        it if it < 0.82 => LOW,
        it if it < 0.9 => 0.7,
        _ => LOW,
    }
}

fn kept(report: &Report) -> f64 {
    report.goodput.as_ref().map_or(0.0, |goodput| goodput.share)
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

fn hours(seconds: f64) -> String {
    format!("{:.2}", seconds / 3600.0)
}

fn print(reports: &[(String, Report)]) {
    let row = |(name, report): &(String, Report)| {
        let scaling = report.scaling.as_ref();
        let most = scaling.and_then(|it| it.sizes.iter().map(|size| size.paid()).max());
        vec![
            name.clone(),
            percent(kept(report)),
            hours(report.replica_seconds),
            most.unwrap_or(report.replicas).to_string(),
            scaling.map_or(String::new(), |it| {
                format!("{}, {}", it.started, it.stopped)
            }),
            format!("{:.0}", report.ttft_ms.map_or(0.0, |times| times.p99)),
            percent(report.steps.busy_share),
        ]
    };
    let rows: Vec<Vec<String>> = reports.iter().map(row).collect();
    table::print(
        &[
            "fleet",
            "kept",
            "replica-hours",
            "most",
            "started, stopped",
            "TTFT p99 (ms)",
            "busy",
        ],
        &rows,
    );
}
