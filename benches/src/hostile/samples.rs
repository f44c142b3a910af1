//! What clients and probes saw, phase by phase.
//!
//! A wait that has not ended when a phase does is counted in both phases, with the part that lies in each:
//! a stream that freezes for a whole attack would otherwise leave no trace in it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Wait {
    /// The first token of an answer.
    FirstToken,
    /// A later token.
    Token,
    /// An answer of gRPC's health service.
    GrpcHealth,
    /// An answer of `/health/ready`.
    HttpHealth,
}

/// Everything that was seen in a phase.
#[derive(Debug, Clone, Default)]
pub struct Phase {
    waits: BTreeMap<Wait, Vec<Duration>>,
    failures: BTreeMap<String, u64>,
    /// Tokens that arrived.
    pub tokens: usize,
    /// How long the phase was.
    pub length: Duration,
}

impl Phase {
    /// The wait that `share` of all waits of a kind do not exceed; zero if there was none.
    #[must_use]
    pub fn quantile(&self, wait: Wait, share: f64) -> Duration {
        let mut waits = self.waits.get(&wait).cloned().unwrap_or_default();
        waits.sort_unstable();
        let rank = (share * waits.len() as f64).ceil() as usize;
        let at = rank.clamp(1, waits.len().max(1)) - 1;
        waits.get(at).copied().unwrap_or_default()
    }

    /// The longest wait of a kind.
    #[must_use]
    pub fn longest(&self, wait: Wait) -> Duration {
        self.quantile(wait, 1.0)
    }

    /// How many waits of a kind there were.
    #[must_use]
    pub fn count(&self, wait: Wait) -> usize {
        self.waits.get(&wait).map_or(0, Vec::len)
    }

    /// Tokens a second, of all clients together.
    #[must_use]
    pub fn tokens_per_second(&self) -> f64 {
        self.tokens as f64 / self.length.as_secs_f64().max(1e-9)
    }

    /// What went wrong, and how often.
    #[must_use]
    pub fn failures(&self) -> &BTreeMap<String, u64> {
        &self.failures
    }

    pub(crate) fn record(&mut self, wait: Wait, took: Duration) {
        self.waits.entry(wait).or_default().push(took);
    }

    pub(crate) fn fail(&mut self, what: String) {
        *self.failures.entry(what).or_default() += 1;
    }
}

/// Where clients and probes write down what they see; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Recorder(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    began: Instant,
    phase: Phase,
    waiting: HashMap<u64, (Wait, Instant)>,
    next: u64,
}

impl Recorder {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(State {
            began: Instant::now(),
            phase: Phase::default(),
            waiting: HashMap::new(),
            next: 0,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a phase and returns the one before.
    pub(crate) fn next_phase(&self) -> Phase {
        self.next_phase_at(Instant::now())
    }

    fn next_phase_at(&self, now: Instant) -> Phase {
        let mut state = self.state();
        let began = std::mem::replace(&mut state.began, now);
        let mut ended = std::mem::take(&mut state.phase);
        ended.length = now.saturating_duration_since(began);
        for &(wait, since) in state.waiting.values() {
            ended.record(wait, now.saturating_duration_since(since.max(began)));
        }
        ended
    }

    /// Something is waited for from now on.
    pub(crate) fn wait(&self, wait: Wait) -> Waiting {
        self.wait_since(wait, Instant::now())
    }

    fn wait_since(&self, wait: Wait, since: Instant) -> Waiting {
        let mut state = self.state();
        let key = state.next;
        state.next += 1;
        state.waiting.insert(key, (wait, since));
        Waiting {
            recorder: self.clone(),
            key,
        }
    }

    pub(crate) fn tokens(&self, count: usize) {
        self.state().phase.tokens += count;
    }

    pub(crate) fn fail(&self, what: impl Into<String>) {
        self.state().phase.fail(what.into());
    }
}

/// A wait under way. Dropping it forgets the wait.
#[derive(Debug)]
pub(crate) struct Waiting {
    recorder: Recorder,
    key: u64,
}

impl Waiting {
    /// What was waited for is there.
    pub(crate) fn over(self) {
        self.over_at(Instant::now());
    }

    fn over_at(self, now: Instant) {
        let mut state = self.recorder.state();
        if let Some((wait, since)) = state.waiting.remove(&self.key) {
            let since = since.max(state.began);
            let took = now.saturating_duration_since(since);
            state.phase.record(wait, took);
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.recorder.state().waiting.remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_a_wait_that_happened() {
        let mut phase = Phase::default();
        assert_eq!(phase.quantile(Wait::Token, 0.99), Duration::ZERO);
        for ms in 1..=100 {
            phase.record(Wait::Token, Duration::from_millis(ms));
        }
        assert_eq!(phase.quantile(Wait::Token, 0.99), Duration::from_millis(99));
        assert_eq!(phase.quantile(Wait::Token, 0.5), Duration::from_millis(50));
        assert_eq!(phase.longest(Wait::Token), Duration::from_millis(100));
        assert_eq!(phase.longest(Wait::FirstToken), Duration::ZERO);
    }

    #[test]
    fn a_wait_counts_in_each_phase_with_its_part() {
        let recorder = Recorder::new();
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        recorder.next_phase_at(at(10));
        let frozen = recorder.wait_since(Wait::Token, at(12));
        let attacked = recorder.next_phase_at(at(20));
        assert_eq!(attacked.longest(Wait::Token), Duration::from_secs(8));
        assert_eq!(attacked.length, Duration::from_secs(10));
        frozen.over_at(at(23));
        let quiet = recorder.next_phase_at(at(30));
        assert_eq!(quiet.longest(Wait::Token), Duration::from_secs(3));
        assert_eq!(quiet.count(Wait::Token), 1);
    }

    #[test]
    fn a_wait_that_is_dropped_leaves_nothing() {
        let recorder = Recorder::new();
        drop(recorder.wait(Wait::Token));
        assert_eq!(recorder.next_phase().count(Wait::Token), 0);
    }
}
