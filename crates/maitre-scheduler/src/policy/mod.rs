//! Policies: the order in which waiting requests are admitted, and how running ones rank.
//!
//! A policy only orders. The scheduler tells it which requests wait and which were served, and asks which it
//! would admit next. The scheduler then decides whether they fit; a request that does not fit is not overtaken
//! by one of a later rank. Preempted requests wait again under their old place. Of what running requests share, the
//! policy ranks two things: whose prompt gets the tokens of a step first, and who gives its blocks back.

mod fair;
mod ranked;

use std::fmt;

pub use fair::{OUTPUT_TOKEN_COST, PROMPT_TOKEN_COST, WeightedFair};
pub use ranked::Ranked;

use crate::request::{Place, TenantId, Time};

/// Declares the kinds once: the type, the list of all, their names, a word on each, and what makes one. A new policy
/// is a file beside this one and a row below; what else there is to do, `CONTRIBUTING.md` lists.
macro_rules! policy_kinds {
    ($($(#[$doc:meta])* $kind:ident = $name:literal, $about:literal, $make:expr;)+) => {
        /// The policies that come with the scheduler.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub enum PolicyKind {
            $($(#[$doc])* $kind,)+
        }

        impl PolicyKind {
            /// Every kind, in the order in which they are explained.
            pub const ALL: &'static [Self] = &[$(Self::$kind,)+];

            /// Its name on the command line and in banners.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)+
                }
            }

            /// What it admits first, and who may wait for ever, in a few words.
            pub const fn about(self) -> &'static str {
                match self {
                    $(Self::$kind => $about,)+
                }
            }

            /// A policy of this kind that has seen no request yet.
            pub fn build(self) -> Box<dyn Policy> {
                match self {
                    $(Self::$kind => Box::new($make),)+
                }
            }
        }
    };
}

policy_kinds! {
    /// First come, first served.
    #[default]
    Fcfs = "fcfs", "First come, first served", Ranked::fcfs();
    /// Higher priorities first, equal ones first come, first served. A stream of urgent requests can keep
    /// the others waiting for ever: it promises no service to any but the highest priority.
    Priority = "priority", "The highest priority first; the lowest may wait for ever", Ranked::priority();
    /// Weighted fair service between tenants, first come, first served within one.
    Fair = "fair", "The tenant that was served least", WeightedFair::new();
    /// Earliest deadline first. A request without a deadline is given one a minute after its arrival, so
    /// that it is served in the end.
    Deadline = "deadline", "The earliest deadline", Ranked::deadline();
}

impl fmt::Display for PolicyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A request, as far as its rank depends on it. Nothing of it changes while the request waits; of one that runs,
/// `output_tokens` grows. `prompt_tokens` and `max_tokens` together do not overflow: no longer request is admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// Its place by arrival.
    pub place: Place,
    /// The higher, the more urgent.
    pub priority: i32,
    /// When it has to be done.
    pub deadline: Option<Time>,
    /// On whose account it runs.
    pub tenant: TenantId,
    /// The tenant's share relative to others', at least 1.
    pub weight: u32,
    /// Tokens of its prompt, those that may be in the prefix cache included.
    pub prompt_tokens: usize,
    /// Tokens it has generated so far: none, unless it was preempted.
    pub output_tokens: usize,
    /// The most tokens it may generate, those it has included.
    pub max_tokens: usize,
    /// How often it lost its blocks. One that was preempted has had its turn before.
    pub preemptions: u32,
}

/// What a policy's order of turns lets a request be told before it joins the queue
/// ([`QueueBounds::order`](crate::queue::QueueBounds::order)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum QueueOrder {
    /// Turns follow arrival. All that wait go before a new request, so its wait can be estimated and bounded.
    Arrival,
    /// Tenants share the service, so they share the queue too: none of them can fill it alone.
    TenantShares,
    /// A later request may go before. No wait can be estimated, and no tenant has a share.
    #[default]
    Overtaking,
}

/// Tokens a tenant was served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Service {
    /// Whose.
    pub tenant: TenantId,
    /// Its weight.
    pub weight: u32,
    /// Prompt tokens computed; those found in the prefix cache cost nothing.
    pub prompt_tokens: usize,
    /// Output tokens.
    pub output_tokens: usize,
}

