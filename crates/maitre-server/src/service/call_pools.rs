//! How many calls may be in progress: of all clients, and of one connection.
//!
//! Calls come in classes that cannot take each other's places: a client that fills the server with work does not keep an
//! operator from aborting it. Within a class, while a fraction `f` of the places is free, a connection may have `f²` of
//! them, and always one if one is free (a rule like that of
//! [`ByteBudget`](maitre_engine::byte_budget::ByteBudget)): a lone connection gets 38 % of the places, and `k` greedy
//! ones, one after the other, leave about `1 / (k + 1)` of them. When a class is full, the call that has waited longest
//! for its own message makes way; where answers are short and there at once, the one that has waited longest for its client
//! to read.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::watch;
use tokio::time::Instant;

use crate::service::call_control::CallControl;
use crate::service::limits::{
    MAX_CONTROL_CALLS, MAX_HEALTH_CHECKS, MAX_REFLECTION_STREAMS,
    MAX_REFLECTION_STREAMS_PER_CONNECTION, MAX_WATCHES_PER_CONNECTION, PATIENCE_WHEN_FULL,
};

/// What a call is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// It makes the model or the tokenizer work.
    Work,
    /// It asks or steers.
    Control,
    /// It asks whether the server is well.
    Health,
    /// It stays, and is told of changes.
    Watch,
    /// It brings a stream of questions about the API.
    Reflection,
}

const CLASSES: usize = 5;

impl Class {
    /// Whether a drain waits for it: a watch never ends by itself.
    pub(crate) fn counts(self) -> bool {
        matches!(self, Self::Work | Self::Control)
    }

    /// Whether it stays for as long as its client likes: a connection that has no other calls may have to make way.
    pub(crate) fn stays(self) -> bool {
        matches!(self, Self::Watch | Self::Reflection)
    }

    /// Whether its answer is short and there at once, so that only a client that does not read keeps its place.
    pub(crate) fn is_answered_at_once(self) -> bool {
        matches!(self, Self::Control | Self::Health)
    }

    /// Whether its request is one message.
    pub(crate) fn has_one_message(self) -> bool {
        self != Self::Reflection
    }
}

/// Why a call was not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// All places of its class are taken.
    Full {
        /// How many there are.
        limit: usize,
    },
    /// Its connection has its share.
    Share {
        /// How many its connection has.
        own: usize,
        /// How many of the class there are.
        limit: usize,
    },
}

/// The places of every class.
#[derive(Debug)]
pub(crate) struct CallPools {
    pools: [Mutex<Pool>; CLASSES],
    in_progress: watch::Sender<usize>,
}

#[derive(Debug)]
struct Pool {
    limit: usize,
    per_connection: usize,
    taken: usize,
    next: u64,
    /// Calls that wait for their message, the oldest first.
    receiving: BTreeMap<u64, Waiting>,
    /// Calls that wait for their answer to be read, of the classes that are answered at once; the oldest first.
    answered: BTreeMap<u64, Waiting>,
}

/// A call that waits for its client.
#[derive(Debug)]
struct Waiting {
    since: Instant,
    control: Weak<CallControl>,
    share: Arc<ConnectionShare>,
}

/// What one connection has of each class.
#[derive(Debug, Default)]
pub(crate) struct ConnectionShare(Mutex<[usize; CLASSES]>);

/// A place of a call; free again when dropped.
#[derive(Debug)]
pub(crate) struct CallSlot {
    pools: Arc<CallPools>,
    share: Arc<ConnectionShare>,
    class: Class,
    number: u64,
    /// It waits for its client, so that its place may have been given to another.
    waits: Option<For>,
    control: Weak<CallControl>,
}

