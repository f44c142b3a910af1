//! What happens to every gRPC call before and after the service that answers it: the [`Service`] lets it in, its
//! deadline is read and enforced, what it holds is charged, its outcome is known, and failures that the gRPC library
//! itself reports get the details that ours have. A call that comes before there is an engine is refused here, whatever
//! its message says.

use std::convert::Infallible;
use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use axum::body::Bytes;
use axum::http::{HeaderMap, Method as HttpMethod, Request, Response, StatusCode};
use hyper::body::{Body as HttpBody, Frame};
use hyper::service::Service as HyperService;
use hyper_util::service::TowerToHyperService;
use maitre_engine::byte_budget::ByteAccount;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::service::Routes;
use tonic::{Code, Status};

use super::methods::Methods;
use super::status;
use super::timeout::take_timeout;
use crate::connections::answer_body::{AnswerBody, AnswerEnd};
use crate::connections::request_body::RequestBody;
use crate::connections::streams::Streams;
use crate::service::Service;
use crate::service::admission::CallRecord;
use crate::service::api_error::ApiError;
use crate::service::call::Client;
use crate::service::deadline::{Deadline, within};
use crate::service::outcome::Outcome;
use crate::service::registry::ConnectionState;

#[cfg(test)]
mod tests;

/// The calls of a server: cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Calls {
    routes: TowerToHyperService<Routes>,
    methods: Arc<Methods>,
    pub(crate) service: Service,
}

/// The calls of one connection.
#[derive(Debug)]
pub(crate) struct ConnectionCalls {
    calls: Calls,
    client: Client,
    streams: Streams,
}

impl Calls {
    /// Calls that `routes` answer and `service` lets in.
    pub(crate) fn new(routes: Routes, methods: Methods, service: Service) -> Self {
        Self {
            routes: TowerToHyperService::new(routes.prepare()),
            methods: Arc::new(methods),
            service,
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
            client: Client::new(connection),
            streams: streams.clone(),
        };
        (calls, streams)
    }
}

type Answering = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

fn at_once(response: Response<Body>) -> Answering {
    Box::pin(async move { Ok(response) })
}

fn refusal(error: ApiError) -> Response<Body> {
    Status::from(error).into_http()
}

impl<B> HyperService<Request<B>> for ConnectionCalls
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
        let service = &self.calls.service;
        let method = self.calls.methods.of(request.uri().path());
        let class = method.class;
        let record = match service.admit(&self.client, method) {
            Ok(record) => record,
            Err(error) => return at_once(refusal(error)),
        };
        self.streams.begin(Arc::clone(&record.control));
        let account = service.answer_account();
        let (deadline, bytes) = match deadline_of(request.headers_mut(), arrival)
            .and_then(|deadline| Ok((deadline, service.request_bytes()?)))
        {
            Ok(begun) => begun,
            Err(error) => return at_once(finished(record, refusal(error), None, account)),
        };
        if let Some(deadline) = deadline {
            record.control.set_deadline(deadline.0);
            request.extensions_mut().insert(deadline);
        }
        let due = class
            .has_one_message()
            .then(|| arrival.checked_add(service.limits().request_timeout))
            .flatten();
        request.extensions_mut().insert(self.client.turns.clone());
        let held = bytes.clone();
        let refused = |error: ApiError| Status::from(error).into();
        let request = request.map(|body| RequestBody::new(body, bytes, &record, due, refused));
        let answer = self.calls.routes.call(request);
        Box::pin(async move {
            let response = match within(deadline, answer).await {
                Ok(Ok(response)) => response,
                Err(late) => refusal(late),
            };
            // Until now the request may have been in memory as it came.
            drop(held);
            record.answered();
            Ok(finished(record, response, deadline, account))
        })
    }
}

/// The deadline of a call that arrived then.
fn deadline_of(headers: &mut HeaderMap, arrival: Instant) -> Result<Option<Deadline>, ApiError> {
    // A deadline too far for the clock is none.
    let deadline = take_timeout(headers)?.and_then(|timeout| arrival.checked_add(timeout));
    if deadline.is_some_and(|deadline| deadline <= arrival) {
        return Err(ApiError::deadline_exceeded());
    }
    Ok(deadline.map(Deadline))
}

/// What anything but a POST gets; a CONNECT would otherwise become a tunnel.
fn not_a_call() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    response
}

/// The response with its body under observation until it ends or is dropped.
fn finished(
    record: CallRecord,
    response: Response<Body>,
    deadline: Option<Deadline>,
    account: ByteAccount,
) -> Response<Body> {
    let response = with_details(response);
    let control = Arc::clone(&record.control);
    let mut end = End(record);
    end.ends(response.headers());
    response.map(|inner| Body::new(AnswerBody::new(inner, deadline, account, control, end)))
}

/// A call ends with a status in its trailers, or in its headers if it has nothing else to say.
#[derive(Debug)]
struct End(CallRecord);

impl AnswerEnd for End {
    fn ends(&mut self, trailers: &HeaderMap) {
        if let Some(status) = Status::from_header_map(trailers) {
            self.0.ends_as(Outcome::of_number(status.code().into()));
        }
    }

    fn fails(&mut self, error: ApiError) -> Option<Frame<Bytes>> {
        self.0.ends_as((&error).into());
        let mut trailers = HeaderMap::new();
        if Status::from(error).add_header(&mut trailers).is_err() {
            tracing::warn!("a status could not be written");
        }
        Some(Frame::trailers(trailers))
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
    /// All calls are answered by `routes`, within the limits for tests and without an engine.
    pub(crate) fn for_tests(routes: Routes, methods: Methods) -> Self {
        Self::new(routes, methods.without_engine(), Service::for_tests())
    }
}
