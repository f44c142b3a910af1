//! Continuations of prompts: `/v1/completions`.

pub(super) mod answer;
pub(super) mod request;
