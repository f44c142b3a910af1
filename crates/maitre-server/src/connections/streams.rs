//! The tasks of a connection's calls, each ended when its client does not read.
//!
//! An HTTP/1 connection has one call at a time and drives it itself: there the connection is dropped instead.
//!
//! The HTTP/2 library drives every call in a task that it gives to an executor. A call whose client has closed its
//! window waits in that task for the window, and its body is not polled: no timer in the body would ever be looked
//! at. So the executor looks, and drops the task, which resets the stream and everything it holds.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use hyper::rt::Executor;
use tokio::time::{Instant, sleep_until};

use crate::service::call_control::{CallControl, Cut};

/// Spawns the tasks of one connection's calls. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Streams {
    /// The call that has just begun: the library calls the service, and then the executor with what came of it.
    begun: Arc<Mutex<Option<Arc<CallControl>>>>,
}

impl Streams {
    /// The next task is this call's.
    pub(crate) fn begin(&self, control: Arc<CallControl>) {
        *self.begun.lock().unwrap_or_else(PoisonError::into_inner) = Some(control);
    }

    /// Drives a connection that has one call at a time, or drops it when that call is overdue.
    pub(super) async fn one_at_a_time(&self, connection: impl Future<Output = ()>) {
        let current = || {
            let begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
            begun.clone()
        };
        until_overdue(connection, current).await;
    }
}

impl<F> Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, task: F) {
        let begun = self
            .begun
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        match begun {
            Some(control) => tokio::spawn(until_overdue(task, move || Some(Arc::clone(&control)))),
            None => tokio::spawn(task),
        };
    }
}

/// Drives `task` to its end, or drops it when the call that it is at is overdue.
async fn until_overdue(
    task: impl Future<Output = ()>,
    current: impl Fn() -> Option<Arc<CallControl>>,
) {
    let mut task = pin!(task);
    let mut alarm = pin!(sleep_until(Instant::now()));
    let mut is_set = false;
    let mut overdue = |control: &CallControl, context: &mut Context<'_>| -> Poll<Cut> {
        while let Some(expiry) = control.expiry() {
            // What is handed over later expires later, so an alarm that is set is seldom set anew.
            if !is_set || expiry < alarm.deadline() {
                alarm.as_mut().reset(expiry);
                is_set = true;
            }
            ready!(alarm.as_mut().poll(context));
            is_set = false;
            if let Some(cut) = control.cut_if_overdue(Instant::now()) {
                return Poll::Ready(cut);
            }
        }
        Poll::Pending
    };
    let cut = poll_fn(|context| {
        if task.as_mut().poll(context).is_ready() {
            return Poll::Ready(None);
        }
        let Some(control) = current() else {
            return Poll::Pending;
        };
        if let Some(cut) = control.cut_if_evicted(context.waker()) {
            return Poll::Ready(Some(cut));
        }
        overdue(&control, context).map(Some)
    })
    .await;
    if let Some(cut) = cut {
        tracing::debug!(
            why = cut.name(),
            "a call whose client does not read was cut off"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;
    use std::time::Duration;

    const STALL: Duration = Duration::from_secs(30);

    async fn runs_for(control: &Arc<CallControl>) -> Duration {
        let began = Instant::now();
        until_overdue(pending(), || Some(Arc::clone(control))).await;
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_is_cut_when_a_piece_is_not_taken() {
        let control = Arc::new(CallControl::new(STALL));
        control.handed_over();
        control.handed_over();
        let taking = Arc::clone(&control);
        let reader = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(20)).await;
            taking.written();
        });
        assert_eq!(runs_for(&control).await, Duration::from_secs(50));
        assert_eq!(control.cut(), Some(Cut::Stalled));
        reader.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_is_cut_a_moment_after_its_deadline() {
        let control = Arc::new(CallControl::new(STALL));
        control.set_deadline(Instant::now() + Duration::from_secs(5));
        assert_eq!(runs_for(&control).await, Duration::from_secs(6));
        assert_eq!(control.cut(), Some(Cut::Deadline));

        let control = Arc::new(CallControl::new(STALL));
        control.set_deadline(Instant::now() + Duration::from_secs(3600));
        let handing = Arc::clone(&control);
        let task = async move {
            tokio::time::sleep(Duration::from_secs(5)).await;
            handing.handed_over();
            pending().await
        };
        let began = Instant::now();
        until_overdue(task, || Some(Arc::clone(&control))).await;
        assert_eq!(
            began.elapsed(),
            Duration::from_secs(35),
            "a stall before the deadline"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_whose_place_is_needed_is_cut_at_once() {
        let control = Arc::new(CallControl::new(STALL));
        let evicting = Arc::clone(&control);
        let needed = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(3)).await;
            evicting.evict();
        });
        assert_eq!(runs_for(&control).await, Duration::from_secs(3));
        assert_eq!(control.cut(), Some(Cut::Displaced));
        needed.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_without_anything_unread_runs_on() {
        let control = Arc::new(CallControl::new(STALL));
        control.handed_over();
        control.written();
        let runs = until_overdue(pending(), || Some(Arc::clone(&control)));
        let hour = Duration::from_secs(3600);
        assert!(tokio::time::timeout(hour, runs).await.is_err());
        assert_eq!(control.cut(), None);
    }
}
