//! The numbers of a run.

use std::collections::BTreeMap;
use std::time::Duration;

use maitre_workload::Slo;
use serde::{Deserialize, Serialize};

use super::percentiles::Latencies;
use super::{Goodput, Percentiles, Samples, Timeline};
use crate::driver::Driven;
use crate::{Load, Record, ServerRun};

/// The code of requests that a server would not take.
pub(crate) const REFUSED: &str = "RESOURCE_EXHAUSTED";

/// Characters that are kept of what a failure said.
const MOST_SAID: usize = 300;

/// The measurement under one load. Latencies are those of completed requests, and count from when a request was due;
/// `None` when there were none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// How hard the target was asked, in the words of the command line.
    pub load: String,
    /// Users at once, of a closed loop.
    pub concurrency: Option<usize>,
    /// Requests a second that were due, of an open loop.
    pub offered_per_second: Option<f64>,
    /// Requests that have ended.
    pub requests: usize,
    /// Requests answered in full.
    pub completed: usize,
    /// The others, by status code.
    pub errors: BTreeMap<String, usize>,
    /// What the first of each code said, on one line.
    #[serde(default)]
    pub error_messages: BTreeMap<String, String>,
    /// Those of them that the server would not take, by its reason.
    pub refusals: BTreeMap<String, usize>,
    /// Requests that were under way when the run was stopped.
    pub unfinished: usize,
    /// From the start to the last end.
    pub duration_s: f64,
    /// Prompt tokens of completed requests.
    pub input_tokens: usize,
    /// Of them, those that the server had in its prefix cache; `None` where it does not say.
    pub cached_tokens: Option<u64>,
    /// Generated tokens of completed requests.
    pub output_tokens: usize,
    /// Completed requests a second.
    pub requests_per_second: f64,
    /// Generated tokens a second.
    pub output_tokens_per_second: f64,
    /// Prompt and generated tokens a second.
    pub total_tokens_per_second: f64,
    /// What was answered in time.
    pub goodput: Option<Goodput>,
    /// Time to first token.
    pub ttft_ms: Option<Percentiles>,
    /// Time per output token, one value for each request.
    pub tpot_ms: Option<Percentiles>,
    /// Inter-token latency, one value for each gap between arrivals.
    pub itl_ms: Option<Percentiles>,
    /// End to end.
    pub e2e_ms: Option<Percentiles>,
    /// How much later than due the client sent requests.
    pub lateness_ms: Option<Percentiles>,
    /// Processors the client kept busy (1 = one); near 1 it may be what limits the result. `None`
    /// where it cannot be told.
    pub client_cpu_share: Option<f64>,
    /// Energy of all processors of this machine; `None` where it cannot be read.
    pub energy_joules: Option<f64>,
    /// What the server counted.
    pub server: Option<ServerRun>,
    /// The run in pieces of time.
    pub timeline: Timeline,
    /// One value for each request.
    pub samples: Samples,
}

/// What is known of a run beside its records.
#[derive(Debug, Default)]
pub(crate) struct Machine {
    pub(crate) client_cpu_seconds: Option<f64>,
    pub(crate) energy_joules: Option<f64>,
    pub(crate) server: Option<ServerRun>,
}

/// The distributions of a run.
#[derive(Debug, Default)]
struct Distributions {
    ttft: Latencies,
    tpot: Latencies,
    itl: Latencies,
    e2e: Latencies,
    lateness: Latencies,
}

impl Distributions {
    fn of(records: &[Record]) -> Self {
        let mut all = Self::default();
        for record in records {
            all.lateness.record(record.lateness());
            if !record.is_complete() {
                continue;
            }
            record.ttft().iter().for_each(|ttft| all.ttft.record(*ttft));
            record.tpot().iter().for_each(|tpot| all.tpot.record(*tpot));
            record.gaps().for_each(|(_, gap)| all.itl.record(gap));
            all.e2e.record(record.e2e());
        }
        all
    }
}

impl Run {
    /// Each code of errors with their number, and what the first of them said.
    pub(crate) fn failures(&self) -> impl Iterator<Item = (&str, usize, &str)> {
        self.errors.iter().map(|(code, count)| {
            let said = self.error_messages.get(code);
            let said = said.filter(|said| !said.is_empty());
            (
                code.as_str(),
                *count,
                said.map_or("it said nothing", String::as_str),
            )
        })
    }

