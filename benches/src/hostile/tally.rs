//! What an attacker got, counted; it travels from the attacker's process to the report as JSON.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What an attacker got.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Gains {
    /// How often each thing happened: statuses, closed connections.
    pub counts: BTreeMap<String, u64>,
    /// What should not have been possible.
    pub faults: Vec<String>,
    /// Remarks, such as that the system allowed fewer connections than the attack wants.
    pub notes: Vec<String>,
    /// Processor time of the attacker, in seconds.
    pub cpu_s: f64,
}

/// Counts while an attack goes on; cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    gains: Arc<Mutex<Gains>>,
    latencies: Arc<Mutex<Vec<Duration>>>,
}

impl Tally {
    pub(crate) fn count(&self, what: impl Into<String>) {
        self.add(what, 1);
    }

    pub(crate) fn add(&self, what: impl Into<String>, times: u64) {
        self.change(|gains| *gains.counts.entry(what.into()).or_default() += times);
    }

    pub(crate) fn fault(&self, what: impl Into<String>) {
        self.change(|gains| gains.faults.push(what.into()));
    }

    pub(crate) fn note(&self, what: impl Into<String>) {
        self.change(|gains| gains.notes.push(what.into()));
    }

    pub(crate) fn took(&self, latency: Duration) {
        let mut latencies = self
            .latencies
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        latencies.push(latency);
    }

    /// All latencies so far, the shortest first.
    pub(crate) fn latencies(&self) -> Vec<Duration> {
        let latencies = self
            .latencies
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut latencies = latencies.clone();
        latencies.sort_unstable();
        latencies
    }

    pub(crate) fn gains(&self) -> Gains {
        let gains = self.gains.lock().unwrap_or_else(PoisonError::into_inner);
        gains.clone()
    }

    fn change(&self, change: impl FnOnce(&mut Gains)) {
        change(&mut self.gains.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
