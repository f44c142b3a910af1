//! Which resource bent first: what grew most between a load that is easy and the first load that is too much.
//!
//! The latency of the bound that was broken is the sum of parts, by the client's clock, the server's clock and its counts.
//! The part that grew most names the resource.

use serde::{Deserialize, Serialize};

use super::parts::{Broken, Parts};
use crate::Run;

/// Of the KV cache, when it counts as full: a request that waits for blocks needs several.
const KV_FULL: f64 = 0.85;

/// Preemptions for each request from which on they count.
const PREEMPTED: f64 = 0.05;

/// How many times as long a step takes when computing, and not the number of places, is what is short.
const STEP_GREW: f64 = 1.5;

/// How near to their largest number running sequences stay while others wait, if it is a limit.
const PLATEAU: f64 = 0.9;

/// What would move the capacity where requests fail, and not for want of a place.
const FAILURES: &[&str] =
    &["no more failures: what the first of them said, and the server's log, tell their cause"];

/// What there is too little of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// Places: requests wait although steps have room.
    Queue,
    /// Operations and bytes a second: steps take long because there is much in them.
    Compute,
    /// Blocks of the KV cache.
    KvMemory,
    /// Answers wait while prompts are computed in their steps.
    PrefillInterference,
    /// The client, or the way to it.
    Client,
    /// The server does not say enough, or requests failed for another reason.
    Unknown,
}

impl Resource {
    /// In words.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Compute => "compute",
            Self::KvMemory => "KV memory",
            Self::PrefillInterference => "prefill interference",
            Self::Client => "client",
            Self::Unknown => "unknown",
        }
    }

    /// What would move the capacity.
    fn moves(self) -> &'static [&'static str] {
        match self {
            Self::Queue => &[
                "more sequences in a step (--max-seqs), as steps have room",
                "another replica",
            ],
            Self::Compute => &[
                "a cheaper step: weights of fewer bits (--dtype), a smaller model, more or faster processors",
                "prompts that begin alike, so that the prefix cache saves computing them",
                "another replica",
            ],
            Self::KvMemory => &[
                "a larger KV cache (--kv-cache-bytes), or one of fewer bits (--kv-dtype)",
                "shorter contexts, or prompts that begin alike",
                "another replica",
            ],
            Self::PrefillInterference => &[
                "a bound on steps while answers wait (--itl-target-ms), or smaller steps (--max-batched-tokens)",
                "prompts and answers on different replicas",
            ],
            Self::Client => &[
                "a client with more processor time, or several: this number is not the server's",
                "a shorter way to the server",
            ],
            Self::Unknown => &["a server whose /metrics can be read (--metrics-url)"],
        }
    }
}

/// What bent first, and why that is so.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bent {
    /// The resource.
    pub resource: Resource,
    /// What was seen.
    pub because: Vec<String>,
    /// What would move the capacity.
    pub moves: Vec<String>,
}

impl Bent {
    /// From a run under little load and one under the first load that is too much.
    pub(crate) fn between(easy: &Run, bent: &Run, broken: Broken) -> Self {
        let (before, after) = (Parts::of(easy, broken), Parts::of(bent, broken));
        // Where the easiest load is too much already, the largest part counts.
        let is_one = easy.load == bent.load;
        let grown = match is_one {
            true => after.clone(),
            false => after.minus(&before),
        };
        let mut because = vec![broken.told(bent)];
        let is_timed = broken != Broken::Answered;
        let resource = match grown.largest() {
            _ if is_timed && is_late(bent, &after) => Resource::Client,
            "client" => Resource::Client,
            "queue" => of_queue(easy, bent),
            "unknown" => Resource::Unknown,
            _ if is_preempting(bent) => Resource::KvMemory,
            "interference" => Resource::PrefillInterference,
            _ => Resource::Compute,
        };
        because.extend(is_timed.then(|| match is_one {
            true => format!("under {}: {}", bent.load, after.told()),
            false => format!(
                "from {} to {}: {}",
                easy.load,
                bent.load,
                after.told_from(&before)
            ),
        }));
        because.extend(seen(easy, bent));
        let moves = match resource {
            Resource::Unknown if !is_timed => FAILURES,
            resource => resource.moves(),
        };
        Self {
            resource,
            because,
            moves: moves.iter().map(ToString::to_string).collect(),
        }
    }
}

/// Whether the client was late by as much as all other parts together.
fn is_late(bent: &Run, after: &Parts) -> bool {
    let late = bent.lateness_ms.map_or(0.0, |it| it.mean);
    late > 1.0 && late > after.sum() - late
}

fn is_preempting(run: &Run) -> bool {
    let preemptions = run.server.and_then(|server| server.preemptions);
    preemptions.is_some_and(|it| it > PREEMPTED * run.requests as f64)
}

/// Requests wait for their first step: for blocks, for a place, or for steps that take long.
fn of_queue(easy: &Run, bent: &Run) -> Resource {
    let Some(server) = bent.server else {
        return Resource::Unknown;
    };
    if is_preempting(bent) || server.kv_used_max.is_some_and(|used| used >= KV_FULL) {
        return Resource::KvMemory;
    }
    let plateau = server.running_while_waiting.zip(server.running_max);
    let is_full = plateau.is_some_and(|(waiting, most)| waiting >= PLATEAU * most);
    let step = |run: &Run| {
        run.server
            .and_then(|it| it.step_ms)
            .or(run.itl_ms.map(|it| it.p50))
    };
    let grew = step(easy)
        .zip(step(bent))
        .is_some_and(|(before, after)| after > STEP_GREW * before);
    match is_full && !grew {
        true => Resource::Queue,
        false => Resource::Compute,
    }
}

