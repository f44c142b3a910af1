//! The parts of a latency, in milliseconds, each with the clock or the count that tells it.

use maitre_workload::Slo;

use crate::Run;
use crate::driver::CLIENT_FULL;
use crate::summary::REFUSED;

/// The code of connections that fail. A server says it, too, of itself.
const UNAVAILABLE: &str = "UNAVAILABLE";

/// What is said, in small letters, where a client cannot open a connection: it has no more files or ports, or there is no way.
const NO_CONNECTION: [&str; 4] = [
    "client error (connect)",
    "tcp connect error",
    "too many open files",
    "cannot assign requested address",
];

/// What is said where a server does not listen, which is no fault of the client.
const NOT_LISTENING: &str = "connection refused";

/// The bound that most requests broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    /// Requests were refused or failed.
    Answered,
    Ttft,
    Tpot,
    E2e,
}

impl Broken {
    /// Of a run under bounds.
    pub(crate) fn most(run: &Run, slo: &Slo) -> Self {
        let ms = |time: std::time::Duration| time.as_secs_f64() * 1e3;
        let over = |values: &mut dyn Iterator<Item = f64>, bound: Option<std::time::Duration>| {
            bound.map_or(0, |bound| values.filter(|value| *value > ms(bound)).count())
        };
        let samples = &run.samples;
        let counts = [
            (Self::Answered, run.requests - run.completed),
            (
                Self::Ttft,
                over(&mut samples.ttft_ms.iter().copied(), slo.ttft),
            ),
            (
                Self::Tpot,
                over(&mut samples.tpot_ms.iter().copied().flatten(), slo.tpot),
            ),
            (
                Self::E2e,
                over(&mut samples.e2e_ms.iter().copied(), slo.e2e),
            ),
        ];
        // Of several that were broken as often the first one.
        let most = counts.into_iter().rev().max_by_key(|(_, count)| *count);
        most.map_or(Self::E2e, |(broken, _)| broken)
    }

    pub(crate) fn told(self, run: &Run) -> String {
        let mean = |it: Option<crate::Percentiles>| it.map_or(0.0, |it| it.mean);
        match self {
            Self::Answered => {
                let (failed, requests) = (run.requests - run.completed, run.requests);
                format!(
                    "{failed} of {requests} requests were not answered under {} ({})",
                    run.load,
                    run.told_errors()
                )
            }
            Self::Ttft => format!(
                "TTFT is what breaks: {:.1} ms on average",
                mean(run.ttft_ms)
            ),
            Self::Tpot => format!(
                "TPOT is what breaks: {:.2} ms on average",
                mean(run.tpot_ms)
            ),
            Self::E2e => format!("E2E is what breaks: {:.1} ms on average", mean(run.e2e_ms)),
        }
    }
}

/// Parts of the mean of a latency.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Parts(Vec<(&'static str, f64)>);

impl Parts {
    pub(crate) fn of(run: &Run, broken: Broken) -> Self {
        match broken {
            // Times say nothing of requests that were not answered; what they failed with does.
            Broken::Answered => Self(vec![(of_failures(run), 0.0)]),
            Broken::Ttft => Self(of_ttft(run)),
            Broken::Tpot => Self(of_tpot(run)),
            Broken::E2e => {
                let answered = run.completed.max(1) as f64;
                let later = (run.output_tokens as f64 / answered - 1.0).max(0.0);
                let mut parts = of_ttft(run);
                for (name, ms) in of_tpot(run) {
                    match parts.iter_mut().find(|part| part.0 == name) {
                        Some(part) => part.1 += ms * later,
                        None => parts.push((name, ms * later)),
                    }
                }
                Self(parts)
            }
        }
    }

    pub(crate) fn minus(&self, before: &Self) -> Self {
        let of = |name: &str| {
            before
                .0
                .iter()
                .find(|part| part.0 == name)
                .map_or(0.0, |it| it.1)
        };
        Self(
            self.0
                .iter()
                .map(|(name, ms)| (*name, ms - of(name)))
                .collect(),
        )
    }

    pub(crate) fn largest(&self) -> &'static str {
        let largest = self.0.iter().max_by(|a, b| a.1.total_cmp(&b.1));
        largest.map_or("unknown", |part| part.0)
    }

    pub(crate) fn sum(&self) -> f64 {
        self.0.iter().map(|part| part.1).sum()
    }

    pub(crate) fn told(&self) -> String {
        let told = self.0.iter().map(|(name, ms)| format!("{name} {ms:.2} ms"));
        told.collect::<Vec<_>>().join(", ")
    }

    /// What these were before, and are now.
    pub(crate) fn told_from(&self, before: &Self) -> String {
        let both = before.0.iter().zip(&self.0);
        let told =
            both.map(|(before, after)| format!("{} {:.2} -> {:.2} ms", after.0, before.1, after.1));
        told.collect::<Vec<_>>().join(", ")
    }
}

/// By what most of the requests that were not answered failed with.
fn of_failures(run: &Run) -> &'static str {
    let most = run.failures().max_by_key(|(_, count, _)| *count);
    match most {
        Some((CLIENT_FULL, ..)) => "client",
        Some((REFUSED, ..)) => "queue",
        Some((UNAVAILABLE, _, said)) if is_of_connection(said) => "client",
        _ => "unknown",
    }
}

fn is_of_connection(said: &str) -> bool {
    let said = said.to_ascii_lowercase();
    let is_there = |part: &&str| said.contains(*part);
    NO_CONNECTION.iter().any(is_there) && !said.contains(NOT_LISTENING)
}

/// What the client adds, waiting, and computing the prompt.
fn of_ttft(run: &Run) -> Vec<(&'static str, f64)> {
    let seen = run.ttft_ms.map_or(0.0, |it| it.mean);
    let server = run
        .server
        .and_then(|server| Some((server.ttft_ms?, server.queue_ms?)));
    match server {
        None => vec![("client", 0.0), ("unknown", seen)],
        Some((ttft, queue)) => vec![
            ("client", (seen - ttft).max(0.0)),
            ("queue", queue),
            ("prefill", (ttft - queue).max(0.0)),
        ],
    }
}

/// What the client adds, the steps of answers alone, and what other requests' prompts add to them: most gaps are those of
/// plain steps, so that their median has none of that.
fn of_tpot(run: &Run) -> Vec<(&'static str, f64)> {
    let seen = run.tpot_ms.map_or(0.0, |it| it.mean);
    let server = run
        .server
        .and_then(|server| server.tpot_ms)
        .unwrap_or(seen)
        .min(seen);
    let plain = run.itl_ms.map_or(server, |it| it.p50).min(server);
    vec![
        ("client", seen - server),
        ("interference", server - plain),
        ("step", plain),
    ]
}
