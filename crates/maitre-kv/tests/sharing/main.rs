//! Sharing, naming, evicting, moving: random calls against a model that does the same by value, and a memory
//! that shows what a reader would see.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod cases;
mod memory;
mod model;
mod properties;
mod starting;
mod states;
mod world;
