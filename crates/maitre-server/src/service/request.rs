//! A request as a front hands it over.

use maitre_engine::GenerateRequest;

use crate::service::violations::Violations;

/// A request for answers, in the engine's terms, and what its front found wrong with the message it came in.
#[derive(Debug)]
pub(crate) struct ApiRequest {
    /// The model asked for; empty = whichever there is.
    pub(crate) model: String,
    /// To be run only if there are no violations.
    pub(crate) request: GenerateRequest,
    /// Whether the caller wants token ids beside the text.
    pub(crate) token_ids: bool,
    /// What is wrong, as far as the front can tell, in the field names of its message.
    pub(crate) violations: Violations,
}
