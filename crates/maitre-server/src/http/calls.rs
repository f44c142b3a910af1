//! What happens to every HTTP call before and after the handler that answers it: the [`Service`] lets it in, what it
//! holds is charged, its outcome is known, and it has a name that its answer's headers tell. Probes are answered as
//! they come.

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Request, Response};
use hyper::body::{Body as HttpBody, Frame};
use hyper::service::Service as HyperService;
use hyper_util::service::TowerToHyperService;
use maitre_engine::byte_budget::ByteAccount;
use tokio::time::Instant;

use super::probes;
use super::request_id::{RequestName, X_REQUEST_ID};
use crate::connections::answer_body::{AnswerBody, AnswerEnd};
use crate::connections::request_body::RequestBody;
use crate::connections::streams::Streams;
use crate::service::Service;
use crate::service::admission::CallRecord;
use crate::service::api_error::ApiError;
use crate::service::call::Client;
use crate::service::outcome::Outcome;
use crate::service::registry::ConnectionState;
use crate::service::request_bytes::RequestBytes;
use crate::service::turns::Turns;
use crate::{Startup, openai};

/// What comes beside a call's message; a handler finds it among the request's extensions.
#[derive(Debug, Clone)]
pub(crate) struct Beside {
    pub(crate) name: RequestName,
    pub(crate) turns: Turns,
    /// What the message takes of the memory for requests: given back when the answer begins, unless a handler holds
    /// it longer.
    pub(crate) bytes: RequestBytes,
}

/// How a call ends, among the extensions of its response; without one it ends well.
#[derive(Debug, Clone)]
pub(crate) enum Ends {
    /// It is known with the status.
    Now(Outcome),
    /// It is known when the last event is written.
    Later(StreamEnd),
}

/// The end of a stream of events.
#[derive(Clone)]
pub(crate) struct StreamEnd {
    outcome: Arc<Mutex<Option<Outcome>>>,
    /// The last event of a stream that ends in this error.
    last: fn(&ApiError) -> Bytes,
}

impl StreamEnd {
    /// A stream that has not ended; `last` is what it says of an error of the server's.
    pub(crate) fn new(last: fn(&ApiError) -> Bytes) -> Self {
        Self {
            outcome: Arc::default(),
            last,
        }
    }

    /// The stream ends so.
    pub(crate) fn ends_as(&self, outcome: Outcome) {
        *self.outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
    }
}

impl fmt::Debug for StreamEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamEnd").finish_non_exhaustive()
    }
}

/// The calls of a server: cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Calls {
    probes: TowerToHyperService<Router>,
    openai: openai::Front,
    service: Service,
}

/// The calls of one connection.
#[derive(Debug)]
pub(crate) struct ConnectionCalls {
    calls: Calls,
    client: Client,
    streams: Streams,
}

impl Calls {
    /// Calls to the fronts of `service`, and probes of `startup`.
    pub(crate) fn new(service: &Service, startup: &Startup) -> Self {
        Self {
            probes: TowerToHyperService::new(probes::router(startup.clone())),
            openai: openai::Front::new(service),
            service: service.clone(),
        }
    }

    /// The service of a connection, and what knows the call that it is at.
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

fn named(mut response: Response<Body>, name: &RequestName) -> Response<Body> {
    if let Some(value) = name.header() {
        response.headers_mut().insert(X_REQUEST_ID, value);
    }
    response
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
        let (service, front) = (&self.calls.service, &self.calls.openai);
        let name = RequestName::of(request.headers());
        if probes::PATHS.contains(&request.uri().path()) {
            let answer = self.calls.probes.call(request.map(Body::new));
            return Box::pin(async move { answer.await.map(|response| named(response, &name)) });
        }
        let at_once = |error: ApiError, name: &RequestName| -> Answering {
            let response = named(openai::error::response(&error), name);
            Box::pin(async move { Ok(response) })
        };
        let method = front.method(request.method(), request.uri().path());
        let record = match service.admit(&self.client, method) {
            Ok(record) => record,
            Err(error) => return at_once(error, &name),
        };
        self.streams.begin(Arc::clone(&record.control));
        let account = service.answer_account();
        let bytes = match service.request_bytes() {
            Ok(bytes) => bytes,
            Err(error) => {
                let response = named(openai::error::response(&error), &name);
                return Box::pin(async move { Ok(finished(record, response, account)) });
            }
        };
        let due = arrival.checked_add(service.limits().request_timeout);
        request.extensions_mut().insert(Beside {
            name: name.clone(),
            turns: self.client.turns.clone(),
            bytes: bytes.clone(),
        });
        let held = bytes.clone();
        let request = request
            .map(|body| Body::new(RequestBody::new(body, bytes, &record, due, |it| it.into())));
        let answer = front.router.call(request);
        Box::pin(async move {
            let Ok(response) = answer.await;
            // Until now the request may have been in memory as it came.
            drop(held);
            record.answered();
            Ok(finished(record, named(response, &name), account))
        })
    }
}

/// The response with its body under observation until it ends or is dropped. A whole answer for which there is no
/// memory is refused while that can be said.
fn finished(
    mut record: CallRecord,
    mut response: Response<Body>,
    account: ByteAccount,
) -> Response<Body> {
    let ends = response.extensions_mut().remove::<Ends>();
    let whole = response.body().size_hint().exact();
    let mut stream = None;
    match ends {
        Some(Ends::Later(end)) => stream = Some(end),
        Some(Ends::Now(outcome)) => record.ends_as(outcome),
        None => match account.charge(whole.unwrap_or_default()) {
            Ok(_space) => record.ends_as(Outcome::of_number(0)),
            Err(spent) => {
                let error = ApiError::answer_bytes_spent(&spent);
                record.ends_as((&error).into());
                let name = response.headers_mut().remove(X_REQUEST_ID);
                response = openai::error::response(&error);
                response
                    .headers_mut()
                    .extend(name.map(|it| (X_REQUEST_ID, it)));
            }
        },
    }
    let control = Arc::clone(&record.control);
    let end = End { record, stream };
    response.map(|inner| Body::new(AnswerBody::new(inner, None, account, control, end)))
}

/// The end of a call; its record goes with the answer's body.
#[derive(Debug)]
struct End {
    record: CallRecord,
    stream: Option<StreamEnd>,
}

impl AnswerEnd for End {
    /// No answer of ours has trailers.
    fn ends(&mut self, _trailers: &HeaderMap) {}

    fn fails(&mut self, error: ApiError) -> Option<Frame<Bytes>> {
        self.record.ends_as((&error).into());
        let stream = self.stream.take()?;
        Some(Frame::data((stream.last)(&error)))
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let Some(stream) = &self.stream else { return };
        let outcome = *stream
            .outcome
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(outcome) = outcome {
            self.record.ends_as(outcome);
        }
    }
}
