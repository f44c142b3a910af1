//! How the answers to one call are to be written, and what their chunks and their whole have in common.

use std::time::{SystemTime, UNIX_EPOCH};

use maitre_engine::{Engine, FinishReason, Finished, Matched};

use super::parameters::Parameters;
use super::types::answer::{StopReason, Usage};

/// How the answers to one call are to be written.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    /// The id of the response.
    pub(super) id: String,
    /// In seconds since 1970.
    pub(super) created: u64,
    pub(super) model: String,
    /// Answers to each prompt.
    pub(super) n: u32,
    /// For the texts of tokens and the ids that end sequences.
    pub(super) engine: Engine,
    /// Tokens that the client has end an answer.
    pub(super) stop_token_ids: Vec<u32>,
    /// Log-probabilities of each token, with so many alternatives.
    pub(super) logprobs: Option<u32>,
    /// Tokens in log-probabilities are written by their ids.
    pub(super) tokens_as_ids: bool,
    /// Log-probabilities of the prompt are shown in vLLM's shape.
    pub(super) prompt_logprobs: bool,
    pub(super) return_token_ids: bool,
    /// The counts of tokens, in a stream: at its end, and with each chunk.
    pub(super) include_usage: bool,
    pub(super) continuous_usage: bool,
}

impl Shape {
    /// The shape that these parameters ask for, of the response named `id`.
    pub(super) fn new(engine: &Engine, parameters: &Parameters, id: String) -> Self {
        let options = parameters.stream_options.unwrap_or_default();
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            id,
            created: since_1970.map_or(0, |it| it.as_secs()),
            model: engine.info().model.clone(),
            n: parameters.n.unwrap_or(1),
            engine: engine.clone(),
            stop_token_ids: parameters.stop_token_ids.clone().unwrap_or_default(),
            logprobs: None,
            tokens_as_ids: parameters.return_tokens_as_token_ids.unwrap_or(false),
            prompt_logprobs: parameters.prompt_logprobs.is_some(),
            return_token_ids: parameters.return_token_ids.unwrap_or(false),
            include_usage: options.include_usage.unwrap_or(false),
            continuous_usage: options.continuous_usage_stats.unwrap_or(false),
        }
    }

    /// Whether the prompt's own tokens have to be known: then answers begin with them.
    pub(super) fn needs_prompt(&self) -> bool {
        self.return_token_ids || self.continuous_usage
    }

    /// What ended an answer, as the client knows it: the model's own end-of-sequence tokens go without saying.
    pub(super) fn stop_reason(&self, finished: &Finished) -> Option<StopReason> {
        match finished.matched.clone()? {
            Matched::Text(text) => Some(StopReason::Text(text)),
            Matched::Token(id) => self
                .stop_token_ids
                .contains(&id)
                .then_some(StopReason::Token(id)),
        }
    }
}

/// OpenAI's name of why an answer ended.
pub(super) fn finish_reason(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop | FinishReason::StopSequence => "stop",
        FinishReason::Length | FinishReason::Deadline => "length",
    }
}

impl Usage {
    /// Adds an answer; `is_first` = of its prompt, which counts once.
    pub(super) fn add(&mut self, finished: &Finished, is_first: bool) {
        let usage = &finished.usage;
        if is_first {
            self.prompt_tokens += usage.prompt_tokens;
            self.prompt_tokens_details.cached_tokens += usage.cached_prompt_tokens;
        }
        self.completion_tokens += usage.completion_tokens;
        let details = &mut self.completion_tokens_details;
        details.reasoning_tokens += usage.reasoning_tokens;
        details.accepted_prediction_tokens += usage.accepted_tokens;
        details.rejected_prediction_tokens +=
            usage.drafted_tokens.saturating_sub(usage.accepted_tokens);
        self.total_tokens = self.prompt_tokens + self.completion_tokens;
    }

    /// The counts of one answer so far.
    pub(super) fn so_far(prompt: usize, generated: usize, reasoning: usize) -> Self {
        let count = |tokens: usize| u32::try_from(tokens).unwrap_or(u32::MAX);
        let mut usage = Self {
            prompt_tokens: count(prompt),
            completion_tokens: count(generated),
            total_tokens: count(prompt.saturating_add(generated)),
            ..Self::default()
        };
        usage.completion_tokens_details.reasoning_tokens = count(reasoning);
        usage
    }

    /// The same, without what was generated only so that there is an answer.
    pub(super) fn of_prompts_alone(mut self) -> Self {
        self.completion_tokens = 0;
        self.completion_tokens_details = Default::default();
        self.total_tokens = self.prompt_tokens;
        self
    }
}
