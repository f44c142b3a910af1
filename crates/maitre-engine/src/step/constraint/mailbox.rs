//! One constraint, and what the step loop asks of it.
//!
//! At most one thread has the constraint at a time. Asks are answered in order; an answer that the loop does not wait for
//! any more is thrown away.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use maitre_sampling::{Constraint, TokenMask};
use maitre_speculative::Allowed;

use crate::request::constraint::ConstraintHandle;
use crate::step::result::panic_text;

/// What the step loop wants to know.
#[derive(Debug, Default)]
pub(crate) struct Ask {
    /// Tokens that came since the last ask.
    pub(crate) tokens: Vec<u32>,
    /// Tokens that may follow.
    pub(crate) drafts: Vec<u32>,
    /// How many tokens that have to follow are wanted.
    pub(crate) most_forced: usize,
    /// Masks that are not needed any more.
    pub(crate) spare: Vec<TokenMask>,
}

/// What may follow.
#[derive(Debug)]
pub(crate) struct Next {
    /// The drafts that were asked about.
    pub(crate) asked: Vec<u32>,
    /// Of these, or of those that have to come, the first ones that are allowed.
    pub(crate) drafts: Vec<u32>,
    pub(crate) is_forced: bool,
    /// One more than `drafts`.
    pub(crate) masks: Vec<TokenMask>,
    pub(crate) is_complete: bool,
    /// Why nothing may follow, if the constraint knows.
    pub(crate) failure: Option<String>,
}

/// What may follow, or why nothing can.
pub(crate) type Answer = Result<Next, String>;

impl Next {
    pub(crate) fn goes_on(&self) -> bool {
        self.masks.first().is_some_and(|mask| !mask.is_empty())
    }

    /// Forgets what it says of `tokens`, which have come, and puts those masks aside. False if it says nothing of what
    /// comes behind them, or does not let the sequence go on: then there are masks that are not put aside.
    pub(crate) fn skip(&mut self, tokens: &[u32], spare: &mut Vec<TokenMask>) -> bool {
        let count = tokens.len();
        let goes_on = self.masks.get(count).is_some_and(|mask| !mask.is_empty());
        if count == 0 || !goes_on || !self.drafts.starts_with(tokens) {
            return false;
        }
        self.drafts.drain(..count);
        spare.extend(self.masks.drain(..count));
        self.is_forced &= !self.drafts.is_empty();
        // What was asked is what is left of it.
        self.asked.clone_from(&self.drafts);
        true
    }

    pub(crate) fn allowed(&self) -> Allowed<'_> {
        Allowed {
            drafts: &self.drafts,
            forced: self.is_forced,
            masks: &self.masks,
        }
    }
}

/// A constraint on its way between threads.
pub(crate) struct Mailbox {
    inbox: Mutex<Inbox>,
    vocab_size: usize,
    /// Processor time of an answer, in microseconds: an average in which an answer counts an eighth.
    cost: AtomicU64,
}

/// From this cost on a constraint is slow. Most answers take a fifth of a millisecond or less.
const SLOW_MICROSECONDS: u64 = 1000;

/// What is asked and answered.
pub(crate) struct Inbox {
    state: State,
    asks: VecDeque<(u64, Ask)>,
    /// The ask whose answer is `next`, and that whose answer is `behind_drafts`.
    wanted: [u64; 2],
    next: Option<Answer>,
    behind_drafts: Option<Answer>,
    asked: u64,
    /// Whether it is in the queue of the threads, or one of them is at it.
    is_queued: bool,
}

enum State {
    /// Not made yet.
    Source(ConstraintHandle),
    Here(Box<dyn Constraint>),
    /// A thread has it.
    Away,
    Failed(String),
}

impl std::fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mailbox").finish_non_exhaustive()
    }
}

impl Mailbox {
    pub(crate) fn new(source: ConstraintHandle, vocab_size: usize) -> Self {
        let inbox = Inbox {
            state: State::Source(source),
            asks: VecDeque::new(),
            wanted: [0; 2],
            next: None,
            behind_drafts: None,
            asked: 0,
            is_queued: false,
        };
        Self {
            inbox: Mutex::new(inbox),
            vocab_size,
            cost: AtomicU64::new(0),
        }
    }

    /// Lets `ask` ask something. Returns whether the mailbox has to be queued for it.
    pub(crate) fn ask(&self, ask: impl FnOnce(&mut Inbox)) -> bool {
        let mut inbox = self.lock();
        ask(&mut inbox);
        !std::mem::replace(&mut inbox.is_queued, true)
    }

    /// The answers that have come since the last call.
    pub(crate) fn take_answers(&self) -> (Option<Answer>, Option<Answer>) {
        let mut inbox = self.lock();
        (inbox.next.take(), inbox.behind_drafts.take())
    }

    /// No thread can be had.
    pub(crate) fn give_up(&self, why: &str) {
        let mut inbox = self.lock();
        let inbox = &mut *inbox;
        inbox.state = State::Failed(why.to_owned());
        inbox.asks.clear();
        inbox.next = Some(Err(why.to_owned()));
        inbox.is_queued = false;
    }

    /// Whether its answers have taken long of late.
    pub(crate) fn is_slow(&self) -> bool {
        self.cost.load(Ordering::Relaxed) >= SLOW_MICROSECONDS
    }

