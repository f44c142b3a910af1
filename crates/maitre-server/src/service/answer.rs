//! What comes of a request: events as they happen, or whole answers.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use futures_util::StreamExt as _;
use maitre_engine::byte_budget::{ByteAccount, ByteCharge};
use maitre_engine::{Delta, Event, Finished, Generation, Part, TokenIds, TokenLogprob};

use crate::service::api_error::ApiError;

/// The events of a request in flight; it ends after the last answer, or after one error. Dropping it cancels the
/// request.
#[derive(Debug)]
pub(crate) struct AnswerStream {
    generation: Generation,
    /// An event that has come and was not taken.
    first: Option<Event>,
    account: ByteAccount,
    n: u32,
    token_ids: bool,
    echo: bool,
}

/// One whole answer.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) index: u32,
    /// For the reader.
    pub(crate) text: String,
    /// What the model thought before.
    pub(crate) reasoning: String,
    /// The tools that it calls.
    pub(crate) tool_calls: Vec<CalledTool>,
    /// How much of text and ids is the prompt.
    pub(crate) echoed: Echoed,
    /// Empty unless the caller wants them.
    pub(crate) token_ids: Vec<u32>,
    pub(crate) logprobs: Vec<TokenLogprob>,
    pub(crate) prompt_logprobs: Vec<TokenLogprob>,
    /// How it ended; there once it is complete.
    pub(crate) finished: Option<Finished>,
}

/// A call of a tool.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct CalledTool {
    pub(crate) name: String,
    /// A JSON object.
    pub(crate) arguments: String,
}

/// The prompt in front of an answer that was asked to have it there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Echoed {
    /// Of the text.
    pub(crate) bytes: usize,
    /// Of the ids; 0 where the caller wants none.
    pub(crate) tokens: usize,
}

/// What the caller of a request wants of its events.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub(super) n: u32,
    pub(super) token_ids: bool,
    /// Whether each answer begins with the prompt.
    pub(super) echo: bool,
}

impl AnswerStream {
    pub(super) fn new(generation: Generation, account: ByteAccount, wanted: Wanted) -> Self {
        let Wanted { n, token_ids, echo } = wanted;
        Self {
            generation,
            first: None,
            account,
            n,
            token_ids,
            echo,
        }
    }

    /// The request's id: the caller's, or the one made up for it.
    pub(crate) fn request_id(&self) -> &str {
        self.generation.request_id()
    }

    /// The same, once the first event is there: a failure before it is the failure of the call, rather than the end of
    /// an answer that had begun.
    ///
    /// # Errors
    ///
    /// The request failed before its first event.
    pub(crate) async fn begun(mut self) -> Result<Self, ApiError> {
        self.first = self.generation.next().await.transpose()?;
        Ok(self)
    }

    /// All answers by index, once the last is complete.
    ///
    /// # Errors
    ///
    /// The request failed, or there is no memory for so much that the client has not read.
    pub(crate) async fn whole(mut self) -> Result<Vec<Answer>, ApiError> {
        let mut answers = Answers::new(self.n, self.echo);
        let mut charge: Option<ByteCharge> = None;
        while let Some(event) = self.generation.next().await {
            let event = event?;
            let bytes = event.size_in_bytes();
            let charged = match &mut charge {
                Some(charge) => charge.grow(bytes),
                None => self.account.charge(bytes).map(|new| charge = Some(new)),
            };
            charged.map_err(|spent| ApiError::answer_bytes_spent(&spent))?;
            answers.add(shown(event, self.token_ids));
        }
        Ok(answers.answers)
    }
}

impl Stream for AnswerStream {
    type Item = Result<Event, ApiError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let event = match self.first.take() {
            Some(event) => Some(Ok(event)),
            None => ready!(self.generation.poll_next_unpin(context)),
        };
        let token_ids = self.token_ids;
        let event = event.map(|event| Ok(shown(event?, token_ids)));
        Poll::Ready(event)
    }
}

/// What the caller wants of an event.
fn shown(mut event: Event, token_ids: bool) -> Event {
    if !token_ids && let Event::Delta(delta) = &mut event {
        delta.token_ids = TokenIds::new();
    }
    event
}

/// Whole answers, put together from the events of a stream.
struct Answers {
    answers: Vec<Answer>,
    /// Whether the next delta of an answer is the prompt.
    is_echo: Vec<bool>,
}

impl Answers {
    /// Space for `n` answers; the engine has checked that there are not too many.
    fn new(n: u32, echo: bool) -> Self {
        let answer = |index| Answer {
            index,
            ..Answer::default()
        };
        Self {
            answers: (0..n).map(answer).collect(),
            is_echo: (0..n).map(|_| echo).collect(),
        }
    }

