//! Which requests join the queue, and which requests are in flight.

pub(crate) mod command;
pub(crate) mod front;
pub(crate) mod queue;
pub(crate) mod queue_rate;
