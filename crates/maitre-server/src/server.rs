//! Putting it together: the service, its fronts on their connections, and an orderly end.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use maitre_engine::Engine;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::connections::{Ending, accept, serve_http1, serve_http2};
use crate::grpc::calls::Calls;
use crate::service::Service;
use crate::service::limits::Limits;
use crate::{Listeners, ServerError, Startup, grpc, http, metrics};

/// After the last call has ended, connections have this long to pass on what they still hold.
const FLUSH: Duration = Duration::from_millis(500);

/// Clients that watch health leave by themselves when a drain begins, and calls that come are told why they
/// are refused. After this time open connections get GOAWAY, which some clients take for a failure of the
/// call that they are just about to make.
const BEFORE_GOAWAY: Duration = Duration::from_millis(250);

/// Longer than any restart may take, and short enough to be added to a clock.
const LONGEST_DRAIN: Duration = Duration::from_secs(7 * 24 * 3600);

/// A server: an engine and the bounds within which it may be used.
///
/// ```
/// # fn settings(engine: maitre_engine::Engine) -> maitre_server::Server {
/// use std::time::Duration;
/// use maitre_server::Server;
///
/// Server::builder(engine)
///     .max_message_bytes(1 << 20)
///     .drain_timeout(Duration::from_secs(60))
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Server {
    startup: Startup,
    limits: Limits,
    drain_timeout: Duration,
}

impl Server {
    /// A server of `engine` with the default bounds.
    #[must_use]
    pub fn builder(engine: Engine) -> Self {
        Self::starting(&Startup::of(engine))
    }

