//! What the engine tells about itself: health, load, metrics, the changes of its prefix cache.

pub(crate) mod cache_events;
pub(crate) mod health;
pub(crate) mod info;
pub(crate) mod metrics;