    fn took(&self, time: Duration) {
        let took = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let cost = self.cost.load(Ordering::Relaxed);
        let average = (cost.saturating_mul(7)).saturating_add(took) / 8;
        self.cost.store(average, Ordering::Relaxed);
    }

    /// Answers what was asked, on this thread, as long as it `may`. A panic of the constraint is an answer, too. Returns
    /// whether all was answered; otherwise it has to be queued again.
    pub(crate) fn work(&self, may: impl Fn(&Self) -> bool) -> bool {
        while let Some((id, ask, state)) = self.begin() {
            let vocab_size = self.vocab_size;
            let began = thread_time();
            // Unwind safety: a constraint that has panicked is not used again.
            let answered = catch_unwind(AssertUnwindSafe(|| answer(state, ask, vocab_size)));
            let (state, answer) = answered.unwrap_or_else(|panic| {
                let message = format!("the constraint panicked: {}", panic_text(&*panic));
                drop_quietly(panic);
                (State::Failed(message.clone()), Err(message))
            });
            self.took(thread_time().saturating_sub(began));
            self.end(id, state, answer);
            if !may(self) {
                return !self.has_asks();
            }
        }
        true
    }

    /// Whether there is more to answer; if not, it is not queued any more.
    fn has_asks(&self) -> bool {
        let mut inbox = self.lock();
        inbox.is_queued = !inbox.asks.is_empty();
        inbox.is_queued
    }

    fn begin(&self) -> Option<(u64, Ask, State)> {
        let mut inbox = self.lock();
        match inbox.asks.pop_front() {
            Some((id, ask)) => {
                let state = std::mem::replace(&mut inbox.state, State::Away);
                Some((id, ask, state))
            }
            None => {
                inbox.is_queued = false;
                None
            }
        }
    }

    fn end(&self, id: u64, state: State, answer: Answer) {
        let mut inbox = self.lock();
        inbox.state = state;
        let [next, behind_drafts] = inbox.wanted;
        if id == next {
            inbox.next = Some(answer);
        } else if id == behind_drafts {
            inbox.behind_drafts = Some(answer);
        }
    }

    /// Nothing that runs under the lock panics half way.
    fn lock(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inbox {
    /// Asks what may come next. What was asked about drafts before is not wanted any more.
    pub(crate) fn ask_next(&mut self, ask: Ask) {
        self.next = None;
        self.behind_drafts = None;
        self.asked += 1;
        self.wanted = [self.asked, 0];
        // What brings tokens has to be heard in any case.
        self.asks.retain(|(_, earlier)| !earlier.tokens.is_empty());
        self.asks.push_back((self.asked, ask));
    }

    /// Asks what may come behind drafts.
    pub(crate) fn look(&mut self, ask: Ask) {
        self.behind_drafts = None;
        self.asked += 1;
        self.wanted[1] = self.asked;
        self.asks.push_back((self.asked, ask));
    }
}

impl Drop for Inbox {
    /// What a request brought is dropped where it can harm no other.
    fn drop(&mut self) {
        drop_quietly(std::mem::replace(&mut self.state, State::Away));
    }
}

/// Processor time of this thread: what the machine does besides is not the constraint's fault.
#[cfg(target_os = "linux")]
fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// Time, where threads have no clocks of their own that we know.
#[cfg(not(target_os = "linux"))]
fn thread_time() -> Duration {
    use std::sync::OnceLock;
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

/// Drops what a request brought, which may panic even then.
fn drop_quietly<T>(value: T) {
    // Unwind safety: nothing is used afterwards.
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(value))) {
        // A second panic on the way would be one too many.
        std::mem::forget(panic);
    }
}

fn answer(state: State, ask: Ask, vocab_size: usize) -> (State, Answer) {
    let mut constraint = match state {
        State::Here(constraint) => constraint,
        State::Source(source) => source.start(),
        State::Failed(message) => return (State::Failed(message.clone()), Err(message)),
        // Asks are answered by one thread at a time.
        State::Away => {
            let message = "the constraint is lost".to_owned();
            return (State::Failed(message.clone()), Err(message));
        }
    };
    let began = Instant::now();
    if !ask.tokens.is_empty() {
        constraint.advance(&ask.tokens);
    }
    let next = next(&mut *constraint, ask, vocab_size);
    crate::observe::metrics::masked(began.elapsed());
    (State::Here(constraint), Ok(next))
}

fn next(constraint: &mut dyn Constraint, ask: Ask, vocab_size: usize) -> Next {
    let mut forced = match ask.most_forced {
        0 => Vec::new(),
        _ => constraint.forced(),
    };
    forced.truncate(ask.most_forced);
    let is_forced = !forced.is_empty();
    let mut drafts = if is_forced {
        forced
    } else {
        ask.drafts.clone()
    };
    let mut masks = ask.spare;
    masks.truncate(drafts.len() + 1);
    masks.iter_mut().for_each(TokenMask::clear);
    masks.resize_with(drafts.len() + 1, || TokenMask::new(vocab_size));
    constraint.masks(&drafts, &mut masks);
    let pairs = drafts.iter().zip(&masks);
    let allowed = pairs.take_while(|(draft, mask)| mask.allows(**draft));
    let allowed = allowed.count();
    drafts.truncate(allowed);
    masks.truncate(allowed + 1);
    Next {
        asked: ask.drafts,
        drafts,
        is_forced: is_forced && allowed > 0,
        masks,
        is_complete: constraint.is_complete(),
        failure: constraint.failure(),
    }
}
