//! What comes of a request: events as they happen, or whole answers.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use futures_util::StreamExt as _;
use maitre_engine::byte_budget::{ByteAccount, ByteCharge};
use maitre_engine::{Event, Finished, Generation, TokenLogprob};

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
}

/// One whole answer.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) index: u32,
    pub(crate) text: String,
    /// Empty unless the caller wants them.
    pub(crate) token_ids: Vec<u32>,
    pub(crate) logprobs: Vec<TokenLogprob>,
    pub(crate) prompt_logprobs: Vec<TokenLogprob>,
    /// How it ended; there once it is complete.
    pub(crate) finished: Option<Finished>,
}

impl AnswerStream {
    pub(super) fn new(generation: Generation, account: ByteAccount, n: u32, ids: bool) -> Self {
        Self {
            generation,
            first: None,
            account,
            n,
            token_ids: ids,
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
        let mut answers = Answers::new(self.n);
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
        Ok(answers.0)
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
        delta.token_ids = Vec::new();
    }
    event
}

/// Whole answers, put together from the events of a stream.
struct Answers(Vec<Answer>);

impl Answers {
    /// Space for `n` answers; the engine has checked that there are not too many.
    fn new(n: u32) -> Self {
        let answer = |index| Answer {
            index,
            ..Answer::default()
        };
        Self((0..n).map(answer).collect())
    }

    /// Adds an event to the answer it belongs to.
    fn add(&mut self, event: Event) {
        let index = match &event {
            Event::PromptLogprobs(prompt) => prompt.index,
            Event::Delta(delta) => delta.index,
            Event::Finished(finished) => finished.index,
        };
        let Some(answer) = self.0.iter_mut().find(|answer| answer.index == index) else {
            return;
        };
        match event {
            Event::PromptLogprobs(prompt) => answer.prompt_logprobs = prompt.tokens,
            Event::Delta(delta) => {
                answer.text.push_str(delta.text());
                answer.token_ids.extend(delta.token_ids);
                answer.logprobs.extend(delta.logprobs);
            }
            Event::Finished(finished) => answer.finished = Some(finished),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use maitre_engine::{Delta, FinishReason, Matched, Part, Timings, Usage};

    fn delta(index: u32, text: &str, id: u32) -> Event {
        Event::Delta(Delta {
            index,
            part: Part::Text(text.into()),
            token_ids: vec![id],
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
        let mut answers = Answers::new(2);
        for event in [
            delta(1, "b", 5),
            delta(0, "x", 6),
            delta(1, "c", 7),
            Event::Finished(finished(1)),
        ] {
            answers.add(event);
        }
        let Answers(answers) = answers;
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
}
