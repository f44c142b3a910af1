//! This crate says what comes when: requests with an arrival, lengths and a beginning that others may share.
//!
//! The simulator and the load generator take their requests from it, so that both mean the same by the same words. Requests come
//! from a [`Trace`] that is played again ([`Replay`]), at some rate whether or not earlier ones are answered ([`OpenLoop`]), or
//! from users who wait for their answers ([`ClosedLoop`]), each of them alone or as turns of a conversation ([`Conversations`]). An [`Slo`] says which answers are good.
//!
//! **Architecture invariant:** pure and deterministic. Time, randomness and text are arguments, and the same seed gives the same
//! requests on every machine. This crate knows neither the simulator nor the clients that send requests.
//!
//! # Examples
//!
//! ```
//! use maitre_workload::{Arrivals, Length, Lengths, OpenLoop};
//!
//! let lengths = Lengths::Independent { prompt: Length::Uniform(100..=200), output: Length::Fixed(20) };
//! let mut arrivals = OpenLoop::new("poisson:5".parse()?, lengths, 2, 0)?;
//! let first = arrivals.take().unwrap();
//! assert!((100..=200).contains(&first.prompt_tokens));
//! assert!(arrivals.next_at().unwrap() > first.arrival);
//! # Ok::<(), maitre_workload::SettingError>(())
//! ```

mod azure;
mod burst;
mod chats;
mod closed;
mod conversations;
mod error;
mod lengths;
mod mooncake;
mod open;
mod order;
mod process;
mod random;
mod request;
mod slo;
mod trace;

pub use burst::{Burst, ObservedBurst};
pub use chats::{Chat, ChatTurn, Chats};
pub use closed::{ClosedLoop, ThinkTime};
pub use conversations::{Conversations, Starts, Turn, Turns};
pub use error::SettingError;
pub use lengths::{Length, Lengths};
pub use open::{OpenLoop, Replay};
pub use order::OutOfOrder;
pub use process::{ArrivalProcess, RateStep};
pub use random::{Random, mix};
pub use request::{Arrivals, Request, SharedPrefix};
pub use slo::{Slo, parse_time};
pub use trace::{BadLine, BadLines, Trace, TraceError, TraceFormat};

/// A time since the beginning of the workload, by the clock of its user. This crate has none of its own.
pub type Time = std::time::Duration;
