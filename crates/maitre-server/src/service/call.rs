//! One call as every protocol has it: on whose account, until when, under which name, for which client.

use std::sync::Arc;

use maitre_engine::{EngineError, GenerateRequest};
use tokio::sync::OwnedSemaphorePermit;

use crate::service::api_error::ApiError;
use crate::service::call_pools::ConnectionShare;
use crate::service::deadline::Deadline;
use crate::service::registry::ConnectionState;
use crate::service::turns::Turns;

/// A client, which is one connection: what it has of what all share. Clones are the same client.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    pub(crate) connection: Arc<ConnectionState>,
    /// Its calls in progress.
    pub(crate) share: Arc<ConnectionShare>,
    /// Its requests that are worked on before the engine has them.
    pub(crate) turns: Turns,
}

impl Client {
    /// The client of a connection, with nothing yet.
    pub(crate) fn new(connection: Arc<ConnectionState>) -> Self {
        Self {
            connection,
            share: Arc::default(),
            turns: Turns::default(),
        }
    }
}

/// How the messages of a protocol name a field of the engine's request: from its path there to its path here.
pub(crate) type FieldNames = fn(&str) -> String;

/// A call to the service, made by a front from what came beside the message (headers, connection, credential).
#[derive(Debug)]
pub(crate) struct Call {
    /// The tenant that the caller's credential stands for; `None` = the request says it.
    pub(crate) tenant: Option<String>,
    /// When the caller stops waiting.
    pub(crate) deadline: Option<Deadline>,
    /// The request's name, where the message has none.
    pub(crate) request_id: Option<String>,
    pub(crate) turns: Turns,
    pub(crate) field_names: FieldNames,
    turn: Option<OwnedSemaphorePermit>,
}

impl Call {
    /// A call of a client that takes turns, by a protocol that names fields so. It has neither deadline nor credential.
    pub(crate) fn new(turns: Turns, field_names: FieldNames) -> Self {
        Self {
            tenant: None,
            deadline: None,
            request_id: None,
            turns,
            field_names,
            turn: None,
        }
    }

    /// Waits until it is this call's turn among those of its client; held until the call is dropped.
    pub(crate) async fn take_turn(&mut self) {
        if self.turn.is_none() {
            self.turn = self.turns.turn().await;
        }
    }

    /// The tenant of a request that claims to be `claimed`'s; empty = it claims nothing.
    ///
    /// # Errors
    ///
    /// The caller's credential stands for another tenant.
    pub(crate) fn tenant(&self, claimed: String) -> Result<String, ApiError> {
        match &self.tenant {
            Some(own) if claimed.is_empty() => Ok(own.clone()),
            Some(own) if *own != claimed => Err(ApiError::other_tenant(own)),
            _ => Ok(claimed),
        }
    }

    /// The request with what the call says of it: tenant, name, and the earlier of both deadlines.
    pub(crate) fn complete(&self, request: &mut GenerateRequest) -> Result<(), ApiError> {
        let service = &mut request.service;
        service.tenant = self.tenant(std::mem::take(&mut service.tenant))?;
        let of_call = self.deadline.and_then(Deadline::remaining_for_the_engine);
        service.deadline = service.deadline.into_iter().chain(of_call).min();
        if request.request_id.is_none() {
            request.request_id.clone_from(&self.request_id);
        }
        Ok(())
    }

    /// The engine's refusal, its fields named as the caller knows them.
    pub(crate) fn refused(&self, error: EngineError) -> ApiError {
        match error {
            EngineError::Invalid { mut violations } => {
                for violation in &mut violations {
                    violation.field = (self.field_names)(&violation.field);
                }
                ApiError::invalid(violations)
            }
            other => other.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use maitre_engine::Input;
    use maitre_engine::limits::MAX_TIME_LIMIT_S;
    use tokio::time::Instant;

    use super::*;
    use crate::service::api_error::Kind;

    fn call() -> Call {
        Call::new(Turns::default(), str::to_owned)
    }

    fn completed(call: &Call, change: impl FnOnce(&mut GenerateRequest)) -> GenerateRequest {
        let mut request = GenerateRequest::new(Input::Text(String::new()));
        change(&mut request);
        call.complete(&mut request).unwrap();
        request
    }

    /// In whole seconds, rounded up: a little of a call's deadline has passed when it is read.
    #[test]
    fn the_earlier_of_the_two_deadlines_holds() {
        let with = |own: Option<u64>, of_call: Option<u64>| {
            let mut call = call();
            call.deadline =
                of_call.map(|left| Deadline(Instant::now() + Duration::from_secs(left)));
            let request = completed(&call, |request| {
                request.service.deadline = own.map(Duration::from_secs);
            });
            let left = request.service.deadline;
            left.map(|left| left.as_secs_f64().ceil() as u64)
        };
        assert_eq!(with(None, None), None);
        assert_eq!(with(Some(5), None), Some(5));
        assert_eq!(with(None, Some(7)), Some(7));
        assert_eq!(with(Some(5), Some(7)), Some(5));
        assert_eq!(with(Some(9), Some(7)), Some(7));
        assert_eq!(with(None, Some(MAX_TIME_LIMIT_S + 1)), None);
    }

    #[test]
    fn a_credential_decides_the_tenant() {
        let mut call = call();
        assert_eq!(call.tenant("a".into()), Ok("a".into()));
        assert_eq!(call.tenant(String::new()), Ok(String::new()));
        call.tenant = Some("a".into());
        assert_eq!(call.tenant("a".into()), Ok("a".into()));
        assert_eq!(call.tenant(String::new()), Ok("a".into()));
        let refused = call.tenant("b".into()).unwrap_err();
        assert_eq!(
            (refused.kind, refused.reason),
            (Kind::Forbidden, "OTHER_TENANT")
        );
    }

    #[test]
    fn a_request_has_its_own_name_before_the_calls() {
        let mut call = call();
        assert_eq!(completed(&call, |_| {}).request_id, None);
        call.request_id = Some("call".into());
        assert_eq!(completed(&call, |_| {}).request_id, Some("call".into()));
        let own = completed(&call, |request| request.request_id = Some("own".into()));
        assert_eq!(own.request_id, Some("own".into()));
    }
}
