//! Changes of the prefix cache, for routers that send requests where their prefix is.
//!
//! The step loop must never wait for a listener, so the feed is a bounded broadcast: a listener that falls
//! behind is told how much it missed, and starts anew from an empty picture.

use maitre_scheduler::CacheEvent;
use tokio::sync::broadcast;

/// Batches a listener may leave unread.
const MAX_UNREAD_BATCHES: usize = 1024;

/// The changes that one step made, numbered without gaps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheEventBatch {
    /// One more than that of the batch before.
    pub sequence: u64,
    /// What changed, in order.
    pub events: Vec<CacheEvent>,
}

/// The listening end, from [`Engine::cache_events`](crate::Engine::cache_events).
#[derive(Debug)]
pub struct CacheEvents(broadcast::Receiver<CacheEventBatch>);

impl CacheEvents {
    /// Waits for the next batch; `None` once the engine has stopped.
    ///
    /// # Errors
    ///
    /// [`MissedEvents`] if the listener was too slow. The next call goes on with the oldest batch that is
    /// still there; what it missed may have removed anything.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: no batch is lost.
    pub async fn next(&mut self) -> Option<Result<CacheEventBatch, MissedEvents>> {
        match self.0.recv().await {
            Ok(batch) => Some(Ok(batch)),
            Err(broadcast::error::RecvError::Lagged(batches)) => {
                Some(Err(MissedEvents { batches }))
            }
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

/// A listener fell too far behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{batches} batches of cache events were missed; forget what was cached and go on")]
pub struct MissedEvents {
    /// How many.
    pub batches: u64,
}

/// The speaking end.
#[derive(Debug)]
pub(crate) struct CacheFeed {
    sender: broadcast::Sender<CacheEventBatch>,
    sequence: u64,
}

impl CacheFeed {
    pub(crate) fn new() -> Self {
        Self {
            sender: broadcast::Sender::new(MAX_UNREAD_BATCHES),
            sequence: 0,
        }
    }

    /// Where listeners are made; it does not keep the feed open.
    pub(crate) fn source(&self) -> broadcast::WeakSender<CacheEventBatch> {
        self.sender.downgrade()
    }

    pub(crate) fn publish(&mut self, events: Vec<CacheEvent>) {
        if events.is_empty() {
            return;
        }
        let sequence = self.sequence;
        self.sequence += 1;
        // An error means that there is no listener.
        let _ = self.sender.send(CacheEventBatch { sequence, events });
    }
}

/// A listener from now on; one whose engine has stopped hears nothing.
pub(crate) fn listen(source: &broadcast::WeakSender<CacheEventBatch>) -> CacheEvents {
    CacheEvents(match source.upgrade() {
        Some(sender) => sender.subscribe(),
        None => broadcast::channel(1).1,
    })
}
