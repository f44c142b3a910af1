//! The flags that say how tokens are chosen and when an answer ends.

use clap::Args;
use maitre::GenerateRequest;

/// How tokens are chosen, and when an answer ends.
#[derive(Debug, Clone, Args)]
pub(crate) struct SamplingArgs {
    /// Most tokens to generate [default: what the context holds].
    #[arg(long, value_name = "N")]
    pub(crate) max_tokens: Option<u32>,
    /// 0 = greedy [default: the model's].
    #[arg(long, value_name = "T")]
    pub(crate) temperature: Option<f32>,
    /// Keep the smallest set of tokens with this mass [default: the model's].
    #[arg(long, value_name = "P")]
    pub(crate) top_p: Option<f32>,
    /// Keep the K likeliest tokens; 0 = all [default: the model's].
    #[arg(long, value_name = "K")]
    pub(crate) top_k: Option<u32>,
    /// A text that ends the answer; may be given several times.
    #[arg(long, value_name = "TEXT")]
    pub(crate) stop: Vec<String>,
    /// Go on past the model's end-of-sequence tokens.
    #[arg(long)]
    pub(crate) ignore_eos: bool,
}

impl SamplingArgs {
    pub(crate) fn apply(&self, request: &mut GenerateRequest) {
        request.sampling.temperature = self.temperature;
        request.sampling.top_p = self.top_p;
        request.sampling.top_k = self.top_k;
        request.stopping.max_tokens = self.max_tokens;
        request.stopping.stop.clone_from(&self.stop);
        request.stopping.ignore_eos = self.ignore_eos;
    }
}
