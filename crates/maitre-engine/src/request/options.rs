//! What a caller asks for.
//!
//! Every `Option` that is `None` means "the model's own default": what its
//! `generation_config.json` says, else the neutral value documented on the field.

use std::time::Duration;

use crate::request::constraint::ConstraintHandle;
use crate::request::grammar::GrammarOptions;
use crate::request::parts::PartOptions;
pub use maitre_text::{ChatMessage, ChatRequest, Role};

/// One request: what to continue, how to choose tokens, when to stop, what to return.
///
/// ```
/// use maitre_engine::{GenerateRequest, Input};
///
/// let mut request = GenerateRequest::new(Input::Text("Once upon a time".into()));
/// request.sampling.temperature = Some(0.0);
/// request.stopping.max_tokens = Some(32);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateRequest {
    /// The caller's name for the request, unique among those in flight; `None` = one is made up.
    pub request_id: Option<String>,
    /// The prompt.
    pub input: Input,
    /// How many independent answers to the same prompt, 1 to [`MAX_N`](crate::request::limits::MAX_N).
    pub n: u32,
    /// How the next token is chosen.
    pub sampling: SamplingOptions,
    /// When the answer ends.
    pub stopping: Stopping,
    /// What comes back beside the text.
    pub output: OutputOptions,
    /// Priority and time limits.
    pub service: ServiceOptions,
    /// What it shares with others.
    pub cache: CacheOptions,
    /// Whether tokens may be drafted for it, where the engine does so at all. The answer is the same
    /// either way, bit for bit (but for engines told to accept by rejection).
    pub speculate: bool,
    /// What its answers have to be like; each of the `n` has a state of its own. Where the tokens of a request are
    /// constrained, they are chosen on the host, one step at a time.
    pub constraint: Option<ConstraintHandle>,
    /// The same, for forms that the engine itself knows: a JSON schema, a regular expression, a grammar. It is compiled
    /// before the request is queued. A request has this or a `constraint`, not both.
    pub grammar: Option<GrammarOptions>,
    /// How its answers are taken apart into text, thoughts and calls of tools. `None`: all of an answer is text.
    pub parts: Option<PartOptions>,
}

impl GenerateRequest {
    /// A request for one answer to `input`, everything else at its default.
    #[must_use]
    pub fn new(input: Input) -> Self {
        Self {
            request_id: None,
            input,
            n: 1,
            sampling: SamplingOptions::default(),
            stopping: Stopping::default(),
            output: OutputOptions::default(),
            service: ServiceOptions::default(),
            cache: CacheOptions::default(),
            speculate: true,
            constraint: None,
            grammar: None,
            parts: None,
        }
    }
}

/// The prompt, in one of the forms a caller may have it.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// Raw text; control tokens in it are parsed as the tokenizer does.
    Text(String),
    /// Token ids, used as they are.
    Tokens(Vec<u32>),
    /// A conversation, rendered by the model's chat template. Text in a message that looks like a
    /// control token stays text.
    Chat(ChatRequest),
}

impl Input {
    /// What an answer goes on with, if it continues the last message of a conversation.
    pub(crate) fn continued_text(&self) -> Option<&str> {
        match self {
            Self::Chat(chat) if chat.continue_final_message => {
                chat.messages.last()?.content.as_deref()
            }
            _ => None,
        }
    }
}

/// Sampling parameters as the caller gave them; meaning and limits in `maitre_sampling`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SamplingOptions {
    /// 0 = greedy; default 1.
    pub temperature: Option<f32>,
    /// Keep the smallest set of tokens with at least this mass, in (0, 1]; default 1.
    pub top_p: Option<f32>,
    /// Keep the k likeliest tokens; 0 = all; default 0.
    pub top_k: Option<u32>,
    /// Drop tokens below this fraction of the likeliest one's probability, in \[0, 1\]; default 0.
    pub min_p: Option<f32>,
    /// Divides positive and multiplies negative logits of tokens seen so far, > 0; default 1.
    pub repetition_penalty: Option<f32>,
    /// Subtracted per earlier occurrence in the answer, in \[-2, 2\]; default 0.
    pub frequency_penalty: Option<f32>,
    /// Subtracted once for a token that occurs in the answer, in \[-2, 2\]; default 0.
    pub presence_penalty: Option<f32>,
    /// The same seed gives the same answer, bit for bit, in any company; `None` = random.
    pub seed: Option<u64>,
    /// Added to the logits of single tokens, each in \[-100, 100\].
    pub logit_bias: Vec<(u32, f32)>,
}

/// When an answer ends. The model's end-of-sequence tokens, the tokenizer's included, always end it unless
/// `ignore_eos`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stopping {
    /// Most tokens to generate, ≥ 1; default: whatever the context still holds.
    pub max_tokens: Option<u32>,
    /// End-of-sequence, stop tokens and stop strings are held off until this many tokens exist. A stop string
    /// that is complete within them ends nothing; one that only begins there does.
    pub min_tokens: u32,
    /// Texts that end the answer; not part of it unless `include_stop`.
    pub stop: Vec<String>,
    /// Tokens that end the answer, beside the model's own.
    pub stop_token_ids: Vec<u32>,
    /// Go on past the model's end-of-sequence tokens. An answer under a constraint goes on while anything but its end
    /// is allowed: once its form is complete and nothing more may come, it ends all the same.
    pub ignore_eos: bool,
    /// Return the stop string or stop token's text as part of the answer.
    pub include_stop: bool,
}

/// What comes back beside the text.
#[derive(Debug, Clone, PartialEq)]
pub struct OutputOptions {
    /// Log-probabilities of each generated token and of this many likeliest alternatives.
    pub logprobs: Option<u32>,
    /// The same for the prompt's tokens (from its second on).
    pub prompt_logprobs: Option<u32>,
    /// Return the prompt's text and ids in front of the answer.
    pub echo: bool,
    /// Leave special tokens out of the text; default true.
    pub skip_special_tokens: bool,
}

impl Default for OutputOptions {
    fn default() -> Self {
        Self {
            logprobs: None,
            prompt_logprobs: None,
            echo: false,
            skip_special_tokens: true,
        }
    }
}

/// What a request shares with others through the prefix cache. An answer is the same either way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CacheOptions {
    /// Prefixes are shared only between requests of the same salt (and tenant); empty is a salt too.
    pub salt: String,
    /// Neither start from what is cached nor leave anything in the cache.
    pub bypass: bool,
}

/// Priority and time limits of one request.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ServiceOptions {
    /// The tenant whose account it runs on: fair policies divide service between tenants, and prefixes are
    /// never shared across them. All requests without a name share one account, the empty one.
    pub tenant: String,
    /// Larger is preempted later, and runs earlier where the policy looks at it.
    pub priority: i32,
    /// Longest wait before the first step; past it the request fails with
    /// [`EngineError::QueueTimeout`](crate::EngineError::QueueTimeout).
    pub queue_timeout: Option<Duration>,
    /// Counted from submission; past it the request fails with
    /// [`EngineError::DeadlineExceeded`](crate::EngineError::DeadlineExceeded).
    pub deadline: Option<Duration>,
    /// Counted from submission; past it the answer ends well, with what there is and
    /// [`FinishReason::Deadline`](crate::FinishReason::Deadline).
    pub time_limit: Option<Duration>,
}
