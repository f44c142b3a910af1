//! What a box is asked at some load, and when that is enough to judge it.
//!
//! A trial has a beginning in which load builds up, a middle that counts, and an end in which it ebbs: only answers to requests of the
//! middle are judged. Users do not begin at once, since all of them asking at the same moment is no load that lasts.

use std::cell::Cell;
use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;

use maitre_scheduler::Time;

use super::Question;
use crate::SimError;
use crate::workload::{
    Arrivals, ClosedLoop, Length, Lengths, OpenLoop, Replay, Request, SharedPrefix, ThinkTime,
    Trace,
};

/// How many times as many requests as are judged at least there are in a trial at a rate, where load ebbs and flows more.
const TIMES_AT_A_RATE: u64 = 5;

/// Tokens of a block of the common beginning of prompts.
const PREFIX_BLOCK: u32 = 16;

/// What is to be served.
#[derive(Debug, Clone, PartialEq)]
pub enum Traffic {
    /// People who each read the answer, think, and ask again.
    Users {
        /// How many in all.
        users: u32,
        /// How long each thinks, on average.
        think: Time,
        /// How long prompts and answers are.
        lengths: Lengths,
    },
    /// Requests that come whether or not earlier ones are answered, at random.
    Rate {
        /// How many a second in all.
        per_second: f64,
        /// How long prompts and answers are.
        lengths: Lengths,
    },
    /// A recorded trace. A box plays a part of it: the same requests, in as much more time.
    Trace(Trace),
}

/// What arrives at a box in a trial.
pub(super) struct Load {
    pub(super) arrivals: Box<dyn Arrivals>,
    /// Numbers of the requests that count.
    pub(super) measured: Range<u64>,
}

impl Traffic {
    /// Checks that there is any.
    pub(super) fn validate(&self) -> Result<(), SimError> {
        match self {
            Self::Users { users: 0, .. } => {
                Err(SimError::setting("the number of users", 0, "at least 1"))
            }
            Self::Users { lengths, .. } => Ok(lengths.validate()?),
            Self::Rate {
                per_second,
                lengths,
            } => {
                crate::error::check_positive("the rate", *per_second)?;
                Ok(lengths.validate()?)
            }
            Self::Trace(trace) if self.in_all() > 0.0 && self.in_all().is_finite() => {
                Ok(Lengths::Sampled(Lengths::pairs_of(trace)).validate()?)
            }
            Self::Trace(_) => Err(SimError::setting(
                "the trace",
                "of no duration",
                "at least two requests, at different times",
            )),
        }
    }

    /// What load is counted in.
    pub(super) fn unit(&self) -> &'static str {
        match self {
            Self::Users { .. } => "users",
            Self::Rate { .. } | Self::Trace(_) => "requests/s",
        }
    }

    /// All of it, in its unit.
    pub(super) fn in_all(&self) -> f64 {
        match self {
            Self::Users { users, .. } => f64::from(*users),
            Self::Rate { per_second, .. } => *per_second,
            Self::Trace(trace) => {
                let last = trace.requests.last().map_or(Time::ZERO, |it| it.arrival);
                let first = trace.requests.first().map_or(Time::ZERO, |it| it.arrival);
                trace.requests.len() as f64 / last.saturating_sub(first).as_secs_f64()
            }
        }
    }

    /// Whether load comes in whole numbers.
    pub(super) fn is_counted(&self) -> bool {
        matches!(self, Self::Users { .. })
    }

    /// Mean tokens of a prompt and of an answer.
    pub(super) fn mean_lengths(&self) -> (f64, f64) {
        match self {
            Self::Users { lengths, .. } | Self::Rate { lengths, .. } => means(lengths),
            Self::Trace(trace) => mean_pair(&Lengths::pairs_of(trace)),
        }
    }

    /// Requests a second that so much load is, if an answer takes so long on average.
    pub(super) fn requests_per_second(&self, load: f64, answer: f64) -> f64 {
        match self {
            // The response time law of closed loops.
            Self::Users { think, .. } => load / (answer + think.as_secs_f64()),
            Self::Rate { .. } | Self::Trace(_) => load,
        }
    }

    /// A trial of this load at a box whose answers take about so long.
    pub(super) fn at(
        &self,
        load: f64,
        answer: Time,
        question: &Question,
        given_up: &Rc<GivenUp>,
    ) -> Result<Load, SimError> {
        let (seed, judged) = (question.seed, question.judged.max(1));
        let (arrivals, measured): (Box<dyn Arrivals>, _) = match self {
            Self::Users { think, lengths, .. } => {
                let users = load as u32;
                let beginning = u64::from(users);
                let measured = beginning.max(judged);
                let requests = beginning + measured + beginning;
                let think = match think.is_zero() {
                    true => ThinkTime::Fixed(Time::ZERO),
                    false => ThinkTime::Exponential(*think),
                };
                let users = ClosedLoop::new(users, think, lengths.clone(), requests, seed)?;
                let apart = Apart::over(answer, beginning, users);
                (Box::new(apart), beginning..beginning + measured)
            }
            Self::Rate { lengths, .. } => {
                let under_way = (load * answer.as_secs_f64()).ceil() as u64;
                let requests = (TIMES_AT_A_RATE * judged).max(4 * under_way);
                let process = format!("poisson:{load}").parse()?;
                let open = OpenLoop::new(process, lengths.clone(), requests, seed)?;
                (Box::new(open), requests / 4..requests * 7 / 8)
            }
            Self::Trace(trace) => {
                let replay = Replay::new(trace, load / self.in_all(), None)?;
                (Box::new(replay), 0..trace.requests.len() as u64)
            }
        };
        let arrivals = Box::new(Watched {
            inner: arrivals,
            prefix: question.shared_prefix,
            given_up: Rc::clone(given_up),
        });
        Ok(Load { arrivals, measured })
    }
}

