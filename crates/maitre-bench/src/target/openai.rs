//! A server with OpenAI's API as a target: Maitre, vLLM, SGLang, llama.cpp and others, measured by one client.
//!
//! Requests go to `/completions` with token ids as the prompt, so that every server computes the same. `ignore_eos`,
//! which OpenAI does not have, keeps answers at their length; the servers above know it.

mod events;
mod http;
mod metrics_page;

use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, stream};
use serde::Deserialize;
use serde_json::json;

use super::{TOKENIZE_TIMEOUT, in_time};
use crate::{BenchError, BenchRequest, ModelFacts, RequestError, ServerState, Target, TokenStream};

use events::Events;
use http::Client;
pub(super) use metrics_page::MetricsPage;

/// Time for a server to say what it serves.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What a server may leave unsaid.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OpenAiOptions {
    /// The model to ask; `None` = the first that the server lists.
    pub model: Option<String>,
    /// Sent as `Authorization: Bearer`.
    pub api_key: Option<String>,
    /// Random prompts have ids below this; `None` = what the server says, as llama.cpp and Maitre do.
    pub vocab_size: Option<usize>,
}

/// `/v1/completions` of a running server.
#[derive(Debug)]
pub struct OpenAiTarget {
    address: String,
    client: Client,
    metrics: MetricsPage,
    model: ModelFacts,
}

impl OpenAiTarget {
    /// Asks `http://HOST:PORT/v1` what model is served there.
    ///
    /// # Errors
    /// [`BenchError::Connect`] if no server answers within five seconds, or not as OpenAI's does.
    pub async fn connect(address: &str, options: OpenAiOptions) -> Result<Self, BenchError> {
        let failed = |reason: String| BenchError::Connect {
            address: address.to_owned(),
            reason,
        };
        let client = Client::new(address, options.api_key.as_deref()).map_err(failed)?;
        let answer = client.get("/models");
        let answer = match tokio::time::timeout(CONNECT_TIMEOUT, answer).await {
            Ok(answer) => answer.map_err(|error| failed(error.message))?,
            Err(_) => {
                let seconds = CONNECT_TIMEOUT.as_secs();
                return Err(failed(format!("no answer within {seconds} s")));
            }
        };
        let models: Models = serde_json::from_slice(&answer)
            .map_err(|error| failed(format!("its list of models cannot be read: {error}")))?;
        let model = choose(models.data, options.model.as_deref()).map_err(failed)?;
        let vocab_size = options.vocab_size.or(model.vocab_size());
        let facts = ModelFacts {
            vocab_size: vocab_size.unwrap_or(0),
            max_model_len: model.max_model_len(),
            name: model.id,
        };
        let root = address.trim_end_matches('/').trim_end_matches("/v1");
        Ok(Self {
            metrics: MetricsPage::new(&format!("{root}/metrics"))?,
            address: address.to_owned(),
            client,
            model: facts,
        })
    }
}

impl OpenAiTarget {
    /// Reads what the server counts from this address instead of `/metrics` beside `/v1`.
    ///
    /// # Errors
    /// [`BenchError::Connect`] for what is no address.
    pub fn with_metrics(mut self, address: &str) -> Result<Self, BenchError> {
        self.metrics = MetricsPage::new(address)?;
        Ok(self)
    }
}

/// The model of a name, or the first.
fn choose(models: Vec<Model>, name: Option<&str>) -> Result<Model, String> {
    let names: Vec<String> = models.iter().map(|model| model.id.clone()).collect();
    let mut models = models.into_iter();
    match name {
        None => models.next().ok_or_else(|| "it lists no model".to_owned()),
        Some(name) => models
            .find(|model| model.id == name)
            .ok_or_else(|| format!("it has no model `{name}`, but {}", names.join(", "))),
    }
}

/// The answer of `/models`.
#[derive(Debug, Deserialize)]
struct Models {
    data: Vec<Model>,
}

/// OpenAI says `id` alone; the rest is what servers add.
#[derive(Debug, Deserialize)]
struct Model {
    id: String,
    /// vLLM, SGLang and Maitre.
    max_model_len: Option<usize>,
    /// Maitre.
    vocab_size: Option<usize>,
    /// llama.cpp.
    meta: Option<Meta>,
}