    /// A server whose engine comes later, through `startup`. Until then it answers probes: HTTP says that
    /// it is alive and, with 503, what it waits for; `grpc.health.v1` says NOT_SERVING; `/metrics` and
    /// reflection work; every other call gets UNAVAILABLE with the reason MODEL_LOADING.
    ///
    /// ```
    /// # async fn run(listeners: maitre_server::Listeners) -> Result<(), Box<dyn std::error::Error>> {
    /// # use maitre_engine::{Engine, ModelSource};
    /// use maitre_server::{Server, Startup};
    ///
    /// let startup = Startup::new("loading my-model");
    /// let server = Server::starting(&startup).serve(listeners, std::future::pending());
    /// let served = tokio::spawn(server);
    /// let source = ModelSource::Directory("my-model".into());
    /// // Reading weights blocks, which the threads that answer probes must not.
    /// let engine = tokio::task::spawn_blocking(|| Engine::builder(source).build()).await??;
    /// startup.ready(engine);
    /// served.await??;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn starting(startup: &Startup) -> Self {
        Self {
            startup: startup.clone(),
            limits: Limits::default(),
            drain_timeout: Duration::from_secs(30),
        }
    }

    /// Largest request message in bytes; past it RESOURCE_EXHAUSTED. Default: 4 MiB.
    #[must_use]
    pub fn max_message_bytes(mut self, bytes: usize) -> Self {
        self.limits.max_message_bytes = bytes;
        self
    }

    /// Calls in progress at once, those that only ask or steer aside; past it RESOURCE_EXHAUSTED. One connection gets
    /// 38 % of them, less if others have some. Default: what the engine runs and queues, and 256 more.
    #[must_use]
    pub fn max_calls(mut self, calls: usize) -> Self {
        self.limits.max_calls = Some(calls);
        self
    }

    /// Open connections per listener; a further one takes the place of the idlest. Default: 4096.
    #[must_use]
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.limits.max_connections = connections;
        self
    }

    /// How long a new connection may take to say what it speaks, and a connection of the HTTP port to send its first
    /// request. Default: 10 s.
    #[must_use]
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.limits.handshake_timeout = timeout;
        self
    }

    /// How long a request's message may take to arrive; past it DEADLINE_EXCEEDED. Default: 30 s.
    #[must_use]
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.limits.request_timeout = timeout;
        self
    }

    /// How long a client may take to read a piece (16 KiB, or less if there is less) of an answer; past it the call is
    /// reset, and a connection that takes nothing at all is closed. Default: 30 s.
    #[must_use]
    pub fn stall_timeout(mut self, timeout: Duration) -> Self {
        self.limits.stall_timeout = timeout;
        self
    }

    /// Memory for requests under way, all clients together; past it RESOURCE_EXHAUSTED. One request may take
    /// 27 % of it, less if others have some. Default: eight of the largest messages, at least 128 MiB.
    #[must_use]
    pub fn request_bytes(mut self, bytes: u64) -> Self {
        self.limits.request_bytes = Some(bytes);
        self
    }

    /// Memory for answers that are not yet written, all clients together; past it RESOURCE_EXHAUSTED. One answer may
    /// take 27 % of it, less if others have some. Default: 256 MiB.
    #[must_use]
    pub fn answer_bytes(mut self, bytes: u64) -> Self {
        self.limits.answer_bytes = bytes;
        self
    }

    /// How long requests in flight may take to finish once `shutdown` has resolved; at most a week. Default:
    /// 30 s.
    #[must_use]
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.drain_timeout = timeout.min(LONGEST_DRAIN);
        self
    }

    /// Serves until `shutdown` resolves, then drains: new requests are refused with UNAVAILABLE,
    /// health says NOT_SERVING, open gRPC connections get GOAWAY, requests in flight finish within the
    /// drain timeout, and what is left then is cancelled. Without an engine there is nothing to drain.
    ///
    /// # Errors
    ///
    /// Only for a fault of the server itself; whatever clients do is answered on their calls.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cuts all connections at once, which cancels their requests.
    pub async fn serve(
        self,
        listeners: Listeners,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), ServerError> {
        crate::install_crypto_provider();
        metrics::install_recorder();
        let (draining, is_draining) = watch::channel(false);
        let (leaving, is_leaving) = watch::channel(false);
        let (closing, is_closing) = watch::channel(false);
        let service = Service::new(self.startup.clone(), self.limits);
        let grpc = grpc::Front::new(&service)?;
        grpc.set_health(self.startup.health().ready).await;

        let mut background = JoinSet::new();
        background.spawn(grpc.report_health(self.startup.clone(), is_draining));
        tracing::info!("{}", self.limits);
        let (requests, answers) = service.held();
        background.spawn(metrics::upkeep(requests, answers));
        background.spawn(metrics::watch_gpu(self.startup.clone()));
        let ending = Ending {
            leaving: is_leaving,
            closing: is_closing,
        };
        let http = http::calls::Calls::new(&service, &self.startup);
        let mut fronts = self.listen(listeners, &grpc.calls, http, &ending);

        tokio::select! {
            () = shutdown => {}
            Some(ended) = fronts.join_next() => return Err(ServerError::TaskEnded {
                part: "accepting",
                message: ended.err().map_or_else(|| "it returned".to_owned(), |e| e.to_string()),
            }),
        }

        draining.send_replace(true);
        let goaway = leaving.clone();
        background.spawn(async move {
            tokio::time::sleep(BEFORE_GOAWAY).await;
            goaway.send_replace(true);
        });
        self.drain(&service).await;
        leaving.send_replace(true);
        closing.send_replace(true);
        let all_closed = async { while fronts.join_next().await.is_some() {} };
        if tokio::time::timeout(FLUSH, all_closed).await.is_err() {
            tracing::debug!("connections that stayed open were cut");
        }
        Ok(())
    }

    /// Accepts on every listener; dropping the set cuts all connections.
    fn listen(
        &self,
        listeners: Listeners,
        calls: &Calls,
        http: http::calls::Calls,
        ending: &Ending,
    ) -> JoinSet<()> {
        let mut fronts = JoinSet::new();
        let (limits, closing) = (self.limits, ending.closing.clone());
        let (calls, ending) = (calls.clone(), ending.clone());
        fronts.spawn(accept(
            listeners.grpc,
            limits.max_connections,
            closing.clone(),
            move |stream, state| {
                let answered_by = calls.on_connection(Arc::clone(&state));
                serve_http2(stream, state, answered_by, limits, ending.clone())
            },
        ));
        if let Some(listener) = listeners.http {
            let closing_http = closing.clone();
            fronts.spawn(accept(
                listener,
                limits.max_connections,
                closing,
                move |stream, state| {
                    let answered_by = http.on_connection(Arc::clone(&state));
                    serve_http1(stream, state, answered_by, limits, closing_http.clone())
                },
            ));
        }
        fronts
    }

    /// Lets what is in flight finish, in the engine and on its way to the clients.
    async fn drain(&self, service: &Service) {
        let Some(engine) = self.startup.engine() else {
            return;
        };
        let deadline = Instant::now() + self.drain_timeout;
        tracing::info!(timeout = ?self.drain_timeout, "draining");
        let cancelled = engine.drain(self.drain_timeout).await;
        if cancelled > 0 {
            tracing::warn!(
                cancelled,
                "the drain timeout passed; what was left was cancelled"
            );
        }
        // What the engine has finished or cancelled still has to be told to its callers.
        let told = deadline.max(Instant::now() + FLUSH);
        if tokio::time::timeout_at(told, service.idle()).await.is_err() {
            tracing::warn!("calls whose clients do not read were cut");
        }
    }
}
