//! From a request to sequences: every field checked, every default filled in, the prompt in tokens.
//!
//! All that is wrong with a request is reported at once, and nothing wrong gets past this file: the
//! queue only ever holds requests that can run.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use maitre_model::GenerationDefaults;
use maitre_sampling::SamplingParams;
use maitre_text::{ChatRequest, TextError, Tokenizer};

use crate::admission::command::Choice;
use crate::request::endless::Endless;
use crate::request::grammar::Grammars;
use crate::request::identity;
use crate::request::limits::{
    MAX_N, MAX_PROMPT_BYTES_PER_TOKEN, MAX_STOP_BYTES, MAX_STOP_STRINGS, MAX_STOP_TOKEN_IDS,
};
use crate::request::parts::{Formats, ResolvedParts};
use crate::request::times;
use crate::{ConstraintHandle, EngineError, GenerateRequest, Input, Violation};

/// What a request is measured against.
#[derive(Debug, Clone)]
pub(crate) struct Resolver {
    pub(crate) tokenizer: Tokenizer,
    pub(crate) defaults: GenerationDefaults,
    /// Ids that may stand in a prompt or be generated are below this.
    pub(crate) vocab_size: usize,
    pub(crate) max_model_len: usize,
    /// Tokens that the whole KV pool holds.
    pub(crate) kv_tokens: usize,
    pub(crate) max_queue: usize,
    pub(crate) grammars: Arc<Grammars>,
    /// How the model writes calls and thoughts.
    pub(crate) formats: Formats,
}

/// A request that can run.
#[derive(Debug)]
pub(crate) struct Resolved {
    pub(crate) prompt: Vec<u32>,
    /// For answer 0; the others differ in their seed alone.
    pub(crate) choice: Choice,
    /// How the answers are taken apart, if they are.
    pub(crate) parts: Option<ResolvedParts>,
    /// Earliest of deadline and time limit, from submission.
    pub(crate) ends_after: Option<Duration>,
}

/// Collects what is wrong.
#[derive(Default)]
struct Findings(Vec<Violation>);

impl Findings {
    fn add(&mut self, field: impl Into<String>, description: impl Into<String>) {
        self.0.push(Violation::new(field, description));
    }

    fn check(&mut self, holds: bool, field: &str, description: impl FnOnce() -> String) {
        if !holds {
            self.add(field, description());
        }
    }
}

impl Resolver {
    /// Longest prompt and answer together, in tokens.
    pub(crate) fn context(&self) -> usize {
        self.max_model_len.min(self.kv_tokens)
    }

    /// Checks everything and fills in the defaults. `seed` serves a request that brings none.
    pub(crate) fn resolve(
        &self,
        request: &GenerateRequest,
        seed: u64,
    ) -> Result<Resolved, EngineError> {
        let mut findings = Findings::default();
        self.check_identity(request, &mut findings);
        findings.0.extend(times::check(&request.service));
        let params = self.sampling(request, seed, &mut findings);
        let stop_tokens = self.stop_tokens(request, &mut findings);
        let prompt = self.prompt(&request.input, &mut findings);
        let max_tokens = self.max_tokens(request, prompt.len(), &mut findings);
        let parts = request.parts.as_ref();
        let continued = request.input.continued_text();
        let parts = parts.map(|it| {
            self.formats
                .resolve(it, &self.tokenizer, &prompt, continued)
        });
        let constraint = self.constraint(request, parts.as_ref(), &prompt, &mut findings);
        let constraint = self.bounded(request, parts.as_ref(), constraint, &mut findings);
        let constraint = match request.stopping.ignore_eos {
            true => constraint
                .map(|it| ConstraintHandle::new(Endless::new(it, &self.defaults.eos_token_ids))),
            false => constraint,
        };
        if !findings.0.is_empty() {
            return Err(EngineError::Invalid {
                violations: findings.0,
            });
        }
        let service = &request.service;
        let ends_well = match (service.deadline, service.time_limit) {
            (Some(deadline), Some(limit)) => limit < deadline,
            (deadline, _) => deadline.is_none(),
        };
        Ok(Resolved {
            prompt,
            parts,
            choice: Choice {
                params,
                stop_tokens,
                min_tokens: request.stopping.min_tokens,
                max_tokens,
                prompt_logprobs: request.output.prompt_logprobs,
                speculate: request.speculate,
                constraint,
                ends_well_at_deadline: ends_well,
            },
            ends_after: service.deadline.into_iter().chain(service.time_limit).min(),
        })
    }

