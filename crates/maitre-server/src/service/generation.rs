//! From a request to its answers.

use maitre_engine::Engine;

use crate::service::Service;
use crate::service::answer::{AnswerStream, Wanted};
use crate::service::api_error::ApiError;
use crate::service::call::Call;
use crate::service::deadline::within;
use crate::service::request::ApiRequest;

impl Service {
    /// Submits what can run; of what can't, says everything that is wrong, in the field names of the caller's message.
    ///
    /// # Errors
    ///
    /// There is no engine yet; the model, the tenant or a field of the request is wrong; a queue is full; the deadline
    /// passed.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it resolves, nothing is submitted. Dropping the answer cancels the request.
    pub(crate) async fn generate(
        &self,
        mut call: Call,
        request: ApiRequest,
    ) -> Result<AnswerStream, ApiError> {
        let engine = self.engine()?;
        self.check_model(&request.model)?;
        let deadline = call.deadline;
        within(deadline, async {
            // Held until the engine has the request: it works on it, too.
            call.take_turn().await;
            self.submit(engine, &call, request).await
        })
        .await?
    }

    async fn submit(
        &self,
        engine: &Engine,
        call: &Call,
        request: ApiRequest,
    ) -> Result<AnswerStream, ApiError> {
        let ApiRequest {
            mut request,
            token_ids,
            violations,
            ..
        } = request;
        if call.deadline.is_some_and(|it| it.remaining().is_zero()) {
            return Err(ApiError::deadline_exceeded());
        }
        call.complete(&mut request)?;
        if !violations.is_empty() {
            let refusal = engine.check(request).await.err();
            let all = violations.with_those_of(refusal, call.field_names);
            return Err(ApiError::invalid(all));
        }
        let wanted = Wanted {
            n: request.n,
            token_ids,
            echo: request.output.echo,
        };
        let generation = engine.generate(request).await;
        let generation = generation.map_err(|error| call.refused(error))?;
        Ok(AnswerStream::new(generation, self.answer_account(), wanted))
    }
}
