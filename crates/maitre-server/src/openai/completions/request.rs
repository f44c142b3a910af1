//! Prompts as they came, in the service's terms.

use maitre_engine::{Engine, GenerateRequest, Input};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::openai::json;
use crate::openai::names::Names;
use crate::openai::parameters::{OneOrMore, Parameters};
use crate::openai::schemas;
use crate::openai::shape::Shape;
use crate::openai::structured::{Form, Structured};
use crate::openai::types::prompt::Prompts;
use crate::openai::unsupported::Unsupported;
use crate::service::api_error::ApiError;
use crate::service::request::ApiRequest;
use crate::service::violations::Violations;

/// Prompts in one call.
pub(in crate::openai) const MAX_PROMPTS: usize = 1024;
/// Most tokens of a continuation that is not told how long it may be, as with OpenAI and vLLM.
const DEFAULT_MAX_TOKENS: u32 = 16;

/// The fields of a completion that have no group of their own.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub(in crate::openai) struct CompletionFields {
    /// A text, the ids of its tokens, or a list of either.
    #[schema(required, schema_with = schemas::prompt)]
    prompt: Option<Prompts>,
    /// The prompt comes back in front of its continuation, with its log-probabilities where some are asked for.
    echo: Option<bool>,
    /// Log-probabilities of each token and of so many of the likeliest.
    #[schema(maximum = 20)]
    logprobs: Option<u32>,
    /// What the model expects in front of a text is put there, and control tokens in the text are such; default true.
    add_special_tokens: Option<bool>,
    /// Not supported: thoughts are told from the text of conversations alone.
    thinking_token_budget: Option<u32>,
}

/// Prompts to be continued.
#[derive(Debug)]
pub(in crate::openai) struct CompletionCall {
    pub(in crate::openai) requests: Vec<ApiRequest>,
    pub(in crate::openai) names: Names,
    pub(in crate::openai) shape: Shape,
    pub(in crate::openai) streams: bool,
    /// The prompt is shown.
    pub(in crate::openai) echo: bool,
    /// Nothing but the prompt is: `max_tokens` is 0.
    pub(in crate::openai) scores_only: bool,
    /// Special tokens are left out of the text.
    pub(in crate::openai) skip_special: bool,
}

/// Reads a message; `name` is the call's.
///
/// # Errors
///
/// It is no JSON object, a field has the wrong type, or there is no prompt.
pub(in crate::openai) fn read(
    engine: &Engine,
    message: &[u8],
    name: &str,
) -> Result<CompletionCall, ApiError> {
    let mut found = Violations::default();
    let fields: CompletionFields = json::group(message, &mut found)?;
    let parameters: Parameters = json::group(message, &mut found)?;
    let structured: Structured = json::group(message, &mut found)?;
    Unsupported::check_all(message, parameters.n.unwrap_or(1), &mut found)?;
    if fields.thinking_token_budget.is_some() {
        let description = "is not supported here; it bounds thoughts in conversations";
        found.add("thinking_token_budget", description);
    }
    let prompts = fields.prompts()?;

    let echo = fields.echo.unwrap_or(false);
    if parameters.streams() && parameters.prompt_logprobs.is_some() {
        found.add(
            "prompt_logprobs",
            "is not available in a stream; use echo and logprobs",
        );
    }
    let form = structured.form(&mut found);
    let given_id = parameters.request_id.as_deref().unwrap_or(name);
    let mut shape = Shape::new(engine, &parameters, format!("cmpl-{given_id}"));
    shape.logprobs = fields.logprobs;
    let names = Names {
        max_tokens: "max_tokens",
        logprobs: "logprobs",
        stop_is_one: matches!(parameters.stop, Some(OneOrMore::One(_))),
        input: "prompt",
        is_list: prompts.is_list,
        form: form.as_ref().map_or("response_format", |form| form.field),
    };
    let max_tokens = parameters.max_tokens.unwrap_or(DEFAULT_MAX_TOKENS);
    let scores_only = max_tokens == 0;
    // The engine gives one token at least; what is not wanted is not shown.
    let of_engine = Some(max_tokens.max(1));
    let most = parameters.prompt_tokens(engine, of_engine, &mut found);
    let mut request = parameters.request(Input::Text(String::new()), of_engine, &mut found);
    request.output.logprobs = fields.logprobs;
    // Where in its text an answer's tokens begin depends on what came before.
    request.output.echo = echo || shape.needs_prompt() || shape.logprobs.is_some();
    if echo {
        request.output.prompt_logprobs = request.output.prompt_logprobs.max(fields.logprobs);
    }
    request.grammar = form.map(Form::options);

    let prompt = Template {
        model: parameters.model.clone().unwrap_or_default(),
        request,
        plain: fields.add_special_tokens == Some(false),
        most,
        names,
    };
    let requests = prompt.requests(engine, prompts.inputs, found)?;
    Ok(CompletionCall {
        requests,
        names,
        shape,
        streams: parameters.streams(),
        echo,
        scores_only,
        skip_special: parameters.skip_special_tokens.unwrap_or(true),
    })
}

