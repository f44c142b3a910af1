//! The engine from outside: one file per invariant, on a toy model that notices every wrong block,
//! and on the bundled one.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

mod allowed_ids;
mod bundled;
mod cancellation;
mod constraints;
mod device_fit;
mod drafters;
mod gpu;
#[cfg(feature = "grammar")]
mod grammars;
mod health;
mod invariance;
mod isolation;
mod kv_groups;
mod model_files;
#[cfg(feature = "grammar")]
mod parts;
mod pipelined;
mod policies;
mod requests;
#[cfg(feature = "grammar")]
mod script;
mod sharing;
mod speculation;
mod text;
mod text_files;
#[cfg(feature = "grammar")]
mod thinking;
mod toy;

/// Steps that the toy model has in flight.
pub(crate) const DEPTH: usize = 1;
