//! The scheduler from the outside: every test drives it through [`world::World`], which runs a toy model
//! on a toy KV memory and checks each plan against books of its own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    missing_docs
)]

mod ahead;
mod commits;
mod drafting;
mod drafts;
mod elsewhere;
mod fairness;
mod flow;
mod front;
mod grants;
mod latency;
mod life;
mod model;
mod oracle;
mod pipeline;
mod plans;
mod policies;
mod properties;
mod queue;
mod queue_properties;
mod refusals;
mod rest;
mod simulation;
mod starvation;
mod states;
mod tally;
mod transfers;
mod waste;
mod world;
