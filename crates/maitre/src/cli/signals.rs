//! SIGTERM and SIGINT, on a thread of their own.
//!
//! The handlers are installed before anything else: a process with the id 1, as in a container, has no
//! default ones, and would load a model of 100 GB to its end before it noticed that it should not. And the
//! thread depends on nothing but itself: when every worker of the runtime is stuck, it still ends the
//! process in time.
//!
//! | the process | first signal | second signal |
//! |---|---|---|
//! | starts, or runs one command | ends at once, with exit code 128 + the signal's number | |
//! | serves | drains; ends when that is done, and in any case soon after the drain timeout | ends at once, with 1 |
//! | has asked for interrupts | SIGINT is told to it, SIGTERM ends it at once | ends at once, also if it did not hear of the first SIGINT yet |

use std::fmt;
use std::future::Future;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use maitre::server::Startup;
use tokio::sync::watch;

/// How long an orderly end may take beyond the drain timeout: calls are told what became of them and
/// connections are flushed, half a second each.
const FLUSH: Duration = Duration::from_secs(2);

/// How long a last line may take to be written. A log that is not read any more must not hold up the end.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// How long the libraries' own clearing up may take at exit.
const CLEARING_UP: Duration = Duration::from_secs(2);

/// The process's signals. Clones are handles to the same ones.
#[derive(Debug, Clone)]
pub(crate) struct Signals {
    shared: Arc<Shared>,
}

struct Shared {
    /// Set while a drain is the way to end.
    drain_timeout: Mutex<Option<Duration>>,
    stop: watch::Sender<bool>,
    /// Set while a SIGINT is for the command to hear: whether there was one that it has not heard.
    interrupted: Mutex<Option<watch::Sender<bool>>>,
    /// Done before the process ends by a signal.
    at_end: Mutex<Option<Box<dyn Fn() + Send>>>,
    /// Says what a signal interrupts.
    startup: Startup,
}

/// While this lives, SIGINT is told to its holder.
pub(crate) struct Interrupts {
    shared: Arc<Shared>,
    seen: watch::Receiver<bool>,
}

impl Interrupts {
    /// Resolves at the next SIGINT that [`next`](Self::next) and [`forget`](Self::forget) have not seen.
    ///
    /// # Cancel safety
    /// Cancel safe: no signal is lost when the future is dropped.
    pub(crate) async fn next(&mut self) {
        // The sender lives as long as this does, so waiting can't fail.
        let _ = self.seen.wait_for(|interrupted| *interrupted).await;
        self.forget();
    }

    /// Forgets a SIGINT that came before now.
    pub(crate) fn forget(&mut self) {
        if let Some(interrupted) = &*lock(&self.shared.interrupted) {
            interrupted.send_replace(false);
        }
    }
}

impl Drop for Interrupts {
    fn drop(&mut self) {
        *lock(&self.shared.interrupted) = None;
    }
}

