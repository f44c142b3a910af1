//! Who is next: the order in which waiting requests are admitted.
//!
//! A policy only orders. It is told who waits and who was served, and names the requests it would admit next;
//! whether they fit is decided elsewhere, and a request that does not fit is not overtaken by one of a later
//! rank. Preempted requests wait again under their old place.

mod fair;
mod ranked;

use std::fmt;

pub use fair::{OUTPUT_TOKEN_COST, PROMPT_TOKEN_COST, WeightedFair};
pub use ranked::Ranked;

use crate::request::{Place, TenantId, Time};

/// The policies that come with the scheduler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PolicyKind {
    /// First come, first served.
    #[default]
    Fcfs,
    /// Higher priorities first, equal ones first come, first served. A stream of urgent requests can keep
    /// the others waiting for ever: it promises no service to anyone but the highest priority.
    Priority,
    /// Weighted fair service between tenants, first come, first served within one.
    Fair,
    /// Earliest deadline first. A request without a deadline is given one a minute after its arrival, so
    /// that it is served in the end.
    Deadline,
}

impl fmt::Display for PolicyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Fcfs => "fcfs",
            Self::Priority => "priority",
            Self::Fair => "fair",
            Self::Deadline => "deadline",
        })
    }
}

impl PolicyKind {
    /// A policy of this kind that has seen nobody yet.
    pub fn build(self) -> Box<dyn Policy> {
        match self {
            Self::Fcfs => Box::new(Ranked::fcfs()),
            Self::Priority => Box::new(Ranked::priority()),
            Self::Fair => Box::new(WeightedFair::new()),
            Self::Deadline => Box::new(Ranked::deadline()),
        }
    }
}

/// A waiting request, as far as its turn depends on it.
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
pub trait Policy: fmt::Debug + Send {
    /// `request` waits from now on.
    fn enter(&mut self, request: &Waiting);

    /// `request`, which waited, was admitted or is gone.
    fn leave(&mut self, request: &Waiting);

    /// At most `limit` requests of the best rank, first come first. They are equals: any of them may be
    /// admitted next without injustice.
    fn next(&self, limit: usize) -> Vec<Place>;

    /// Somebody was served.
    fn served(&mut self, service: Service) {
        let _ = service;
    }
}
