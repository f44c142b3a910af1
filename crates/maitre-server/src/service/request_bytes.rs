//! What the bytes of a request take of the memory that all requests share.

use std::sync::{Arc, Mutex, PoisonError};

use maitre_engine::byte_budget::{ByteBudget, ByteCharge};

use crate::service::api_error::ApiError;

/// The bytes of one request: held by its body, and by its call until the answer begins. Clones are the same bytes.
#[derive(Debug, Clone)]
pub(crate) struct RequestBytes(Arc<Mutex<ByteCharge>>);

impl RequestBytes {
    /// None taken yet.
    pub(super) fn new(budget: &ByteBudget) -> Result<Self, ApiError> {
        let nothing = budget.account().charge(0);
        let charge = nothing.map_err(|spent| ApiError::request_bytes_spent(&spent))?;
        Ok(Self(Arc::new(Mutex::new(charge))))
    }

    /// Takes so many more; all that are taken.
    ///
    /// # Errors
    ///
    /// The budget has not enough left.
    pub(crate) fn grow(&self, bytes: u64) -> Result<u64, ApiError> {
        let mut charge = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let grown = charge.grow(bytes);
        grown.map_err(|spent| ApiError::request_bytes_spent(&spent))?;
        Ok(charge.bytes())
    }
}
