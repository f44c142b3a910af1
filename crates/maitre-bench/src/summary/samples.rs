//! The requests of a run, one value for each, in the order in which they were due: for distributions and comparisons.

use serde::{Deserialize, Serialize};

use super::ms;
use super::percentiles::Latencies;
use crate::Record;

/// One value for each request that was answered in full; of gaps between tokens, which are many, the percentiles.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Samples {
    /// When it was due, in seconds from the start of the run.
    pub scheduled_s: Vec<f64>,
    /// How much later than due it was sent. It is a part of the times below.
    pub lateness_ms: Vec<f64>,
    /// Time to first token.
    pub ttft_ms: Vec<f64>,
    /// Time per output token; `None` of an answer that came at once.
    pub tpot_ms: Vec<Option<f64>>,
    /// End to end.
    pub e2e_ms: Vec<f64>,
    /// The 0th to the 100th percentile of gaps between tokens, of all requests together.
    pub itl_percentiles_ms: Vec<f64>,
}

impl Samples {
    pub(crate) fn of(records: &[Record], itl: &Latencies) -> Self {
        let mut complete: Vec<&Record> = records.iter().filter(|it| it.is_complete()).collect();
        complete.sort_by_key(|record| record.scheduled);
        let each = |pick: fn(&Record) -> f64| complete.iter().map(|record| pick(record)).collect();
        Self {
            scheduled_s: each(|record| record.scheduled.as_secs_f64()),
            lateness_ms: each(|record| ms(record.lateness())),
            ttft_ms: each(|record| ms(record.ttft().unwrap_or_default())),
            tpot_ms: complete
                .iter()
                .map(|record| record.tpot().map(ms))
                .collect(),
            e2e_ms: each(|record| ms(record.e2e())),
            itl_percentiles_ms: itl.every_percentile(),
        }
    }
}
