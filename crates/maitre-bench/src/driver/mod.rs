//! Sends the requests of a plan at their times and watches the answers arrive. Users who wait and arrivals that do not are
//! the same to it: both say when the next request is due.
//!
//! All requests are one task. It only counts and looks at the clock, so one thread serves thousands, and the report says
//! how busy it was. A request that is sent late because the client was busy counts from when it was due, so that a slow
//! answer never hides how long the ones behind it had to wait ("coordinated omission").

mod record;
mod silence;
mod stop;

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use maitre_workload::{Arrivals, Request};

use crate::{BenchRequest, Clock, RequestError, Target};

use silence::Silence;

pub use record::Record;
pub use stop::Stop;

/// Counted like a status code: an answer that ended well with another length than asked for.
const WRONG_LENGTH: &str = "WRONG_LENGTH";

/// Most requests in flight: each is a stream, and the client must not become what is measured.
const MOST_IN_FLIGHT: usize = 65_536;

/// Counted like a status code: a request that was not sent, because that many were in flight.
pub(crate) const CLIENT_FULL: &str = "CLIENT_FULL";

/// What a run was.
#[derive(Debug)]
pub(crate) struct Driven {
    /// In the order in which they ended.
    pub(crate) records: Vec<Record>,
    /// Requests that were under way when the run was stopped.
    pub(crate) unfinished: usize,
    /// When the last request was due, whether or not it has ended; `None` if there was none.
    pub(crate) last_due: Option<Duration>,
    /// From the start to the last end.
    pub(crate) duration: Duration,
}

pub(crate) struct Driver<'a> {
    pub(crate) target: &'a dyn Target,
    pub(crate) clock: &'a dyn Clock,
    pub(crate) stop: &'a Stop,
    /// How long a request may bring no token.
    pub(crate) timeout: Duration,
}

/// When a request is due, and what waits for that.
type Timer = (Duration, BoxFuture<'static, ()>);

enum Next {
    Due,
    Ended(Option<u32>, Box<Record>),
    Stopped,
}

impl Driver<'_> {
    /// Runs to the end of the plan, or until it is stopped.
    pub(crate) async fn drive(
        &self,
        arrivals: &mut dyn Arrivals,
        ask: &(dyn Fn(&Request) -> BenchRequest + Sync),
        mut ended: impl FnMut(&Record),
    ) -> Driven {
        let origin = self.clock.now();
        let mut records = Vec::new();
        let mut in_flight = FuturesUnordered::new();
        let mut timer: Option<Timer> = None;
        let mut last_due: Option<Duration> = None;
        let mut stopped = pin!(self.stop.stopped());
        loop {
            let due = arrivals.next_at();
            let now = self.clock.now().saturating_sub(origin);
            if due.is_some_and(|at| at <= now) {
                if let Some(request) = arrivals.take() {
                    last_due = last_due.max(Some(request.arrival));
                    let is_full = in_flight.len() >= MOST_IN_FLIGHT;
                    in_flight.push(self.answer(origin, request, ask, is_full));
                }
                continue;
            }
            if due.is_none() && in_flight.is_empty() {
                break;
            }
            self.arm(&mut timer, due, origin);
            let next = poll_fn(|context| {
                if stopped.as_mut().poll(context).is_ready() {
                    return Poll::Ready(Next::Stopped);
                }
                if let Poll::Ready(Some((user, record))) = in_flight.poll_next_unpin(context) {
                    return Poll::Ready(Next::Ended(user, Box::new(record)));
                }
                match &mut timer {
                    Some((_, sleep)) => sleep.as_mut().poll(context).map(|()| Next::Due),
                    None => Poll::Pending,
                }
            });
            match next.await {
                Next::Due => timer = None,
                Next::Ended(user, record) => {
                    if let Some(user) = user {
                        arrivals.ended(user, record.ended);
                    }
                    ended(&record);
                    records.push(*record);
                }
                Next::Stopped => break,
            }
        }
        Driven {
            records,
            unfinished: in_flight.len(),
            last_due,
            duration: self.clock.now().saturating_sub(origin),
        }
    }

    /// Sets the timer to when the next request is due, unless it is set so already.
    fn arm(&self, timer: &mut Option<Timer>, due: Option<Duration>, origin: Duration) {
        if timer.as_ref().map(|timer| timer.0) != due {
            let sleep = |at: Duration| self.clock.sleep_until(origin.saturating_add(at));
            *timer = due.map(|at| (at, sleep(at)));
        }
    }

    /// Sends one request and watches its answer arrive.
    async fn answer(
        &self,
        origin: Duration,
        request: Request,
        ask: &(dyn Fn(&Request) -> BenchRequest + Sync),
        is_full: bool,
    ) -> (Option<u32>, Record) {
        let user = request.user;
        let question = ask(&request);
        let now = || self.clock.now().saturating_sub(origin);
        let mut record = Record::new(request.arrival, now(), &question);
        let watched = match is_full {
            true => Err(RequestError::new(
                CLIENT_FULL,
                format!("{MOST_IN_FLIGHT} requests are in flight"),
            )),
            false => self.watch(question, &now, &mut record).await,
        };
        record.ended = now();
        record.failure = watched.err();
        (user, record)
    }

    async fn watch(
        &self,
        question: BenchRequest,
        now: &(impl Fn() -> Duration + Sync),
        record: &mut Record,
    ) -> Result<(), RequestError> {
        let expected = question.output_tokens;
        let mut silence = Silence::new(self.clock, self.timeout);
        let mut answer = silence.until(self.target.start(question)).await??;
        let mut tokens = 0;
        while let Some(arrival) = silence.until(answer.next()).await? {
            let arrival = arrival?;
            record.cached_tokens = arrival.cached_tokens.or(record.cached_tokens);
            record.server = arrival.server.or(record.server);
            if arrival.tokens > 0 {
                silence.broken();
                tokens += arrival.tokens;
                record.arrivals.push((now(), arrival.tokens as u32));
            }
        }
        match tokens == expected {
            true => Ok(()),
            false => {
                let message = format!("{tokens} tokens came, {expected} were asked for");
                Err(RequestError::new(WRONG_LENGTH, message))
            }
        }
    }
}
