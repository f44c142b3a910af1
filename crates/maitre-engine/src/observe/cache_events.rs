//! Changes of the prefix cache, for routers that send requests where their prefix is.
//!
//! The step loop must never wait for a listener, so the feed keeps the last changes in a ring of bounded size, which
//! all listeners read. A listener that falls behind is told how much it missed, and starts anew from an empty picture.

use std::collections::VecDeque;
use std::mem::size_of;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use maitre_scheduler::CacheEvent;
use tokio::sync::watch;

/// Bytes of changes that are kept for listeners, all together.
pub(crate) const FEED_BYTES: usize = 16 << 20;

/// The changes that one step made, numbered without gaps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheEventBatch {
    /// One more than that of the batch before.
    pub sequence: u64,
    /// What changed, in order; shared by all listeners.
    pub events: Arc<[CacheEvent]>,
}

impl CacheEventBatch {
    /// What it takes of the feed.
    fn bytes(&self) -> usize {
        let tokens = self.events.iter().map(|event| match event {
            CacheEvent::Stored { tokens, .. } => tokens.len() * size_of::<u32>(),
            CacheEvent::Removed { .. } | CacheEvent::Cleared => 0,
        });
        size_of::<Self>() + size_of_val(&*self.events) + tokens.sum::<usize>()
    }
}

/// The listening end, from [`Engine::cache_events`](crate::Engine::cache_events).
#[derive(Debug)]
pub struct CacheEvents {
    ring: Arc<Mutex<Ring>>,
    published: watch::Receiver<()>,
    next: u64,
}

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
        loop {
            self.published.mark_unchanged();
            if let Some(found) = self.take() {
                return Some(found);
            }
            if self.published.changed().await.is_err() {
                // What was published before the end is still to be heard.
                return self.take();
            }
        }
    }

    fn take(&mut self) -> Option<Result<CacheEventBatch, MissedEvents>> {
        let ring = lock(&self.ring);
        let oldest = ring.next - ring.batches.len() as u64;
        if self.next < oldest {
            let batches = oldest - self.next;
            self.next = oldest;
            return Some(Err(MissedEvents { batches }));
        }
        let place = usize::try_from(self.next - oldest).ok()?;
        let batch = ring.batches.get(place)?.clone();
        self.next += 1;
        Some(Ok(batch))
    }
}

/// A listener fell too far behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{batches} batches of cache events were missed; forget what was cached and go on")]
pub struct MissedEvents {
    /// How many.
    pub batches: u64,
}

/// The last batches.
#[derive(Debug, Default)]
struct Ring {
    batches: VecDeque<CacheEventBatch>,
    bytes: usize,
    /// The number of the next batch.
    next: u64,
}

fn lock(ring: &Mutex<Ring>) -> MutexGuard<'_, Ring> {
    ring.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The speaking end. Listeners hear of its end when it is dropped.
#[derive(Debug)]
pub(crate) struct CacheFeed {
    ring: Arc<Mutex<Ring>>,
    published: Arc<watch::Sender<()>>,
    limit: usize,
}

/// Where listeners are made; it does not keep the feed open.
#[derive(Debug, Clone)]
pub(crate) struct CacheFeedSource {
    ring: Arc<Mutex<Ring>>,
    published: Weak<watch::Sender<()>>,
}

impl CacheFeed {
    /// Keeps at most `limit` bytes, and the last batch whatever it takes.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            ring: Arc::default(),
            published: Arc::new(watch::Sender::new(())),
            limit,
        }
    }

    pub(crate) fn source(&self) -> CacheFeedSource {
        CacheFeedSource {
            ring: Arc::clone(&self.ring),
            published: Arc::downgrade(&self.published),
        }
    }

    pub(crate) fn publish(&mut self, events: Vec<CacheEvent>) {
        if events.is_empty() {
            return;
        }
        let mut ring = lock(&self.ring);
        let batch = CacheEventBatch {
            sequence: ring.next,
            events: events.into(),
        };
        ring.next += 1;
        // Without listeners a batch has only to be counted.
        if self.published.receiver_count() == 0 {
            ring.batches.clear();
            ring.bytes = 0;
            return;
        }
        ring.bytes += batch.bytes();
        ring.batches.push_back(batch);
        while ring.bytes > self.limit && ring.batches.len() > 1 {
            let oldest = ring.batches.pop_front();
            ring.bytes -= oldest.as_ref().map_or(0, CacheEventBatch::bytes);
        }
        drop(ring);
        self.published.send_replace(());
    }
}

impl CacheFeedSource {
    /// A listener from now on; one whose engine has stopped hears nothing.
    pub(crate) fn listen(&self) -> CacheEvents {
        let ring = lock(&self.ring);
        CacheEvents {
            published: match self.published.upgrade() {
                Some(published) => published.subscribe(),
                None => watch::Sender::new(()).subscribe(),
            },
            next: ring.next,
            ring: Arc::clone(&self.ring),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use maitre_scheduler::BlockHash;

    use super::*;

    fn stored(tokens: usize) -> Vec<CacheEvent> {
        vec![CacheEvent::Stored {
            hash: BlockHash(1),
            parent: None,
            tokens: vec![0; tokens],
        }]
    }

    fn heard(listener: &mut CacheEvents) -> Option<Result<u64, u64>> {
        let next = listener.next().now_or_never()?.unwrap();
        Some(next.map(|it| it.sequence).map_err(|it| it.batches))
    }

    #[test]
    fn every_listener_hears_all_from_when_it_began() {
        let mut feed = CacheFeed::new(1 << 20);
        let source = feed.source();
        feed.publish(stored(1));
        let mut first = source.listen();
        assert_eq!(heard(&mut first), None);
        feed.publish(stored(1));
        feed.publish(Vec::new());
        let mut second = source.listen();
        feed.publish(stored(1));
        assert_eq!(heard(&mut first), Some(Ok(1)));
        assert_eq!(heard(&mut first), Some(Ok(2)));
        assert_eq!(heard(&mut first), None);
        assert_eq!(heard(&mut second), Some(Ok(2)));
        feed.publish(stored(1));
        drop(feed);
        assert_eq!(heard(&mut second), Some(Ok(3)));
        assert_eq!(second.next().now_or_never(), Some(None));
        assert_eq!(source.listen().next().now_or_never(), Some(None));
    }

    /// A few large batches and many small ones take the same memory.
    #[test]
    fn what_is_kept_is_bounded_by_bytes() {
        for tokens in [0, 16, 10_000] {
            let mut feed = CacheFeed::new(100_000);
            let mut listener = feed.source().listen();
            for _ in 0..5_000 {
                feed.publish(stored(tokens));
                assert!(lock(&feed.ring).bytes <= 100_000);
            }
            let kept = lock(&feed.ring).batches.len() as u64;
            assert_eq!(heard(&mut listener), Some(Err(5_000 - kept)));
            assert_eq!(heard(&mut listener), Some(Ok(5_000 - kept)));
            let each = lock(&feed.ring).batches[0].bytes();
            assert_eq!(kept, 100_000 / each as u64, "{tokens} tokens");
            assert!(each >= 4 * tokens);
        }
    }

    #[test]
    fn one_batch_is_kept_however_large_and_none_without_listeners() {
        let mut feed = CacheFeed::new(10);
        let mut listener = feed.source().listen();
        feed.publish(stored(1000));
        assert_eq!(heard(&mut listener), Some(Ok(0)));
        drop(listener);
        feed.publish(stored(1000));
        assert_eq!(lock(&feed.ring).batches.len(), 0);
        assert_eq!(lock(&feed.ring).bytes, 0);
    }
}
