//! From the prompts of one call to their answers.
//!
//! Each prompt is a request of its own. So many of them as make a full batch are with the engine at a time; a further
//! one follows when an answer before it is complete. So a call with a thousand prompts does not fill the queue that all
//! clients share.

use std::pin::Pin;

use futures_core::Stream;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use maitre_engine::Event;

use super::names::{Names, engine_names};
use crate::service::Service;
use crate::service::answer::{Answer, AnswerStream};
use crate::service::api_error::ApiError;
use crate::service::call::Call;
use crate::service::request::ApiRequest;
use crate::service::turns::Turns;

/// The prompts of one call: those that the engine has, and those that follow.
pub(super) struct Generations {
    begun: Vec<AnswerStream>,
    rest: Vec<ApiRequest>,
    at_once: usize,
    submit: Submit,
}

/// What it takes to submit a prompt.
#[derive(Clone)]
struct Submit {
    service: Service,
    turns: Turns,
    names: Names,
}

impl Submit {
    async fn submit(
        self,
        call: Option<Call>,
        prompt: usize,
        request: ApiRequest,
    ) -> Result<AnswerStream, ApiError> {
        let call = call.unwrap_or_else(|| Call::new(self.turns.clone(), engine_names));
        let submitted = self.service.generate(call, request).await;
        submitted.map_err(|error| self.names.rename(error, prompt))
    }
}

/// The events of all prompts, each with the number of its prompt.
pub(super) type Events = Pin<Box<dyn Stream<Item = Result<(usize, Event), ApiError>> + Send>>;

impl Generations {
    /// Submits the first prompts; `call` has read them.
    ///
    /// # Errors
    ///
    /// One of them is refused; then none is run.
    pub(super) async fn begin(
        service: &Service,
        call: Call,
        requests: Vec<ApiRequest>,
        names: Names,
    ) -> Result<Self, ApiError> {
        let submit = Submit {
            service: service.clone(),
            turns: call.turns.clone(),
            names,
        };
        let n = requests.first().map_or(1, |it| it.request.n.max(1));
        let n = usize::try_from(n).unwrap_or(usize::MAX);
        let at_once = (service.info()?.limits.max_seqs / n).max(1);
        let (mut begun, mut rest) = (Vec::new(), requests.into_iter());
        let mut call = Some(call);
        for (prompt, request) in rest.by_ref().take(at_once).enumerate() {
            let submit = submit.clone();
            begun.push(submit.submit(call.take(), prompt, request).await?);
        }
        Ok(Self {
            begun,
            rest: rest.collect(),
            at_once,
            submit,
        })
    }

    /// Whether all prompts are with the engine.
    pub(super) fn all_begun(&self) -> bool {
        self.rest.is_empty()
    }

    /// The whole answers to all prompts, in their order.
    ///
    /// # Errors
    ///
    /// One of them failed; the others are cancelled.
    pub(super) async fn whole(self) -> Result<Vec<Vec<Answer>>, ApiError> {
        let submit = self.submit;
        let first = self.begun.len();
        let begun = self.begun.into_iter().map(Ok);
        let rest = self.rest.into_iter().zip(first..).map(Err);
        stream::iter(begun.chain(rest))
            .map(|prompt| {
                let submit = submit.clone();
                async move {
                    let answers = match prompt {
                        Ok(begun) => begun,
                        Err((request, prompt)) => submit.submit(None, prompt, request).await?,
                    };
                    answers.whole().await
                }
            })
            .buffered(self.at_once)
            .try_collect()
            .await
    }

    /// The events of all prompts as they happen, once there is one: a failure before it is the failure of the call.
    ///
    /// # Errors
    ///
    /// A request failed before the first event.
    pub(super) async fn events(mut self) -> Result<Events, ApiError> {
        if self.rest.is_empty() && self.begun.len() == 1 {
            // The usual case, which needs no more than the stream itself.
            let answers = self.begun.remove(0).begun().await?;
            return Ok(Box::pin(answers.map_ok(|event| (0, event))));
        }
        let submit = self.submit;
        let first = self.begun.len();
        let begun = self.begun.into_iter().enumerate().map(|(prompt, answers)| {
            let events: Events = Box::pin(answers.map_ok(move |event| (prompt, event)));
            events
        });
        let rest = self
            .rest
            .into_iter()
            .zip(first..)
            .map(move |(request, prompt)| {
                let answers = submit.clone().submit(None, prompt, request);
                let events = stream::once(answers).try_flatten();
                let events: Events = Box::pin(events.map_ok(move |event| (prompt, event)));
                events
            });
        let mut events =
            stream::iter(begun.chain(rest).collect::<Vec<_>>()).flatten_unordered(self.at_once);
        let first = events.next().await.transpose()?;
        let first = stream::iter(first.map(Ok));
        Ok(Box::pin(first.chain(events)))
    }
}
