//! Verification: drafts change no answer under coupling, and no distribution under either rule.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    missing_docs
)]

mod agreement;
mod cases;
mod equality;
mod exact;
mod joint;
mod masks;
mod models;
mod rules;