/// What a call waits for its client to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum For {
    /// Send its message.
    Message,
    /// Read its answer.
    Reading,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl CallPools {
    /// No place for work before [`set_max_calls`](Self::set_max_calls), and as many watches as there may be connections.
    pub(crate) fn new(max_connections: usize) -> Self {
        let pool = |limit, per_connection| {
            Mutex::new(Pool {
                limit,
                per_connection,
                taken: 0,
                next: 0,
                receiving: BTreeMap::new(),
                answered: BTreeMap::new(),
            })
        };
        Self {
            pools: [
                pool(0, usize::MAX),
                pool(MAX_CONTROL_CALLS, usize::MAX),
                pool(MAX_HEALTH_CHECKS, usize::MAX),
                pool(max_connections, MAX_WATCHES_PER_CONNECTION),
                pool(
                    MAX_REFLECTION_STREAMS,
                    MAX_REFLECTION_STREAMS_PER_CONNECTION,
                ),
            ],
            in_progress: watch::Sender::new(0),
        }
    }

    /// From now on there are so many places for work.
    pub(crate) fn set_max_calls(&self, max_calls: usize) {
        lock(&self.pools[Class::Work as usize]).limit = max_calls;
    }

    /// Takes a place for a call of `class` that `control` ends and whose connection has `share`.
    pub(crate) fn enter(
        self: &Arc<Self>,
        class: Class,
        share: &Arc<ConnectionShare>,
        control: &Arc<CallControl>,
    ) -> Result<CallSlot, Refusal> {
        let mut pool = lock(&self.pools[class as usize]);
        let own = lock(&share.0)[class as usize];
        let refused = Refusal::Share {
            own,
            limit: pool.limit,
        };
        if own >= pool.per_connection {
            return Err(refused);
        }
        if pool.taken >= pool.limit {
            pool.displace_one(class, own)?;
        } else if own >= pool.share() {
            return Err(refused);
        }
        let number = pool.next;
        pool.next += 1;
        pool.taken += 1;
        pool.receiving.insert(
            number,
            Waiting {
                since: Instant::now(),
                control: Arc::downgrade(control),
                share: Arc::clone(share),
            },
        );
        lock(&share.0)[class as usize] += 1;
        drop(pool);
        if class.counts() {
            self.in_progress.send_modify(|calls| *calls += 1);
        }
        Ok(CallSlot {
            pools: Arc::clone(self),
            share: Arc::clone(share),
            class,
            number,
            waits: Some(For::Message),
            control: Arc::downgrade(control),
        })
    }

    /// Places of `class` that are taken.
    #[cfg(test)]
    pub(crate) fn taken(&self, class: Class) -> usize {
        lock(&self.pools[class as usize]).taken
    }

    /// Resolves when no call is in progress that a drain waits for.
    pub(crate) async fn idle(&self) {
        // The sender lives in `self`, so waiting can't fail.
        let mut calls = self.in_progress.subscribe();
        let _ = calls.wait_for(|calls| *calls == 0).await;
    }
}

impl Pool {
    /// How many calls one connection may have.
    fn share(&self) -> usize {
        let free = self.limit.saturating_sub(self.taken) as u128;
        let share = (free * free).div_ceil((self.limit as u128).max(1));
        usize::try_from(share).unwrap_or(usize::MAX).max(1)
    }

    /// Frees a place: of the call that has waited longest for its answer to be read; else of the one that has waited
    /// longest for its message, of those that have waited long enough and whose connection has more calls than `own`,
    /// the number of the new call's connection.
    fn displace_one(&mut self, class: Class, own: usize) -> Result<(), Refusal> {
        if let Some((_, displaced)) = self.answered.pop_first() {
            self.free(class, &displaced.share);
            if let Some(control) = displaced.control.upgrade() {
                control.evict();
            }
            return Ok(());
        }
        let number = self
            .receiving
            .iter()
            .take_while(|(_, call)| call.since.elapsed() >= PATIENCE_WHEN_FULL)
            .find(|(_, call)| lock(&call.share.0)[class as usize] > own)
            .map(|(&number, _)| number);
        let Some(displaced) = number.and_then(|number| self.receiving.remove(&number)) else {
            return Err(Refusal::Full { limit: self.limit });
        };
        self.free(class, &displaced.share);
        if let Some(control) = displaced.control.upgrade() {
            control.displace();
        }
        Ok(())
    }

    fn free(&mut self, class: Class, share: &ConnectionShare) {
        self.taken = self.taken.saturating_sub(1);
        let mut own = lock(&share.0);
        own[class as usize] = own[class as usize].saturating_sub(1);
    }

    fn waiting(&mut self, what: For) -> &mut BTreeMap<u64, Waiting> {
        match what {
            For::Message => &mut self.receiving,
            For::Reading => &mut self.answered,
        }
    }
}

impl CallSlot {
    /// The call has its whole message: it keeps its place from now on.
    pub(crate) fn received(&mut self) {
        if self.waits == Some(For::Message) {
            let mut pool = lock(&self.pools.pools[self.class as usize]);
            // If it is not there, its place has been given away, and its drop must not free another.
            if pool.receiving.remove(&self.number).is_some() {
                self.waits = None;
            }
        }
    }

    /// The call's answer is there, and short: another call may have its place before it is read.
    pub(crate) fn answered(&mut self) {
        self.received();
        if self.waits.is_none() {
            let waiting = Waiting {
                since: Instant::now(),
                control: Weak::clone(&self.control),
                share: Arc::clone(&self.share),
            };
            let mut pool = lock(&self.pools.pools[self.class as usize]);
            pool.answered.insert(self.number, waiting);
            self.waits = Some(For::Reading);
        }
    }
}

