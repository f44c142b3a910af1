//! Events of the engine into messages of the API.

use std::time::Duration;

use maitre_engine as engine;
use maitre_proto::v1;

use crate::service::answer::Answer;
use crate::service::call_ids::CallIds;

/// What a stream sends for one event.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum StreamEvent {
    PromptLogprobs(v1::PromptLogprobs),
    Delta(v1::Delta),
    Finished(v1::Finished),
}

/// Converts one event.
pub(crate) fn event(event: engine::Event, ids: &CallIds) -> StreamEvent {
    match event {
        engine::Event::PromptLogprobs(prompt) => StreamEvent::PromptLogprobs(v1::PromptLogprobs {
            index: prompt.index,
            tokens: logprobs(prompt.tokens),
        }),
        engine::Event::Delta(more) => StreamEvent::Delta(delta(more, ids)),
        engine::Event::Finished(finished) => StreamEvent::Finished(end(finished)),
    }
}

fn delta(delta: engine::Delta, ids: &CallIds) -> v1::Delta {
    let mut converted = v1::Delta {
        index: delta.index,
        token_ids: delta.token_ids.into_vec(),
        logprobs: logprobs(delta.logprobs),
        ..v1::Delta::default()
    };
    match delta.part {
        engine::Part::Text(text) => converted.text = text.into(),
        engine::Part::Reasoning(text) => converted.reasoning = text.into(),
        engine::Part::ToolCall {
            index,
            name,
            arguments_delta,
        } => {
            let id = name.as_deref().map(|name| ids.id(delta.index, index, name));
            converted.tool_call = Some(v1::ToolCallDelta {
                index,
                id: id.unwrap_or_default(),
                name: name.unwrap_or_default(),
                arguments_json: arguments_delta.into(),
            });
        }
    }
    converted
}

fn end(finished: engine::Finished) -> v1::Finished {
    v1::Finished {
        index: finished.index,
        finish_reason: reason(finished.reason).into(),
        matched: finished.matched.map(matched),
        usage: Some(usage(finished.usage)),
        timings: Some(timings(finished.timings)),
    }
}

impl From<StreamEvent> for v1::stream_generate_response::Event {
    fn from(event: StreamEvent) -> Self {
        match event {
            StreamEvent::PromptLogprobs(prompt) => Self::PromptLogprobs(prompt),
            StreamEvent::Delta(delta) => Self::Delta(delta),
            StreamEvent::Finished(finished) => Self::Finished(finished),
        }
    }
}

impl From<StreamEvent> for v1::stream_chat_response::Event {
    fn from(event: StreamEvent) -> Self {
        match event {
            StreamEvent::PromptLogprobs(prompt) => Self::PromptLogprobs(prompt),
            StreamEvent::Delta(delta) => Self::Delta(delta),
            StreamEvent::Finished(finished) => Self::Finished(finished),
        }
    }
}

/// Converts a whole answer.
pub(crate) fn answer(answer: Answer, ids: &CallIds) -> v1::Answer {
    let end = answer.finished.map(end).unwrap_or_default();
    let calls = (0..).zip(answer.tool_calls);
    let tool_calls = calls.map(|(call, called)| v1::ToolCall {
        id: ids.id(answer.index, call, &called.name),
        name: called.name,
        arguments_json: called.arguments,
    });
    v1::Answer {
        index: answer.index,
        text: answer.text,
        token_ids: answer.token_ids,
        logprobs: logprobs(answer.logprobs),
        prompt_logprobs: logprobs(answer.prompt_logprobs),
        finish_reason: end.finish_reason,
        matched: end.matched,
        usage: end.usage,
        timings: end.timings,
        reasoning: answer.reasoning,
        tool_calls: tool_calls.collect(),
    }
}

fn logprobs(tokens: Vec<engine::TokenLogprob>) -> Vec<v1::TokenLogprob> {
    let entry = |entry: engine::LogprobEntry| v1::LogprobEntry {
        token_id: entry.token_id,
        text: entry.text,
        logprob: entry.logprob,
    };
    tokens
        .into_iter()
        .map(|token| v1::TokenLogprob {
            token: Some(entry(token.token)),
            rank: token.rank,
            top: token.top.into_iter().map(entry).collect(),
        })
        .collect()
}