impl CompletionFields {
    fn prompts(&self) -> Result<Prompts, ApiError> {
        let Some(prompts) = self.prompt.clone() else {
            let description = "is missing; give a text or the ids of its tokens";
            return Err(ApiError::unusable("prompt", description));
        };
        match prompts.inputs.len() {
            0 => Err(ApiError::unusable("prompt", "is empty")),
            1..=MAX_PROMPTS => Ok(prompts),
            more => {
                let description =
                    format!("has {more} prompts; at most {MAX_PROMPTS} are taken in one call");
                Err(ApiError::unusable("prompt", description))
            }
        }
    }
}

/// What the requests for all prompts have in common.
struct Template {
    model: String,
    request: GenerateRequest,
    /// No text in a prompt is a control token.
    plain: bool,
    /// How many of a prompt's last tokens are used, if not all.
    most: Option<usize>,
    names: Names,
}

impl Template {
    /// A request for each prompt; where something is wrong with all, only the first, which is refused.
    fn requests(
        &self,
        engine: &Engine,
        inputs: Vec<Input>,
        found: Violations,
    ) -> Result<Vec<ApiRequest>, ApiError> {
        let several = inputs.len() > 1;
        let taken = if found.is_empty() { inputs.len() } else { 1 };
        let mut found = Some(found);
        let mut requests = Vec::with_capacity(taken);
        for (index, input) in inputs.into_iter().enumerate().take(taken) {
            let mut request = self.request.clone();
            if let Some(id) = request.request_id.as_mut().filter(|_| several) {
                *id += &format!("-{index}");
            }
            request.input = self.prepared(engine, input, index)?;
            requests.push(ApiRequest {
                model: self.model.clone(),
                request,
                token_ids: true,
                violations: found.take().unwrap_or_default(),
            });
        }
        Ok(requests)
    }

    /// A prompt as the engine has it: a text without special tokens, or only its last tokens, is made into tokens here.
    fn prepared(&self, engine: &Engine, input: Input, index: usize) -> Result<Input, ApiError> {
        let (tokenizer, is_cut) = (engine.tokenizer(), self.most.is_some());
        let ids = match &input {
            Input::Text(text) if !text.is_empty() && self.plain => tokenizer.encode_plain(text),
            Input::Text(text) if !text.is_empty() && is_cut => tokenizer.encode(text),
            Input::Tokens(ids) if is_cut => Ok(ids.clone()),
            _ => return Ok(input),
        };
        let mut ids = ids.map_err(|error| {
            ApiError::unusable(self.names.of("input", index), error.to_string())
        })?;
        let first = self.most.map_or(0, |most| ids.len().saturating_sub(most));
        Ok(Input::Tokens(ids.split_off(first)))
    }
}
