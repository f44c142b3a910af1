//! The parameters that conversations and prompts share: sampling, stopping, what comes back, service.

use std::collections::BTreeMap;
use std::fmt;

use maitre_engine::{
    CacheOptions, Engine, GenerateRequest, Input, OutputOptions, SamplingOptions, ServiceOptions,
    Stopping,
};
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use utoipa::ToSchema;

use super::schemas;
use crate::service::violations::Violations;

/// The parameters that all requests for answers have. What is left out, or null, has the model's own default.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
pub(super) struct Parameters {
    /// The model; without one, the one that is served.
    pub(super) model: Option<String>,
    /// Independent answers, 1 to 16; default 1.
    #[schema(minimum = 1, maximum = 16)]
    pub(super) n: Option<u32>,
    /// 0 = greedy.
    #[schema(minimum = 0)]
    pub(super) temperature: Option<f32>,
    /// The smallest set of tokens with at least this mass, in (0, 1].
    #[schema(exclusive_minimum = 0, maximum = 1)]
    pub(super) top_p: Option<f32>,
    /// The k likeliest tokens; 0 or -1 = all.
    #[schema(minimum = -1)]
    pub(super) top_k: Option<i64>,
    /// Drops tokens below this fraction of the likeliest one's probability, in [0, 1].
    #[schema(minimum = 0, maximum = 1)]
    pub(super) min_p: Option<f32>,
    /// Divides positive and multiplies negative logits of tokens seen so far, > 0.
    #[schema(exclusive_minimum = 0)]
    pub(super) repetition_penalty: Option<f32>,
    /// Subtracted per earlier occurrence in the answer, in [-2, 2].
    #[schema(minimum = -2, maximum = 2)]
    pub(super) frequency_penalty: Option<f32>,
    /// Subtracted once for a token that occurs in the answer, in [-2, 2].
    #[schema(minimum = -2, maximum = 2)]
    pub(super) presence_penalty: Option<f32>,
    /// The same seed gives the same answer.
    pub(super) seed: Option<i64>,
    /// Added to the logits of single tokens, by id, each in [-100, 100].
    #[schema(schema_with = schemas::logit_bias)]
    pub(super) logit_bias: Option<BTreeMap<String, f32>>,
    /// Most tokens of an answer; of a prompt's continuation 16 by default, of a conversation's what the context holds.
    pub(super) max_tokens: Option<u32>,
    /// End-of-sequence, stop tokens and stop strings are held off until there are so many tokens.
    pub(super) min_tokens: Option<u32>,
    /// Texts that end the answer: one, or a list.
    #[schema(schema_with = schemas::stop)]
    pub(super) stop: Option<OneOrMore>,
    /// Tokens that end the answer, beside the model's own; at most 256.
    #[schema(max_items = 256)]
    pub(super) stop_token_ids: Option<Vec<u32>>,
    /// Go on past the model's end-of-sequence tokens. An answer of a certain form (`response_format`, a required call)
    /// goes on while the form allows anything but its end; once it is complete and nothing more may come, it ends all
    /// the same.
    pub(super) ignore_eos: Option<bool>,
    /// The stop string is part of the answer.
    pub(super) include_stop_str_in_output: Option<bool>,
    /// Special tokens are left out of the text; default true.
    pub(super) skip_special_tokens: Option<bool>,
    /// The answer comes as server-sent events.
    pub(super) stream: Option<bool>,
    /// What a stream has beside the answer.
    pub(super) stream_options: Option<StreamOptions>,
    /// Log-probabilities of the prompt's tokens, with so many alternatives each; not in a stream.
    #[schema(maximum = 20)]
    pub(super) prompt_logprobs: Option<u32>,
    /// The ids of prompt and answer come back, too.
    pub(super) return_token_ids: Option<bool>,
    /// Tokens in log-probabilities are written as `token_id:123`.
    pub(super) return_tokens_as_token_ids: Option<bool>,
    /// Only so many of the prompt's last tokens are used; -1 = as many as leave space for the answer.
    pub(super) truncate_prompt_tokens: Option<i64>,
    /// Smaller runs earlier and is preempted later, where the policy looks at it; default 0.
    pub(super) priority: Option<i32>,
    /// Prefixes are shared only between requests of the same salt; at most 256 bytes.
    #[schema(max_length = 256)]
    pub(super) cache_salt: Option<String>,
    /// The request's name, unique among those in flight; at most 256 bytes, without line breaks.
    #[schema(min_length = 1, max_length = 256)]
    pub(super) request_id: Option<String>,
}

