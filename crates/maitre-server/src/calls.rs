//! What happens to every gRPC call before and after the service that answers it: its deadline is
//! read and enforced, the number of calls in progress and what they hold is bounded and known, its outcome is counted,
//! and failures that the gRPC library itself reports get the details that ours have. A call that comes
//! before there is an engine is refused here, whatever its message says.

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use axum::body::Bytes;
use axum::http::{HeaderMap, Method as HttpMethod, Request, Response, StatusCode};
use hyper::body::Body as HttpBody;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use maitre_engine::Engine;
use maitre_engine::byte_budget::{ByteAccount, ByteBudget};
use tokio::time::Instant;
use tonic::body::Body;
use tonic::service::Routes;
use tonic::{Code, Status};

use crate::connections::registry::ConnectionState;
use crate::connections::streams::Streams;
use crate::deadline::{Deadline, take_timeout};
use crate::methods::{Method, Methods};
use crate::service::call_control::{CallControl, Cut};
use crate::service::call_pools::{CallPools, Class, ConnectionShare};
use crate::service::limits::Limits;
use crate::service::turns::Turns;
use crate::{Startup, metrics, status};
use answer_body::AnswerBody;
use request_body::{RequestBody, RequestBytes, SharedSlot};

mod answer_body;
mod request_body;
#[cfg(test)]
mod tests;

/// The calls of a server: cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Calls {
    /// Health and reflection, which answer from the beginning.
    surroundings: TowerToHyperService<Routes>,
    api: Arc<ApiWhenReady>,
    methods: Arc<Methods>,
    limits: Limits,
    pub(crate) pools: Arc<CallPools>,
    request_bytes: ByteBudget,
    answer_bytes: ByteBudget,
}

/// What serves the calls of the API's own services.
#[derive(Debug)]
pub(crate) struct Api {
    routes: TowerToHyperService<Routes>,
    max_calls: usize,
}

impl Api {
    /// `max_calls`: calls for work at once; past it RESOURCE_EXHAUSTED. Those that ask or steer, health checks,
    /// watches and reflection have bounds of their own, so that a full server still says that it is well.
    pub(crate) fn new(routes: Routes, max_calls: usize) -> Self {
        Self {
            routes: TowerToHyperService::new(routes.prepare()),
            max_calls,
        }
    }
}

/// The API, made by the first call after there is an engine.
pub(crate) struct ApiWhenReady {
    made: OnceLock<Api>,
    startup: Startup,
    make: Box<dyn Fn(Engine) -> Api + Send + Sync>,
}

impl ApiWhenReady {
    pub(crate) fn new(
        startup: Startup,
        make: impl Fn(Engine) -> Api + Send + Sync + 'static,
    ) -> Self {
        Self {
            made: OnceLock::new(),
            startup,
            make: Box::new(make),
        }
    }

    /// The API; its places for work are then in `pools`.
    fn get(&self, pools: &CallPools) -> Option<&Api> {
        if let Some(made) = self.made.get() {
            return Some(made);
        }
        let engine = self.startup.engine()?;
        Some(self.made.get_or_init(|| {
            let api = (self.make)(engine);
            pools.set_max_calls(api.max_calls);
            api
        }))
    }
}

impl fmt::Debug for ApiWhenReady {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ApiWhenReady")
            .field("startup", &self.startup)
            .finish_non_exhaustive()
    }
}

/// The calls of one connection.
#[derive(Debug)]
pub(crate) struct ConnectionCalls {
    calls: Calls,
    connection: Arc<ConnectionState>,
    share: Arc<ConnectionShare>,
    turns: Turns,
    streams: Streams,
}

impl Calls {
    /// `answer_bytes` is what answers take, under way or whole.
    pub(crate) fn new(
        surroundings: Routes,
        methods: Methods,
        api: ApiWhenReady,
        limits: Limits,
        answer_bytes: ByteBudget,
    ) -> Self {
        Self {
            surroundings: TowerToHyperService::new(surroundings.prepare()),
            api: Arc::new(api),
            methods: Arc::new(methods),
            pools: Arc::new(CallPools::new(limits.max_connections)),
            request_bytes: ByteBudget::new(limits.request_bytes()),
            answer_bytes,
            limits,
        }
    }

