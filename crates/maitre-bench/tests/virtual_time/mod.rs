//! Virtual time: a clock that moves only when all tasks wait, and then to the next appointment.
#![allow(dead_code, reason = "no test uses all of it")]

use std::collections::HashMap;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, stream};
use maitre_bench::{Arrival, BenchRequest, Clock, ModelFacts, RequestError, Target, TokenStream};

#[derive(Default)]
struct Time {
    now: Duration,
    /// By the sleep that has made it.
    appointments: HashMap<u64, (Duration, Waker)>,
    /// How many sleeps there have been.
    sleeps: u64,
    /// What goes on beside the test's own future.
    tasks: Vec<BoxFuture<'static, ()>>,
    /// Whether there is a task that has not gone on yet.
    is_fresh: bool,
}

/// A clock for one test; clones show the same time.
#[derive(Clone, Default)]
pub(crate) struct VirtualClock(Arc<Mutex<Time>>);

impl Clock for VirtualClock {
    fn now(&self) -> Duration {
        self.0.lock().unwrap().now
    }

    fn sleep_until(&self, at: Duration) -> BoxFuture<'static, ()> {
        self.until(at).boxed()
    }
}

impl VirtualClock {
    pub(crate) fn sleep(&self, ms: u64) -> Sleep {
        self.until(self.now() + Duration::from_millis(ms))
    }

    /// Time in which the only thread does something else than look at the clock.
    pub(crate) fn pass(&self, time: Duration) {
        self.0.lock().unwrap().now += time;
    }

    /// Goes on beside what [`run`](Self::run) runs.
    pub(crate) fn spawn(&self, task: BoxFuture<'static, ()>) {
        let mut time = self.0.lock().unwrap();
        time.tasks.push(task);
        time.is_fresh = true;
    }

    /// Lets the tasks go on as far as they can.
    fn poll_tasks(&self) {
        let mut tasks = {
            let mut time = self.0.lock().unwrap();
            time.is_fresh = false;
            std::mem::take(&mut time.tasks)
        };
        let mut context = Context::from_waker(Waker::noop());
        tasks.retain_mut(|task| task.as_mut().poll(&mut context).is_pending());
        // Some may have been added meanwhile.
        self.0.lock().unwrap().tasks.extend(tasks);
    }

    fn until(&self, until: Duration) -> Sleep {
        let mut time = self.0.lock().unwrap();
        time.sleeps += 1;
        Sleep {
            number: time.sleeps,
            until,
            clock: self.clone(),
        }
    }

    /// Runs `future` to its end, moving time whenever it cannot go on.
    pub(crate) fn run<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        let mut poll = || {
            let mut context = Context::from_waker(Waker::noop());
            future.as_mut().poll(&mut context)
        };
        loop {
            // Until neither the future nor a task has something new for the other.
            loop {
                if let Poll::Ready(output) = poll() {
                    return output;
                }
                self.poll_tasks();
                if let Poll::Ready(output) = poll() {
                    return output;
                }
                if !std::mem::take(&mut self.0.lock().unwrap().is_fresh) {
                    break;
                }
            }
            let due = {
                let mut time = self.0.lock().unwrap();
                let next = time.appointments.values().map(|(at, _)| *at).min();
                let next = next.expect("all tasks wait and none has an appointment");
                // A busy thread may have passed it.
                let next = next.max(time.now);
                time.now = next;
                let due = time.appointments.extract_if(|_, (at, _)| *at <= next);
                due.map(|(_, (_, waker))| waker).collect::<Vec<_>>()
            };
            due.into_iter().for_each(Waker::wake);
        }
    }
}

pub(crate) struct Sleep {
    number: u64,
    until: Duration,
    clock: VirtualClock,
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut time = self.clock.0.lock().unwrap();
        if time.now >= self.until {
            return Poll::Ready(());
        }
        let appointment = (self.until, context.waker().clone());
        time.appointments.insert(self.number, appointment);
        Poll::Pending
    }
}

/// Time does not move to what is not waited for any more.
impl Drop for Sleep {
    fn drop(&mut self) {
        self.clock
            .0
            .lock()
            .unwrap()
            .appointments
            .remove(&self.number);
    }
}

/// So many tokens, the first after `first_ms`, each other one `gap_ms` later.
pub(crate) fn evenly(first_ms: u64, gap_ms: u64, tokens: usize) -> Script {
    let mut arrivals = vec![(gap_ms, 1); tokens];
    arrivals[0].0 = first_ms;
    Script {
        arrivals,
        ..Script::default()
    }
}

/// How the target answers one request: after so many ms, so many tokens; again; then the end.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    pub(crate) arrivals: Vec<(u64, usize)>,
    pub(crate) failure: Option<&'static str>,
    /// What it says of a failure.
    pub(crate) message: String,
    /// Tokens of the prompt that it had in its prefix cache, told at the end; `None`: it does not tell.
    pub(crate) cached: Option<u32>,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            arrivals: Vec::new(),
            failure: None,
            message: "scripted".into(),
            cached: None,
        }
    }
}

type ScriptOf = Box<dyn Fn(usize) -> Script + Send + Sync>;

/// Answers the n-th request it gets by the n-th script.
pub(crate) struct ScriptedTarget {
    pub(crate) clock: VirtualClock,
    pub(crate) script: ScriptOf,
    pub(crate) seen: Mutex<Vec<BenchRequest>>,
}

impl ScriptedTarget {
    pub(crate) fn new(
        clock: &VirtualClock,
        script: impl Fn(usize) -> Script + Send + Sync + 'static,
    ) -> Self {
        Self {
            clock: clock.clone(),
            script: Box::new(script),
            seen: Mutex::default(),
        }
    }
}

impl Target for ScriptedTarget {
    fn name(&self) -> String {
        "scripted".into()
    }

    fn model(&self) -> ModelFacts {
        ModelFacts {
            name: "fake".into(),
            vocab_size: 1000,
            max_model_len: 100,
        }
    }

    /// A token for each character.
    fn tokenize(&self, text: &str) -> BoxFuture<'_, Result<Vec<u32>, RequestError>> {
        let tokens = text.chars().map(u32::from).collect();
        async move { Ok(tokens) }.boxed()
    }

    fn start(&self, request: BenchRequest) -> BoxFuture<'_, Result<TokenStream, RequestError>> {
        let index = {
            let mut seen = self.seen.lock().unwrap();
            seen.push(request);
            seen.len() - 1
        };
        let Script {
            arrivals,
            failure,
            message,
            cached,
        } = (self.script)(index);
        let clock = self.clock.clone();
        let tokens = stream::iter(arrivals).then(move |(ms, count)| {
            let sleep = clock.sleep(ms);
            async move {
                sleep.await;
                Ok(count.into())
            }
        });
        let end = failure.map(|code| Err(RequestError::new(code, message)));
        let told = cached.map(|cached| {
            Ok(Arrival {
                cached_tokens: Some(cached),
                ..Arrival::default()
            })
        });
        let end = stream::iter(told.into_iter().chain(end));
        async move { Ok(tokens.chain(end).boxed()) }.boxed()
    }
}
