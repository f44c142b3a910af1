//! A conversation as it came, in the service's terms.

use maitre_engine::limits::MAX_PROMPT_BYTES_PER_TOKEN;
use maitre_engine::{ChatRequest, Engine, Input, PartOptions};
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::openai::continuation::{self, PromptEnd};
use crate::openai::json;
use crate::openai::names::{Names, engine_names};
use crate::openai::parameters::{OneOrMore, Parameters};
use crate::openai::shape::Shape;
use crate::openai::structured::{Form, Structured};
use crate::openai::tools::Tools;
use crate::openai::types::chat_message::GivenMessage;
use crate::openai::unsupported::Unsupported;
use crate::service::Service;
use crate::service::api_error::ApiError;
use crate::service::call::Call;
use crate::service::request::ApiRequest;
use crate::service::violations::Violations;

/// The fields of a conversation that have no group of their own.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub(in crate::openai) struct ChatFields {
    /// The conversation, at least one message.
    #[schema(required, value_type = Vec<GivenMessage>, min_items = 1)]
    messages: Option<Vec<GivenMessage>>,
    /// Most tokens of the answer: the newer name of `max_tokens`, which it precedes.
    max_completion_tokens: Option<u32>,
    /// Log-probabilities of each token of the answer.
    logprobs: Option<bool>,
    /// The same of so many of the likeliest tokens at each place.
    #[schema(maximum = 20)]
    top_logprobs: Option<u32>,
    /// How long the model may think, as its template knows it; `none` also sets `enable_thinking` to false.
    reasoning_effort: Option<String>,
    /// Most tokens of what the model thinks: then its thought is ended.
    thinking_token_budget: Option<u32>,
    /// Whether what the model thinks comes back; default true.
    include_reasoning: Option<bool>,
    /// The prompt ends with the opening of an answer; default true.
    add_generation_prompt: Option<bool>,
    /// The last message, the assistant's, is left open, and the answer goes on with it; then `add_generation_prompt` has
    /// to be false or left out.
    continue_final_message: Option<bool>,
    /// The last message, if it is the assistant's, comes back in front of the answer.
    echo: Option<bool>,
    /// Not supported: a template writes its own.
    add_special_tokens: Option<bool>,
    /// Texts for templates that retrieve.
    #[schema(value_type = Option<Vec<Object>>)]
    documents: Option<Vec<Value>>,
    /// Further variables for the template.
    #[schema(value_type = Option<Object>)]
    chat_template_kwargs: Option<Map<String, Value>>,
}

/// A conversation to be answered.
#[derive(Debug)]
pub(in crate::openai) struct ChatCall {
    pub(in crate::openai) request: ApiRequest,
    pub(in crate::openai) names: Names,
    pub(in crate::openai) shape: Shape,
    pub(in crate::openai) streams: bool,
    /// How many of the prompt's last tokens are used, if not all.
    prompt_tokens: Option<usize>,
    pub(in crate::openai) include_reasoning: bool,
    /// What stands in front of each answer.
    pub(in crate::openai) echo: String,
    /// Calls of tools in the conversation so far.
    pub(in crate::openai) calls_before: usize,
}

/// Reads a message; `name` is the call's.
///
/// # Errors
///
/// It is no JSON object, a field has the wrong type, or the conversation is far too large.
pub(in crate::openai) fn read(
    engine: &Engine,
    message: &[u8],
    name: &str,
) -> Result<ChatCall, ApiError> {
    let mut found = Violations::default();
    let fields: ChatFields = json::group(message, &mut found)?;
    let parameters: Parameters = json::group(message, &mut found)?;
    let tools: Tools = json::group(message, &mut found)?;
    let structured: Structured = json::group(message, &mut found)?;
    Unsupported::check_all(message, parameters.n.unwrap_or(1), &mut found)?;
    fields.check(&parameters, &mut found);

    let given_id = parameters.request_id.as_deref().unwrap_or(name);
    let mut shape = Shape::new(engine, &parameters, format!("chatcmpl-{given_id}"));
    let logprobs = fields.logprobs.unwrap_or(false);
    shape.logprobs = logprobs.then(|| fields.top_logprobs.unwrap_or(0));
    let max_tokens = fields.max_completion_tokens.or(parameters.max_tokens);
    let form = structured.form(&mut found);
    let names = Names {
        max_tokens: match fields.max_completion_tokens {
            Some(_) => "max_completion_tokens",
            None => "max_tokens",
        },
        logprobs: "top_logprobs",
        stop_is_one: matches!(parameters.stop, Some(OneOrMore::One(_))),
        input: "messages",
        is_list: false,
        form: form.as_ref().map_or("response_format", |form| form.field),
    };
    let thinking_token_budget = fields.thinking_token_budget;
    let include_reasoning = fields.include_reasoning.unwrap_or(true);
    let mut tools = tools.checked(&mut found);
    let shown = std::mem::take(&mut tools.shown);
    let wants_echo = fields.echo == Some(true);
    let chat = fields.conversation(shown, &mut found);
    let echo = wants_echo.then(|| continuation::echoed(&chat)).flatten();
    check_size(engine, &chat)?;
    let calls_before = chat.messages.iter().map(|it| it.tool_calls.len()).sum();
    let prompt_tokens = parameters.prompt_tokens(engine, max_tokens, &mut found);
    let mut request = parameters.request(Input::Chat(chat), max_tokens, &mut found);
    request.output.logprobs = shape.logprobs;
    request.output.echo = shape.needs_prompt();
    request.parts = Some(PartOptions {
        thinking_token_budget,
        ..tools.parts(parameters.streams())
    });
    request.grammar = form.map(Form::options);
    Ok(ChatCall {
        streams: parameters.streams(),
        request: ApiRequest {
            model: parameters.model.unwrap_or_default(),
            request,
            token_ids: true,
            violations: found,
        },
        names,
        shape,
        prompt_tokens,
        include_reasoning,
        echo: echo.unwrap_or_default(),
        calls_before,
    })
}

