//! What is counted while the simulation runs: latencies over the fleet, steps and memory for each replica.

use std::collections::BTreeMap;

use maitre_scheduler::Time;

use super::Latencies;
use crate::Answered;
use crate::replica::PricedStep;
use crate::speculation::DraftCounts;
use crate::workload::Slo;
use crate::{StepSeconds, StepWork};

/// Counted over all replicas.
#[derive(Debug, Default)]
pub(crate) struct Statistics {
    pub(crate) slo: Slo,
    pub(crate) arrived: u64,
    pub(crate) refused: BTreeMap<&'static str, u64>,
    pub(crate) good: u64,
    pub(crate) first_arrival: Option<Time>,
    pub(crate) last_end: Time,
    pub(crate) ttft: Latencies,
    pub(crate) tpot: Latencies,
    pub(crate) itl: Latencies,
    pub(crate) e2e: Latencies,
    pub(crate) queue_wait: Latencies,
    pub(crate) handover: Latencies,
    /// Answers that ended.
    pub(crate) answers: u64,
    /// Requests that a replica took with it.
    pub(crate) failed: u64,
    /// Requests that were sent to another replica when theirs failed.
    pub(crate) rerouted: u64,
}

impl Statistics {
    pub(crate) fn new(slo: Slo) -> Self {
        Self {
            slo,
            ..Self::default()
        }
    }

    pub(crate) fn arrived(&mut self, now: Time) {
        self.arrived += 1;
        self.first_arrival.get_or_insert(now);
    }

    pub(crate) fn refused(&mut self, reason: &'static str, now: Time) {
        *self.refused.entry(reason).or_default() += 1;
        self.last_end = self.last_end.max(now);
    }

    /// What was counted elsewhere, beside this.
    pub(crate) fn add(&mut self, other: Self) {
        self.arrived += other.arrived;
        for (reason, count) in other.refused {
            *self.refused.entry(reason).or_default() += count;
        }
        self.good += other.good;
        let arrivals = [self.first_arrival, other.first_arrival];
        self.first_arrival = arrivals.into_iter().flatten().min();
        self.last_end = self.last_end.max(other.last_end);
        self.ttft.add(other.ttft);
        self.tpot.add(other.tpot);
        self.itl.add(other.itl);
        self.e2e.add(other.e2e);
        self.queue_wait.add(other.queue_wait);
        self.handover.add(other.handover);
        self.answers += other.answers;
        self.failed += other.failed;
        self.rerouted += other.rerouted;
    }

    /// Between two tokens of a request, so often.
    pub(crate) fn gaps(&mut self, gap: Time, times: u64) {
        self.itl.record_all(gap, times);
    }

    /// From a request's arrival to the plan of its first step.
    pub(crate) fn queue_wait(&mut self, wait: Time) {
        self.queue_wait.record(wait);
    }

    /// From a request's first token to its admission where it gets the others.
    pub(crate) fn handover(&mut self, took: Time) {
        self.handover.record(took);
    }

    /// Requests that have ended in any way, and those of them that did not keep to the SLO.
    pub(crate) fn ended_and_missed(&self) -> (u64, u64) {
        let refused: u64 = self.refused.values().sum();
        let ended = self.answers + refused + self.failed;
        (ended, ended - self.good)
    }

    pub(crate) fn failed(&mut self, now: Time) {
        self.failed += 1;
        self.last_end = self.last_end.max(now);
    }

    pub(crate) fn answered(&mut self, answered: &Answered) {
        self.answers += 1;
        self.ttft.record(answered.ttft());
        self.e2e.record(answered.e2e());
        if let Some(tpot) = answered.tpot() {
            self.tpot.record(tpot);
        }
        self.good += u64::from(answered.keeps_to(&self.slo));
        self.last_end = self.last_end.max(answered.ended);
    }
}

/// Counted for one replica.
#[derive(Debug, Clone, Default)]
pub(crate) struct ReplicaTally {
    pub(crate) completed: u64,
    pub(crate) prompt_tokens: u64,
    pub(crate) cached_tokens: u64,
    pub(crate) output_tokens: u64,
    pub(crate) preemptions: u64,
    pub(crate) preempted_tokens: u64,
    /// Transfers of keys and values to it, and their tokens.
    pub(crate) transfers: u64,
    pub(crate) transferred_tokens: u64,
    pub(crate) max_waiting: u64,
    pub(crate) max_kv_used: u64,
    /// Blocks that requests held, times the seconds that they did.
    pub(crate) kv_block_seconds: f64,
    pub(crate) steps: u64,
    pub(crate) sequences: u64,
    pub(crate) tokens: u64,
    pub(crate) busy: Time,
    pub(crate) seconds: StepSeconds,
    pub(crate) drafts: DraftCounts,
}

impl ReplicaTally {
    /// A step that has ended.
    pub(crate) fn step(&mut self, step: &PricedStep) {
        let StepWork {
            sequences, tokens, ..
        } = step.work;
        self.steps += 1;
        self.sequences += sequences;
        self.tokens += tokens;
        self.busy = self.busy.saturating_add(step.took);
        self.seconds.add(&step.seconds);
        self.kv_block_seconds += step.kv_used as f64 * step.took.as_secs_f64();
        self.max_kv_used = self.max_kv_used.max(step.kv_used as u64);
    }

    pub(crate) fn saw_waiting(&mut self, waiting: usize) {
        self.max_waiting = self.max_waiting.max(waiting as u64);
    }

    pub(crate) fn preempted(&mut self, requests: u64, tokens: u64) {
        self.preemptions += requests;
        self.preempted_tokens += tokens;
    }

    pub(crate) fn transferred(&mut self, tokens: u64) {
        self.transfers += 1;
        self.transferred_tokens += tokens;
    }

    pub(crate) fn answered(&mut self, answered: &Answered) {
        self.completed += 1;
        self.prompt_tokens += u64::from(answered.prompt_tokens);
        self.cached_tokens += u64::from(answered.cached_tokens);
        self.output_tokens += u64::from(answered.output_tokens);
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.completed += other.completed;
        self.prompt_tokens += other.prompt_tokens;
        self.cached_tokens += other.cached_tokens;
        self.output_tokens += other.output_tokens;
        self.preemptions += other.preemptions;
        self.preempted_tokens += other.preempted_tokens;
        self.transfers += other.transfers;
        self.transferred_tokens += other.transferred_tokens;
        self.max_waiting = self.max_waiting.max(other.max_waiting);
        self.max_kv_used = self.max_kv_used.max(other.max_kv_used);
        self.kv_block_seconds += other.kv_block_seconds;
        self.steps += other.steps;
        self.sequences += other.sequences;
        self.tokens += other.tokens;
        self.busy = self.busy.saturating_add(other.busy);
        self.seconds.add(&other.seconds);
        self.drafts.add(&other.drafts);
    }
}
