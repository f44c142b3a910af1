//! The engine's invariants once more, with 3 steps in flight.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

#[path = "engine/allowed_ids.rs"]
mod allowed_ids;
#[path = "engine/cancellation.rs"]
mod cancellation;
#[path = "engine/constraints.rs"]
mod constraints;
#[path = "engine/drafters.rs"]
mod drafters;
#[path = "engine/health.rs"]
mod health;
#[path = "engine/invariance.rs"]
mod invariance;
#[path = "engine/isolation.rs"]
mod isolation;
#[path = "engine/kv_groups.rs"]
mod kv_groups;
#[path = "engine/pipelined.rs"]
mod pipelined;
#[path = "engine/policies.rs"]
mod policies;
#[path = "engine/requests.rs"]
mod requests;
#[path = "engine/sharing.rs"]
mod sharing;
#[path = "engine/toy.rs"]
mod toy;

/// Steps that the toy model has in flight.
pub(crate) const DEPTH: usize = 3;
