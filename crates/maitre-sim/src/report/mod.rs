//! What came of a simulation, in the form that scripts read.
//!
//! The report as JSON has the fields of [`Report`]; names and units are stable:
//!
//! ```text
//! schema            "maitre.simulate/1"; a change of meaning changes the number
//! model, hardware, workload, routing, seed, replicas
//! cost              the parameters of a step's time (see CostModel)
//! engine            the settings of each replica's engine
//! requests          arrived, completed, refused {REASON: count}, failed and rerouted because of failures of replicas,
//!                   skipped_lines of the trace, lines_out_of_order of these
//! tokens            prompt, cached, output      of completed requests; cached: found by their first admission
//!                   computed                    by all steps, what preemptions lost included
//! duration_s        from the first arrival to the last end
//! requests_per_second, output_tokens_per_second, total_tokens_per_second (prompt + output)
//! ttft_ms, tpot_ms, itl_ms, e2e_ms, queue_wait_ms      {mean, p50, p90, p95, p99, max} or null
//! goodput           {slo, requests, share of those that arrived, requests_per_second} or null without an SLO
//! queue             mean_waiting (each replica, over the whole time), max_waiting
//! kv                blocks (each replica), mean_used_share (over the whole time), max_used_share
//! preemptions       requests, tokens            computed tokens that were lost
//! steps             count, mean_ms, mean_sequences, mean_tokens, busy_share, seconds by term of the cost
//! replica_seconds   of all replicas, from their start to their stop
//! scaling           by, min, max, cold_start_s, every_s, cooldown_s, started, stopped, mean_replicas, starting_seconds,
//!                   draining_seconds, sizes[] {at_s, ready, starting, draining, down}       or null
//! failures          mtbf_s, repair_s, on_failure, count, lost_tokens, down_seconds          or null
//! split             prefill_replicas, decode_replicas, link_bytes_per_second, transfers, transferred_bytes,
//!                   handover_ms, prefill_busy_share, decode_busy_share                      or null
//! speculation       drafts (most of a sequence in a step), acceptance[], drafter, drafted, accepted, drafted_at[], accepted_at[],
//!                   decodes, tokens_per_step (of each sequence)                             or null
//! per_replica[]     completed, output_tokens, busy_share, max_waiting, max_kv_used_share, preemptions
//! ```
//!
//! Two runs of the same simulation give the same bytes: nothing in a report depends on the machine that simulates.

mod drafted;
mod fleet;
mod latencies;
mod table;
mod tally;

use std::collections::BTreeMap;

pub use drafted::SpeculationReport;
use fleet::Counted;
pub use fleet::{FailuresReport, ScalingReport, SplitReport};
pub(crate) use latencies::Latencies;
pub use latencies::Percentiles;
use maitre_scheduler::Time;
use serde::Serialize;
pub(crate) use tally::{ReplicaTally, Statistics};

use crate::engine::ToldSettings;
use crate::fleet::{FleetCounts, Simulation};
use crate::{CostModel, StepSeconds};

/// A finished simulation. Displayed, it is a table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Names this form.
    pub schema: &'static str,
    /// The model.
    pub model: String,
    /// The hardware of each replica.
    pub hardware: String,
    /// What was asked, in words.
    pub workload: String,
    /// How requests were sent to replicas.
    pub routing: String,
    /// The seed of the workload.
    pub seed: u64,
    /// Replicas.
    pub replicas: usize,
    /// What a step costs.
    pub cost: CostModel,
    /// The settings of each replica's engine.
    pub engine: ToldSettings,
    /// How many requests came, and what became of them.
    pub requests: Requests,
    /// Tokens.
    pub tokens: Tokens,
    /// From the first arrival to the last end.
    pub duration_s: f64,
    /// Completed requests a second.
    pub requests_per_second: f64,
    /// Output tokens of completed requests a second.
    pub output_tokens_per_second: f64,
    /// Prompt and output tokens of completed requests a second.
    pub total_tokens_per_second: f64,
    /// Time to first token.
    pub ttft_ms: Option<Percentiles>,
    /// Time per output token, one value for each request.
    pub tpot_ms: Option<Percentiles>,
    /// Inter-token latency, one value for each gap.
    pub itl_ms: Option<Percentiles>,
    /// End to end.
    pub e2e_ms: Option<Percentiles>,
    /// From the arrival to the plan of the first step.
    pub queue_wait_ms: Option<Percentiles>,
    /// What kept to the SLO, if there is one.
    pub goodput: Option<Goodput>,
    /// The queue.
    pub queue: Queue,
    /// The KV cache.
    pub kv: Kv,
    /// Preemptions.
    pub preemptions: Preemptions,
    /// Steps.
    pub steps: Steps,
    /// Seconds of all replicas from their start to their stop, as far as they lie between the first arrival and the last end.
    pub replica_seconds: f64,
    /// Replicas that were started and stopped, with autoscaling.
    pub scaling: Option<ScalingReport>,
    /// Replicas that failed, if any may.
    pub failures: Option<FailuresReport>,
    /// Replicas for prefill and decode, if these are apart.
    pub split: Option<SplitReport>,
    /// Drafts and what came of them, if there are any.
    pub speculation: Option<SpeculationReport>,
    /// What each replica did.
    pub per_replica: Vec<ReplicaReport>,
}

