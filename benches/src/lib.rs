//! Benchmarks, and what they have in common: work is counted in bytes and operations, and its speed
//! is shown beside the limit of the machine.

mod bench;
mod exposition;
pub mod hostile;
pub mod repeats;
pub mod slowed;
pub mod speculation;
pub mod streams;
pub mod texts;
mod work;

pub use bench::Bench;
pub use work::{Peak, Work};
