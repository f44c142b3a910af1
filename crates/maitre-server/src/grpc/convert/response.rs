//! Events of the engine into messages of the API.

use std::time::Duration;

use maitre_engine as engine;
use maitre_proto::v1;

use crate::service::answer::Answer;

/// What a stream sends for one event.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum StreamEvent {
    PromptLogprobs(v1::PromptLogprobs),
    Delta(v1::Delta),
    Finished(v1::Finished),
}

/// Converts one event.
pub(crate) fn event(event: engine::Event) -> StreamEvent {
    match event {
        engine::Event::PromptLogprobs(prompt) => StreamEvent::PromptLogprobs(v1::PromptLogprobs {
            index: prompt.index,
            tokens: logprobs(prompt.tokens),
        }),
        engine::Event::Delta(delta) => StreamEvent::Delta(v1::Delta {
            index: delta.index,
            text: text(delta.part),
            token_ids: delta.token_ids,
            logprobs: logprobs(delta.logprobs),
        }),
        engine::Event::Finished(finished) => StreamEvent::Finished(end(finished)),
    }
}

/// What a reader sees of a part; an answer has no other yet.
fn text(part: engine::Part) -> String {
    match part {
        engine::Part::Text(text) => text,
        engine::Part::Reasoning(_) | engine::Part::ToolCall { .. } => String::new(),
    }
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
pub(crate) fn answer(answer: Answer) -> v1::Answer {
    let end = answer.finished.map(end).unwrap_or_default();
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
            },
            timings: engine::Timings {
                e2e: Duration::from_millis(1500),
                ..Default::default()
            },
        }
    }

    #[test]
    fn a_whole_answer_has_the_end_of_its_last_event() {
        let whole = answer(Answer {
            index: 1,
            text: "bc".into(),
            token_ids: vec![5, 7],
            finished: Some(finished()),
            ..Answer::default()
        });
        assert_eq!((whole.index, &*whole.text), (1, "bc"));
        assert_eq!(whole.token_ids, [5, 7]);
        assert_eq!(whole.finish_reason(), v1::FinishReason::StopSequence);
        let usage = v1::Usage {
            prompt_tokens: 3,
            completion_tokens: 2,
            cached_prompt_tokens: 1,
            drafted_tokens: 5,
            accepted_tokens: 4,
        };
        assert_eq!(whole.usage, Some(usage));
        let e2e = whole.timings.unwrap().e2e.unwrap();
        assert_eq!((e2e.seconds, e2e.nanos), (1, 500_000_000));
        let matched = whole.matched.unwrap().what;
        assert_eq!(matched, Some(v1::matched::What::Text("END".into())));
    }
}
