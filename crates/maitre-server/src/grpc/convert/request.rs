//! Messages of the API into requests of the engine.
//!
//! The streaming calls have messages of their own, field for field those of the unary calls; they
//! are turned into these first, so that there is one conversion for a prompt and one for a
//! conversation.

use maitre_engine::limits::MAX_REQUEST_ID_BYTES;
use std::sync::Arc;

use maitre_engine::{
    CacheOptions, ChatRequest, GenerateRequest, Input, OutputOptions, PartOptions, ToolChoice,
};
use maitre_proto::v1;

use super::constraint::grammar;
use super::conversation::{chat_message, object};
use super::parameters::{sampling_options, service, speculate, stopping};
use super::tools::{checked, tool, tool_choice};
use crate::service::request::ApiRequest;
use crate::service::violations::Violations;

/// Converts the prompt of `Generate`.
pub(crate) fn generate(message: v1::GenerateRequest) -> ApiRequest {
    use v1::generate_request::Input as Given;
    let mut found = Violations::default();
    let input = match message.input {
        Some(Given::Text(text)) => Input::Text(text),
        Some(Given::TokenIds(tokens)) => Input::Tokens(tokens.ids),
        None => {
            found.add(
                "input",
                "is missing; give the prompt as text or as token_ids",
            );
            Input::Text(String::new())
        }
    };
    let parameters = Parameters {
        sampling: message.sampling,
        stopping: message.stopping,
        output: message.output,
        service: message.service,
        cache: message.cache,
        speculation: message.speculation,
        constraint: message.constraint,
    };
    converted(message.model, message.request_id, input, parameters, found)
}

/// Converts the prompt of `StreamGenerate`.
pub(crate) fn stream_generate(message: v1::StreamGenerateRequest) -> ApiRequest {
    use v1::generate_request::Input as Unary;
    use v1::stream_generate_request::Input as Given;
    let input = message.input.map(|input| match input {
        Given::Text(text) => Unary::Text(text),
        Given::TokenIds(tokens) => Unary::TokenIds(tokens),
    });
    let message = v1::GenerateRequest {
        request_id: message.request_id,
        model: message.model,
        input,
        sampling: message.sampling,
        stopping: message.stopping,
        output: message.output,
        service: message.service,
        cache: message.cache,
        speculation: message.speculation,
        constraint: message.constraint,
    };
    generate(message)
}

/// Converts the conversation of `Chat`.
pub(crate) fn chat(message: v1::ChatRequest) -> ApiRequest {
    let mut found = Violations::default();
    let messages = message
        .messages
        .into_iter()
        .enumerate()
        .map(|(index, message)| chat_message(index, message, &mut found))
        .collect();
    let choice = tool_choice(message.tool_choice, &mut found);
    let given: Vec<_> = message
        .tools
        .into_iter()
        .enumerate()
        .map(|(index, given)| tool(index, given, &mut found))
        .collect();
    let tools = checked(&given, &mut found);
    let reasoning = message.reasoning.unwrap_or_default();
    let conversation = ChatRequest {
        messages,
        tools: match choice {
            ToolChoice::None => Vec::new(),
            _ => given,
        },
        add_generation_prompt: message.add_generation_prompt.unwrap_or(true),
        template_kwargs: object(
            &message.template_kwargs_json,
            || "template_kwargs_json".to_owned(),
            &mut found,
        ),
        ..ChatRequest::default()
    };
    let parameters = Parameters {
        sampling: message.sampling,
        stopping: message.stopping,
        output: message.output,
        service: message.service,
        cache: message.cache,
        speculation: message.speculation,
        constraint: message.constraint,
    };
    let is_required = matches!(choice, ToolChoice::Required | ToolChoice::Named(_));
    let parts = PartOptions {
        tools: Arc::new(tools),
        tool_choice: choice,
        parallel_tool_calls: message.parallel_tool_calls.unwrap_or(true),
        reasoning: reasoning.separate.unwrap_or(true),
        thinking_token_budget: reasoning.token_budget,
        // What there is of a required call that `max_tokens` cuts off is well-formed: it is returned as a call.
        whole_calls: !is_required,
    };
    let input = Input::Chat(conversation);
    let mut request = converted(message.model, message.request_id, input, parameters, found);
    request.request.parts = Some(parts);
    request
}