impl Signals {
    /// Installs the handlers and starts the thread. `startup` says what is being done at any time.
    pub(crate) fn install(startup: &Startup) -> Result<Self> {
        let shared = Arc::new(Shared {
            drain_timeout: Mutex::new(None),
            stop: watch::Sender::new(false),
            interrupted: Mutex::new(None),
            at_end: Mutex::new(None),
            startup: startup.clone(),
        });
        let watched = Arc::clone(&shared);
        let (said, installed) = channel();
        let body = move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            let runtime = match runtime {
                Ok(runtime) => runtime,
                Err(error) => return drop(said.send(Err(error))),
            };
            runtime.block_on(async {
                match Source::new() {
                    Ok(source) => {
                        // The installer waits, so it hears this.
                        let _ = said.send(Ok(()));
                        watched.watch(source).await;
                    }
                    Err(error) => drop(said.send(Err(error))),
                }
            });
        };
        thread::Builder::new()
            .name("maitre-signals".into())
            .spawn(body)
            .context("starting the thread that waits for signals")?;
        installed
            .recv()
            .context("the thread that waits for signals ended")?
            .context("listening for SIGTERM and SIGINT")?;
        Ok(Self { shared })
    }

    /// From now on the first signal begins a drain instead of ending the process.
    pub(crate) fn drain_within(&self, timeout: Duration) {
        *lock(&self.shared.drain_timeout) = Some(timeout);
    }

    /// From now on SIGINT is told to what is returned, until that is dropped. There is one at a time: a second takes
    /// over from the first.
    pub(crate) fn interrupts(&self) -> Interrupts {
        let (sender, seen) = watch::channel(false);
        *lock(&self.shared.interrupted) = Some(sender);
        Interrupts {
            shared: Arc::clone(&self.shared),
            seen,
        }
    }

    /// Has this done before the process ends by a signal, such as giving a terminal its settings back.
    pub(crate) fn at_end(&self, what: impl Fn() + Send + 'static) {
        *lock(&self.shared.at_end) = Some(Box::new(what));
    }

    /// Resolves when a drain is to begin.
    pub(crate) fn stop(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut stop = self.shared.stop.subscribe();
        let keeps_the_sender = self.clone();
        async move {
            // The sender is kept, so waiting can't fail.
            let _ = stop.wait_for(|stop| *stop).await;
            drop(keeps_the_sender);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    async fn watch(&self, mut source: Source) {
        let signal = self.next_for_process(&mut source).await;
        let timeout = *lock(&self.drain_timeout);
        let Some(timeout) = timeout else {
            let (startup, name) = (self.startup.clone(), signal.name);
            self.clear_up();
            say(move || match startup.health().reason {
                doing if doing.is_empty() => tracing::warn!("{name}: stopped"),
                doing => tracing::warn!("{name}: stopped while {doing}"),
            });
            leave(128 + signal.number);
        };
        self.stop.send_replace(true);
        let name = signal.name;
        say(move || tracing::info!("{name}: draining; a second signal stops at once"));
        tokio::select! {
            _second = source.next() => {
                say(|| tracing::warn!("stopped before the drain was over"));
            }
            () = tokio::time::sleep(timeout + FLUSH) => {
                say(move || tracing::error!(
                    ?timeout,
                    "the drain did not end in time, so the process ends without it: a thread that serves \
                     calls is stuck"
                ));
            }
        }
        leave(1);
    }

    /// The next signal that is not for the command to hear.
    async fn next_for_process(&self, source: &mut Source) -> Signal {
        loop {
            let signal = source.next().await;
            let is_heard = signal.number == INTERRUPT.number
                && lock(&self.interrupted)
                    .as_ref()
                    // One that was not heard since the last one: the command is stuck.
                    .is_some_and(|interrupted| !interrupted.send_replace(true));
            if !is_heard {
                return signal;
            }
        }
    }

    fn clear_up(&self) {
        if let Some(at_end) = &*lock(&self.at_end) {
            at_end();
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("startup", &self.startup)
            .finish_non_exhaustive()
    }
}

/// A signal that ends processes.
#[derive(Debug, Clone, Copy)]
struct Signal {
    name: &'static str,
    number: i32,
}

const INTERRUPT: Signal = Signal {
    name: "SIGINT",
    number: 2,
};

#[cfg(unix)]
struct Source {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Source {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> Signal {
        let terminate = Signal {
            name: "SIGTERM",
            number: 15,
        };
        tokio::select! {
            _ = self.terminate.recv() => terminate,
            _ = self.interrupt.recv() => INTERRUPT,
        }
    }
}

#[cfg(not(unix))]
struct Source;

#[cfg(not(unix))]
impl Source {
    fn new() -> std::io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) -> Signal {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        INTERRUPT
    }
}

/// Logs, but waits for it only so long: a stuck thread may hold the log, and a full pipe may be behind it.
fn say(line: impl FnOnce() + Send + 'static) {
    let (done, is_done) = channel::<()>();
    let logged = thread::Builder::new().spawn(move || {
        line();
        drop(done);
    });
    if logged.is_ok() {
        // Either the line is written, or its time is over.
        let _ = is_done.recv_timeout(LAST_WORDS);
    }
}

/// Ends the process, though a library should hang while it clears up.
fn leave(code: i32) -> ! {
    let _ = thread::Builder::new().spawn(|| {
        thread::sleep(CLEARING_UP);
        std::process::abort();
    });
    std::process::exit(code)
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Write};
    use std::process::{Child, ChildStdout, Command, Stdio};
    use std::time::Instant;

    const DRAIN_MS: &str = "MAITRE_TEST_DRAIN_MS";

    fn say_on_stdout(word: &str) {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{word}").unwrap();
        out.flush().unwrap();
    }

    /// A server whose workers are all stuck for ever, as a process of its own.
    #[test]
    #[ignore = "the other tests start it as a process"]
    fn stuck_server() {
        let signals = Signals::install(&Startup::new("testing")).unwrap();
        let ms = std::env::var(DRAIN_MS).unwrap().parse().unwrap();
        signals.drain_within(Duration::from_millis(ms));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let (said, is_stuck) = channel();
        for _ in 0..2 {
            let said = said.clone();
            runtime.spawn(async move {
                said.send(()).unwrap();
                loop {
                    thread::park();
                }
            });
        }
        is_stuck.recv().unwrap();
        is_stuck.recv().unwrap();
        say_on_stdout("stuck");
        runtime.block_on(async {
            signals.stop().await;
            say_on_stdout("told");
            std::future::pending::<()>().await;
        });
    }

    struct Process {
        child: Child,
        out: BufReader<ChildStdout>,
    }

    impl Process {
        fn start(drain: Duration) -> Self {
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "cli::signals::tests::stuck_server"])
                .args(["--ignored", "--nocapture"])
                .env(DRAIN_MS, drain.as_millis().to_string())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let out = BufReader::new(child.stdout.take().unwrap());
            let mut process = Self { child, out };
            process.until_said("stuck");
            process
        }

        fn until_said(&mut self, word: &str) {
            let mut line = String::new();
            while !line.trim_end().ends_with(word) {
                line.clear();
                assert_ne!(self.out.read_line(&mut line).unwrap(), 0, "it has ended");
            }
        }

        fn terminate(&self) {
            let id = self.child.id().to_string();
            let killed = Command::new("kill").args(["-TERM", &id]).status();
            assert!(killed.unwrap().success());
        }

        fn code(&mut self) -> Option<i32> {
            let give_up = Instant::now() + Duration::from_secs(60);
            loop {
                if let Some(status) = self.child.try_wait().unwrap() {
                    return status.code();
                }
                assert!(Instant::now() < give_up, "it does not end");
                thread::yield_now();
            }
        }
    }

    impl Drop for Process {
        fn drop(&mut self) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }

    #[test]
    fn a_server_whose_workers_are_stuck_ends_when_its_drain_should_have() {
        let mut process = Process::start(Duration::from_millis(10));
        process.terminate();
        assert_eq!(process.code(), Some(1));
    }

    #[test]
    fn a_second_signal_ends_it_at_once() {
        let mut process = Process::start(Duration::from_secs(100_000));
        process.terminate();
        process.until_said("told");
        process.terminate();
        assert_eq!(process.code(), Some(1));
    }
}
