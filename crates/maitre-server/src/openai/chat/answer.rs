//! Answers to a conversation: whole, and in chunks.

use maitre_engine::{Delta, Event, Finished, Part, TokenLogprob};

use super::request::ChatCall;
use crate::openai::events::{Chunks, Written};
use crate::openai::shape::{Shape, finish_reason};
use crate::openai::types::answer::{
    AnswerMessage, CalledFunction, ChatChoice, ChatChunk, ChatChunkChoice, ChatCompletion,
    ChatDelta, FunctionDelta, Shown, StopReason, ToolCall, ToolCallDelta, Usage,
};
use crate::service::answer::Answer;
use crate::service::call_ids::CallIds;

/// What of a conversation's answer is shown.
#[derive(Debug, Clone)]
pub(in crate::openai) struct ChatShape {
    shape: Shape,
    include_reasoning: bool,
    echo: String,
    call_ids: CallIds,
}

impl From<&ChatCall> for ChatShape {
    fn from(call: &ChatCall) -> Self {
        Self {
            shape: call.shape.clone(),
            include_reasoning: call.include_reasoning,
            echo: call.echo.clone(),
            call_ids: CallIds::new(call.shape.engine.info().tool_format, call.calls_before),
        }
    }
}

/// Why an answer ended: one that stops by itself after it has called tools waits for what they say. What the request
/// asked to stop at may stand in the middle of a call.
fn reason(finished: &Finished, stopped_at: Option<&StopReason>, has_calls: bool) -> &'static str {
    match finish_reason(finished.reason) {
        "stop" if has_calls && stopped_at.is_none() => "tool_calls",
        reason => reason,
    }
}

impl ChatShape {
    /// Whole answers.
    pub(in crate::openai) fn whole(&self, answers: Vec<Answer>) -> ChatCompletion {
        let shape = &self.shape;
        let mut usage = Usage::default();
        for answer in &answers {
            if let Some(finished) = &answer.finished {
                usage.add(finished, answer.index == 0);
            }
        }
        let first = answers.first();
        let prompt_logprobs = first.and_then(|answer| shape.prompt_scores(&answer.prompt_logprobs));
        let prompt_token_ids = first.filter(|_| shape.return_token_ids).map(|answer| {
            let ids = answer.token_ids.get(..answer.echoed.tokens);
            ids.unwrap_or_default().to_vec()
        });
        ChatCompletion {
            id: shape.id.clone(),
            object: "chat.completion",
            created: shape.created,
            model: shape.model.clone(),
            choices: answers.into_iter().map(|it| self.choice(it)).collect(),
            usage,
            prompt_logprobs,
            prompt_token_ids,
        }
    }

    fn choice(&self, mut answer: Answer) -> ChatChoice {
        let shape = &self.shape;
        let has_calls = !answer.tool_calls.is_empty();
        let finished = answer.finished.as_ref();
        let stop_reason = finished.and_then(|it| shape.stop_reason(it));
        let stopped_at = stop_reason.as_ref();
        let finish_reason = finished.map_or("stop", |it| reason(it, stopped_at, has_calls));
        let text = answer.text.split_off(answer.echoed.bytes);
        let text = format!("{}{text}", self.echo);
        let ids = answer.token_ids.split_off(answer.echoed.tokens);
        let reasoning = Some(answer.reasoning)
            .filter(|reasoning| self.include_reasoning && !reasoning.is_empty());
        let calls = (0..).zip(answer.tool_calls);
        let tool_calls = calls.map(|(call, called)| ToolCall {
            id: self.call_ids.id(answer.index, call, &called.name),
            r#type: "function",
            function: CalledFunction {
                name: called.name,
                arguments: called.arguments,
            },
        });
        ChatChoice {
            index: answer.index,
            message: AnswerMessage {
                role: "assistant",
                content: (!has_calls || !text.is_empty()).then_some(text),
                refusal: None,
                reasoning_content: reasoning.clone(),
                reasoning,
                tool_calls: tool_calls.collect(),
            },
            logprobs: shape.chat_scores(&answer.logprobs),
            finish_reason,
            stop_reason,
            token_ids: shape.return_token_ids.then_some(ids),
        }
    }
}

/// Makes chunks of events.
#[derive(Debug)]
pub(in crate::openai) struct ChatChunks {
    shape: ChatShape,
    places: Vec<Place>,
    usage: Usage,
}

/// How far an answer is.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    has_role: bool,
    has_calls: bool,
    prompt_tokens: usize,
    generated: usize,
    reasoning: usize,
}

impl ChatChunks {
    pub(in crate::openai) fn new(shape: ChatShape) -> Self {
        let n = usize::try_from(shape.shape.n).unwrap_or_default();
        Self {
            shape,
            places: vec![Place::default(); n],
            usage: Usage::default(),
        }
    }

    fn write(
        &self,
        choice: ChatChunkChoice,
        place: Place,
        prompt_token_ids: Option<Vec<u32>>,
        out: &mut Written,
    ) {
        let shape = &self.shape.shape;
        let usage = match (shape.continuous_usage, shape.include_usage) {
            (true, _) => Shown::Value(Usage::so_far(
                place.prompt_tokens,
                place.generated,
                place.reasoning,
            )),
            (false, true) => Shown::Null,
            (false, false) => Shown::Hidden,
        };
        out.chunk(&ChatChunk {
            id: &shape.id,
            object: "chat.completion.chunk",
            created: shape.created,
            model: &shape.model,
            choices: vec![choice],
            usage,
            prompt_token_ids,
        });
    }