/// What became of the requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Requests {
    /// Those that came.
    pub arrived: u64,
    /// Those that were answered to their end.
    pub completed: u64,
    /// Those that were refused, by the reason.
    pub refused: BTreeMap<&'static str, u64>,
    /// Those that a replica took with it when it failed.
    pub failed: u64,
    /// How often one was sent to another replica since its own failed.
    pub rerouted: u64,
    /// Lines of the trace that were left out.
    pub skipped_lines: usize,
    /// Of them, those that were out of the order of time.
    pub lines_out_of_order: usize,
}

/// Tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Tokens {
    /// Of the prompts of completed requests.
    pub prompt: u64,
    /// Of them, found in the prefix cache when the request was first admitted.
    pub cached: u64,
    /// Of the answers of completed requests.
    pub output: u64,
    /// That steps computed.
    pub computed: u64,
}

/// What kept to the SLO.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Goodput {
    /// The bounds.
    pub slo: String,
    /// Requests whose answers kept to all of them.
    pub requests: u64,
    /// Their share of the requests that came, refused ones included.
    pub share: f64,
    /// Such requests a second.
    pub requests_per_second: f64,
}

/// The queue.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Queue {
    /// Requests that waited for their first step, on average over the time and the replicas.
    pub mean_waiting: f64,
    /// The most that waited at one replica, preempted ones among them.
    pub max_waiting: u64,
}

/// The KV cache.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Kv {
    /// Blocks of each replica.
    pub blocks: u32,
    /// The share that requests held, on average over the time and the replicas.
    pub mean_used_share: f64,
    /// The largest share that requests held at one replica.
    pub max_used_share: f64,
}

/// Requests that lost their blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Preemptions {
    /// How often it happened.
    pub requests: u64,
    /// Computed tokens that were lost.
    pub tokens: u64,
}

/// Steps.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Steps {
    /// How many there were.
    pub count: u64,
    /// Their mean time.
    pub mean_ms: f64,
    /// Sequences of a step.
    pub mean_sequences: f64,
    /// Tokens of a step.
    pub mean_tokens: f64,
    /// The share of the time in which a replica ran a step.
    pub busy_share: f64,
    /// The time of all steps by the terms of the cost.
    pub seconds: StepSeconds,
}

/// What one replica did.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ReplicaReport {
    /// Requests that it answered.
    pub completed: u64,
    /// Tokens of their answers.
    pub output_tokens: u64,
    /// The share of the time in which it ran a step.
    pub busy_share: f64,
    /// The most requests that waited.
    pub max_waiting: u64,
    /// The largest share of the KV cache that requests held.
    pub max_kv_used_share: f64,
    /// Requests that lost their blocks.
    pub preemptions: u64,
}

