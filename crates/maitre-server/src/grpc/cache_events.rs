//! The stream of `WatchCacheEvents`.

use std::pin::Pin;

use futures_util::{Stream, StreamExt as _};
use maitre_engine::{BlockHash, CacheEvent, CacheEventBatch};
use maitre_proto::v1;
use tonic::Status;

use crate::service::cache_events::CacheEventStream;

/// What `WatchCacheEvents` returns.
pub(super) type ResponseStream =
    Pin<Box<dyn Stream<Item = Result<v1::WatchCacheEventsResponse, Status>> + Send>>;

/// The messages of these events.
pub(super) fn responses(events: CacheEventStream) -> ResponseStream {
    Box::pin(events.map(|batch| Ok(message(batch?))))
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
