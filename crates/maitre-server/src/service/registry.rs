//! The connections of a listener, and which of them is closed when it is full.
//!
//! An idle connection is legal, and a full listener must stay reachable. So when a client comes to a full listener, a
//! connection without a call in progress leaves: of the address that has most connections, one that has not yet said
//! what it speaks before one that has, and the one that has been idle longest. If every connection has a call, a few
//! places are left for clients that only ask whether the server is well.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::service::limits::RESERVED_CONNECTIONS;

/// What is known about one connection.
#[derive(Debug)]
pub(crate) struct ConnectionState {
    /// Accepted though the listener was full: for health checks only.
    pub(crate) is_reserve: bool,
    /// How many connections of its listener send more frames than they earn credit for.
    pub(crate) floods: Arc<AtomicUsize>,
    answered: AtomicUsize,
    refused: AtomicUsize,
    is_open: AtomicBool,
    calls: AtomicUsize,
    idle_since: Mutex<Instant>,
    is_leaving: AtomicBool,
    leave: Notify,
}

impl ConnectionState {
    pub(crate) fn new(is_reserve: bool, floods: Arc<AtomicUsize>) -> Self {
        Self {
            is_reserve,
            floods,
            answered: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
            is_open: AtomicBool::new(false),
            calls: AtomicUsize::new(0),
            idle_since: Mutex::new(Instant::now()),
            is_leaving: AtomicBool::new(false),
            leave: Notify::new(),
        }
    }

    /// Its client has said what it speaks.
    pub(crate) fn opened(&self) {
        self.is_open.store(true, Ordering::Relaxed);
        *lock(&self.idle_since) = Instant::now();
    }

    /// A call began; [`call_ended`](Self::call_ended) follows.
    pub(crate) fn call_began(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    /// A call is over.
    pub(crate) fn call_ended(&self) {
        if self.calls.fetch_sub(1, Ordering::Relaxed) == 1 {
            *lock(&self.idle_since) = Instant::now();
        }
    }

    /// Resolves when the connection has to make way.
    pub(crate) async fn has_to_leave(&self) {
        self.leave.notified().await;
    }

    /// How many calls were answered, and how many refused for lack of places or memory, since it was opened.
    pub(crate) fn calls_over(&self) -> (usize, usize) {
        let count = |calls: &AtomicUsize| calls.load(Ordering::Relaxed);
        (count(&self.answered), count(&self.refused))
    }

    /// Counts a call that is over.
    pub(crate) fn call_over(&self, is_refused: bool) {
        let calls = if is_refused {
            &self.refused
        } else {
            &self.answered
        };
        calls.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether its client has said what it speaks.
    pub(crate) fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Relaxed)
    }
}

/// The connections of one listener.
#[derive(Debug)]
pub(crate) struct Registry {
    limit: usize,
    open: Mutex<Open>,
    /// See [`ConnectionState::floods`].
    floods: Arc<AtomicUsize>,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    entries: HashMap<u64, Entry>,
    leaving: usize,
    reserved: usize,
}

#[derive(Debug)]
struct Entry {
    peer: IpAddr,
    state: Arc<ConnectionState>,
}

/// A connection in the registry, until dropped.
#[derive(Debug)]
pub(crate) struct Member {
    registry: Arc<Registry>,
    number: u64,
    pub(crate) state: Arc<ConnectionState>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What counts as one client: an IPv4 address, or the 64 bits of an IPv6 address that a network hands out.
fn client_of(peer: SocketAddr) -> IpAddr {
    match peer.ip().to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
    }
}

impl Registry {
    /// At most `limit` connections, the reserve aside.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            open: Mutex::default(),
            floods: Arc::default(),
        }
    }

    /// How many leave a full listener at a time: finding one takes as long as finding several, and a flood of new
    /// connections must not pay for a search each.
    fn batch(&self) -> usize {
        (self.limit / 256).clamp(1, RESERVED_CONNECTIONS / 4)
    }

    /// Whether to accept another one now: those that have to leave may need a moment.
    pub(crate) fn accepts(&self) -> bool {
        lock(&self.open).leaving < RESERVED_CONNECTIONS
    }

    /// Enters a connection. If the listener is full, another one is told to leave, or a few; without one that can,
    /// this one is of the reserve.
    pub(crate) fn enter(self: &Arc<Self>, peer: SocketAddr) -> Member {
        let mut open = lock(&self.open);
        let regular = open.entries.len() - open.leaving - open.reserved;
        let is_reserve = regular >= self.limit && !open.dismiss(self.batch(), Entry::has_no_call);
        if is_reserve {
            if open.reserved >= RESERVED_CONNECTIONS {
                open.dismiss(1, Entry::is_of_the_reserve);
            }
            open.reserved += 1;
        }
        let state = Arc::new(ConnectionState::new(is_reserve, Arc::clone(&self.floods)));
        let number = open.next;
        open.next += 1;
        let entry = Entry {
            peer: client_of(peer),
            state: Arc::clone(&state),
        };
        open.entries.insert(number, entry);
        Member {
            registry: Arc::clone(self),
            number,
            state,
        }
    }
}

impl Entry {
    /// How much its connection would be missed; the least goes first.
    fn merit(&self, of_client: &HashMap<IpAddr, usize>) -> (Reverse<usize>, bool, Instant) {
        let siblings = of_client.get(&self.peer).copied().unwrap_or_default();
        let idle_since = *lock(&self.state.idle_since);
        (Reverse(siblings), self.state.is_open(), idle_since)
    }

    fn has_no_call(&self) -> bool {
        !self.state.is_reserve && self.state.calls.load(Ordering::Relaxed) == 0
    }

    fn is_of_the_reserve(&self) -> bool {
        self.state.is_reserve
    }
}