#[derive(Debug, Deserialize)]
struct Meta {
    n_vocab: Option<usize>,
    n_ctx: Option<usize>,
    n_ctx_train: Option<usize>,
}

impl Model {
    fn vocab_size(&self) -> Option<usize> {
        let meta = self.meta.as_ref().and_then(|meta| meta.n_vocab);
        self.vocab_size.or(meta)
    }

    /// Where the server does not say, it will tell what is too long.
    fn max_model_len(&self) -> usize {
        let meta = self.meta.as_ref();
        let meta = meta.and_then(|meta| meta.n_ctx.or(meta.n_ctx_train));
        self.max_model_len.or(meta).unwrap_or(usize::MAX)
    }
}

#[derive(Debug, Deserialize)]
struct Tokens {
    tokens: Vec<u32>,
}

impl Target for OpenAiTarget {
    fn name(&self) -> String {
        self.address.clone()
    }

    fn model(&self) -> ModelFacts {
        self.model.clone()
    }

    /// By `/tokenize` beside `/v1`, with the text under the names of vLLM and of llama.cpp.
    fn tokenize(&self, text: &str) -> BoxFuture<'_, Result<Vec<u32>, RequestError>> {
        let questions = [
            json!({"model": self.model.name, "prompt": text}),
            json!({"content": text, "add_special": true, "parse_special": true}),
        ];
        async move {
            let mut refused = RequestError::new("UNIMPLEMENTED", "no answer");
            for question in questions {
                match in_time(TOKENIZE_TIMEOUT, self.client.tokenize(&question)).await {
                    Ok(answer) => match serde_json::from_slice::<Tokens>(&answer) {
                        Ok(tokens) => return Ok(tokens.tokens),
                        Err(error) => refused = RequestError::new("INTERNAL", error.to_string()),
                    },
                    Err(error) => refused = error,
                }
            }
            Err(refused)
        }
        .boxed()
    }

    fn state(&self) -> BoxFuture<'_, Option<ServerState>> {
        self.metrics.state().boxed()
    }

    fn start(&self, request: BenchRequest) -> BoxFuture<'_, Result<TokenStream, RequestError>> {
        let body = json!({
            "model": self.model.name,
            "prompt": request.prompt,
            "max_tokens": request.output_tokens,
            "temperature": 0.0,
            "ignore_eos": true,
            "stream": true,
            "stream_options": {"include_usage": true},
        });
        async move {
            let body = self.client.post("/completions", &body).await?;
            let arrivals = stream::unfold(Some((body, Events::default())), |state| async {
                let (mut body, mut events) = state?;
                match body.next().await {
                    None => {
                        let end = events.end().map(Into::into);
                        Some((end, None))
                    }
                    Some(Err(error)) => Some((Err(error), None)),
                    Some(Ok(bytes)) => match events.feed(&bytes) {
                        Ok(arrival) => Some((Ok(arrival), Some((body, events)))),
                        Err(error) => Some((Err(error), None)),
                    },
                }
            });
            Ok(arrivals.boxed())
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_servers_say_of_their_models_is_understood() {
        let model = |text: &str| {
            let models: Models = serde_json::from_str(text).unwrap();
            choose(models.data, None).map(|it| (it.vocab_size(), it.max_model_len()))
        };
        let vllm =
            r#"{"object": "list", "data": [{"id": "m", "max_model_len": 2048, "root": "m"}]}"#;
        assert_eq!(model(vllm), Ok((None, 2048)));
        let llama = r#"{"models": [], "data": [{"id": "m", "meta": {"n_vocab": 99, "n_ctx_train": 8192, "n_ctx": 512}}]}"#;
        assert_eq!(model(llama), Ok((Some(99), 512)));
        let plain = r#"{"data": [{"id": "m"}]}"#;
        assert_eq!(model(plain), Ok((None, usize::MAX)));
        assert_eq!(
            model(r#"{"data": []}"#),
            Err("it lists no model".to_owned())
        );
        let models: Models =
            serde_json::from_str(r#"{"data": [{"id": "a"}, {"id": "b"}]}"#).unwrap();
        let message = choose(models.data, Some("c")).unwrap_err();
        assert_eq!(message, "it has no model `c`, but a, b");
    }
}
