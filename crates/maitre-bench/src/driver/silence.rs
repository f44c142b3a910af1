//! Ends a request from which nothing comes any more, so that a server that has gone silent does not hold a measurement for ever.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use futures_util::future::{BoxFuture, Either, select};

use crate::{Clock, RequestError};

/// Counted like a status code: a request that the client gave up. A server's own bound on time is `DEADLINE_EXCEEDED`.
const TIMEOUT: &str = "TIMEOUT";

/// How long a request has been silent, and how long it may be.
pub(super) struct Silence<'a> {
    clock: &'a dyn Clock,
    most: Duration,
    /// When it was sent, or when its last token came.
    since: Duration,
    /// Set to some moment at or before the end of the patience: a token does not set it anew, since tokens are many.
    timer: BoxFuture<'static, ()>,
}

impl<'a> Silence<'a> {
    pub(super) fn new(clock: &'a dyn Clock, most: Duration) -> Self {
        let since = clock.now();
        Self {
            clock,
            most,
            since,
            timer: clock.sleep_until(since.saturating_add(most)),
        }
    }

    /// A token has come. What is no token, such as a comment that keeps a connection alive, ends no silence.
    pub(super) fn broken(&mut self) {
        self.since = self.clock.now();
    }

    /// Waits for what comes next, as long as the silence may last.
    ///
    /// # Errors
    /// That it has lasted too long.
    pub(super) async fn until<T>(
        &mut self,
        next: impl Future<Output = T>,
    ) -> Result<T, RequestError> {
        let mut next = pin!(next);
        loop {
            // What has come already counts, even if the client looks late.
            match select(next.as_mut(), self.timer.as_mut()).await {
                Either::Left((came, _)) => return Ok(came),
                Either::Right(((), _)) => {
                    let end = self.since.saturating_add(self.most);
                    if self.clock.now() >= end {
                        let most = self.most;
                        let message = format!("no token came for {most:?} (--timeout)");
                        return Err(RequestError::new(TIMEOUT, message));
                    }
                    self.timer = self.clock.sleep_until(end);
                }
            }
        }
    }
}
