//! One replica after the other, whatever they have to do.

use super::{FleetView, Looks, Router};
use crate::workload::Request;

/// Sends each request to the next replica.
#[derive(Debug, Clone, Default)]
pub struct RoundRobin {
    next: usize,
}

impl Router for RoundRobin {
    fn route(&mut self, _request: &Request, fleet: FleetView<'_>) -> usize {
        let chosen = fleet.next_open(self.next);
        self.next = chosen + 1;
        chosen
    }

    fn looks(&self) -> Looks {
        Looks::Nothing
    }
}