    /// Errors by code, in words.
    pub(crate) fn told_errors(&self) -> String {
        let told = self.failures();
        let told = told.map(|(code, count, said)| format!("{count} {code}, the first: {said}"));
        told.collect::<Vec<_>>().join("; ")
    }

    pub(crate) fn new(load: &Load, driven: &Driven, slo: &Slo, machine: Machine) -> Self {
        let records = &driven.records;
        let seconds = driven.duration.as_secs_f64();
        let per_second = |count: usize| {
            if seconds > 0.0 {
                count as f64 / seconds
            } else {
                0.0
            }
        };
        let complete = || records.iter().filter(|record| record.is_complete());
        let completed = complete().count();
        let input_tokens = complete().map(|record| record.input_tokens).sum();
        let output_tokens = complete().map(Record::output_tokens).sum();
        let cached = complete().filter_map(|record| record.cached_tokens.map(u64::from));
        let all = Distributions::of(records);
        Self {
            load: load.to_string(),
            concurrency: load.users().map(|users| users as usize),
            offered_per_second: load.users().is_none().then(|| offered(driven)).flatten(),
            requests: records.len(),
            completed,
            errors: count(records, |error| Some(error.code.clone())),
            error_messages: messages(records),
            refusals: count(records, |error| {
                let reason = error.reason.as_deref().unwrap_or("no reason given");
                (error.code == REFUSED).then(|| reason.to_owned())
            }),
            unfinished: driven.unfinished,
            duration_s: seconds,
            input_tokens,
            cached_tokens: cached.reduce(|a, b| a + b),
            output_tokens,
            requests_per_second: per_second(completed),
            output_tokens_per_second: per_second(output_tokens),
            total_tokens_per_second: per_second(output_tokens + input_tokens),
            goodput: Goodput::of(slo, records, seconds),
            ttft_ms: all.ttft.percentiles(),
            tpot_ms: all.tpot.percentiles(),
            itl_ms: all.itl.percentiles(),
            e2e_ms: all.e2e.percentiles(),
            lateness_ms: all.lateness.percentiles(),
            client_cpu_share: machine
                .client_cpu_seconds
                .map(|busy| busy / seconds)
                .filter(|share| share.is_finite()),
            energy_joules: machine.energy_joules,
            server: machine.server.map(|server| with_times(server, records)),
            timeline: Timeline::of(records, driven.duration),
            samples: Samples::of(records, &all.itl),
        }
    }
}

/// Requests that were due a second, from the start to the last of them.
fn offered(driven: &Driven) -> Option<f64> {
    let last = driven.last_due?;
    let count = driven.records.len() + driven.unfinished;
    (last > Duration::ZERO).then(|| count as f64 / last.as_secs_f64())
}

fn count(
    records: &[Record],
    name: impl Fn(&crate::RequestError) -> Option<String>,
) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    let failures = records.iter().filter_map(|record| record.failure.as_ref());
    for name in failures.filter_map(name) {
        *counts.entry(name).or_default() += 1;
    }
    counts
}

/// What the first request of each code said.
fn messages(records: &[Record]) -> BTreeMap<String, String> {
    let mut messages = BTreeMap::new();
    for failure in records.iter().filter_map(|record| record.failure.as_ref()) {
        let said = messages.entry(failure.code.clone());
        said.or_insert_with(|| one_line(&failure.message));
    }
    messages
}

/// A server may say anything, such as a page of HTML, or what a terminal would take as a command.
fn one_line(message: &str) -> String {
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    let text: String = message.chars().map(printable).collect();
    let mut words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = words.char_indices().nth(MOST_SAID) {
        words.truncate(end);
        words.push('…');
    }
    words
}

/// Times that the server told with each answer are exact; what it counts over all may include other clients' requests.
fn with_times(server: ServerRun, records: &[Record]) -> ServerRun {
    let times = || records.iter().filter_map(|record| record.server);
    let mean = |pick: fn(crate::ServerTimes) -> Duration| {
        let (sum, count) = times().fold((0.0, 0_u32), |(sum, count), times| {
            (sum + pick(times).as_secs_f64(), count + 1)
        });
        (count > 0).then(|| sum / f64::from(count) * 1e3)
    };
    ServerRun {
        queue_ms: mean(|times| times.queue).or(server.queue_ms),
        ttft_ms: mean(|times| times.ttft).or(server.ttft_ms),
        tpot_ms: mean(|times| times.tpot).or(server.tpot_ms),
        ..server
    }
}
