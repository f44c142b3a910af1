//! A request before it is queued: what a caller may ask for, and what of it is refused.

pub(crate) mod constraint;
pub(crate) mod defaults;
mod endless;
pub(crate) mod grammar;
mod identity;
pub mod limits;
pub(crate) mod offload;
pub(crate) mod options;
pub(crate) mod parts;
pub(crate) mod resolve;
pub(crate) mod seeds;
pub(crate) mod stop_budget;
pub(crate) mod tenants;
mod times;
