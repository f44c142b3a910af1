//! A run cut into equal pieces of time: what changes while it lasts. As in the rest of the report only requests count that were answered in
//! full.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::percentiles::Latencies;
use crate::Record;

/// Pieces of a run.
const PIECES: usize = 60;

/// A run in pieces of time, one value for each.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Timeline {
    /// How long a piece is, in seconds.
    pub piece_s: f64,
    /// Tokens of completed requests that came in it.
    pub output_tokens: Vec<usize>,
    /// Median of the gaps between tokens that ended in it; `None` if there were none.
    pub itl_p50_ms: Vec<Option<f64>>,
    /// Their 99th percentile.
    pub itl_p99_ms: Vec<Option<f64>>,
}

impl Timeline {
    pub(crate) fn of(records: &[Record], duration: Duration) -> Self {
        let piece_s = duration.as_secs_f64() / PIECES as f64;
        if piece_s <= 0.0 {
            return Self::default();
        }
        let piece = |at: Duration| ((at.as_secs_f64() / piece_s) as usize).min(PIECES - 1);
        let mut output_tokens = vec![0; PIECES];
        let mut gaps: Vec<Latencies> = (0..PIECES).map(|_| Latencies::default()).collect();
        for record in records.iter().filter(|record| record.is_complete()) {
            for (at, count) in &record.arrivals {
                if let Some(tokens) = output_tokens.get_mut(piece(*at)) {
                    *tokens += *count as usize;
                }
            }
            for (at, gap) in record.gaps() {
                if let Some(gaps) = gaps.get_mut(piece(at)) {
                    gaps.record(gap);
                }
            }
        }
        let itl: Vec<_> = gaps.iter().map(Latencies::percentiles).collect();
        Self {
            piece_s,
            output_tokens,
            itl_p50_ms: itl.iter().map(|itl| itl.map(|it| it.p50)).collect(),
            itl_p99_ms: itl.iter().map(|itl| itl.map(|it| it.p99)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BenchRequest, RequestError};

    #[test]
    fn tokens_of_requests_that_failed_do_not_count() {
        let ms = Duration::from_millis;
        let question = BenchRequest {
            prompt: vec![1],
            output_tokens: 2,
        };
        let mut complete = Record::new(ms(0), ms(0), &question);
        complete.arrivals = vec![(ms(15), 1), (ms(35), 1)];
        let mut failed = complete.clone();
        failed.arrivals = vec![(ms(15), 7), (ms(595), 7)];
        failed.failure = Some(RequestError::new("INTERNAL", "boom"));
        let timeline = Timeline::of(&[complete, failed], ms(600));
        assert_eq!(timeline.output_tokens.iter().sum::<usize>(), 2);
        assert_eq!(timeline.output_tokens[1], 1);
        assert_eq!(timeline.itl_p50_ms.iter().flatten().count(), 1);
    }
}
