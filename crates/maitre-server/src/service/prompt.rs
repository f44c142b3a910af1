//! The tokens of a prompt, without a request for answers.

use std::time::SystemTime;

use maitre_engine::{ChatRequest, Engine, Input, TextError};

use crate::service::Service;
use crate::service::api_error::ApiError;
use crate::service::call::Call;
use crate::service::deadline::within;
use crate::service::request::ApiRequest;

impl Service {
    /// The tokens that the engine would begin with, of a request that it would take.
    ///
    /// # Errors
    ///
    /// What [`generate`](Self::generate) refuses before it looks at a queue.
    ///
    /// # Cancel safety
    ///
    /// Nothing is kept.
    pub(crate) async fn render(
        &self,
        mut call: Call,
        request: ApiRequest,
    ) -> Result<Vec<u32>, ApiError> {
        let engine = self.engine()?;
        self.check_model(&request.model)?;
        let ApiRequest {
            request,
            violations,
            ..
        } = request;
        within(call.deadline, call.take_turn()).await?;
        let checked = engine.check(request.clone()).await;
        if !violations.is_empty() {
            let all = violations.with_those_of(checked.err(), call.field_names);
            return Err(ApiError::invalid(all));
        }
        checked.map_err(|error| call.refused(error))?;
        let (engine, input) = (engine.clone(), request.input);
        match input {
            Input::Chat(chat) => self.tokenize_chat(call, String::new(), chat).await,
            Input::Tokens(ids) => Ok(ids),
            Input::Text(text) => {
                let bytes = text.len();
                let encode = move |engine: &Engine| {
                    let ids = engine.tokenizer().encode(&text);
                    ids.map_err(|error| ApiError::unusable("input.text", error.to_string()))
                };
                let offload = engine.offload().clone();
                let encoded = offload.run(bytes, move || encode(&engine)).await;
                encoded.map_err(|error| ApiError::internal(error.to_string()))?
            }
        }
    }

    /// The tokens of a conversation.
    ///
    /// # Errors
    ///
    /// The model is not served, or its chat template does not take the conversation.
    pub(crate) async fn tokenize_chat(
        &self,
        mut call: Call,
        model: String,
        mut chat: ChatRequest,
    ) -> Result<Vec<u32>, ApiError> {
        self.check_model(&model)?;
        if chat.messages.is_empty() {
            let description = "is empty; at least one message is needed";
            return Err(ApiError::unusable("messages", description));
        }
        if chat.now == SystemTime::UNIX_EPOCH {
            chat.now = SystemTime::now();
        }
        let engine = self.engine()?.clone();
        let offload = engine.offload().clone();
        let bytes = chat.size_in_bytes();
        let encoded = within(call.deadline, async {
            call.take_turn().await;
            // A template is a program: it never runs on a thread that serves the network.
            offload.away(bytes, move || encoded(&engine, &chat)).await
        });
        let encoded = encoded.await?;
        encoded.map_err(|error| ApiError::internal(error.to_string()))?
    }
}

fn encoded(engine: &Engine, chat: &ChatRequest) -> Result<Vec<u32>, ApiError> {
    let tokenizer = engine.tokenizer();
    tokenizer.encode_chat(chat).map_err(|error| {
        let field = match &error {
            TextError::NothingToContinue { .. } => Some("continue_final_message".to_owned()),
            TextError::ReservedTemplateArgument { .. } => Some("template_kwargs".to_owned()),
            _ => tokenizer.field_at_fault(chat, &error),
        };
        let field = field.unwrap_or_else(|| "messages".to_owned());
        ApiError::unusable(field, error.to_string())
    })
}