    fn check_identity(&self, request: &GenerateRequest, findings: &mut Findings) {
        let id = request.request_id.as_deref().and_then(identity::check_id);
        findings.0.extend(id);
        let most = MAX_N.min(u32::try_from(self.max_queue).unwrap_or(MAX_N));
        for (field, text) in [
            ("service.tenant", &request.service.tenant),
            ("cache.salt", &request.cache.salt),
        ] {
            findings.0.extend(identity::check_shared(field, text));
        }
        findings.check((1..=most).contains(&request.n), "n", || {
            format!("is {}; expected 1 to {most}", request.n)
        });
    }

    fn sampling(
        &self,
        request: &GenerateRequest,
        seed: u64,
        findings: &mut Findings,
    ) -> SamplingParams {
        let given = &request.sampling;
        let defaults = &self.defaults;
        let neutral = SamplingParams::default();
        // As transformers has it: the temperature beside `do_sample: false` is not used.
        let greedy = defaults.do_sample == Some(false);
        let params = SamplingParams {
            temperature: given
                .temperature
                .or(greedy.then_some(0.0))
                .or(defaults.temperature)
                .unwrap_or(neutral.temperature),
            top_p: given.top_p.or(defaults.top_p).unwrap_or(neutral.top_p),
            top_k: given.top_k.or(defaults.top_k).unwrap_or(neutral.top_k),
            min_p: given.min_p.or(defaults.min_p).unwrap_or(neutral.min_p),
            repetition_penalty: given
                .repetition_penalty
                .or(defaults.repetition_penalty)
                .unwrap_or(neutral.repetition_penalty),
            frequency_penalty: given.frequency_penalty.unwrap_or(neutral.frequency_penalty),
            presence_penalty: given.presence_penalty.unwrap_or(neutral.presence_penalty),
            seed: given.seed.unwrap_or(seed),
            logit_bias: given.logit_bias.clone(),
            logprobs: request.output.logprobs,
        };
        for violation in params.validate(self.vocab_size) {
            let group = if violation.field == "logprobs" {
                "output"
            } else {
                "sampling"
            };
            findings.add(
                format!("{group}.{}", violation.field),
                violation.description,
            );
        }
        if let Some(k) = request.output.prompt_logprobs {
            let most = maitre_sampling::MAX_LOGPROBS;
            findings.check(k <= most, "output.prompt_logprobs", || {
                format!("is {k}; at most {most} alternatives can be returned")
            });
        }
        params
    }

    /// The ids that end a sequence; stop strings are checked along the way.
    fn stop_tokens(&self, request: &GenerateRequest, findings: &mut Findings) -> Vec<u32> {
        let stopping = &request.stopping;
        findings.check(
            stopping.stop.len() <= MAX_STOP_STRINGS,
            "stopping.stop",
            || {
                format!(
                    "has {} strings; at most {MAX_STOP_STRINGS} are allowed",
                    stopping.stop.len()
                )
            },
        );
        for (index, stop) in stopping.stop.iter().take(MAX_STOP_STRINGS).enumerate() {
            if stop.is_empty() {
                findings.add(
                    format!("stopping.stop[{index}]"),
                    "is empty; every text contains it",
                );
            } else if stop.len() > MAX_STOP_BYTES {
                let found = stop.len();
                findings.add(
                    format!("stopping.stop[{index}]"),
                    format!("has {found} bytes; at most {MAX_STOP_BYTES} are allowed"),
                );
            }
        }
        let ids = &stopping.stop_token_ids;
        findings.check(
            ids.len() <= MAX_STOP_TOKEN_IDS,
            "stopping.stop_token_ids",
            || {
                format!(
                    "has {} ids; at most {MAX_STOP_TOKEN_IDS} are allowed",
                    ids.len()
                )
            },
        );
        self.check_ids(ids, "stopping.stop_token_ids", findings);
        let eos = if stopping.ignore_eos {
            &[][..]
        } else {
            &self.defaults.eos_token_ids[..]
        };
        eos.iter().chain(ids).copied().collect()
    }

