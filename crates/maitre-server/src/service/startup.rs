//! A server before it has an engine: what it says to probes, and how it learns that it may serve.
//!
//! Reading weights takes seconds and downloading them minutes, in which an orchestrator asks again and
//! again. So a server listens from the beginning, says what it is waiting for, and gets its engine later.

use std::fmt;
use std::sync::Arc;

use maitre_engine::{Engine, Health};
use tokio::sync::watch;

type Text = Arc<dyn Fn() -> String + Send + Sync>;

/// What a server waits for before it can serve. Clones are handles to the same state.
///
/// ```
/// use maitre_server::Startup;
///
/// let startup = Startup::new("starting");
/// startup.doing("loading bundled");
/// let health = startup.health();
/// assert!(!health.ready && health.reason == "loading bundled");
/// ```
#[derive(Clone)]
pub struct Startup {
    state: Arc<watch::Sender<State>>,
    announced: Arc<watch::Sender<bool>>,
}

#[derive(Clone)]
enum State {
    /// There is no engine yet; the text says what is done about it.
    Preparing(Text),
    Ready(Engine),
}

impl Startup {
    /// A start that is doing this.
    #[must_use]
    pub fn new(doing: impl Into<String>) -> Self {
        Self::with(State::Preparing(fixed(doing.into())))
    }

    /// A start that is over.
    pub(crate) fn of(engine: Engine) -> Self {
        Self::with(State::Ready(engine))
    }

    fn with(state: State) -> Self {
        Self {
            state: Arc::new(watch::Sender::new(state)),
            announced: Arc::new(watch::Sender::new(false)),
        }
    }

    /// Says what is being done now, such as `loading bundled`. Ignored once there is an engine.
    pub fn doing(&self, what: impl Into<String>) {
        self.set_doing(fixed(what.into()));
    }

    /// The same for something that moves on: `what` is called whenever a probe asks.
    pub fn doing_live(&self, what: impl Fn() -> String + Send + Sync + 'static) {
        self.set_doing(Arc::new(what));
    }

    fn set_doing(&self, text: Text) {
        self.state.send_if_modified(|state| match state {
            State::Preparing(doing) => {
                *doing = text;
                true
            }
            State::Ready(_) => false,
        });
    }

    /// Hands over the engine: from now on calls are served by it.
    pub fn ready(&self, engine: Engine) {
        self.state.send_replace(State::Ready(engine));
    }

    /// Resolves once the server that was built on this has told `grpc.health.v1` of its engine.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is kept.
    pub async fn announced(&self) {
        // The sender lives in `self`, so waiting can't fail.
        let _ = self.announced.subscribe().wait_for(|said| *said).await;
    }

    pub(crate) fn announce(&self) {
        self.announced.send_replace(true);
    }

    /// The engine, once there is one.
    #[must_use]
    pub fn engine(&self) -> Option<Engine> {
        match &*self.state.borrow() {
            State::Ready(engine) => Some(engine.clone()),
            State::Preparing(_) => None,
        }
    }

    /// The engine, as soon as there is one.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is kept.
    pub(crate) async fn until_ready(&self) -> Engine {
        let mut changes = self.changes();
        loop {
            if let Some(engine) = self.engine() {
                return engine;
            }
            changes.next().await;
        }
    }

    /// The engine's health; before there is one, not ready because of what is being done.
    #[must_use]
    pub fn health(&self) -> Health {
        // Cloned, so that nothing is asked while the state is locked.
        let state = self.state.borrow().clone();
        match state {
            State::Ready(engine) => engine.health(),
            State::Preparing(doing) => Health {
                ready: false,
                reason: doing(),
            },
        }
    }

    /// Sees every change of the state.
    pub(crate) fn changes(&self) -> Changes {
        Changes(self.state.subscribe())
    }
}

/// Tells that a [`Startup`] has changed.
pub(crate) struct Changes(watch::Receiver<State>);

impl Changes {
    /// Resolves after the next change; never, once all handles are gone.
    pub(crate) async fn next(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

fn fixed(text: String) -> Text {
    Arc::new(move || text.clone())
}

impl fmt::Debug for Startup {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let health = self.health();
        formatter
            .debug_struct("Startup")
            .field("health", &health)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn a_probe_reads_how_far_it_is_now() {
        let startup = Startup::new("starting");
        assert_eq!(startup.health().reason, "starting");
        let bytes = Arc::new(AtomicU64::new(3));
        let seen = Arc::clone(&bytes);
        startup.doing_live(move || format!("{} bytes", seen.load(Ordering::SeqCst)));
        assert_eq!(startup.health().reason, "3 bytes");
        bytes.store(7, Ordering::SeqCst);
        assert_eq!(startup.health().reason, "7 bytes");
        startup.doing("loading");
        assert_eq!(startup.health().reason, "loading");
        assert!(startup.engine().is_none());
    }

    #[tokio::test]
    async fn who_waits_for_the_engine_goes_on_waiting_while_others_say_what_is_done() {
        let startup = Startup::new("starting");
        let mut waiting = Box::pin(startup.until_ready());
        assert!(waiting.as_mut().now_or_never().is_none());
        startup.doing("loading");
        assert!(waiting.as_mut().now_or_never().is_none());
    }
}
