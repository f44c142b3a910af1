//! What the client saw of one request. All numbers of a report come from these.

use std::time::Duration;

use maitre_workload::Slo;

use crate::{BenchRequest, RequestError, ServerTimes};

/// What the client saw of one request. Times count from the start of the run.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// When it was due.
    pub scheduled: Duration,
    /// When it was sent.
    pub sent: Duration,
    /// When tokens came, and how many.
    pub arrivals: Vec<(Duration, u32)>,
    /// When the answer was at its end, or failed.
    pub ended: Duration,
    /// Tokens of the prompt.
    pub input_tokens: usize,
    /// Tokens of the prompt that the server had in its prefix cache, if it said so.
    pub cached_tokens: Option<u32>,
    /// Times by the server's clock, if it said so.
    pub server: Option<ServerTimes>,
    /// Why it was not answered in full.
    pub failure: Option<RequestError>,
}

/// Arrivals that memory is reserved for before they come.
const MOST_RESERVED: usize = 4096;

impl Record {
    pub(crate) fn new(scheduled: Duration, sent: Duration, question: &BenchRequest) -> Self {
        Self {
            scheduled,
            sent,
            arrivals: Vec::with_capacity(question.output_tokens.min(MOST_RESERVED)),
            ended: sent,
            input_tokens: question.prompt.len(),
            cached_tokens: None,
            server: None,
            failure: None,
        }
    }

    /// Whether it was answered in full.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.failure.is_none()
    }

    /// Tokens of the answer.
    #[must_use]
    pub fn output_tokens(&self) -> usize {
        self.arrivals.iter().map(|(_, count)| *count as usize).sum()
    }

    /// How much later than it was due the client sent it.
    #[must_use]
    pub fn lateness(&self) -> Duration {
        self.sent.saturating_sub(self.scheduled)
    }

    /// Time to first token, from when the request was due.
    #[must_use]
    pub fn ttft(&self) -> Option<Duration> {
        let (first, _) = self.arrivals.first()?;
        Some(first.saturating_sub(self.scheduled))
    }

    /// Time per output token: the mean after the first arrival; `None` if nothing came later.
    #[must_use]
    pub fn tpot(&self) -> Option<Duration> {
        let ((first, _), (last, _)) = (self.arrivals.first()?, self.arrivals.last()?);
        let later: u32 = self.arrivals.iter().skip(1).map(|(_, count)| count).sum();
        (later > 0).then(|| last.saturating_sub(*first) / later)
    }

    /// The times between one arrival of tokens and the next, each with the moment at its end.
    pub fn gaps(&self) -> impl Iterator<Item = (Duration, Duration)> {
        let pairs = self.arrivals.windows(2);
        pairs.filter_map(|pair| match pair {
            [(before, _), (at, _)] => Some((*at, at.saturating_sub(*before))),
            _ => None,
        })
    }

    /// From when the request was due to the end of its answer.
    #[must_use]
    pub fn e2e(&self) -> Duration {
        self.ended.saturating_sub(self.scheduled)
    }

    /// Whether it was answered in full and in time.
    #[must_use]
    pub fn meets(&self, slo: &Slo) -> bool {
        let ttft = self.ttft().filter(|_| self.is_complete());
        ttft.is_some_and(|ttft| slo.is_met_by(ttft, self.tpot(), self.e2e()))
    }
}
