//! All requests of a session to the same replica, so that its prefix cache has what earlier turns computed.

use super::{FleetView, Looks, Router};
use crate::workload::{Request, mix};

/// Sends a session to the replica that wins a draw by its number (rendezvous hashing: Thaler and Ravishankar 1998), so
/// that one more replica moves few sessions.
///
/// A request without a session counts as one of the session that its first two blocks name: in recorded conversations the
/// first block is often the same for all users. A request without either goes where its number leads.
#[derive(Debug, Clone, Copy, Default)]
pub struct SessionSticky;

impl Router for SessionSticky {
    fn route(&mut self, request: &Request, fleet: FleetView<'_>) -> usize {
        let key = session(request);
        let replicas = 0..fleet.len();
        replicas
            .filter(|&replica| fleet.is_open(replica))
            .max_by_key(|&replica| mix(key ^ mix(replica as u64)))
            .unwrap_or(0)
    }

    fn looks(&self) -> Looks {
        Looks::Nothing
    }
}

fn session(request: &Request) -> u64 {
    let of_prefix = || {
        let prefix = request.prefix.as_ref()?;
        let first = prefix.ids.iter().take(2);
        Some(first.fold(1, |key, id| mix(key ^ id)))
    };
    let known = request.session.map(mix).or_else(of_prefix);
    known.unwrap_or_else(|| mix(!request.number))
}