/// What the server counted, as far as it did.
fn seen(easy: &Run, bent: &Run) -> Vec<String> {
    let mut seen = Vec::new();
    let steps = |run: &Run| {
        run.server
            .and_then(|it| Some((it.step_ms?, it.step_sequences?)))
    };
    if let (Some(before), Some(after)) = (steps(easy), steps(bent)) {
        seen.push(format!(
            "a step takes {:.2} ms with {:.1} sequences, {:.2} ms of which it takes with {:.1}, too",
            after.0,
            after.1,
            before.0.min(after.0),
            before.1
        ));
    }
    let Some(server) = bent.server else {
        return seen;
    };
    if let Some(share) = server.busy_share {
        seen.push(format!("a step ran {:.0} % of the time", share * 100.0));
    }
    if let Some(used) = server.kv_used_max {
        seen.push(format!(
            "at most {:.0} % of the KV cache were held",
            used * 100.0
        ));
    }
    if let Some(preemptions) = server.preemptions.filter(|it| *it > 0.0) {
        seen.push(format!("{preemptions:.0} preemptions"));
    }
    if let Some((running, most)) = server.running_while_waiting.zip(server.running_max) {
        seen.push(format!(
            "while others waited, {running:.0} to {most:.0} sequences ran"
        ));
    }
    if let Some(share) = bent.client_cpu_share {
        seen.push(format!("the client kept {share:.2} processors busy"));
    }
    seen
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use maitre_workload::Slo;

    use super::*;
    use crate::driver::Driven;
    use crate::summary::Machine;
    use crate::{BenchRequest, Load, Record, RequestError, ServerRun};

    const MS: Duration = Duration::from_millis(1);

    /// Of ten requests so many fail like this. The client is 2 ms late with each.
    fn run(failed: usize, code: &str, message: &str, server: ServerRun) -> Run {
        let question = BenchRequest {
            prompt: vec![1],
            output_tokens: 1,
        };
        let record = |index: usize| {
            let mut record = Record::new(MS, 3 * MS, &question);
            record.arrivals.push((4 * MS, 1));
            record.ended = 4 * MS;
            record.failure = (index < failed).then(|| RequestError::new(code, message));
            record
        };
        let driven = Driven {
            records: (0..10).map(record).collect(),
            unfinished: 0,
            last_due: Some(MS),
            duration: 4 * MS,
        };
        let machine = Machine {
            server: Some(server),
            ..Machine::default()
        };
        Run::new(&Load::Users(10), &driven, &Slo::default(), machine)
    }

    fn bent(code: &str, message: &str, server: ServerRun) -> Bent {
        let easy = Run {
            load: "1 users".to_owned(),
            ..run(0, code, message, server)
        };
        Bent::between(&easy, &run(9, code, message, server), Broken::Answered)
    }

    #[test]
    fn failures_of_the_client_or_of_the_connection_are_not_the_server_s() {
        let server = ServerRun::default();
        for (code, message, resource) in [
            (
                "CLIENT_FULL",
                "65536 requests are in flight",
                Resource::Client,
            ),
            (
                "UNAVAILABLE",
                "client error (Connect): tcp open error: Too many open files (os error 24)",
                Resource::Client,
            ),
            (
                "UNAVAILABLE",
                "client error (Connect): tcp connect error: Cannot assign requested address (os error 99)",
                Resource::Client,
            ),
            (
                "UNAVAILABLE",
                "client error (Connect): tcp connect error: Connection refused (os error 111)",
                Resource::Unknown,
            ),
            (
                "UNAVAILABLE",
                "the connection ended before the answer",
                Resource::Unknown,
            ),
            ("INTERNAL", "too many open files", Resource::Unknown),
            (
                "TIMEOUT",
                "no token came for 60s (--timeout)",
                Resource::Unknown,
            ),
        ] {
            let found = bent(code, message, server);
            assert_eq!(found.resource, resource, "{code}: {message}");
            assert!(found.because[0].contains(message), "{found:?}");
            let said = found.because.join("\n");
            assert!(!said.contains("0.00 -> 0.00 ms"), "{said}");
        }
        let moves = bent("INTERNAL", "boom", server).moves;
        assert!(moves[0].contains("the server's log"), "{moves:?}");
    }

    #[test]
    fn requests_that_are_refused_had_no_place_or_no_memory() {
        let full = ServerRun {
            running_while_waiting: Some(8.0),
            running_max: Some(8.0),
            ..ServerRun::default()
        };
        let of_blocks = ServerRun {
            kv_used_max: Some(0.95),
            ..full
        };
        for (server, resource) in [(full, Resource::Queue), (of_blocks, Resource::KvMemory)] {
            let found = bent("RESOURCE_EXHAUSTED", "the queue is full", server);
            assert_eq!(found.resource, resource, "{found:?}");
        }
    }
}
