//! The crate from the outside: models in, logits out.
//!
//! One binary, because linking takes longer than most of these tests. `support` holds what they
//! share; every other module is one subject.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "tests may stop at the first surprise"
)]

mod allocations;
mod bad_batches;
mod bad_files;
mod batch_invariance;
mod block_moves;
mod configurations;
mod executors;
mod families;
mod families_refused;
mod file_faults;
mod gguf;
mod gguf_blocks;
mod gguf_families;
mod gguf_parts;
mod gpu;
mod greedy;
mod layer_norms;
mod load_progress;
mod parity_candle;
mod parity_table;
mod parity_transformers;
mod perplexity;
mod ranks;
mod recomputed;
mod sliding_window;
mod starts;
mod support;
mod wrappers;
