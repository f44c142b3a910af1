//! The flags of speculation: what drafts tokens, how many, and when one is accepted.

use anyhow::Result;
use clap::{Args, ValueEnum};
use maitre::server::Startup;
use maitre::{Acceptance, EngineBuilder, Speculate};

use super::source::{self, BUNDLED};

/// How several tokens of an answer come from one step.
#[derive(Debug, Clone, Args)]
pub(crate) struct SpeculationArgs {
    /// What drafts the tokens that the model verifies several at a time. Answers are the same whatever is chosen
    /// (unless --accept says otherwise).
    #[arg(long, default_value = "auto", value_name = "WHO")]
    speculate: SpeculateArg,
    /// A smaller model of the same vocabulary that drafts: `bundled`, a directory in Hugging Face's layout,
    /// or ORG/NAME on the Hub. Loaded under --speculate draft and auto only [default: the bundled draft
    /// for the bundled model, else none].
    #[arg(long, value_name = "MODEL")]
    draft_model: Option<String>,
    /// Most tokens drafted for a sequence in a step, 1 to 64.
    #[arg(long, default_value_t = 8, value_name = "N")]
    draft_tokens: usize,
    /// When a drafted token is accepted.
    #[arg(long, default_value = "coupling", value_name = "RULE")]
    accept: AcceptArg,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum SpeculateArg {
    /// Nothing: one token a step. To compare with, or where memory for the draft model is short.
    Off,
    /// The answer's own text, by its last 2 to 4 tokens, always as many as allowed. For a few users whose
    /// answers quote their prompts.
    Ngram,
    /// The same by the longest repetition: longer drafts for code edits and other verbatim copies.
    Suffix,
    /// The draft model, always as many as allowed. For a few users and a draft that is known to be good.
    Draft,
    /// For each sequence its own text or the draft model, whichever is likelier to be right. Only as many tokens
    /// as make more tokens per second at the moment: none when the batch is full.
    Auto,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum AcceptArg {
    /// If it is the very token that would have come without it.
    Coupling,
    /// With the probability min(1, p/q) of speculative sampling: accepts a little more of what a draft model
    /// samples. Keeps the distribution of answers, but not the very tokens: with the same seed another answer
    /// may come. Greedy answers stay the same.
    Rejection,
}

impl SpeculationArgs {
    /// Applies the flags, finding the draft model (downloading it if it is a name on the Hub) where one is wanted.
    pub(crate) async fn apply(
        &self,
        builder: EngineBuilder,
        model: &str,
        startup: &Startup,
    ) -> Result<EngineBuilder> {
        let speculate = match self.speculate {
            SpeculateArg::Off => Speculate::Off,
            SpeculateArg::Ngram => Speculate::Ngram,
            SpeculateArg::Suffix => Speculate::Suffix,
            SpeculateArg::Draft => Speculate::Draft,
            SpeculateArg::Auto => Speculate::Auto,
        };
        let draft = match self.draft_model(model) {
            Some(name) => Some(source::draft(name, startup).await?),
            None => None,
        };
        Ok(builder
            .speculate(speculate)
            .draft_model(draft)
            .draft_tokens(self.draft_tokens)
            .acceptance(match self.accept {
                AcceptArg::Coupling => Acceptance::Coupling,
                AcceptArg::Rejection => Acceptance::Rejection,
            }))
    }

    /// The draft model's name, where one is to be loaded beside `model`.
    fn draft_model(&self, model: &str) -> Option<&str> {
        if !matches!(self.speculate, SpeculateArg::Draft | SpeculateArg::Auto) {
            return None;
        }
        let default = (model == BUNDLED).then_some(BUNDLED);
        self.draft_model.as_deref().or(default)
    }
}