impl Drop for CallSlot {
    fn drop(&mut self) {
        let mut pool = lock(&self.pools.pools[self.class as usize]);
        let was_given_away = self
            .waits
            .is_some_and(|what| pool.waiting(what).remove(&self.number).is_none());
        if !was_given_away {
            pool.free(self.class, &self.share);
        }
        drop(pool);
        if self.class.counts() {
            self.pools.in_progress.send_modify(|calls| *calls -= 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn pools(max_calls: usize, max_connections: usize) -> Arc<CallPools> {
        let pools = CallPools::new(max_connections);
        pools.set_max_calls(max_calls);
        Arc::new(pools)
    }

    struct Client(Arc<ConnectionShare>);

    impl Client {
        fn new() -> Self {
            Self(Arc::default())
        }

        fn call(
            &self,
            pools: &Arc<CallPools>,
            class: Class,
        ) -> Result<(CallSlot, Arc<CallControl>), Refusal> {
            let control = Arc::new(CallControl::new(Duration::from_secs(30)));
            let place = pools.enter(class, &self.0, &control)?;
            Ok((place, control))
        }

        /// As many as it gets, all with their messages.
        fn fill(&self, pools: &Arc<CallPools>, class: Class) -> Vec<CallSlot> {
            std::iter::from_fn(|| self.call(pools, class).ok())
                .map(|(mut place, _)| {
                    place.received();
                    place
                })
                .collect()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_has_at_most_what_it_leaves_to_others() {
        let pools = pools(8, 8);
        let (one, two, three) = (Client::new(), Client::new(), Client::new());
        let first = one.fill(&pools, Class::Work);
        assert_eq!(first.len(), 4);
        let refused = one.call(&pools, Class::Work).unwrap_err();
        assert_eq!(refused, Refusal::Share { own: 4, limit: 8 });
        let second = two.fill(&pools, Class::Work);
        assert_eq!(second.len(), 2);
        assert!(three.call(&pools, Class::Work).is_ok());
        drop(first);
        assert_eq!(pools.taken(Class::Work), 2);
        drop(second);
        pools.idle().await;
    }

    #[tokio::test(start_paused = true)]
    async fn many_greedy_connections_leave_places() {
        let pools = pools(1408, 8);
        let mut greedy = Vec::new();
        for _ in 0..30 {
            greedy.push(Client::new().fill(&pools, Class::Work));
        }
        assert_eq!(greedy[0].len(), 538);
        assert!(Client::new().fill(&pools, Class::Work).len() > 1);
        assert!(1408 - pools.taken(Class::Work) > 40);
    }

    #[tokio::test(start_paused = true)]
    async fn classes_do_not_take_each_others_places() {
        let pools = pools(1, 8);
        let one = Client::new();
        let work = one.fill(&pools, Class::Work);
        assert_eq!(work.len(), 1);
        let refused = Client::new().call(&pools, Class::Work).unwrap_err();
        assert_eq!(refused, Refusal::Full { limit: 1 });
        for class in [
            Class::Control,
            Class::Health,
            Class::Watch,
            Class::Reflection,
        ] {
            assert!(one.call(&pools, class).is_ok(), "{class:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn watches_and_reflection_are_bounded_per_connection() {
        let pools = pools(8, 4096);
        let one = Client::new();
        assert_eq!(one.fill(&pools, Class::Watch).len(), 16);
        assert_eq!(one.fill(&pools, Class::Reflection).len(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_longest_for_its_message_makes_way() {
        let pools = pools(2, 8);
        let (idle, busy, newcomer) = (Client::new(), Client::new(), Client::new());
        let (waiting, control) = idle.call(&pools, Class::Work).unwrap();
        let (mut working, _) = busy.call(&pools, Class::Work).unwrap();
        working.received();
        let full = Refusal::Full { limit: 2 };
        assert_eq!(
            newcomer.call(&pools, Class::Work).unwrap_err(),
            full,
            "it may be on its way"
        );
        tokio::time::advance(PATIENCE_WHEN_FULL).await;
        assert_eq!(
            idle.call(&pools, Class::Work).unwrap_err(),
            full,
            "its connection has one"
        );
        let (mut place, _) = newcomer.call(&pools, Class::Work).unwrap();
        place.received();
        assert!(control.is_displaced(std::task::Waker::noop()));
        assert_eq!(pools.taken(Class::Work), 2);
        drop(waiting);
        assert_eq!(pools.taken(Class::Work), 2, "the new call has its place");
        tokio::time::advance(PATIENCE_WHEN_FULL).await;
        assert_eq!(
            idle.call(&pools, Class::Work).unwrap_err(),
            full,
            "a call that works stays"
        );
        drop((place, working));
        assert_eq!(pools.taken(Class::Work), 0);
        pools.idle().await;
    }

    /// Many clients that do not read their answers keep no other client from asking.
    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_not_read_makes_way_at_once() {
        for class in [Class::Health, Class::Control] {
            let pools = pools(8, 8);
            let clients: Vec<Client> = (0..256).map(|_| Client::new()).collect();
            let mut held = Vec::new();
            for client in &clients {
                let (mut place, control) = client.call(&pools, class).unwrap();
                place.answered();
                held.push((place, control));
            }
            assert_eq!(pools.taken(class), 256);
            let (newcomer, _) = Client::new().call(&pools, class).unwrap();
            let cut = |control: &CallControl| control.cut_if_evicted(std::task::Waker::noop());
            assert!(cut(&held[0].1).is_some(), "the oldest");
            assert!(cut(&held[1].1).is_none());
            assert_eq!(pools.taken(class), 256);
            // The one that made way does not free a place twice.
            drop(held);
            assert_eq!(pools.taken(class), 1);
            drop(newcomer);
            assert_eq!(pools.taken(class), 0);
            assert!(lock(&pools.pools[class as usize]).answered.is_empty());
        }
    }
}
