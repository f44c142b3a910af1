//! What a server counts of itself while it is measured: why it is as fast as it is.

mod exposition;
mod watch;

use serde::{Deserialize, Serialize};

pub use exposition::ServerState;
pub(crate) use watch::{Watched, watch};

/// What a server said of a run. Where it did not count something, that is `None`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServerRun {
    /// Steps of the engine.
    pub steps: Option<f64>,
    /// Mean duration of a step.
    pub step_ms: Option<f64>,
    /// Sequences in a step, on average.
    pub step_sequences: Option<f64>,
    /// Tokens in a step, on average, those of prompts included.
    pub step_tokens: Option<f64>,
    /// Share of the time in which a step ran.
    pub busy_share: Option<f64>,
    /// Sequences that took part in steps, on average over time.
    pub running_mean: Option<f64>,
    /// The most of them.
    pub running_max: Option<f64>,
    /// Sequences that waited, on average over time.
    pub waiting_mean: Option<f64>,
    /// Fewest sequences that took part in steps while others waited; `None` if none did.
    pub running_while_waiting: Option<f64>,
    /// The largest share of the KV cache that sequences held.
    pub kv_used_max: Option<f64>,
    /// How often a sequence lost its KV blocks.
    pub preemptions: Option<f64>,
    /// Share of prompt tokens that the prefix cache had.
    pub prefix_hit_share: Option<f64>,
    /// Mean time from an arrival to the first step, by the server's clock.
    pub queue_ms: Option<f64>,
    /// Mean time to first token, by the server's clock.
    pub ttft_ms: Option<f64>,
    /// Mean time per output token, by the server's clock.
    pub tpot_ms: Option<f64>,
}
