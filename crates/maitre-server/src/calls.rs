//! What happens to every gRPC call before and after the service that answers it: its deadline is
//! read and enforced, the number of calls in progress is bounded and known, its outcome is counted,
//! and failures that the gRPC library itself reports get the details that ours have. A call that comes
//! before there is an engine is refused here, whatever its message says.

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use axum::body::Bytes;
use axum::http::{HeaderMap, Request, Response};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use maitre_engine::Engine;
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::service::Routes;
use tonic::{Code, Status};

use crate::deadline::{Deadline, take_timeout};
use crate::methods::{Method, Methods};
use crate::{Startup, metrics, status};

/// The service of a connection: cheap to clone, one per connection.
#[derive(Debug, Clone)]
pub(crate) struct Calls {
    /// Health and reflection, which answer from the beginning.
    surroundings: TowerToHyperService<Routes>,
    api: Arc<ApiWhenReady>,
    methods: Arc<Methods>,
    in_progress: Arc<watch::Sender<usize>>,
}

/// What serves the calls of the API's own services.
#[derive(Debug)]
pub(crate) struct Api {
    routes: TowerToHyperService<Routes>,
    max_in_progress: usize,
}

impl Api {
    /// `max_in_progress`: calls of the API's own services at once; past it RESOURCE_EXHAUSTED.
    /// Health checks and reflection are outside this bound, so a full server still says that it is well.
    pub(crate) fn new(routes: Routes, max_in_progress: usize) -> Self {
        Self {
            routes: TowerToHyperService::new(routes.prepare()),
            max_in_progress,
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

    fn get(&self) -> Option<&Api> {
        if let Some(made) = self.made.get() {
            return Some(made);
        }
        let engine = self.startup.engine()?;
        Some(self.made.get_or_init(|| (self.make)(engine)))
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

impl Calls {
    pub(crate) fn new(surroundings: Routes, methods: Methods, api: ApiWhenReady) -> Self {
        Self {
            surroundings: TowerToHyperService::new(surroundings.prepare()),
            api: Arc::new(api),
            methods: Arc::new(methods),
            in_progress: Arc::new(watch::Sender::new(0)),
        }
    }

    /// Resolves when no call of the API's own services is in progress.
    pub(crate) async fn idle(&self) {
        // The sender lives in `self`, so waiting can't fail.
        let _ = self
            .in_progress
            .subscribe()
            .wait_for(|calls| *calls == 0)
            .await;
    }

    /// Opens the call's record, and says which routes answer it.
    fn begin(&self, method: Method) -> Result<(Record, &TowerToHyperService<Routes>), Box<Status>> {
        let mut record = Record {
            method,
            started: Instant::now(),
            code: Code::Cancelled,
            in_progress: None,
        };
        if !record.method.counts {
            return Ok((record, &self.surroundings));
        }
        let Some(api) = self.api.get() else {
            if !record.method.is_known {
                return Ok((record, &self.surroundings));
            }
            record.code = Code::Unavailable;
            let health = self.api.startup.health();
            return Err(Box::new(status::loading(&health.reason)));
        };
        let entered = self.in_progress.send_if_modified(|calls| {
            let free = *calls < api.max_in_progress;
            *calls += usize::from(free);
            free
        });
        if !entered {
            record.code = Code::ResourceExhausted;
            return Err(Box::new(status::too_many_calls(api.max_in_progress)));
        }
        metrics::call_began();
        record.in_progress = Some(Arc::clone(&self.in_progress));
        Ok((record, &api.routes))
    }
}

impl<B> Service<Request<B>> for Calls
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn call(&self, mut request: Request<B>) -> Self::Future {
        let arrival = Instant::now();
        let (record, routes) = match self.begin(self.methods.of(request.uri().path())) {
            Ok(begun) => begun,
            Err(status) => return Box::pin(async move { Ok(status.into_http()) }),
        };
        let deadline = match take_timeout(request.headers_mut()) {
            // A deadline too far for the clock is none.
            Ok(timeout) => timeout.and_then(|timeout| arrival.checked_add(timeout)),
            Err(malformed) => {
                let refused = status::malformed_header("grpc-timeout", malformed.to_string());
                return Box::pin(async move { Ok(record.finish(refused.into_http())) });
            }
        };
        let Some(deadline) = deadline else {
            let answer = routes.call(request);
            return Box::pin(async move {
                let Ok(response) = answer.await;
                Ok(record.finish(response))
            });
        };
        if deadline <= arrival {
            return Box::pin(
                async move { Ok(record.finish(status::deadline_exceeded().into_http())) },
            );
        }
        request.extensions_mut().insert(Deadline(deadline));
        let answer = routes.call(request);
        Box::pin(async move {
            let response = match tokio::time::timeout_at(deadline, answer).await {
                Ok(Ok(response)) => response,
                Err(_elapsed) => status::deadline_exceeded().into_http(),
            };
            Ok(record.finish(response))
        })
    }
}

/// One call in progress; its drop is the call's end.
#[derive(Debug)]
struct Record {
    method: Method,
    started: Instant,
    /// Cancelled until the call says otherwise: the caller went away.
    code: Code,
    in_progress: Option<Arc<watch::Sender<usize>>>,
}

impl Record {
    /// The response with its body under observation until it ends or is dropped.
    fn finish(mut self, response: Response<Body>) -> Response<Body> {
        let response = with_details(response);
        self.learn(response.headers());
        response.map(|inner| {
            Body::new(ObservedBody {
                inner,
                record: self,
            })
        })
    }

    fn learn(&mut self, headers: &HeaderMap) {
        if let Some(status) = Status::from_header_map(headers) {
            self.code = status.code();
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if let Some(in_progress) = self.in_progress.take() {
            in_progress.send_modify(|calls| *calls -= 1);
            metrics::call_left();
        }
        metrics::call_ended(&self.method, self.code, self.started.elapsed());
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

/// A response body that tells its [`Record`] the status in its trailers.
#[derive(Debug)]
struct ObservedBody {
    inner: Body,
    record: Record,
}

impl HttpBody for ObservedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = std::task::ready!(Pin::new(&mut self.inner).poll_frame(context));
        if let Some(trailers) = frame.as_ref().and_then(|f| f.as_ref().ok()?.trailers_ref()) {
            self.record.learn(trailers);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, ready};
    use std::time::Duration;

    /// Calls of one unknown method, all answered by `router`.
    fn calls(router: axum::Router) -> Calls {
        let methods = Methods::from_descriptors(&[]).unwrap();
        let api = ApiWhenReady {
            made: OnceLock::from(Api::new(Routes::from(router), 2)),
            startup: Startup::new("a test"),
            make: Box::new(|_engine| panic!("it is made already")),
        };
        Calls::new(Routes::default(), methods, api)
    }

    fn request(timeout: Option<&str>) -> Request<Body> {
        let mut request = Request::new(Body::empty());
        if let Some(timeout) = timeout {
            let headers = request.headers_mut();
            headers.insert("grpc-timeout", timeout.parse().unwrap());
        }
        request
    }

    fn code(response: &Response<Body>) -> Option<Code> {
        Status::from_header_map(response.headers()).map(|status| status.code())
    }

    /// Whatever a service does, or does not do: here it never answers.
    #[tokio::test]
    async fn a_deadline_ends_a_call_that_nobody_answers() {
        let calls = calls(axum::Router::new().fallback(pending::<()>));
        let answer = tokio::time::timeout(Duration::from_secs(60), calls.call(request(Some("5m"))));
        let Ok(response) = answer.await.unwrap();
        assert_eq!(code(&response), Some(Code::DeadlineExceeded));
    }

    #[tokio::test]
    async fn a_service_learns_the_deadline_but_not_the_header() {
        let seen = |request: axum::extract::Request| {
            let header = request.headers().contains_key("grpc-timeout");
            let deadline = request.extensions().get::<Deadline>();
            let left = deadline.map_or(Duration::ZERO, |deadline| deadline.remaining());
            ready(format!("{header} {}", left > Duration::from_secs(50)))
        };
        let calls = calls(axum::Router::new().fallback(seen));
        let Ok(response) = calls.call(request(Some("1M"))).await;
        let body = axum::body::Body::new(response.into_body());
        assert_eq!(axum::body::to_bytes(body, 64).await.unwrap(), "false true");
    }

    /// A call lasts until its response's last byte is gone, however early its headers came.
    #[tokio::test]
    async fn a_call_is_in_progress_until_its_body_is_dropped() {
        let calls = calls(axum::Router::new().fallback(|| ready("body")));
        let (Ok(first), Ok(second)) = (
            calls.call(request(None)).await,
            calls.call(request(None)).await,
        );
        let Ok(third) = calls.call(request(None)).await;
        assert_eq!(code(&third), Some(Code::ResourceExhausted));
        assert_eq!(*calls.in_progress.borrow(), 2);
        drop((first, second));
        calls.idle().await;
        let Ok(fourth) = calls.call(request(None)).await;
        assert_eq!(code(&fourth), None);
    }
}
