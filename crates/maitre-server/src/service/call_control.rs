//! One call's lifeline: what of its answer is handed over and not yet written, and whether it has to end.
//!
//! The answer's body, the request's body, the task that drives the call and the bytes on their way each hold a part of
//! the story. They meet here, so that a call whose client does not read can be ended though nothing polls its body.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use tokio::time::Instant;

use crate::service::limits::DEADLINE_GRACE;

/// Why the server ended a call whose client does not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// A piece of its answer was not taken in time.
    Stalled,
    /// Its deadline passed, and its status could not be passed on.
    Deadline,
    /// Its answer was there and not read, and another call needed its place.
    Displaced,
}

impl Cut {
    /// Its name in metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Stalled => "stalled",
            Self::Deadline => "deadline",
            Self::Displaced => "displaced",
        }
    }
}

/// Shared by everything that belongs to one call.
#[derive(Debug)]
pub(crate) struct CallControl {
    stall_timeout: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    deadline: Option<Instant>,
    /// Pieces of the answer that are handed over and not yet written.
    unwritten: usize,
    /// When the first of them was handed over, or the last one written.
    since: Option<Instant>,
    /// Waits until all are written.
    flushed: Option<Waker>,
    /// Whether the call has to make way for another.
    displaced: bool,
    /// Waits for the request's message.
    receiving: Option<Waker>,
    cut: Option<Cut>,
    /// Whether it has to make way though it is answered, and who has to know.
    evicted: bool,
    driving: Option<Waker>,
}

impl CallControl {
    pub(crate) fn new(stall_timeout: Duration) -> Self {
        Self {
            stall_timeout,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The call should be over at `deadline`.
    pub(crate) fn set_deadline(&self, deadline: Instant) {
        self.state().deadline = Some(deadline);
    }

    /// A piece of the answer is on its way to the connection.
    pub(crate) fn handed_over(&self) {
        let mut state = self.state();
        state.unwritten += 1;
        if state.unwritten == 1 {
            state.since = Some(Instant::now());
        }
    }

    /// A piece has been written, or thrown away.
    pub(crate) fn written(&self) {
        let mut state = self.state();
        state.unwritten = state.unwritten.saturating_sub(1);
        state.since = (state.unwritten > 0).then(Instant::now);
        let waker = match state.unwritten {
            0 => state.flushed.take(),
            _ => None,
        };
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Whether all that was handed over is written.
    pub(crate) fn is_written(&self) -> bool {
        self.state().unwritten == 0
    }

    /// Whether all that was handed over is written; if not, `waker` is woken when it is.
    pub(crate) fn is_flushed(&self, waker: &Waker) -> bool {
        let mut state = self.state();
        if state.unwritten == 0 {
            return true;
        }
        state.flushed = Some(waker.clone());
        false
    }

    /// Ends a call that waits for its message, in favour of another.
    pub(crate) fn displace(&self) {
        let mut state = self.state();
        state.displaced = true;
        let waker = state.receiving.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Ends a call whose answer is not read, in favour of another.
    pub(crate) fn evict(&self) {
        let mut state = self.state();
        state.evicted = true;
        let waker = state.driving.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Why a call that is answered has to make way, if it has to; if not, `waker` is woken when it has to.
    pub(crate) fn cut_if_evicted(&self, waker: &Waker) -> Option<Cut> {
        let mut state = self.state();
        if state.evicted {
            state.cut = Some(Cut::Displaced);
        } else if !state.driving.as_ref().is_some_and(|it| it.will_wake(waker)) {
            state.driving = Some(waker.clone());
        }
        state.cut.filter(|_| state.evicted)
    }

    /// Whether the call has to make way; if not, `waker` is woken when it has to.
    pub(crate) fn is_displaced(&self, waker: &Waker) -> bool {
        let mut state = self.state();
        if !state.displaced {
            state.receiving = Some(waker.clone());
        }
        state.displaced
    }

    /// When to look again whether the call is overdue.
    pub(crate) fn expiry(&self) -> Option<Instant> {
        let state = self.state();
        [self.stalls_at(&state), cut_at(&state)]
            .into_iter()
            .flatten()
            .map(|(at, _)| at)
            .min()
    }

    /// Whether the call has to be cut off at `now`, and why.
    pub(crate) fn cut_if_overdue(&self, now: Instant) -> Option<Cut> {
        let mut state = self.state();
        let cut = [cut_at(&state), self.stalls_at(&state)]
            .into_iter()
            .flatten()
            .find(|(at, _)| *at <= now)
            .map(|(_, cut)| cut);
        state.cut = cut;
        cut
    }

    /// Why the server cut the call off, if it did.
    pub(crate) fn cut(&self) -> Option<Cut> {
        self.state().cut
    }

    fn stalls_at(&self, state: &State) -> Option<(Instant, Cut)> {
        let at = state.since?.checked_add(self.stall_timeout)?;
        Some((at, Cut::Stalled))
    }
}

fn cut_at(state: &State) -> Option<(Instant, Cut)> {
    let at = state.deadline?.checked_add(DEADLINE_GRACE)?;
    Some((at, Cut::Deadline))
}