    /// What constrains the answers: what the request brings itself, or what its grammar is compiled to, or that of the
    /// calls it asks for.
    fn constraint(
        &self,
        request: &GenerateRequest,
        parts: Option<&ResolvedParts>,
        prompt: &[u32],
        findings: &mut Findings,
    ) -> Option<ConstraintHandle> {
        if let Some(calls) = self.calls(request, parts, findings) {
            return Some(calls);
        }
        let Some(grammar) = &request.grammar else {
            return request.constraint.clone();
        };
        findings.check(request.constraint.is_none(), "grammar", || {
            "stands beside a constraint; a request has one of the two".into()
        });
        let end = grammar.reasoning_end.as_ref().map_or(0, String::len);
        findings.check(end <= MAX_STOP_BYTES, "grammar.reasoning_end", || {
            format!("has {end} bytes; at most {MAX_STOP_BYTES} are allowed")
        });
        if !findings.0.is_empty() {
            return None;
        }
        let mut grammar = Cow::Borrowed(grammar);
        if grammar.reasoning_end.is_none()
            && let Some(end) = parts.and_then(ResolvedParts::open_thought_end)
        {
            grammar.to_mut().reasoning_end = Some(end.to_owned());
        }
        let compiled = self.grammars.constraint(&grammar, prompt);
        compiled
            .map_err(|violation| findings.0.push(violation))
            .ok()
    }

    /// The constraint with an end to the thought before the answer, if the request has a budget for it.
    fn bounded(
        &self,
        request: &GenerateRequest,
        parts: Option<&ResolvedParts>,
        constraint: Option<ConstraintHandle>,
        findings: &mut Findings,
    ) -> Option<ConstraintHandle> {
        let budget = request.parts.as_ref();
        let Some(tokens) = budget.and_then(|parts| parts.thinking_token_budget) else {
            return constraint;
        };
        let field = "parts.thinking_token_budget";
        let Some(thinks) = parts.and_then(|parts| parts.thinks) else {
            findings.add(
                field,
                "is given, and the model's template shows no thoughts; leave it out, or name the format of its \
                 thoughts when the engine starts",
            );
            return constraint;
        };
        let bounded = self
            .grammars
            .thinking_budget(thinks, tokens, constraint.as_ref());
        let bounded = bounded.map_err(|error| findings.add(field, error.to_string()));
        bounded.ok().or(constraint)
    }

    /// What makes the answers call tools, if they have to.
    fn calls(
        &self,
        request: &GenerateRequest,
        parts: Option<&ResolvedParts>,
        findings: &mut Findings,
    ) -> Option<ConstraintHandle> {
        let has_own = request.constraint.is_some() || request.grammar.is_some();
        let special_token = |text: &str| self.grammars.control_token(text);
        let calls = parts?.calls(request.parts.as_ref()?, has_own, &special_token);
        let compiled = calls.and_then(|calls| {
            // What is refused anyway is not compiled.
            let calls = calls.filter(|_| findings.0.is_empty());
            calls.map(|calls| self.grammars.calls(calls)).transpose()
        });
        compiled.unwrap_or_else(|violation| {
            findings.0.push(violation);
            None
        })
    }

    fn prompt(&self, input: &Input, findings: &mut Findings) -> Vec<u32> {
        match input {
            Input::Tokens(ids) => {
                findings.check(!ids.is_empty(), "input.token_ids", || "is empty".into());
                self.check_ids(ids, "input.token_ids", findings);
                ids.clone()
            }
            Input::Text(text) if text.is_empty() => {
                findings.add("input.text", "is empty");
                Vec::new()
            }
            Input::Text(text) => {
                if !self.may_fit(text.len(), "input.text", findings) {
                    return Vec::new();
                }
                self.tokens_or_finding(self.tokenizer.encode(text), "input.text", findings)
            }
            Input::Chat(chat) => self.chat_prompt(chat, findings),
        }
    }

    /// The engine is the lowest layer with a clock: a conversation that names no time is held now.
    fn chat_prompt(&self, chat: &ChatRequest, findings: &mut Findings) -> Vec<u32> {
        if chat.messages.is_empty() {
            findings.add("messages", "is empty; at least one message is needed");
            return Vec::new();
        }
        if !self.may_fit(chat.size_in_bytes(), "messages", findings) {
            return Vec::new();
        }
        let mut chat = Cow::Borrowed(chat);
        if chat.now == SystemTime::UNIX_EPOCH {
            chat.to_mut().now = SystemTime::now();
        }
        let tokens = self.tokenizer.encode_chat(&chat);
        let at_fault = |error| self.tokenizer.field_at_fault(&chat, error);
        let field = tokens.as_ref().err().and_then(at_fault);
        self.tokens_or_finding(tokens, field.as_deref().unwrap_or("messages"), findings)
    }

