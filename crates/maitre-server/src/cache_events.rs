//! The stream of `WatchCacheEvents`.

use std::pin::Pin;

use futures_util::{Stream, stream};
use maitre_engine::{BlockHash, CacheEvent, CacheEventBatch, Engine, EngineError};
use maitre_proto::v1;
use tonic::Status;

use crate::status;

/// What `WatchCacheEvents` returns.
pub(crate) type CacheEventStream =
    Pin<Box<dyn Stream<Item = Result<v1::WatchCacheEventsResponse, Status>> + Send>>;

/// Everything from now on until the engine drains, which no listener may hold up, or the listener falls behind.
pub(crate) fn stream(engine: &Engine) -> CacheEventStream {
    let listening = Some((engine.clone(), engine.cache_events()));
    Box::pin(stream::unfold(listening, |listening| async move {
        let (engine, mut events) = listening?;
        let next = tokio::select! {
            next = events.next() => next?,
            () = engine.draining() => {
                return Some((Err(status::from_engine(&EngineError::Draining)), None));
            }
        };
        match next {
            Ok(batch) => Some((Ok(message(batch)), Some((engine, events)))),
            // What was missed may have removed anything: the listener has to start anew.
            Err(missed) => Some((Err(status::missed_events(missed)), None)),
        }
    }))
}

fn message(batch: CacheEventBatch) -> v1::WatchCacheEventsResponse {
    v1::WatchCacheEventsResponse {
        sequence: batch.sequence,
        events: batch.events.iter().cloned().map(event).collect(),
    }
}

fn event(event: CacheEvent) -> v1::CacheEvent {
    use v1::cache_event::Change;
    let change = match event {
        CacheEvent::Stored {
            hash,
            parent,
            tokens,
        } => Change::Stored(v1::BlockStored {
            hash: name(hash),
            parent_hash: parent.map(name).unwrap_or_default(),
            token_ids: tokens,
        }),
        CacheEvent::Removed { hash } => Change::Removed(v1::BlockRemoved { hash: name(hash) }),
        CacheEvent::Cleared => Change::Cleared(v1::CacheCleared {}),
    };
    v1::CacheEvent {
        change: Some(change),
    }
}

fn name(hash: BlockHash) -> Vec<u8> {
    hash.0.to_be_bytes().to_vec()
}
