//! What every protocol of this server shares: whether there is an engine, and how much of the shared resources
//! one client may take. Nothing here knows protobuf or HTTP.
//!
//! A refusal is a value here; the protocol's own module turns it into a status.

pub(crate) mod call_control;
pub(crate) mod call_pools;
pub(crate) mod limits;
pub(crate) mod startup;
pub(crate) mod turns;
