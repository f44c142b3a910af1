//! Which part of the server's processor time goes where, by Linux's sampling profiler.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

/// What a sample was taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Operators of the model, and the copies and waits around them.
    Forward,
    /// From logits to a token.
    Sampling,
    /// Scheduler, KV manager, speculation and the step loop's own records.
    Bookkeeping,
    /// Detokenizing, parsing and the events of the streams.
    Text,
    /// JSON and protocol.
    Http,
    /// The system's calls of the threads that speak HTTP.
    HttpSystem,
}

impl Part {
    /// All parts, in the order of the way through a step.
    pub const ALL: [Self; 6] = [
        Self::Forward,
        Self::Sampling,
        Self::Bookkeeping,
        Self::Text,
        Self::Http,
        Self::HttpSystem,
    ];

    /// By the name of the thread, whether the processor was in the system, and the symbol.
    fn of(thread: &str, in_system: bool, symbol: &str) -> Self {
        let is_in = |crates: &[&str]| crates.iter().any(|it| symbol.contains(it));
        match thread {
            _ if thread.starts_with("tokio") && in_system => Self::HttpSystem,
            _ if thread.starts_with("tokio") => Self::Http,
            _ if thread.starts_with("maitre-publish") => Self::Text,
            // Its loops are instances of pulp's generic functions.
            _ if is_in(&["maitre_sampling", "pulp"]) => Self::Sampling,
            _ if is_in(&[
                "maitre_scheduler",
                "maitre_kv",
                "maitre_speculative",
                "maitre_engine",
            ]) =>
            {
                Self::Bookkeeping
            }
            _ => Self::Forward,
        }
    }

    /// What a table says of it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Forward => "forward pass, and the copies and waits around it",
            Self::Sampling => "sampling",
            Self::Bookkeeping => "scheduler, KV manager, speculator, bookkeeping",
            Self::Text => "text: detokenizing, parsing, events",
            Self::Http => "HTTP: JSON and protocol",
            Self::HttpSystem => "HTTP: the system's calls",
        }
    }

    /// Whether it is done by the thread that runs the steps, or by the compute team.
    #[must_use]
    pub fn is_of_the_step_loop(self) -> bool {
        matches!(self, Self::Forward | Self::Sampling | Self::Bookkeeping)
    }

    /// Whether it belongs to text, sampling and HTTP.
    #[must_use]
    pub fn is_beside_the_model(self) -> bool {
        !matches!(self, Self::Forward | Self::Bookkeeping)
    }
}

/// Samples by part.
#[derive(Debug, Clone, Default)]
pub struct Profile {
    samples: Vec<(Part, u64)>,
}

impl Profile {
    /// Samples of the parts that `counts` picks.
    #[must_use]
    pub fn samples(&self, counts: impl Fn(Part) -> bool) -> u64 {
        let picked = self.samples.iter().filter(|(part, _)| counts(*part));
        picked.map(|(_, samples)| samples).sum()
    }

    /// `report`: lines of `perf report` sorted by thread, object and symbol, with counts.
    fn parse(report: &str) -> Self {
        let samples = report.lines().filter_map(|line| {
            // `12.3%  456  thread  object  [k] symbol`
            let mut words = line.split_whitespace();
            let share = words.next()?.strip_suffix('%')?;
            share.parse::<f64>().ok()?;
            let samples = words.next()?.parse().ok()?;
            let (thread, _object, mode) = (words.next()?, words.next()?, words.next()?);
            let symbol: Vec<&str> = words.collect();
            Some((Part::of(thread, mode == "[k]", &symbol.join(" ")), samples))
        });
        Self {
            samples: samples.collect(),
        }
    }
}

/// Samples per second of processor time.
const FREQUENCY: &str = "499";

/// Looks at the process `pid` for `length`.
pub(super) async fn record(pid: u32, length: Duration) -> Result<Profile> {
    let data = std::env::temp_dir().join(format!("maitre-streams-{pid}.perf"));
    let recorded = Command::new("perf")
        .args(["record", "-q", "-e", "cpu-clock", "-F", FREQUENCY, "-p"])
        .arg(pid.to_string())
        .arg("-o")
        .arg(&data)
        .args(["--", "sleep", &length.as_secs_f64().to_string()])
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .status()
        .await
        .context("running `perf`: this measurement needs Linux's profiler (package linux-perf)")?;
    ensure!(
        recorded.success(),
        "`perf record` failed: {recorded}; it needs root or kernel.perf_event_paranoid <= 1"
    );
    let report = Command::new("perf")
        .arg("report")
        .arg("-i")
        .arg(&data)
        .args(["--stdio", "--no-children", "-g", "none", "-n"])
        .args(["--sort", "comm,dso,sym"])
        .output()
        .await?;
    let _ = std::fs::remove_file(&data);
    let profile = Profile::parse(&String::from_utf8_lossy(&report.stdout));
    let samples = profile.samples(|_| true);
    ensure!(samples > 0, "`perf report` shows no sample");
    Ok(profile)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_counted_by_thread_and_symbol() {
        let report = "# Samples: 21\n\n    50.00%  10  maitre-team-1  maitre  [.] maitre_tensor::x86::dot\n\
             20.00%   4  tokio-rt-worker  [kernel.kallsyms]  [k] tcp_sendmsg\n\
             15.00%   3  tokio-rt-worker  maitre  [.] serde_json::ser::to_vec\n\
             10.00%   2  maitre-engine  maitre  [.] <pulp::x86::V4 as pulp::Simd>::vectorize\n\
             5.00%   1  maitre-publisher  maitre  [.] maitre_text::detokenize\n\
             5.00%   1  maitre-engine  maitre  [.] maitre_kv::manager::KvManager::grow\n";
        let profile = Profile::parse(report);
        let of = |part| profile.samples(|it| it == part);
        assert_eq!(Part::ALL.map(of), [10, 2, 1, 1, 3, 4]);
        assert_eq!(profile.samples(Part::is_beside_the_model), 10);
        assert_eq!(profile.samples(Part::is_of_the_step_loop), 13);
    }
}
