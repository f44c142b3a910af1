//! What every protocol of this server shares: whether there is an engine, who may call it, on whose account, until
//! when, with how much of the shared resources, and what is said when something is wrong.
//!
//! A front is three steps: it decodes its message into an [`ApiRequest`](request::ApiRequest), calls
//! [`Service`], and encodes what comes of it, an [`AnswerStream`](answer::AnswerStream) or an
//! [`ApiError`]. Before that it has the call let in by [`Service::admit`], and holds the record
//! until the last byte of the answer is written.
//!
//! *Architecture invariant:* nothing here names a protocol or a library of one (`xtask/tests/protocols.rs`), and
//! nothing here knows a front. Limits, tenants, deadlines and errors are decided here, once.

pub(crate) mod admission;
pub(crate) mod answer;
pub(crate) mod api_error;
pub(crate) mod cache_events;
pub(crate) mod call;
pub(crate) mod call_control;
pub(crate) mod call_ids;
pub(crate) mod call_pools;
pub(crate) mod deadline;
pub(crate) mod generation;
pub(crate) mod limits;
pub(crate) mod outcome;
pub(crate) mod prompt;
pub(crate) mod refusals;
pub(crate) mod registry;
pub(crate) mod request;
pub(crate) mod request_bytes;
pub(crate) mod size;
pub(crate) mod startup;
pub(crate) mod text;
pub(crate) mod turns;
pub(crate) mod violations;

#[cfg(test)]
mod tests;

use std::sync::{Arc, OnceLock};

use maitre_engine::byte_budget::{ByteAccount, ByteBudget};
use maitre_engine::{Engine, EngineInfo};

use crate::Startup;
use api_error::ApiError;
use call::Call;
use call_pools::CallPools;
use limits::Limits;

/// The service of a server. Clones are handles to the same one.
#[derive(Debug, Clone)]
pub(crate) struct Service(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    startup: Startup,
    ready: OnceLock<Ready>,
    limits: Limits,
    pools: Arc<CallPools>,
    /// Memory for requests under way.
    request_bytes: ByteBudget,
    /// Memory for answers, under way or whole.
    answer_bytes: ByteBudget,
}

/// What there is from the first call on that finds an engine.
#[derive(Debug)]
struct Ready {
    engine: Engine,
    max_calls: usize,
}

impl Service {
    /// The service of the engine that comes through `startup`.
    pub(crate) fn new(startup: Startup, limits: Limits) -> Self {
        Self(Arc::new(Shared {
            startup,
            ready: OnceLock::new(),
            limits,
            pools: Arc::new(CallPools::new(limits.max_connections)),
            request_bytes: ByteBudget::new(limits.request_bytes()),
            answer_bytes: ByteBudget::new(limits.answer_bytes),
        }))
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// The engine.
    ///
    /// # Errors
    ///
    /// There is none yet; the error says what is done about it.
    pub(crate) fn engine(&self) -> Result<&Engine, ApiError> {
        Ok(&self.ready()?.engine)
    }

    /// What was built: the model, its limits and its memory.
    ///
    /// # Errors
    ///
    /// As [`engine`](Self::engine).
    pub(crate) fn info(&self) -> Result<&EngineInfo, ApiError> {
        Ok(self.engine()?.info())
    }

    /// Calls for work that may be in progress at once.
    ///
    /// # Errors
    ///
    /// As [`engine`](Self::engine).
    pub(crate) fn max_calls(&self) -> Result<usize, ApiError> {
        Ok(self.ready()?.max_calls)
    }

    fn ready(&self) -> Result<&Ready, ApiError> {
        let shared = &self.0;
        if let Some(ready) = shared.ready.get() {
            return Ok(ready);
        }
        let Some(engine) = shared.startup.engine() else {
            return Err(ApiError::loading(&shared.startup.health().reason));
        };
        Ok(shared.ready.get_or_init(|| {
            let max_calls = shared.limits.max_calls(&engine.info().limits);
            shared.pools.set_max_calls(max_calls);
            Ready { engine, max_calls }
        }))
    }

    /// Whether `asked` is served here; empty = whichever there is.
    ///
    /// # Errors
    ///
    /// It is not.
    pub(crate) fn check_model(&self, asked: &str) -> Result<(), ApiError> {
        let served = &self.info()?.model;
        if asked.is_empty() || asked == served {
            return Ok(());
        }
        Err(ApiError::unknown_model(asked, served))
    }

    /// Works on a request of so many bytes when it is the call's turn; on a large one away from the threads that serve
    /// the network. The call keeps its turn.
    ///
    /// # Errors
    ///
    /// What `work` says; or there is no engine; or the deadline passed.
    ///
    /// # Cancel safety
    ///
    /// Dropped while it waits, nothing is done; dropped later, what comes of it is lost.
    pub(crate) async fn work<T: Send + 'static>(
        &self,
        call: &mut Call,
        bytes: usize,
        work: impl FnOnce(&Engine) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let engine = self.engine()?;
        let worked = deadline::within(call.deadline, async {
            call.take_turn().await;
            let own = engine.clone();
            engine.offload().run(bytes, move || work(&own)).await
        });
        let worked = worked.await?;
        worked.map_err(|error| ApiError::internal(error.to_string()))?
    }

    /// Ends a request in flight. False: there is no such request of this tenant.
    ///
    /// # Errors
    ///
    /// The request is not named, or belongs to another tenant than the caller.
    pub(crate) fn abort(
        &self,
        call: &Call,
        tenant: String,
        request_id: &str,
    ) -> Result<bool, ApiError> {
        if request_id.is_empty() {
            let description = "is empty; name the request to end";
            return Err(ApiError::unusable("request_id", description));
        }
        let tenant = call.tenant(tenant)?;
        Ok(self.engine()?.abort(&tenant, request_id))
    }

    /// Forgets all prefixes that nothing uses; their number in blocks.
    ///
    /// # Errors
    ///
    /// What the engine says.
    pub(crate) async fn reset_prefix_cache(&self) -> Result<usize, ApiError> {
        Ok(self.engine()?.reset_prefix_cache().await?)
    }

    /// An account for what one answer takes.
    pub(crate) fn answer_account(&self) -> ByteAccount {
        self.0.answer_bytes.account()
    }

    /// The bytes of requests, and those of answers, that are held for clients.
    pub(crate) fn held(&self) -> (ByteBudget, ByteBudget) {
        (self.0.request_bytes.clone(), self.0.answer_bytes.clone())
    }

    /// Resolves when no call is in progress that a drain waits for.
    pub(crate) async fn idle(&self) {
        self.0.pools.idle().await;
    }
}

#[cfg(test)]
impl Service {
    /// A service within the limits for tests, with places for work and without an engine.
    pub(crate) fn for_tests() -> Self {
        let limits = Limits::for_tests();
        let service = Self::new(Startup::new("a test"), limits);
        let max_calls = limits.max_calls.unwrap_or_default();
        service.0.pools.set_max_calls(max_calls);
        service
    }
}
