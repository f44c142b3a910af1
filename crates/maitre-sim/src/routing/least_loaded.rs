//! The replica with the fewest requests that are not answered.

use super::{FleetView, Looks, Router};
use crate::workload::Request;

/// Sends each request to the replica with the fewest requests. Of several it takes the one that comes next after the last one
/// chosen, so that an idle fleet is used evenly.
#[derive(Debug, Clone, Default)]
pub struct LeastLoaded {
    next: usize,
}

impl Router for LeastLoaded {
    fn route(&mut self, _request: &Request, fleet: FleetView<'_>) -> usize {
        let chosen = fleet.least_loaded(self.next);
        self.next = chosen + 1;
        chosen
    }

    fn looks(&self) -> Looks {
        Looks::Counts
    }
}
