//! The step loop: plan, submit, wait, commit, publish.

pub(crate) mod constraint;
pub(crate) mod draft;
pub(crate) mod in_flight;
pub(crate) mod layout;
pub(crate) mod result;
pub(crate) mod rows;
pub(crate) mod runner;
pub(crate) mod sequence;
pub(crate) mod span_sampler;
pub(crate) mod step_loop;
