//! The controller on machines that are made up: whatever a step, a round of drafting and a guess are worth
//! there, drafting as it decides is never much slower than not drafting at all, nor than the best fixed
//! number of tokens.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    missing_docs,
    unreachable_pub,
    reason = "tests"
)]

mod batch;
mod constraints;
mod faults;
mod speed;
