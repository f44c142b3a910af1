//! How much of the load was answered as it should be.

use maitre_workload::Slo;
use serde::{Deserialize, Serialize};

use crate::Record;

/// How much of the load was answered in full and in time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Goodput {
    /// The bounds.
    pub slo: String,
    /// Requests that kept to all of them.
    pub good: usize,
    /// Their share of all that ended, refused and failed ones included.
    pub share: f64,
    /// Their number a second.
    pub requests_per_second: f64,
}

impl Goodput {
    /// `None` without bounds.
    pub(crate) fn of(slo: &Slo, records: &[Record], seconds: f64) -> Option<Self> {
        let good = records.iter().filter(|record| record.meets(slo)).count();
        (!slo.is_empty()).then(|| Self {
            slo: slo.to_string(),
            good,
            share: good as f64 / records.len().max(1) as f64,
            requests_per_second: if seconds > 0.0 {
                good as f64 / seconds
            } else {
                0.0
            },
        })
    }
}
