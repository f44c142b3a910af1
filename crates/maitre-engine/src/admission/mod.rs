//! Which requests join the queue, and which requests are in flight.

pub(crate) mod command;
pub(crate) mod front;
mod refused;
