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
pub struct FleetView<'a> {
    replicas: &'a [Replica],
    /// Whether each takes requests.
    open: Option<&'a [bool]>,
    len: usize,
}

impl<'a> FleetView<'a> {
    pub(crate) fn of(replicas: &'a [Replica], open: &'a [bool]) -> Self {
        Self {
            len: replicas.len(),
            open: Some(open),
            replicas,
        }
    }

    /// So many replicas of which no router wants to know what they do.
    pub(crate) fn of_idle(len: usize) -> Self {
        Self {
            replicas: &[],
            open: None,
            len,
        }
    }

    /// How many replicas there are, at least one. Some may take no requests.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none. A fleet has at least one.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether a replica takes requests: not one that starts, is about to stop, has failed or is not there. At least one does
    /// whenever a router is asked.
    #[must_use]
    pub fn is_open(&self, replica: usize) -> bool {
        let open = self.open.map(|open| open.get(replica).copied());
        open.map_or(replica < self.len, Option::unwrap_or_default)
    }

    /// The first replica from `start` on, and around, that takes requests.
    #[must_use]
    pub fn next_open(&self, start: usize) -> usize {
        let mut all = self.all_from(start);
        all.find(|&replica| self.is_open(replica)).unwrap_or(0)
    }

    fn all_from(&self, start: usize) -> impl Iterator<Item = usize> {
        let len = self.len().max(1);
        (0..self.len()).map(move |step| (start % len + step) % len)
    }

    /// How much a replica has to do; nothing if there is none of this number.
    #[must_use]
    pub fn load(&self, replica: usize) -> ReplicaLoad {
        let replica = self.replicas.get(replica);
        replica.map(Replica::load).unwrap_or_default()
    }

    /// Its requests that are not answered yet.
    #[must_use]
    pub fn outstanding(&self, replica: usize) -> usize {
        self.replicas.get(replica).map_or(0, Replica::outstanding)
    }

    /// Of those that take requests, the replica with the fewest that are not answered, the first of them from `start` on.
    #[must_use]
    pub fn least_loaded(&self, start: usize) -> usize {
        let open = self.all_from(start).filter(|&it| self.is_open(it));
        open.min_by_key(|&replica| self.outstanding(replica))
            .unwrap_or(0)
    }
}

/// What a router looks at when it chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Looks {
    /// At nothing but the request and [`FleetView::len`]. All requests are routed before anything else, and each replica is simulated by
    /// itself; the loads that the router is shown are 0.
    Nothing,
    /// At [`FleetView::outstanding`] and [`FleetView::least_loaded`]: how many requests replicas have.
    Counts,
    /// At [`FleetView::load`] too. No steps of any replica are taken together across an arrival at another.
    Loads,
}

/// Sends requests to replicas. Deterministic: the same requests and loads give the same replicas.
pub trait Router: fmt::Debug {
    /// The replica for `request`, one that [takes requests](FleetView::is_open). Each request is asked for when it comes, and again if the
    /// replica fails that has it.
    fn route(&mut self, request: &Request, fleet: FleetView<'_>) -> usize;

    /// What it looks at. The less it is, the faster is the simulation.
    fn looks(&self) -> Looks {
        Looks::Loads
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
