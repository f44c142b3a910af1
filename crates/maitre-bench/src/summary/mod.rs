//! From the records of a run to its numbers.

mod goodput;
mod percentiles;
mod run;
mod samples;
mod timeline;

pub use goodput::Goodput;
pub use percentiles::Percentiles;
pub use run::Run;
pub(crate) use run::{Machine, REFUSED};
pub use samples::Samples;
pub use timeline::Timeline;

/// Milliseconds to a ten-thousandth of one.
fn ms(time: std::time::Duration) -> f64 {
    (time.as_secs_f64() * 1e7).round() / 1e4
}
