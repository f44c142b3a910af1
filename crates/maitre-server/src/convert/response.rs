//! Events of the engine into messages of the API.

use std::time::Duration;

use maitre_engine as engine;
use maitre_proto::v1;

/// What a stream sends for one event.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum StreamEvent {
    PromptLogprobs(v1::PromptLogprobs),
    Delta(v1::Delta),
    Finished(v1::Finished),
}

/// Converts one event. `token_ids`: whether the caller wants them.
pub(crate) fn event(event: engine::Event, token_ids: bool) -> StreamEvent {
    match event {
        engine::Event::PromptLogprobs(prompt) => StreamEvent::PromptLogprobs(v1::PromptLogprobs {
            index: prompt.index,
            tokens: logprobs(prompt.tokens),
        }),
        engine::Event::Delta(delta) => StreamEvent::Delta(v1::Delta {
            index: delta.index,
            text: delta.text,
            token_ids: if token_ids {
                delta.token_ids
            } else {
                Vec::new()
            },
            logprobs: logprobs(delta.logprobs),
        }),
        engine::Event::Finished(finished) => StreamEvent::Finished(v1::Finished {
            index: finished.index,
            finish_reason: reason(finished.reason).into(),
            matched: finished.matched.map(matched),
            usage: Some(usage(finished.usage)),
            timings: Some(timings(finished.timings)),
        }),
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

/// Whole answers, put together from the events of a stream.
#[derive(Debug)]
pub(crate) struct Answers(Vec<v1::Answer>);

impl Answers {
    /// Space for `n` answers; the engine has checked that there are not too many.
    pub(crate) fn new(n: u32) -> Self {
        Self(
            (0..n)
                .map(|index| v1::Answer {
                    index,
                    ..Default::default()
                })
                .collect(),
        )
    }

    /// Adds an event to the answer it belongs to.
    pub(crate) fn add(&mut self, event: StreamEvent) {
        let index = match &event {
            StreamEvent::PromptLogprobs(prompt) => prompt.index,
            StreamEvent::Delta(delta) => delta.index,
            StreamEvent::Finished(finished) => finished.index,
        };
        let Some(answer) = self.0.iter_mut().find(|answer| answer.index == index) else {
            return;
        };
        match event {
            StreamEvent::PromptLogprobs(prompt) => answer.prompt_logprobs = prompt.tokens,
            StreamEvent::Delta(delta) => {
                answer.text.push_str(&delta.text);
                answer.token_ids.extend(delta.token_ids);
                answer.logprobs.extend(delta.logprobs);
            }
            StreamEvent::Finished(finished) => {
                answer.finish_reason = finished.finish_reason;
                answer.matched = finished.matched;
                answer.usage = finished.usage;
                answer.timings = finished.timings;
            }
        }
    }

    /// The answers by index.
    pub(crate) fn into_inner(self) -> Vec<v1::Answer> {
        self.0
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

    fn delta(index: u32, text: &str, id: u32) -> engine::Event {
        engine::Event::Delta(engine::Delta {
            index,
            text: text.into(),
            token_ids: vec![id],
            ..Default::default()
        })
    }

    fn finished(index: u32) -> engine::Event {
        engine::Event::Finished(engine::Finished {
            index,
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
        })
    }

    #[test]
    fn interleaved_events_become_whole_answers() {
        let mut answers = Answers::new(2);
        for each in [
            delta(1, "b", 5),
            delta(0, "x", 6),
            delta(1, "c", 7),
            finished(1),
            finished(0),
        ] {
            answers.add(event(each, true));
        }
        let answers = answers.into_inner();
        assert_eq!(
            (answers[0].text.as_str(), answers[1].text.as_str()),
            ("x", "bc")
        );
        assert_eq!(answers[1].token_ids, [5, 7]);
        assert_eq!(answers[1].finish_reason(), v1::FinishReason::StopSequence);
        let usage = v1::Usage {
            prompt_tokens: 3,
            completion_tokens: 2,
            cached_prompt_tokens: 1,
            drafted_tokens: 5,
            accepted_tokens: 4,
        };
        assert_eq!(answers[1].usage, Some(usage));
        let e2e = answers[1].timings.unwrap().e2e.unwrap();
        assert_eq!((e2e.seconds, e2e.nanos), (1, 500_000_000));
        let matched = answers[1].matched.clone().unwrap().what;
        assert_eq!(matched, Some(v1::matched::What::Text("END".into())));
    }

    #[test]
    fn token_ids_are_left_out_on_request() {
        let StreamEvent::Delta(delta) = event(delta(0, "x", 6), false) else {
            panic!("not a delta");
        };
        assert_eq!((delta.text.as_str(), delta.token_ids.len()), ("x", 0));
    }
}