    /// The service of a connection, and the executor of its tasks.
    pub(crate) fn on_connection(
        &self,
        connection: Arc<ConnectionState>,
    ) -> (ConnectionCalls, Streams) {
        let streams = Streams::default();
        let calls = ConnectionCalls {
            calls: self.clone(),
            connection,
            share: Arc::default(),
            turns: Turns::default(),
            streams: streams.clone(),
        };
        (calls, streams)
    }

    /// Resolves when no call of the API's own services is in progress.
    pub(crate) async fn idle(&self) {
        self.pools.idle().await;
    }

    /// The bytes of requests, and those of answers, that are held for clients.
    pub(crate) fn held(&self) -> (ByteBudget, ByteBudget) {
        (self.request_bytes.clone(), self.answer_bytes.clone())
    }
}

impl ConnectionCalls {
    /// Takes a place for a call and says which routes answer it, or says why there is none.
    fn begin(&self, method: Method) -> Result<Begun<'_>, Box<Status>> {
        let (class, needs_engine) = (method.class, method.needs_engine);
        let control = Arc::new(CallControl::new(self.calls.limits.stall_timeout));
        let mut record = Record {
            method,
            started: Instant::now(),
            code: Code::Cancelled,
            control: Arc::clone(&control),
            connection: Arc::clone(&self.connection),
            place: SharedSlot::default(),
        };
        if !class.stays() {
            self.connection.call_began();
        }
        let refused = |record: &mut Record, status: Status| {
            record.code = status.code();
            Box::new(status)
        };
        if self.connection.is_reserve && class != Class::Health {
            let limit = self.calls.limits.max_connections;
            return Err(refused(&mut record, status::too_many_connections(limit)));
        }
        let routes = if needs_engine {
            let Some(api) = self.calls.api.get(&self.calls.pools) else {
                let health = self.calls.api.startup.health();
                return Err(refused(&mut record, status::loading(&health.reason)));
            };
            &api.routes
        } else {
            &self.calls.surroundings
        };
        match self.calls.pools.enter(class, &self.share, &control) {
            Ok(place) => {
                *lock(&record.place) = Some(place);
                if class.counts() {
                    metrics::call_began();
                }
                Ok(Begun {
                    record,
                    control,
                    routes,
                })
            }
            Err(refusal) => Err(refused(&mut record, status::refused_call(class, refusal))),
        }
    }
}

/// A call with a place.
struct Begun<'calls> {
    record: Record,
    control: Arc<CallControl>,
    routes: &'calls TowerToHyperService<Routes>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

type Answering = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

fn at_once(response: Response<Body>) -> Answering {
    Box::pin(async move { Ok(response) })
}

