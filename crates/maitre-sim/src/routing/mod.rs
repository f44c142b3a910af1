//! Which replica a request is sent to.
//!
//! A [`Router`] sees a request and how much each replica has to do, and names one. It knows no more than a router in front of
//! real servers does: not what the answer will be, and not what a prefix cache holds.

mod least_loaded;
mod prefix_aware;
mod round_robin;
mod session_sticky;

use std::fmt;
use std::str::FromStr;

pub use least_loaded::LeastLoaded;
pub use prefix_aware::PrefixAware;
pub use round_robin::RoundRobin;
pub use session_sticky::SessionSticky;

use crate::SimError;
use crate::replica::{Replica, ReplicaLoad};
use crate::workload::Request;

/// The replicas of a fleet as a router sees them.
#[derive(Debug, Clone, Copy)]
pub struct FleetView<'a>(pub(crate) &'a [Replica]);

impl FleetView<'_> {
    /// How many replicas there are, at least one.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none. A fleet has at least one.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How much a replica has to do; nothing if there is none of this number.
    #[must_use]
    pub fn load(&self, replica: usize) -> ReplicaLoad {
        self.0.get(replica).map(Replica::load).unwrap_or_default()
    }

    /// Its requests that are not answered yet.
    #[must_use]
    pub fn outstanding(&self, replica: usize) -> usize {
        self.0.get(replica).map_or(0, Replica::outstanding)
    }

    /// The replica with the fewest requests that are not answered, the first of them from `start` on.
    #[must_use]
    pub fn least_loaded(&self, start: usize) -> usize {
        let all = (0..self.len()).map(|step| (start + step) % self.len().max(1));
        all.min_by_key(|&replica| self.outstanding(replica))
            .unwrap_or(0)
    }
}

/// Sends requests to replicas. Deterministic: the same requests and loads give the same replicas.
pub trait Router: fmt::Debug {
    /// The replica for `request`, below [`FleetView::len`]. Each request is asked for once, when it comes.
    fn route(&mut self, request: &Request, fleet: FleetView<'_>) -> usize;

    /// Whether it looks at what the replicas have to do. If not, many requests are routed at once and each replica is
    /// simulated by itself for a while, which is faster, since its memory stays in the processor's caches. The loads
    /// that it is shown then are of some moment before.
    fn looks_at_loads(&self) -> bool {
        true
    }
}

/// The routers that come with the simulator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Routing {
    /// One after the other.
    #[default]
    RoundRobin,
    /// To the replica with the fewest requests.
    LeastLoaded,
    /// To the replica that was sent most of the prompt before, unless it has much more to do than others.
    PrefixAware,
    /// All requests of a session to the same replica.
    SessionSticky,
}

impl Routing {
    /// Every kind, in the order in which they are explained.
    pub const ALL: [Self; 4] = [
        Self::RoundRobin,
        Self::LeastLoaded,
        Self::PrefixAware,
        Self::SessionSticky,
    ];

    /// Its name on the command line and in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::RoundRobin => "round-robin",
            Self::LeastLoaded => "least-loaded",
            Self::PrefixAware => "prefix-aware",
            Self::SessionSticky => "session-sticky",
        }
    }

    /// A router of this kind that has seen no request yet.
    #[must_use]
    pub fn build(self) -> Box<dyn Router> {
        match self {
            Self::RoundRobin => Box::new(RoundRobin::default()),
            Self::LeastLoaded => Box::new(LeastLoaded::default()),
            Self::PrefixAware => Box::new(PrefixAware::default()),
            Self::SessionSticky => Box::new(SessionSticky),
        }
    }
}

impl fmt::Display for Routing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Routing {
    type Err = SimError;

    fn from_str(text: &str) -> Result<Self, SimError> {
        let found = Self::ALL.into_iter().find(|kind| kind.name() == text);
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            SimError::setting("the routing", text, format!("one of {names}"))
        })
    }
}