fn means(lengths: &Lengths) -> (f64, f64) {
    let mean = |length: &Length| match length {
        Length::Fixed(tokens) => f64::from(*tokens),
        Length::Uniform(range) => f64::midpoint(f64::from(*range.start()), f64::from(*range.end())),
    };
    match lengths {
        Lengths::Independent { prompt, output } => (mean(prompt), mean(output)),
        Lengths::InTurn(pairs) | Lengths::Sampled(pairs) => mean_pair(pairs),
    }
}

fn mean_pair(pairs: &[(u32, u32)]) -> (f64, f64) {
    let sums = pairs.iter().fold((0.0, 0.0), |(prompts, outputs), pair| {
        (prompts + f64::from(pair.0), outputs + f64::from(pair.1))
    });
    let count = pairs.len().max(1) as f64;
    (sums.0 / count, sums.1 / count)
}

/// Whether a trial is lost already, so that nothing more need come.
#[derive(Debug, Default)]
pub(super) struct GivenUp(Cell<bool>);

impl GivenUp {
    pub(super) fn set(&self) {
        self.0.set(true);
    }
}

/// Requests that stop when a trial is given up, and begin alike if they are to.
struct Watched {
    inner: Box<dyn Arrivals>,
    prefix: u32,
    given_up: Rc<GivenUp>,
}

impl Arrivals for Watched {
    fn next_at(&mut self) -> Option<Time> {
        match self.given_up.0.get() {
            true => None,
            false => self.inner.next_at(),
        }
    }

    fn take(&mut self) -> Option<Request> {
        self.next_at()?;
        let mut request = self.inner.take()?;
        let blocks = self.prefix / PREFIX_BLOCK;
        if blocks > 0 && request.prefix.is_none() {
            request.prefix = Some(SharedPrefix {
                block_tokens: PREFIX_BLOCK,
                ids: (1..=u64::from(blocks)).collect(),
            });
        }
        Some(request)
    }

    fn is_open(&self) -> bool {
        // Whether to go on depends on answers.
        false
    }

    fn ended(&mut self, user: u32, at: Time) {
        self.inner.ended(user, at);
    }
}

/// Users whose first requests come evenly over some time.
struct Apart {
    first: VecDeque<Request>,
    users: ClosedLoop,
}

impl Apart {
    fn over(time: Time, count: u64, mut users: ClosedLoop) -> Self {
        let mut first = VecDeque::with_capacity(count as usize);
        while (first.len() as u64) < count
            && let Some(mut request) = users.take()
        {
            let begun = time.mul_f64(first.len() as f64 / count as f64);
            request.arrival = request.arrival.saturating_add(begun);
            first.push_back(request);
        }
        first
            .make_contiguous()
            .sort_by_key(|request| (request.arrival, request.number));
        Self { first, users }
    }
}

impl Arrivals for Apart {
    fn next_at(&mut self) -> Option<Time> {
        let first = self.first.front().map(|request| request.arrival);
        let later = self.users.next_at();
        first.into_iter().chain(later).min()
    }

    fn take(&mut self) -> Option<Request> {
        let first = self.first.front().map(|request| request.arrival);
        let later = self.users.next_at();
        match (first, later) {
            (Some(first), later) if later.is_none_or(|later| first <= later) => {
                self.first.pop_front()
            }
            _ => self.users.take(),
        }
    }

    fn ended(&mut self, user: u32, at: Time) {
        self.users.ended(user, at);
    }
}