/// What a stream has beside the answer.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
pub(super) struct StreamOptions {
    /// A last chunk, without choices, tells the counts of tokens.
    pub(super) include_usage: Option<bool>,
    /// Each chunk tells the counts so far.
    pub(super) continuous_usage_stats: Option<bool>,
}

/// A text or a list of texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum OneOrMore {
    /// One.
    One(String),
    /// A list.
    More(Vec<String>),
}

impl<'de> Deserialize<'de> for OneOrMore {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Texts;
        impl<'de> Visitor<'de> for Texts {
            type Value = OneOrMore;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a list of strings")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<OneOrMore, E> {
                Ok(OneOrMore::One(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut texts: A) -> Result<OneOrMore, A::Error> {
                let mut all = Vec::new();
                while let Some(text) = texts.next_element()? {
                    all.push(text);
                }
                Ok(OneOrMore::More(all))
            }
        }
        deserializer.deserialize_any(Texts)
    }
}

impl Parameters {
    /// Whether the answer is to be streamed.
    pub(super) fn streams(&self) -> bool {
        self.stream.unwrap_or(false)
    }

    /// The engine's request for the continuation of `input`. `max_tokens` stands for the field of that name.
    pub(super) fn request(
        &self,
        input: Input,
        max_tokens: Option<u32>,
        found: &mut Violations,
    ) -> GenerateRequest {
        if self.stream_options.is_some() && !self.streams() {
            found.add(
                "stream_options",
                "is given and stream is not true; leave it out",
            );
        }
        GenerateRequest {
            request_id: self.request_id.clone(),
            n: self.n.unwrap_or(1),
            sampling: self.sampling(found),
            stopping: Stopping {
                max_tokens,
                min_tokens: self.min_tokens.unwrap_or(0),
                stop: match &self.stop {
                    None => Vec::new(),
                    // Clients that have no stop string send an empty one.
                    Some(OneOrMore::One(text)) if text.is_empty() => Vec::new(),
                    Some(OneOrMore::One(text)) => vec![text.clone()],
                    Some(OneOrMore::More(texts)) => texts.clone(),
                },
                stop_token_ids: self.stop_token_ids.clone().unwrap_or_default(),
                ignore_eos: self.ignore_eos.unwrap_or(false),
                include_stop: self.include_stop_str_in_output.unwrap_or(false),
            },
            output: OutputOptions {
                prompt_logprobs: self.prompt_logprobs,
                skip_special_tokens: self.skip_special_tokens.unwrap_or(true),
                ..OutputOptions::default()
            },
            service: ServiceOptions {
                // With vLLM, which brought the field, the smaller number comes first.
                priority: self.priority.unwrap_or(0).saturating_neg(),
                ..ServiceOptions::default()
            },
            cache: CacheOptions {
                salt: self.cache_salt.clone().unwrap_or_default(),
                bypass: false,
            },
            ..GenerateRequest::new(input)
        }
    }

    /// How many of a prompt's last tokens are used, if not all of them.
    pub(super) fn prompt_tokens(
        &self,
        engine: &Engine,
        max_tokens: Option<u32>,
        found: &mut Violations,
    ) -> Option<usize> {
        match self.truncate_prompt_tokens? {
            -1 => {
                let answer = usize::try_from(max_tokens.unwrap_or(1).max(1)).unwrap_or(usize::MAX);
                let context = engine.info().limits.max_model_len;
                Some(context.saturating_sub(answer).max(1))
            }
            most @ 1.. => usize::try_from(most).ok(),
            other => {
                let description = format!("is {other}; expected at least 1, or -1");
                found.add("truncate_prompt_tokens", description);
                None
            }
        }
    }