    /// Adds an event to the answer it belongs to.
    fn add(&mut self, event: Event) {
        let index = match &event {
            Event::PromptLogprobs(prompt) => prompt.index,
            Event::Delta(delta) => delta.index,
            Event::Finished(finished) => finished.index,
        };
        let mut places = self.answers.iter_mut().zip(&mut self.is_echo);
        let Some((answer, is_echo)) = places.find(|(answer, _)| answer.index == index) else {
            return;
        };
        match event {
            Event::PromptLogprobs(prompt) => answer.prompt_logprobs = prompt.tokens,
            Event::Delta(delta) => {
                if std::mem::take(is_echo) {
                    answer.echoed = Echoed {
                        bytes: delta.text().len(),
                        tokens: delta.token_ids.len(),
                    };
                }
                answer.add(delta);
            }
            Event::Finished(finished) => answer.finished = Some(finished),
        }
    }
}

impl Answer {
    fn add(&mut self, delta: Delta) {
        match delta.part {
            Part::Text(text) => self.text.push_str(&text),
            Part::Reasoning(text) => self.reasoning.push_str(&text),
            Part::ToolCall {
                index,
                name,
                arguments_delta,
            } => {
                // Calls come one after the other.
                let index = usize::try_from(index).unwrap_or(usize::MAX);
                if index >= self.tool_calls.len() {
                    self.tool_calls.push(CalledTool::default());
                }
                if let Some(call) = self.tool_calls.last_mut() {
                    call.name.push_str(&name.unwrap_or_default());
                    call.arguments.push_str(&arguments_delta);
                }
            }
        }
        self.token_ids.extend(delta.token_ids);
        self.logprobs.extend(delta.logprobs);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use maitre_engine::{FinishReason, Matched, Timings, Usage};

    fn delta(index: u32, text: &str, id: u32) -> Event {
        Event::Delta(Delta {
            index,
            part: Part::Text(text.into()),
            token_ids: [id].as_slice().into(),
            ..Delta::default()
        })
    }

    fn finished(index: u32) -> Finished {
        Finished {
            index,
            reason: FinishReason::StopSequence,
            matched: Some(Matched::Text("END".into())),
            usage: Usage::default(),
            timings: Timings::default(),
        }
    }

    #[test]
    fn interleaved_events_become_whole_answers() {
        let mut answers = Answers::new(2, false);
        for event in [
            delta(1, "b", 5),
            delta(0, "x", 6),
            delta(1, "c", 7),
            Event::Finished(finished(1)),
        ] {
            answers.add(event);
        }
        let answers = answers.answers;
        assert_eq!((&*answers[0].text, &*answers[1].text), ("x", "bc"));
        assert_eq!(answers[1].token_ids, [5, 7]);
        assert_eq!(answers[0].finished, None);
        assert_eq!(answers[1].finished, Some(finished(1)));
    }

    #[test]
    fn token_ids_are_left_out_on_request() {
        assert_eq!(shown(delta(0, "x", 6), true), delta(0, "x", 6));
        let Event::Delta(delta) = shown(delta(0, "x", 6), false) else {
            panic!("not a delta");
        };
        assert_eq!((delta.text(), delta.token_ids.len()), ("x", 0));
    }

    #[test]
    fn parts_are_kept_apart() {
        let mut answers = Answers::new(1, true);
        let part = |part, id| {
            Event::Delta(Delta {
                part,
                token_ids: [id].as_slice().into(),
                ..Delta::default()
            })
        };
        let call = |index, name: Option<&str>, arguments: &str| Part::ToolCall {
            index,
            name: name.map(str::to_owned),
            arguments_delta: arguments.into(),
        };
        for event in [
            part(Part::Text("prompt".into()), 1),
            part(Part::Reasoning("hm".into()), 2),
            part(Part::Reasoning("m".into()), 3),
            part(Part::Text("yes".into()), 4),
            part(call(0, Some("add"), ""), 5),
            part(call(0, None, "{}"), 6),
            part(call(1, Some("sub"), "{\"a\":1}"), 7),
        ] {
            answers.add(event);
        }
        let answer = &answers.answers[0];
        assert_eq!((&*answer.text, &*answer.reasoning), ("promptyes", "hmm"));
        assert_eq!(
            answer.echoed,
            Echoed {
                bytes: 6,
                tokens: 1
            }
        );
        let called: Vec<_> = answer
            .tool_calls
            .iter()
            .map(|call| (&*call.name, &*call.arguments))
            .collect();
        assert_eq!(called, [("add", "{}"), ("sub", "{\"a\":1}")]);
        assert_eq!(answer.token_ids, [1, 2, 3, 4, 5, 6, 7]);
    }
}