impl Open {
    /// Tells the `count` connections to leave that are least missed among those that `may_go`; false if there are none.
    fn dismiss(&mut self, count: usize, may_go: impl Fn(&Entry) -> bool) -> bool {
        let mut of_client: HashMap<IpAddr, usize> = HashMap::new();
        for entry in self.entries.values() {
            *of_client.entry(entry.peer).or_default() += 1;
        }
        let is_staying = |entry: &&Entry| !entry.state.is_leaving.load(Ordering::Relaxed);
        let mut candidates: Vec<_> = self
            .entries
            .values()
            .filter(is_staying)
            .filter(|entry| may_go(entry))
            .map(|entry| (entry.merit(&of_client), &entry.state))
            .collect();
        if candidates.len() > count {
            candidates.select_nth_unstable_by_key(count, |(merit, _)| *merit);
            candidates.truncate(count);
        }
        for (_, state) in &candidates {
            state.is_leaving.store(true, Ordering::Relaxed);
            state.leave.notify_one();
            if state.is_reserve {
                self.reserved -= 1;
            }
            self.leaving += 1;
            crate::metrics::connection_closed("full");
        }
        !candidates.is_empty()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut open = lock(&self.registry.open);
        open.entries.remove(&self.number);
        if self.state.is_leaving.load(Ordering::Relaxed) {
            open.leaving -= 1;
        } else if self.state.is_reserve {
            open.reserved -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;
    use std::time::Duration;

    fn client(address: &str) -> SocketAddr {
        SocketAddr::new(address.parse().unwrap(), 1)
    }

    fn is_told_to_leave(member: &Member) -> bool {
        member.state.has_to_leave().now_or_never().is_some()
    }

    async fn opened(registry: &Arc<Registry>, address: &str) -> Member {
        let member = registry.enter(client(address));
        member.state.opened();
        tokio::time::advance(Duration::from_secs(1)).await;
        member
    }

    #[tokio::test(start_paused = true)]
    async fn the_idlest_without_a_call_leaves_a_full_listener() {
        let registry = Arc::new(Registry::new(3));
        let busy = opened(&registry, "10.0.0.1").await;
        busy.state.call_began();
        let idlest = opened(&registry, "10.0.0.1").await;
        let idle = opened(&registry, "10.0.0.1").await;
        let newcomer = opened(&registry, "10.0.0.1").await;
        assert!(!newcomer.state.is_reserve);
        assert!(is_told_to_leave(&idlest));
        assert!(!is_told_to_leave(&idle) && !is_told_to_leave(&busy));
        // The end of a call makes a connection idle from then on.
        busy.state.call_ended();
        drop(idlest);
        let _another = opened(&registry, "10.0.0.1").await;
        assert!(is_told_to_leave(&idle));
        assert!(!is_told_to_leave(&busy));
    }

    #[tokio::test(start_paused = true)]
    async fn the_address_with_most_connections_and_the_silent_go_first() {
        let registry = Arc::new(Registry::new(4));
        let other = opened(&registry, "10.0.0.2").await;
        let first = opened(&registry, "2001:db8::1").await;
        let silent = registry.enter(client("2001:db8::2"));
        let last = opened(&registry, "2001:db8::3").await;
        let _new = opened(&registry, "10.0.0.3").await;
        assert!(is_told_to_leave(&silent));
        let _newer = opened(&registry, "10.0.0.4").await;
        assert!(is_told_to_leave(&first));
        assert!(!is_told_to_leave(&other) && !is_told_to_leave(&last));
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_places_are_left_when_every_connection_has_a_call() {
        let registry = Arc::new(Registry::new(1));
        let busy = opened(&registry, "10.0.0.1").await;
        busy.state.call_began();
        let mut reserve = Vec::new();
        for _ in 0..RESERVED_CONNECTIONS {
            reserve.push(opened(&registry, "10.0.0.2").await);
        }
        assert!(reserve.iter().all(|member| member.state.is_reserve));
        assert!(!reserve.iter().any(is_told_to_leave));
        let next = registry.enter(client("10.0.0.3"));
        assert!(next.state.is_reserve);
        assert!(is_told_to_leave(&reserve[0]), "the reserve has an end, too");
        drop((busy, next, reserve));
        assert!(!registry.enter(client("10.0.0.1")).state.is_reserve);
        assert_eq!(lock(&registry.open).entries.len(), 0);
        assert_eq!(lock(&registry.open).reserved, 0);
        assert_eq!(lock(&registry.open).leaving, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_leave_a_large_listener_at_a_time() {
        let registry = Arc::new(Registry::new(1024));
        let mut members = Vec::new();
        for _ in 0..1024 {
            members.push(opened(&registry, "10.0.0.1").await);
        }
        let newcomer = registry.enter(client("10.0.0.2"));
        let leaving: Vec<_> = members.iter().map(is_told_to_leave).collect();
        assert!(leaving[..4].iter().all(|told| *told), "the idlest four");
        assert!(!leaving[4..].iter().any(|told| *told));
        members.drain(..4);
        for _ in 0..3 {
            members.push(registry.enter(client("10.0.0.2")));
        }
        assert!(
            !members.iter().any(is_told_to_leave),
            "places are free again"
        );
        assert!(!newcomer.state.is_reserve);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_are_accepted_than_can_be_told_to_leave() {
        let registry = Arc::new(Registry::new(RESERVED_CONNECTIONS));
        let mut members = Vec::new();
        for _ in 0..2 * RESERVED_CONNECTIONS {
            assert!(registry.accepts());
            members.push(registry.enter(client("10.0.0.1")));
        }
        assert!(
            !registry.accepts(),
            "{RESERVED_CONNECTIONS} are on their way out"
        );
        drop(members);
        assert!(registry.accepts());
    }
}