impl Report {
    pub(crate) fn new(
        simulation: &Simulation,
        mut statistics: Statistics,
        replicas: &[ReplicaTally],
        counts: FleetCounts,
    ) -> Self {
        let began = statistics.first_arrival.unwrap_or(Time::ZERO);
        let duration_s = statistics.last_end.saturating_sub(began).as_secs_f64();
        let mut all = ReplicaTally::default();
        replicas.iter().for_each(|tally| all.add(tally));
        let blocks = simulation.engine.kv_blocks;
        let counted = Counted {
            simulation,
            counts,
            began_s: began.as_secs_f64(),
            duration_s,
        };
        let replica_seconds = counted.replica_seconds(replicas.len());
        let waited = statistics.queue_wait.sum_seconds();
        let goodput = (!statistics.slo.is_empty()).then(|| Goodput {
            slo: statistics.slo.to_string(),
            requests: statistics.good,
            share: ratio(statistics.good as f64, statistics.arrived as f64),
            requests_per_second: ratio(statistics.good as f64, duration_s),
        });
        Self {
            schema: "maitre.simulate/1",
            model: simulation.model.clone(),
            hardware: simulation.hardware.clone(),
            workload: simulation.workload.clone(),
            routing: simulation.routing.name().to_owned(),
            seed: simulation.seed,
            replicas: replicas.len(),
            cost: simulation.cost.clone(),
            engine: simulation.engine.told(),
            requests: Requests {
                arrived: statistics.arrived,
                completed: all.completed,
                refused: std::mem::take(&mut statistics.refused),
                failed: statistics.failed,
                rerouted: statistics.rerouted,
                skipped_lines: simulation.skipped_lines,
                lines_out_of_order: simulation.lines_out_of_order,
            },
            tokens: Tokens {
                prompt: all.prompt_tokens,
                cached: all.cached_tokens,
                output: all.output_tokens,
                computed: all.tokens,
            },
            duration_s,
            requests_per_second: ratio(all.completed as f64, duration_s),
            output_tokens_per_second: ratio(all.output_tokens as f64, duration_s),
            total_tokens_per_second: ratio(
                (all.prompt_tokens + all.output_tokens) as f64,
                duration_s,
            ),
            ttft_ms: statistics.ttft.percentiles(),
            tpot_ms: statistics.tpot.percentiles(),
            itl_ms: statistics.itl.percentiles(),
            e2e_ms: statistics.e2e.percentiles(),
            queue_wait_ms: statistics.queue_wait.percentiles(),
            goodput,
            queue: Queue {
                // Little's law: the mean number that waits is the sum of all waits, divided by the time.
                mean_waiting: ratio(waited, replica_seconds),
                max_waiting: all.max_waiting,
            },
            kv: Kv {
                blocks,
                mean_used_share: ratio(all.kv_block_seconds, replica_seconds * f64::from(blocks)),
                max_used_share: ratio(all.max_kv_used as f64, f64::from(blocks)),
            },
            preemptions: Preemptions {
                requests: all.preemptions,
                tokens: all.preempted_tokens,
            },
            steps: Steps::new(&all, replica_seconds),
            replica_seconds,
            scaling: counted.scaling(),
            failures: counted.failures(),
            split: counted.split(replicas, statistics.handover.percentiles()),
            speculation: simulation
                .speculation
                .as_ref()
                .map(|it| SpeculationReport::new(it, &all)),
            per_replica: replicas
                .iter()
                .map(|tally| ReplicaReport::new(tally, duration_s, blocks))
                .collect(),
        }
    }

    /// The report as JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Maps have string keys and numbers are finite, so nothing can fail to serialise.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }
}

impl Steps {
    fn new(all: &ReplicaTally, replica_seconds: f64) -> Self {
        let steps = all.steps as f64;
        let busy = all.busy.as_secs_f64();
        Self {
            count: all.steps,
            mean_ms: ratio(busy * 1e3, steps),
            mean_sequences: ratio(all.sequences as f64, steps),
            mean_tokens: ratio(all.tokens as f64, steps),
            busy_share: ratio(busy, replica_seconds),
            seconds: all.seconds,
        }
    }
}

impl ReplicaReport {
    fn new(tally: &ReplicaTally, duration_s: f64, blocks: u32) -> Self {
        Self {
            completed: tally.completed,
            output_tokens: tally.output_tokens,
            busy_share: ratio(tally.busy.as_secs_f64(), duration_s),
            max_waiting: tally.max_waiting,
            max_kv_used_share: ratio(tally.max_kv_used as f64, f64::from(blocks)),
            preemptions: tally.preemptions,
        }
    }
}

/// A quotient; 0 of nothing.
fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}