impl<B> Service<Request<B>> for ConnectionCalls
where
    B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answering;

    fn call(&self, mut request: Request<B>) -> Answering {
        let arrival = Instant::now();
        if request.method() != HttpMethod::POST {
            return at_once(not_a_call());
        }
        let method = self.calls.methods.of(request.uri().path());
        let class = method.class;
        let Begun {
            record,
            control,
            routes,
        } = match self.begin(method) {
            Ok(begun) => begun,
            Err(status) => return at_once(status.into_http()),
        };
        self.streams.begin(Arc::clone(&control));
        let account = self.calls.answer_bytes.account();
        let deadline = match take_timeout(request.headers_mut()) {
            // A deadline too far for the clock is none.
            Ok(timeout) => timeout.and_then(|timeout| arrival.checked_add(timeout)),
            Err(malformed) => {
                let refused = status::malformed_header("grpc-timeout", malformed.to_string());
                return at_once(record.finish(refused.into_http(), None, account));
            }
        };
        if deadline.is_some_and(|deadline| deadline <= arrival) {
            let late = status::deadline_exceeded().into_http();
            return at_once(record.finish(late, None, account));
        }
        let bytes = match RequestBytes::new(&self.calls.request_bytes) {
            Ok(bytes) => bytes,
            Err(spent) => return at_once(record.finish(spent.into_http(), None, account)),
        };
        if let Some(deadline) = deadline {
            control.set_deadline(deadline);
            request.extensions_mut().insert(Deadline(deadline));
        }
        let due = class
            .has_one_message()
            .then(|| arrival.checked_add(self.calls.limits.request_timeout))
            .flatten();
        request.extensions_mut().insert(self.turns.clone());
        let held = bytes.clone();
        let place = Arc::clone(&record.place);
        let request = request.map(|body| RequestBody::new(body, bytes, control, place, due));
        let answer = routes.call(request);
        Box::pin(async move {
            let Ok(response) = match deadline {
                None => answer.await,
                Some(deadline) => tokio::time::timeout_at(deadline, answer)
                    .await
                    .unwrap_or_else(|_elapsed| Ok(status::deadline_exceeded().into_http())),
            };
            // Until now the request may have been in memory as it came.
            drop(held);
            if class.is_answered_at_once()
                && let Some(place) = lock(&record.place).as_mut()
            {
                place.answered();
            }
            Ok(record.finish(response, deadline, account))
        })
    }
}

/// What anything but a POST gets; a CONNECT would otherwise become a tunnel.
fn not_a_call() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    response
}

/// One call in progress; its drop is the call's end.
#[derive(Debug)]
struct Record {
    method: Method,
    started: Instant,
    /// Cancelled until the call says otherwise: the caller went away.
    code: Code,
    control: Arc<CallControl>,
    connection: Arc<ConnectionState>,
    place: SharedSlot,
}

impl Record {
    /// The response with its body under observation until it ends or is dropped.
    fn finish(
        mut self,
        response: Response<Body>,
        deadline: Option<Instant>,
        account: ByteAccount,
    ) -> Response<Body> {
        let response = with_details(response);
        self.learn(response.headers());
        let control = Arc::clone(&self.control);
        response.map(|inner| Body::new(AnswerBody::new(inner, deadline, account, control, self)))
    }

    fn learn(&mut self, headers: &HeaderMap) {
        if let Some(status) = Status::from_header_map(headers) {
            self.code = status.code();
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if lock(&self.place).take().is_some() && self.method.class.counts() {
            metrics::call_left();
        }
        if !self.method.class.stays() {
            self.connection.call_ended();
        }
        let code = match self.control.cut() {
            None => self.code,
            Some(Cut::Stalled | Cut::Displaced) => Code::ResourceExhausted,
            Some(Cut::Deadline) => Code::DeadlineExceeded,
        };
        let is_refused = code == Code::ResourceExhausted;
        self.connection.call_over(is_refused);
        metrics::call_ended(&self.method, code, self.started.elapsed());
    }
}

/// Statuses without details come from the library; they get the same as ours have.
fn with_details(response: Response<Body>) -> Response<Body> {
    let headers = response.headers();
    if headers.contains_key(Status::GRPC_STATUS_DETAILS) {
        return response;
    }
    match Status::from_header_map(headers) {
        Some(status) if status.code() != Code::Ok => status::from_library(status).into_http(),
        _ => response,
    }
}

#[cfg(test)]
impl Calls {
    /// All calls are answered by `routes`, within the limits for tests.
    pub(crate) fn for_tests(routes: Routes, methods: Methods) -> Self {
        let limits = Limits::for_tests();
        let api = ApiWhenReady {
            made: OnceLock::from(Api::new(routes.clone(), 0)),
            startup: Startup::new("a test"),
            make: Box::new(|_engine| unreachable!("it is made already")),
        };
        let answer_bytes = ByteBudget::new(limits.answer_bytes);
        let calls = Self::new(routes, methods, api, limits, answer_bytes);
        calls
            .pools
            .set_max_calls(limits.max_calls.unwrap_or_default());
        calls
    }
}
