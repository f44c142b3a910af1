//! What a report tells of replicas that start, stop, fail, or do a part of the work.

use std::fmt;

use serde::Serialize;

use super::table::{Share, row};
use super::{Percentiles, ReplicaTally, Report, ratio};
use crate::fleet::{FleetCounts, FleetSize, Simulation, replica_seconds};

/// Replicas that were started and stopped.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ScalingReport {
    /// What by: queue, kv or slo, and the target.
    pub by: String,
    /// Fewest replicas.
    pub min: usize,
    /// Most replicas.
    pub max: usize,
    /// From the start of a replica to its first request.
    pub cold_start_s: f64,
    /// From one look to the next.
    pub every_s: f64,
    /// How long nothing has to have changed before a replica is stopped.
    pub cooldown_s: f64,
    /// Replicas that were started, or went on when they were about to stop.
    pub started: u64,
    /// Replicas that were told to stop.
    pub stopped: u64,
    /// Replicas that were paid for, on average over the time.
    pub mean_replicas: f64,
    /// Seconds of replicas that were starting.
    pub starting_seconds: f64,
    /// Seconds of replicas that finished what they had.
    pub draining_seconds: f64,
    /// The sizes of the fleet, each from its time on.
    pub sizes: Vec<FleetSize>,
}

/// Replicas that failed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FailuresReport {
    /// Mean time between failures of a replica.
    pub mtbf_s: f64,
    /// From a failure until the replica is ready again.
    pub repair_s: f64,
    /// What became of the requests of a replica that failed.
    pub on_failure: &'static str,
    /// How many there were.
    pub count: u64,
    /// Tokens of answers that were computed again, or never.
    pub lost_tokens: u64,
    /// Seconds of replicas that were repaired.
    pub down_seconds: f64,
}

/// Replicas for prefill and decode.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SplitReport {
    /// Those for prefill, the first ones of `per_replica`. What they completed are answers of one token.
    pub prefill_replicas: usize,
    /// Those for decode.
    pub decode_replicas: usize,
    /// Bytes a second over the link into a decode replica.
    pub link_bytes_per_second: f64,
    /// Prompts whose keys and values went over it.
    pub transfers: u64,
    /// Bytes that did.
    pub transferred_bytes: f64,
    /// From a request's first token to its admission with what came over the link: the wait for a place, and the transfer.
    pub handover_ms: Option<Percentiles>,
    /// The share of the time in which a prefill replica ran a step.
    pub prefill_busy_share: f64,
    /// The share of the time in which a decode replica ran a step.
    pub decode_busy_share: f64,
}

/// What was counted of the fleet, with the time that it is told of.
pub(super) struct Counted<'a> {
    pub(super) simulation: &'a Simulation,
    pub(super) counts: FleetCounts,
    pub(super) began_s: f64,
    pub(super) duration_s: f64,
}

impl Counted<'_> {
    fn seconds(&self, part: impl Fn(&FleetSize) -> usize) -> f64 {
        let end = self.began_s + self.duration_s;
        replica_seconds(&self.counts.sizes, self.began_s, end, part)
    }

    /// Seconds of all replicas from their start to their stop.
    pub(super) fn replica_seconds(&self, replicas: usize) -> f64 {
        match self.simulation.autoscaling {
            Some(_) => self.seconds(FleetSize::paid),
            None => self.duration_s * replicas as f64,
        }
    }

    pub(super) fn scaling(&self) -> Option<ScalingReport> {
        let scaling = self.simulation.autoscaling?;
        let end = self.began_s + self.duration_s;
        let sizes = self.counts.sizes.iter();
        Some(ScalingReport {
            by: scaling.by.to_string(),
            min: scaling.min,
            max: scaling.max,
            cold_start_s: scaling.cold_start.as_secs_f64(),
            every_s: scaling.every.as_secs_f64(),
            cooldown_s: scaling.cooldown.as_secs_f64(),
            started: self.counts.started,
            stopped: self.counts.stopped,
            mean_replicas: ratio(self.seconds(FleetSize::paid), self.duration_s),
            starting_seconds: self.seconds(|size| size.starting),
            draining_seconds: self.seconds(|size| size.draining),
            sizes: sizes.copied().filter(|size| size.at_s <= end).collect(),
        })
    }

    pub(super) fn failures(&self) -> Option<FailuresReport> {
        let failures = self.simulation.failures?;
        Some(FailuresReport {
            mtbf_s: failures.mtbf.as_secs_f64(),
            repair_s: failures.repair.as_secs_f64(),
            on_failure: failures.on_failure.name(),
            count: self.counts.failures,
            lost_tokens: self.counts.lost_tokens,
            down_seconds: self.seconds(|size| size.down),
        })
    }

    pub(super) fn split(
        &self,
        replicas: &[ReplicaTally],
        handover_ms: Option<Percentiles>,
    ) -> Option<SplitReport> {
        let split = self.simulation.split?;
        let (prefill, decode) = replicas.split_at(split.prefill.min(replicas.len()));
        let busy = |part: &[ReplicaTally]| {
            let busy: f64 = part.iter().map(|it| it.busy.as_secs_f64()).sum();
            ratio(busy, self.duration_s * part.len() as f64)
        };
        let tokens: u64 = decode.iter().map(|it| it.transferred_tokens).sum();
        Some(SplitReport {
            prefill_replicas: prefill.len(),
            decode_replicas: decode.len(),
            link_bytes_per_second: split.link_bytes_per_second,
            transfers: decode.iter().map(|it| it.transfers).sum(),
            transferred_bytes: tokens as f64 * self.simulation.kv_bytes_per_token(),
            handover_ms,
            prefill_busy_share: busy(prefill),
            decode_busy_share: busy(decode),
        })
    }
}

impl Report {
    /// What is special about the fleet.
    pub(super) fn write_fleet(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(split) = &self.split {
            row(
                f,
                "prefill, decode",
                format_args!(
                    "{} and {} replicas, busy {} and {}",
                    split.prefill_replicas,
                    split.decode_replicas,
                    Share(split.prefill_busy_share),
                    Share(split.decode_busy_share)
                ),
            )?;
            let transferred = format_args!(
                "{} transfers of {:.1} MB",
                split.transfers,
                ratio(split.transferred_bytes / 1e6, split.transfers as f64)
            );
            match split.handover_ms {
                Some(took) => row(
                    f,
                    "handover",
                    format_args!(
                        "{transferred}; {:.2} ms on average, {:.2} ms at the 99th percentile",
                        took.mean, took.p99
                    ),
                )?,
                None => row(f, "handover", transferred)?,
            }
        }
        if let Some(scaling) = &self.scaling {
            row(
                f,
                "autoscaling",
                format_args!(
                    "by {}: {} started, {} stopped, {:.2} replicas on average of {} to {}",
                    scaling.by,
                    scaling.started,
                    scaling.stopped,
                    scaling.mean_replicas,
                    scaling.min,
                    scaling.max
                ),
            )?;
            row(
                f,
                "paid",
                format_args!(
                    "{:.1} replica-seconds, {:.1} of them starting, {:.1} finishing",
                    self.replica_seconds, scaling.starting_seconds, scaling.draining_seconds
                ),
            )?;
        }
        if let Some(failures) = &self.failures {
            row(
                f,
                "failures",
                format_args!(
                    "{} of replicas, {} requests routed again, {} failed, {} tokens lost, {:.1} s of repair",
                    failures.count,
                    self.requests.rerouted,
                    self.requests.failed,
                    failures.lost_tokens,
                    failures.down_seconds
                ),
            )?;
        }
        Ok(())
    }
}