impl ChatFields {
    fn check(&self, parameters: &Parameters, found: &mut Violations) {
        if self.top_logprobs.is_some_and(|k| k > 0) && self.logprobs != Some(true) {
            found.add(
                "top_logprobs",
                "is given and logprobs is not true; set both or none",
            );
        }
        if self.add_special_tokens == Some(true) {
            found.add(
                "add_special_tokens",
                "is not supported here for a conversation; leave it out",
            );
        }
        if parameters.streams() && parameters.prompt_logprobs.is_some() {
            found.add(
                "prompt_logprobs",
                "is not available in a stream; leave one of them out",
            );
        }
    }

    fn conversation(self, tools: Vec<Value>, found: &mut Violations) -> ChatRequest {
        let messages = self.messages.into_iter().flatten().enumerate();
        let mut template_kwargs = Map::new();
        if let Some(effort) = self.reasoning_effort {
            if effort == "none" {
                template_kwargs.insert("enable_thinking".into(), Value::Bool(false));
            }
            template_kwargs.insert("reasoning_effort".into(), Value::String(effort));
        }
        if let Some(documents) = self.documents {
            template_kwargs.insert("documents".into(), Value::Array(documents));
        }
        template_kwargs.extend(self.chat_template_kwargs.unwrap_or_default());
        let mut chat = ChatRequest {
            messages: messages
                .map(|(index, message)| message.message(index, found))
                .collect(),
            tools,
            template_kwargs,
            ..ChatRequest::default()
        };
        let end = PromptEnd {
            add_generation_prompt: self.add_generation_prompt,
            continue_final_message: self.continue_final_message,
        };
        end.apply(&mut chat, found);
        chat
    }
}

/// A conversation that can't fit is dropped here, where few are taken apart at a time, rather than kept until the
/// engine looks at it.
fn check_size(engine: &Engine, chat: &ChatRequest) -> Result<(), ApiError> {
    let (bytes, context) = (chat.size_in_bytes(), engine.info().limits.max_model_len);
    if bytes <= context.saturating_mul(MAX_PROMPT_BYTES_PER_TOKEN) {
        return Ok(());
    }
    let description =
        format!("has {bytes} bytes, far more than a context of {context} tokens holds");
    Err(ApiError::unusable("messages", description))
}

impl ChatCall {
    /// The same with only the prompt's last tokens, if so asked: to know them, the template is run here.
    ///
    /// # Errors
    ///
    /// The template does not take the conversation.
    pub(in crate::openai) async fn truncated(
        &mut self,
        service: &Service,
        call: Call,
    ) -> Result<Call, ApiError> {
        let Some(most) = self.prompt_tokens.take() else {
            return Ok(call);
        };
        let request = &mut self.request;
        let Input::Chat(chat) = &request.request.input else {
            return Ok(call);
        };
        if !request.violations.is_empty() {
            return Ok(call);
        }
        let next = Call::new(call.turns.clone(), engine_names);
        let (model, chat) = (request.model.clone(), chat.clone());
        let ids = service.tokenize_chat(call, model, chat).await;
        let mut ids = ids.map_err(|error| self.names.rename(error, 0))?;
        request.request.input = Input::Tokens(ids.split_off(ids.len().saturating_sub(most)));
        Ok(next)
    }
}
