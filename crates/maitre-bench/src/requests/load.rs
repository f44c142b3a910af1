//! How hard a target is asked in a run.

use std::fmt;

use maitre_workload::ArrivalProcess;
use serde::{Serialize, Serializer};

/// How hard a target is asked in a run.
#[derive(Debug, Clone, PartialEq)]
pub enum Load {
    /// A closed loop: so many users, each of whom reads an answer before the next request.
    Users(u32),
    /// An open loop: requests come whether or not earlier ones are answered.
    Arrivals(ArrivalProcess),
    /// An open loop: the requests of a trace at their times.
    Replay {
        /// How many times as fast as they were recorded.
        speed: f64,
    },
}

impl Load {
    /// Users of a closed loop.
    #[must_use]
    pub fn users(&self) -> Option<u32> {
        match self {
            Self::Users(users) => Some(*users),
            _ => None,
        }
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Users(users) => write!(f, "{users} users"),
            Self::Arrivals(process) => write!(f, "{process}"),
            Self::Replay { speed } => write!(f, "trace x {speed}"),
        }
    }
}

impl Serialize for Load {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
