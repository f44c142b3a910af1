//! Telling a listener of every change of the prefix cache.

use std::pin::Pin;

use futures_util::{Stream, stream};
use maitre_engine::{CacheEventBatch, Engine, EngineError};

use crate::service::Service;
use crate::service::api_error::ApiError;

/// What a listener is told; it ends after one error.
pub(crate) type CacheEventStream =
    Pin<Box<dyn Stream<Item = Result<CacheEventBatch, ApiError>> + Send>>;

impl Service {
    /// Everything from now on until the engine drains, which no listener may hold up, or the listener falls behind.
    ///
    /// # Errors
    ///
    /// The engine does not record changes.
    pub(crate) fn cache_events(&self) -> Result<CacheEventStream, ApiError> {
        let engine = self.engine()?;
        if !engine.info().scheduling.cache_events {
            return Err(ApiError::no_cache_events());
        }
        Ok(stream_of(engine))
    }
}

fn stream_of(engine: &Engine) -> CacheEventStream {
    let listening = Some((engine.clone(), engine.cache_events()));
    Box::pin(stream::unfold(listening, |listening| async move {
        let (engine, mut events) = listening?;
        let next = tokio::select! {
            next = events.next() => next?,
            () = engine.draining() => return Some((Err(EngineError::Draining.into()), None)),
        };
        match next {
            Ok(batch) => Some((Ok(batch), Some((engine, events)))),
            // What was missed may have removed anything: the listener has to start anew.
            Err(missed) => Some((Err(ApiError::missed_events(missed)), None)),
        }
    }))
}
