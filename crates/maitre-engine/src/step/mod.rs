//! The step loop: plan, run, sample, commit.

pub(crate) mod draft;
pub(crate) mod runner;
pub(crate) mod span_sampler;
pub(crate) mod step_loop;