    fn sampling(&self, found: &mut Violations) -> SamplingOptions {
        let top_k = self.top_k.map(|k| {
            // "All" is -1 with vLLM.
            u32::try_from(k.max(0)).unwrap_or(u32::MAX)
        });
        if let Some(k) = self.top_k
            && k < -1
        {
            found.add(
                "top_k",
                format!("is {k}; expected a number of tokens, or -1 for all"),
            );
        }
        let mut logit_bias = Vec::new();
        for (id, bias) in self.logit_bias.iter().flatten() {
            match id.parse() {
                Ok(id) => logit_bias.push((id, *bias)),
                Err(_) => found.add(
                    format!("logit_bias[{id:?}]"),
                    "is not the id of a token; expected a number",
                ),
            }
        }
        SamplingOptions {
            temperature: self.temperature,
            top_p: self.top_p,
            top_k,
            min_p: self.min_p,
            repetition_penalty: self.repetition_penalty,
            frequency_penalty: self.frequency_penalty,
            presence_penalty: self.presence_penalty,
            // Any number is a seed, a negative one too.
            seed: self.seed.map(i64::cast_unsigned),
            logit_bias,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openai::json;

    fn of(text: &str) -> (GenerateRequest, Vec<String>) {
        let parameters: Parameters = json::fields(text.as_bytes()).unwrap();
        let mut found = Violations::default();
        let request = parameters.request(Input::Text("x".into()), Some(5), &mut found);
        let fields = found.fields().into_iter().map(str::to_owned).collect();
        (request, fields)
    }

    #[test]
    fn silence_and_null_mean_the_models_own_defaults() {
        let mut expected = GenerateRequest::new(Input::Text("x".into()));
        expected.stopping.max_tokens = Some(5);
        for text in [
            "{}",
            r#"{"temperature": null, "stop": null, "n": null, "seed": null}"#,
        ] {
            assert_eq!(of(text), (expected.clone(), vec![]), "{text}");
        }
    }

    #[test]
    fn every_parameter_arrives() {
        let (request, found) = of(r#"{
            "n": 2, "temperature": 0.5, "top_p": 0.9, "top_k": -1, "min_p": 0.1,
            "repetition_penalty": 1.1, "frequency_penalty": 0.2, "presence_penalty": 0.3, "seed": -1,
            "logit_bias": {"9": -1, "3": 2.0}, "min_tokens": 1, "stop": ["a", "b"], "stop_token_ids": [4],
            "ignore_eos": true, "include_stop_str_in_output": true, "skip_special_tokens": false,
            "prompt_logprobs": 2, "priority": 3, "cache_salt": "pepper", "request_id": "mine",
            "user": "u", "store": true, "metadata": {"a": "b"}, "anything": [1]}"#);
        assert!(found.is_empty(), "{found:?}");
        let expected = GenerateRequest {
            request_id: Some("mine".into()),
            n: 2,
            sampling: SamplingOptions {
                temperature: Some(0.5),
                top_p: Some(0.9),
                top_k: Some(0),
                min_p: Some(0.1),
                repetition_penalty: Some(1.1),
                frequency_penalty: Some(0.2),
                presence_penalty: Some(0.3),
                seed: Some(u64::MAX),
                logit_bias: vec![(3, 2.0), (9, -1.0)],
            },
            stopping: Stopping {
                max_tokens: Some(5),
                min_tokens: 1,
                stop: vec!["a".into(), "b".into()],
                stop_token_ids: vec![4],
                ignore_eos: true,
                include_stop: true,
            },
            output: OutputOptions {
                prompt_logprobs: Some(2),
                skip_special_tokens: false,
                ..OutputOptions::default()
            },
            service: ServiceOptions {
                priority: -3,
                ..ServiceOptions::default()
            },
            cache: CacheOptions {
                salt: "pepper".into(),
                bypass: false,
            },
            ..GenerateRequest::new(Input::Text("x".into()))
        };
        assert_eq!(request, expected);
    }

    #[test]
    fn what_the_engine_never_sees_is_found_here() {
        let text = r#"{"top_k": -2, "logit_bias": {"x": 1}, "stream_options": {}}"#;
        let expected = ["stream_options", "top_k", "logit_bias[\"x\"]"];
        assert_eq!(of(text).1, expected);
    }

    #[test]
    fn a_field_of_the_wrong_type_is_named_by_its_path() {
        for (text, field) in [
            (r#"{"temperature": "hot"}"#, "temperature"),
            (r#"{"n": -1}"#, "n"),
            (r#"{"stop": ["a", 1]}"#, "stop[1]"),
            (r#"{"stop": 1}"#, "stop"),
            (
                r#"{"stream_options": {"include_usage": 1}}"#,
                "stream_options.include_usage",
            ),
            (r#"{"logit_bias": {"5": "x"}}"#, "logit_bias.5"),
        ] {
            let error = json::fields::<Parameters>(text.as_bytes()).unwrap_err();
            assert_eq!(error.violations[0].field, field, "{error}");
        }
    }
}