/// Converts the conversation of `StreamChat`.
pub(crate) fn stream_chat(message: v1::StreamChatRequest) -> ApiRequest {
    let message = v1::ChatRequest {
        request_id: message.request_id,
        model: message.model,
        messages: message.messages,
        tools: message.tools,
        sampling: message.sampling,
        stopping: message.stopping,
        output: message.output,
        service: message.service,
        cache: message.cache,
        speculation: message.speculation,
        constraint: message.constraint,
        add_generation_prompt: message.add_generation_prompt,
        template_kwargs_json: message.template_kwargs_json,
        tool_choice: message.tool_choice,
        parallel_tool_calls: message.parallel_tool_calls,
        reasoning: message.reasoning,
    };
    let mut request = chat(message);
    if let Some(parts) = &mut request.request.parts {
        parts.whole_calls = false;
    }
    request
}

struct Parameters {
    sampling: Option<v1::SamplingParams>,
    stopping: Option<v1::StoppingParams>,
    output: Option<v1::OutputOptions>,
    service: Option<v1::ServiceOptions>,
    cache: Option<v1::CacheOptions>,
    speculation: Option<v1::SpeculationOptions>,
    constraint: Option<v1::ConstraintOptions>,
}

fn converted(
    model: String,
    request_id: String,
    input: Input,
    parameters: Parameters,
    mut found: Violations,
) -> ApiRequest {
    let id_bytes = request_id.len();
    if id_bytes > MAX_REQUEST_ID_BYTES {
        let description =
            format!("has {id_bytes} bytes; at most {MAX_REQUEST_ID_BYTES} are allowed");
        found.add("request_id", description);
    }
    let sampling = parameters.sampling.unwrap_or_default();
    let output = parameters.output.unwrap_or_default();
    let cache = parameters.cache.unwrap_or_default();
    let request = GenerateRequest {
        request_id: (!request_id.is_empty()).then_some(request_id),
        input,
        n: sampling.n.unwrap_or(1),
        sampling: sampling_options(sampling),
        stopping: stopping(parameters.stopping.unwrap_or_default()),
        service: service(parameters.service.unwrap_or_default(), &mut found),
        output: OutputOptions {
            logprobs: output.logprobs,
            prompt_logprobs: output.prompt_logprobs,
            echo: output.echo,
            skip_special_tokens: output.skip_special_tokens.unwrap_or(true),
        },
        cache: CacheOptions {
            salt: cache.salt,
            bypass: cache.bypass,
        },
        speculate: speculate(parameters.speculation.unwrap_or_default(), &mut found),
        constraint: None,
        grammar: parameters
            .constraint
            .and_then(|constraint| grammar(constraint, &mut found)),
        parts: None,
    };
    ApiRequest {
        model,
        request,
        token_ids: output.return_token_ids.unwrap_or(true),
        violations: found,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use maitre_engine::{GrammarSpec, SamplingOptions, ServiceOptions, Stopping};
    use std::time::Duration;

    fn text(text: &str) -> Option<v1::generate_request::Input> {
        Some(v1::generate_request::Input::Text(text.to_owned()))
    }

    #[test]
    fn silence_means_the_documented_defaults() {
        let message = v1::GenerateRequest {
            input: text("hi"),
            ..Default::default()
        };
        let converted = generate(message);
        assert!(converted.violations.is_empty());
        assert!(converted.token_ids);
        let mut expected = GenerateRequest::new(Input::Text("hi".into()));
        expected.sampling.frequency_penalty = Some(0.0);
        expected.sampling.presence_penalty = Some(0.0);
        assert_eq!(converted.request, expected);
    }

    #[test]
    fn every_parameter_arrives() {
        let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
        let message = v1::StreamGenerateRequest {
            request_id: "mine".into(),
            model: "bundled".into(),
            input: Some(v1::stream_generate_request::Input::TokenIds(v1::TokenIds {
                ids: vec![1, 2],
            })),
            sampling: Some(v1::SamplingParams {
                temperature: Some(0.5),
                top_p: Some(0.9),
                top_k: Some(40),
                min_p: Some(0.1),
                repetition_penalty: Some(1.1),
                frequency_penalty: 0.2,
                presence_penalty: 0.3,
                seed: Some(7),
                logit_bias: [(9, -1.0), (3, 2.0)].into(),
                n: Some(2),
            }),
            stopping: Some(v1::StoppingParams {
                max_tokens: Some(5),
                min_tokens: 1,
                stop: vec!["END".into()],
                stop_token_ids: vec![4],
                ignore_eos: true,
                include_stop: true,
            }),
            output: Some(v1::OutputOptions {
                logprobs: Some(3),
                prompt_logprobs: Some(0),
                echo: true,
                skip_special_tokens: Some(false),
                return_token_ids: Some(false),
            }),
            service: Some(v1::ServiceOptions {
                priority: -1,
                queue_timeout: seconds(1),
                deadline: seconds(2),
                time_limit: seconds(3),
                tenant: "acme".into(),
            }),
            cache: Some(v1::CacheOptions {
                salt: "pepper".into(),
                bypass: true,
            }),
            speculation: Some(v1::SpeculationOptions {
                mode: v1::SpeculationMode::Off.into(),
            }),
            constraint: Some(v1::ConstraintOptions {
                form: Some(v1::constraint_options::Form::Regex("a+".into())),
                ..Default::default()
            }),
        };
        let converted = stream_generate(message);
        assert_eq!(converted.model, "bundled");
        assert!(!converted.token_ids);
        let expected = GenerateRequest {
            request_id: Some("mine".into()),
            input: Input::Tokens(vec![1, 2]),
            n: 2,
            sampling: SamplingOptions {
                temperature: Some(0.5),
                top_p: Some(0.9),
                top_k: Some(40),
                min_p: Some(0.1),
                repetition_penalty: Some(1.1),
                frequency_penalty: Some(0.2),
                presence_penalty: Some(0.3),
                seed: Some(7),
                logit_bias: vec![(3, 2.0), (9, -1.0)],
            },
            stopping: Stopping {
                max_tokens: Some(5),
                min_tokens: 1,
                stop: vec!["END".into()],
                stop_token_ids: vec![4],
                ignore_eos: true,
                include_stop: true,
            },
            output: OutputOptions {
                logprobs: Some(3),
                prompt_logprobs: Some(0),
                echo: true,
                skip_special_tokens: false,
            },
            cache: CacheOptions {
                salt: "pepper".into(),
                bypass: true,
            },
            service: ServiceOptions {
                tenant: "acme".into(),
                priority: -1,
                queue_timeout: Some(Duration::from_secs(1)),
                deadline: Some(Duration::from_secs(2)),
                time_limit: Some(Duration::from_secs(3)),
            },
            speculate: false,
            constraint: None,
            grammar: Some(GrammarSpec::Regex("a+".into()).into()),
            parts: None,
        };
        assert_eq!(converted.request, expected);
    }

    /// All four messages carry it, each in a conversion of its own.
    #[test]
    fn every_kind_of_request_can_do_without_drafts() {
        let speculation = Some(v1::SpeculationOptions {
            mode: v1::SpeculationMode::Off.into(),
        });
        let of_generate = v1::GenerateRequest {
            speculation,
            ..Default::default()
        };
        let of_stream_generate = v1::StreamGenerateRequest {
            speculation,
            ..Default::default()
        };
        let of_chat = v1::ChatRequest {
            speculation,
            ..Default::default()
        };
        let of_stream_chat = v1::StreamChatRequest {
            speculation,
            ..Default::default()
        };
        for converted in [
            generate(of_generate),
            stream_generate(of_stream_generate),
            chat(of_chat),
            stream_chat(of_stream_chat),
        ] {
            assert!(!converted.request.speculate, "{converted:?}");
        }
    }

    #[test]
    fn what_the_engine_never_sees_is_found_here() {
        let duration = |seconds, nanos| Some(prost_types::Duration { seconds, nanos });
        let message = v1::GenerateRequest {
            request_id: "x".repeat(MAX_REQUEST_ID_BYTES + 1),
            service: Some(v1::ServiceOptions {
                queue_timeout: duration(0, 0),
                deadline: duration(0, -1),
                time_limit: duration(i64::MAX, 0),
                ..Default::default()
            }),
            speculation: Some(v1::SpeculationOptions { mode: 3 }),
            ..Default::default()
        };
        let converted = generate(message);
        assert_eq!(
            converted.violations.fields(),
            [
                "input",
                "request_id",
                "service.deadline",
                "service.queue_timeout",
                "service.time_limit",
                "speculation.mode"
            ]
        );
    }
}