    /// False, and a finding, for a text so long that tokenizing it would be wasted work.
    fn may_fit(&self, bytes: usize, field: &str, findings: &mut Findings) -> bool {
        let most = self
            .max_model_len
            .saturating_mul(MAX_PROMPT_BYTES_PER_TOKEN);
        findings.check(bytes <= most, field, || {
            format!(
                "has {bytes} bytes, far more than a context of {} tokens holds",
                self.max_model_len
            )
        });
        bytes <= most
    }

    fn tokens_or_finding(
        &self,
        tokens: Result<Vec<u32>, TextError>,
        field: &str,
        findings: &mut Findings,
    ) -> Vec<u32> {
        match tokens {
            Ok(tokens) => {
                findings.check(!tokens.is_empty(), field, || "has no tokens".into());
                self.check_tokens(&tokens, field, findings);
                tokens
            }
            Err(error @ TextError::ReservedTemplateArgument { .. }) => {
                findings.add("template_kwargs", error.to_string());
                Vec::new()
            }
            Err(error @ TextError::NothingToContinue { .. }) => {
                findings.add("continue_final_message", error.to_string());
                Vec::new()
            }
            Err(error) => {
                findings.add(field, error.to_string());
                Vec::new()
            }
        }
    }

    /// A tokenizer may have tokens that the model has no embedding for.
    fn check_tokens(&self, tokens: &[u32], field: &str, findings: &mut Findings) {
        let beyond = tokens.iter().find(|&&id| id as usize >= self.vocab_size);
        if let Some(&id) = beyond {
            let text = self.tokenizer.token_text(id).unwrap_or_default();
            findings.add(
                field,
                format!(
                    "contains the token {text:?} with id {id}; the model's vocabulary has ids 0 to {}",
                    self.vocab_size - 1
                ),
            );
        }
    }

    fn check_ids(&self, ids: &[u32], field: &str, findings: &mut Findings) {
        let outside = ids.iter().position(|&id| id as usize >= self.vocab_size);
        if let Some(index) = outside {
            findings.add(
                format!("{field}[{index}]"),
                format!(
                    "is {}; the vocabulary has ids 0 to {}",
                    ids[index],
                    self.vocab_size - 1
                ),
            );
        }
    }

    /// The longest answer, given or what is left; findings where it can't be had.
    fn max_tokens(&self, request: &GenerateRequest, prompt: usize, findings: &mut Findings) -> u32 {
        let context = self.context();
        let limit: Cow<'_, str> = if self.kv_tokens < self.max_model_len {
            format!("the KV pool's {} tokens", self.kv_tokens).into()
        } else {
            format!("the context of {} tokens", self.max_model_len).into()
        };
        let field = match request.input {
            Input::Tokens(_) => "input.token_ids",
            Input::Text(_) => "input.text",
            Input::Chat(_) => "messages",
        };
        let fits = prompt < context;
        findings.check(fits, field, || {
            format!("has {prompt} tokens, which leaves no space for an answer in {limit}")
        });
        let left = context.saturating_sub(prompt);
        let stopping = &request.stopping;
        let max_tokens = stopping
            .max_tokens
            .unwrap_or(u32::try_from(left).unwrap_or(u32::MAX));
        findings.check(
            stopping.max_tokens != Some(0),
            "stopping.max_tokens",
            || "is 0; expected at least 1".into(),
        );
        findings.check(
            !fits || max_tokens as usize <= left,
            "stopping.max_tokens",
            || {
                format!(
                    "is {max_tokens}; after a prompt of {prompt} tokens {limit} has space for {left}"
                )
            },
        );
        findings.check(
            !fits || stopping.min_tokens <= max_tokens,
            "stopping.min_tokens",
            || {
                format!(
                    "is {}, more than the {max_tokens} tokens allowed",
                    stopping.min_tokens
                )
            },
        );
        max_tokens
    }
}