    /// The first chunk of an answer, which says who speaks.
    fn role(&mut self, index: u32, prompt: Option<Vec<u32>>, out: &mut Written) {
        let place = self.place(index);
        if std::mem::replace(&mut place.has_role, true) {
            return;
        }
        place.prompt_tokens = prompt.as_ref().map_or(0, Vec::len);
        let place = *place;
        let delta = ChatDelta {
            role: Some("assistant"),
            content: Some(String::new()),
            ..ChatDelta::default()
        };
        let shown = prompt.filter(|_| self.shape.shape.return_token_ids);
        self.write(piece(index, delta), place, shown, out);
        if !self.shape.echo.is_empty() {
            let delta = ChatDelta {
                content: Some(self.shape.echo.clone()),
                ..ChatDelta::default()
            };
            self.write(piece(index, delta), place, None, out);
        }
    }

    fn place(&mut self, index: u32) -> &mut Place {
        let index = usize::try_from(index).unwrap_or_default();
        if index >= self.places.len() {
            self.places.resize(index + 1, Place::default());
        }
        &mut self.places[index]
    }

    fn delta(&mut self, delta: Delta, out: &mut Written) {
        let Delta {
            index,
            part,
            token_ids,
            logprobs,
        } = delta;
        let needs_prompt = self.shape.shape.needs_prompt();
        if !self.place(index).has_role {
            if needs_prompt {
                // The first delta is the prompt.
                return self.role(index, Some(token_ids.into_vec()), out);
            }
            self.role(index, None, out);
        }
        let place = self.place(index);
        place.generated += token_ids.len();
        if matches!(part, Part::Reasoning(_)) {
            place.reasoning += token_ids.len();
        }
        place.has_calls |= matches!(part, Part::ToolCall { .. });
        let place = *place;
        let shown = self.shown(index, part);
        let scores = self.scores(&logprobs);
        let ids = self
            .shape
            .shape
            .return_token_ids
            .then(|| token_ids.into_vec());
        let has_more = scores.is_some() || ids.as_ref().is_some_and(|it| !it.is_empty());
        if shown.is_none() && !has_more {
            return;
        }
        let choice = ChatChunkChoice {
            logprobs: scores,
            token_ids: ids,
            ..piece(index, shown.unwrap_or_default())
        };
        self.write(choice, place, None, out);
    }

    fn scores(&self, tokens: &[TokenLogprob]) -> Option<crate::openai::types::scores::ChatScores> {
        let shape = &self.shape.shape;
        (!tokens.is_empty())
            .then(|| shape.chat_scores(tokens))
            .flatten()
    }

    /// What of a part is new to the client, if anything.
    fn shown(&self, answer: u32, part: Part) -> Option<ChatDelta> {
        match part {
            Part::Text(text) => (!text.is_empty()).then(|| ChatDelta {
                content: Some(text.into()),
                ..ChatDelta::default()
            }),
            Part::Reasoning(text) => {
                (self.shape.include_reasoning && !text.is_empty()).then(|| ChatDelta {
                    reasoning_content: Some(text.clone().into()),
                    reasoning: Some(text.into()),
                    ..ChatDelta::default()
                })
            }
            Part::ToolCall {
                index,
                name,
                arguments_delta,
            } => {
                let is_new = name.is_some();
                let ids = &self.shape.call_ids;
                let id = name.as_deref().map(|name| ids.id(answer, index, name));
                Some(ChatDelta {
                    tool_calls: Some([ToolCallDelta {
                        index,
                        id,
                        r#type: is_new.then_some("function"),
                        function: FunctionDelta {
                            name,
                            arguments: arguments_delta.into(),
                        },
                    }]),
                    ..ChatDelta::default()
                })
            }
        }
    }
}

fn piece(index: u32, delta: ChatDelta) -> ChatChunkChoice {
    ChatChunkChoice {
        index,
        delta,
        logprobs: None,
        finish_reason: None,
        stop_reason: None,
        token_ids: None,
    }
}

impl Chunks for ChatChunks {
    fn event(&mut self, _prompt: usize, event: Event, out: &mut Written) {
        match event {
            // A stream is refused them.
            Event::PromptLogprobs(_) => {}
            Event::Delta(delta) => self.delta(delta, out),
            Event::Finished(finished) => {
                self.role(finished.index, None, out);
                let place = *self.place(finished.index);
                self.usage.add(&finished, finished.index == 0);
                let stop_reason = self.shape.shape.stop_reason(&finished);
                let reason = reason(&finished, stop_reason.as_ref(), place.has_calls);
                let choice = ChatChunkChoice {
                    finish_reason: Some(reason),
                    stop_reason,
                    ..piece(finished.index, ChatDelta::default())
                };
                self.write(choice, place, None, out);
            }
        }
    }

    fn end(&mut self, out: &mut Written) {
        let shape = &self.shape.shape;
        if !shape.include_usage {
            return;
        }
        out.chunk(&ChatChunk {
            id: &shape.id,
            object: "chat.completion.chunk",
            created: shape.created,
            model: &shape.model,
            choices: Vec::new(),
            usage: Shown::Value(self.usage),
            prompt_token_ids: None,
        });
    }
}