/// Orders waiting requests. Implementations are deterministic: the same calls give the same order.
///
/// The scheduler tells a policy of each request when it begins to wait and when it no longer does; one that is
/// preempted begins to wait again, under its old place. Each time it may admit a request it asks which is next.
///
/// A policy need not look for cached prefixes. Among the requests that it names as equals, the scheduler
/// admits the one with the longest cached prefix first, within
/// [`SchedulerConfig::reorder_within`](crate::SchedulerConfig::reorder_within). Longest prefix match is a policy to
/// which all are equals, [`Ranked::fcfs`], with a large `reorder_within`.
///
/// # Examples
///
/// The shortest job first: the request with the fewest tokens of prompt and longest answer together. A long one may
/// wait for ever.
///
/// ```
/// use std::collections::BTreeSet;
///
/// use maitre_scheduler::{
///     KvConfig, NewRequest, Place, Policy, RequestId, Scheduler, SchedulerConfig, Time, Waiting,
/// };
///
/// #[derive(Debug, Default)]
/// struct ShortestFirst {
///     waiting: BTreeSet<(usize, Place)>,
/// }
///
/// impl ShortestFirst {
///     fn length(request: &Waiting) -> usize {
///         request.prompt_tokens + request.max_tokens
///     }
/// }
///
/// impl Policy for ShortestFirst {
///     fn enter(&mut self, request: &Waiting) {
///         self.waiting.insert((Self::length(request), request.place));
///     }
///
///     fn leave(&mut self, request: &Waiting) {
///         self.waiting.remove(&(Self::length(request), request.place));
///     }
///
///     // All that are as short: of those, the scheduler may take one whose prefix is cached first.
///     fn next(&self, limit: usize) -> Vec<Place> {
///         let shortest = self.waiting.first().map(|(length, _)| *length);
///         let equals = self.waiting.iter().take_while(|(length, _)| Some(*length) == shortest);
///         equals.take(limit).map(|(_, place)| *place).collect()
///     }
///
///     // A short prompt overtakes a long one in progress.
///     fn prompt_rank(&self, request: &Waiting) -> i128 {
///         Self::length(request) as i128
///     }
///
///     // When blocks run out, the longest job gives its own back.
///     fn keep_rank(&self, running: &Waiting) -> i128 {
///         -(Self::length(running) as i128)
///     }
/// }
///
/// // One request at a time.
/// let config = SchedulerConfig::new(1, 64, 128, KvConfig::new(64, 4));
/// let mut scheduler = Scheduler::with_policy(config, Box::new(ShortestFirst::default()))?;
/// scheduler.add(NewRequest::new(1, vec![7; 50], 20))?;
/// scheduler.add(NewRequest::new(2, vec![8; 5], 20))?;
/// let plan = scheduler.schedule(Time::ZERO);
/// assert_eq!(plan.admitted[0].request, RequestId(2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Policy: fmt::Debug + Send {
    /// `request` waits from now on.
    fn enter(&mut self, request: &Waiting);

    /// `request`, which waited, was admitted or is gone. It is described just as when it entered.
    fn leave(&mut self, request: &Waiting);

    /// At most `limit` requests of the best rank, first come first. They are equals: any of them may be
    /// admitted next without injustice. At least one, if any waits.
    fn next(&self, limit: usize) -> Vec<Place>;

    /// How turns relate to arrival, which decides how the queue is bounded. It never changes.
    fn queue_order(&self) -> QueueOrder {
        QueueOrder::Overtaking
    }

    /// Whose prompt gets tokens of a step first: the smallest number, and of equals the earliest arrival. Prompts in
    /// progress share what the decodes leave of the budget in this order, and a waiting request whose number is smaller
    /// than that of a prompt in progress is admitted before that prompt goes on. All are equals unless a policy says
    /// otherwise. `request` waits, or runs and computes its prompt.
    fn prompt_rank(&self, request: &Waiting) -> i128 {
        let _ = request;
        0
    }

    /// Who is preempted when blocks run out: the running request with the smallest number, and of equals the one that has
    /// least work to lose. So the larger the number, the longer a request keeps its blocks. Its priority, unless a policy says otherwise. Requests that were preempted
    /// often are spared whatever the policy says, or they would never end.
    fn keep_rank(&self, running: &Waiting) -> i128 {
        i128::from(running.priority)
    }

    /// A tenant was served: the prompt of one of its requests is about to be computed, or a step made output
    /// tokens for it.
    fn served(&mut self, service: Service) {
        let _ = service;
    }
}