fn reason(reason: engine::FinishReason) -> v1::FinishReason {
    match reason {
        engine::FinishReason::Stop => v1::FinishReason::Stop,
        engine::FinishReason::StopSequence => v1::FinishReason::StopSequence,
        engine::FinishReason::Length => v1::FinishReason::Length,
        engine::FinishReason::Deadline => v1::FinishReason::Deadline,
    }
}

fn matched(matched: engine::Matched) -> v1::Matched {
    use v1::matched::What;
    let what = match matched {
        engine::Matched::Token(id) => What::TokenId(id),
        engine::Matched::Text(text) => What::Text(text),
    };
    v1::Matched { what: Some(what) }
}

fn usage(usage: engine::Usage) -> v1::Usage {
    v1::Usage {
        prompt_tokens: usage.prompt_tokens,
        completion_tokens: usage.completion_tokens,
        cached_prompt_tokens: usage.cached_prompt_tokens,
        drafted_tokens: usage.drafted_tokens,
        accepted_tokens: usage.accepted_tokens,
        reasoning_tokens: usage.reasoning_tokens,
    }
}

fn timings(timings: engine::Timings) -> v1::Timings {
    v1::Timings {
        queue: Some(duration(timings.queue)),
        prefill: Some(duration(timings.prefill)),
        ttft: Some(duration(timings.ttft)),
        tpot: Some(duration(timings.tpot)),
        e2e: Some(duration(timings.e2e)),
    }
}

/// A measured duration, always far inside protobuf's ten thousand years.
pub(crate) fn duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration::try_from(duration).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::answer::CalledTool;

    fn finished() -> engine::Finished {
        engine::Finished {
            index: 1,
            reason: engine::FinishReason::StopSequence,
            matched: Some(engine::Matched::Text("END".into())),
            usage: engine::Usage {
                prompt_tokens: 3,
                completion_tokens: 2,
                cached_prompt_tokens: 1,
                drafted_tokens: 5,
                accepted_tokens: 4,
                reasoning_tokens: 2,
            },
            timings: engine::Timings {
                e2e: Duration::from_millis(1500),
                ..Default::default()
            },
        }
    }

    #[test]
    fn a_whole_answer_has_the_end_of_its_last_event() {
        let given = Answer {
            index: 1,
            text: "bc".into(),
            token_ids: vec![5, 7],
            finished: Some(finished()),
            ..Answer::default()
        };
        let whole = answer(given, &CallIds::new(None, 0));
        assert_eq!((whole.index, &*whole.text), (1, "bc"));
        assert_eq!(whole.token_ids, [5, 7]);
        assert_eq!(whole.finish_reason(), v1::FinishReason::StopSequence);
        let usage = v1::Usage {
            prompt_tokens: 3,
            completion_tokens: 2,
            cached_prompt_tokens: 1,
            drafted_tokens: 5,
            accepted_tokens: 4,
            reasoning_tokens: 2,
        };
        assert_eq!(whole.usage, Some(usage));
        let e2e = whole.timings.unwrap().e2e.unwrap();
        assert_eq!((e2e.seconds, e2e.nanos), (1, 500_000_000));
        let matched = whole.matched.unwrap().what;
        assert_eq!(matched, Some(v1::matched::What::Text("END".into())));
    }

    #[test]
    fn calls_have_the_same_ids_whole_and_streamed() {
        let ids = CallIds::new(None, 0);
        let part = |name: Option<&str>, arguments: &str| {
            let part = engine::Part::ToolCall {
                index: 1,
                name: name.map(str::to_owned),
                arguments_delta: arguments.into(),
            };
            let more = engine::Delta {
                index: 3,
                part,
                ..Default::default()
            };
            delta(more, &ids).tool_call.unwrap()
        };
        let called = |name: &str, arguments: &str| CalledTool {
            name: name.into(),
            arguments: arguments.into(),
        };
        let given = Answer {
            index: 3,
            reasoning: "hm".into(),
            tool_calls: vec![called("add", "{}"), called("sub", "{\"a\":1}")],
            ..Answer::default()
        };
        let whole = answer(given, &ids);
        assert_eq!(whole.reasoning, "hm");
        let call = &whole.tool_calls[1];
        let begun = part(Some("sub"), "");
        assert_eq!((&begun.id, &begun.name), (&call.id, &call.name));
        assert_ne!(call.id, whole.tool_calls[0].id);
        let more = part(None, "{\"a\":1}");
        assert_eq!(
            (&*more.id, more.arguments_json),
            ("", call.arguments_json.clone())
        );
    }
}
