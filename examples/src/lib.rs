//! What the lessons share: timed answers, schedules without a model, models read by hand, operators at work,
//! requests for simulated fleets, tables on the terminal, pictures beside them.

pub mod block_map;
pub mod divergence;
pub mod dry_run;
pub mod heldout;
pub mod layer;
pub mod local;
pub mod numbers;
pub mod picture;
pub mod reader;
pub mod table;
pub mod timed;
pub mod traffic;
pub mod verdicts;

/// Whether to take the short way: CI sets `MAITRE_QUICK=1` to see that every lesson still runs.
#[must_use]
pub fn quick() -> bool {
    std::env::var("MAITRE_QUICK").is_ok_and(|value| value == "1")
}
