//! Taking turns: how many requests of one connection are worked on before the engine has them.
//!
//! That work is done by a few threads, first come, first served. A connection that sends hundreds of large requests
//! would stand in that line hundreds of times; so it stands there twice, and its other requests wait for those.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::service::limits::TURNS_PER_CONNECTION;

/// The turns of one connection. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Turns(Arc<Semaphore>);

impl Default for Turns {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(TURNS_PER_CONNECTION)))
    }
}

impl Turns {
    /// Waits for a turn, which lasts until the value is dropped.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it loses its place among the connection's waiting requests.
    pub(crate) async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        // The semaphore is never closed.
        Arc::clone(&self.0).acquire_owned().await.ok()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn a_connection_stands_in_line_twice_and_hinders_no_other() {
        let (one, other) = (Turns::default(), Turns::default());
        let same = one.clone();
        let mut held: Vec<_> = std::iter::repeat_with(|| one.turn().now_or_never())
            .take(2)
            .collect();
        assert!(held.iter().all(Option::is_some));
        assert!(same.turn().now_or_never().is_none());
        assert!(other.turn().now_or_never().is_some());
        held.pop();
        assert!(same.turn().now_or_never().is_some());
    }
}
