//! This crate lets one step produce several tokens of a sequence: it proposes tokens, verifies them, and decides
//! when proposing does not pay.
//!
//! A decode step reads all weights to make one token of each sequence. If a cheap drafter, such as a small model
//! or the sequence's own history, guesses the next few tokens, the same step can verify them all (Leviathan et
//! al. 2023, "Fast inference from transformers via speculative decoding"): the guesses are further rows of the
//! same ragged batch.
//!
//! **Exact by coupling.** The target always takes its own sample, with noise that is a function of seed,
//! position and token; a drafted token is accepted if it equals that sample (Daliri et al. 2024, "Coupling
//! without communication and drafter-invariant speculative decoding"). So whatever is drafted, and however
//! many tokens, the answer is the same bit for bit, greedy or sampled.
//!
//! The usual rule, rejection sampling (Leviathan et al. 2023, algorithm 1), is there as well. It accepts a few
//! more tokens and keeps the distribution of the answers, but the answer itself may differ. See [`Acceptance`].
//!
//! **Architecture invariant:** this crate knows no server, no text and no scheduler. The engine tells it which
//! sequences decode and how many tokens may be drafted for each; it returns the drafted tokens. A wrong guess
//! costs time and never changes an answer.

mod calibration;
mod controller;
mod counts;
mod coverage;
mod curve;
mod draft_model;
mod drafter;
mod history;
mod propose;
mod rejection;
mod rules;
mod speculator;
mod verify;

pub use counts::SpeculationCounts;
pub use draft_model::{DraftModel, DraftModelConfig};
pub use drafter::{DraftError, DraftRequest, Drafter, Drafting};
pub use history::{Guess, History, HistoryKind, Replay, ReplayStep};
pub use rules::{Allowed, Rules};
pub use speculator::{Speculate, Speculator, SpeculatorConfig};
pub use verify::{Acceptance, Drafted, Verified, Verifier};
