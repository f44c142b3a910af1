//! All replicas in the order of time.
//!
//! Four things happen: a timer of the fleet is up (`timers.rs`), a request arrives, a replica's steps end, or one of its transfers
//! does. At the same moment they go in this order, and replicas by their numbers.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;

use maitre_scheduler::Time;

use super::members::{Members, State};
use super::timers::Timer;
use super::{FleetCounts, Ran, Simulation};
use crate::Answered;
use crate::SimError;
use crate::replica::{Live, Refused, Replica};
use crate::report::Statistics;
use crate::routing::{FleetView, LeastLoaded, Looks, Router};
use crate::workload::Arrivals;

/// When a request is worth another try that found no replica.
const RETRY_WITHOUT_REPLICA: Time = Time::from_secs(1);

pub(super) fn run(
    simulation: &Simulation,
    router: Box<dyn Router>,
    arrivals: &mut dyn Arrivals,
    observe: &mut dyn FnMut(&Answered),
) -> Result<Ran, SimError> {
    let (places, ready) = (simulation.places(), simulation.ready_at_first());
    let replicas = (0..places).map(|index| simulation.replica(index, &simulation.engine));
    let mut fleet = Fleet {
        simulation,
        replicas: replicas.collect::<Result<_, _>>()?,
        members: Members::new(places, ready),
        router,
        decode_router: LeastLoaded::default(),
        events: BinaryHeap::with_capacity(places),
        timers: BinaryHeap::new(),
        statistics: Statistics::new(simulation.slo),
        counts: FleetCounts::default(),
        seen: (0, 0),
        answered: Vec::new(),
    };
    fleet.set_first_timers();
    fleet.run(arrivals, observe)?;
    fleet.counts.sizes = fleet.members.sizes;
    Ok(Ran {
        statistics: fleet.statistics,
        tallies: fleet.replicas.into_iter().map(|it| it.tally).collect(),
        fleet: fleet.counts,
    })
}

/// The replicas in a run.
pub(super) struct Fleet<'a> {
    pub(super) simulation: &'a Simulation,
    pub(super) replicas: Vec<Replica>,
    pub(super) members: Members,
    router: Box<dyn Router>,
    decode_router: LeastLoaded,
    /// The next event of each replica that has one. After one that came sooner the later entry means nothing.
    events: BinaryHeap<Reverse<(Time, usize)>>,
    pub(super) timers: BinaryHeap<Reverse<(Time, Timer)>>,
    pub(super) statistics: Statistics,
    pub(super) counts: FleetCounts,
    /// Requests that had ended, and those of them that had missed the SLO, at the last look.
    pub(super) seen: (u64, u64),
    /// Answers that ended with the event at hand.
    answered: Vec<Answered>,
}

impl Fleet<'_> {
    /// Until no request comes and none is under way.
    fn run(
        &mut self,
        arrivals: &mut dyn Arrivals,
        observe: &mut dyn FnMut(&Answered),
    ) -> Result<(), SimError> {
        loop {
            let (event, arrival) = (self.next_event(), arrivals.next_at());
            let Some(next) = event.into_iter().chain(arrival).min() else {
                return Ok(());
            };
            let timer = self.timers.peek().filter(|timer| timer.0.0 <= next);
            if timer.is_some() {
                self.fire(arrivals)?;
            } else if arrival == Some(next) {
                self.arrive(next, arrivals)?;
            } else {
                self.advance(arrivals, observe)?;
            }
        }
    }

    /// The time of the next event of a replica.
    fn next_event(&mut self) -> Option<Time> {
        while let Some(&Reverse((at, index))) = self.events.peek() {
            if self.replicas[index].next_event() == Some(at) {
                return Some(at);
            }
            self.events.pop();
        }
        None
    }

    /// Replicas that take requests from outside.
    fn front(&self) -> Range<usize> {
        0..self
            .simulation
            .split
            .map_or(self.replicas.len(), |split| split.prefill)
    }

    fn arrive(&mut self, now: Time, arrivals: &mut dyn Arrivals) -> Result<(), SimError> {
        let Some(request) = arrivals.take() else {
            return Ok(());
        };
        self.statistics.arrived(now);
        self.send(Live::new(request), now, arrivals)
    }

    /// Routes a request that has no token yet.
    pub(super) fn send(
        &mut self,
        live: Live,
        now: Time,
        arrivals: &mut dyn Arrivals,
    ) -> Result<(), SimError> {
        let front = self.front();
        if self.router.looks() == Looks::Loads {
            for replica in &mut self.replicas[front.clone()] {
                replica.catch_up(now, &mut self.statistics)?;
            }
        }
        let open = &self.members.open()[front.clone()];
        let view = FleetView::of(&self.replicas[front], open);
        let Some(chosen) = choose(&mut *self.router, &live, view) else {
            self.refuse(live.request.user, Refused::without_replica(), now, arrivals);
            return Ok(());
        };
        self.give(chosen, live, now, arrivals)
    }

    /// Routes a request that has its first token, and gets the others elsewhere.
    fn hand_over(
        &mut self,
        live: Live,
        now: Time,
        arrivals: &mut dyn Arrivals,
    ) -> Result<(), SimError> {
        let back = self.front().end..self.replicas.len();
        let open = &self.members.open()[back.clone()];
        let view = FleetView::of(&self.replicas[back.clone()], open);
        let Some(chosen) = choose(&mut self.decode_router, &live, view) else {
            self.refuse(live.request.user, Refused::without_replica(), now, arrivals);
            return Ok(());
        };
        self.give(back.start + chosen, live, now, arrivals)
    }

    fn give(
        &mut self,
        index: usize,
        live: Live,
        now: Time,
        arrivals: &mut dyn Arrivals,
    ) -> Result<(), SimError> {
        let replica = &mut self.replicas[index];
        replica.catch_up(now, &mut self.statistics)?;
        let (before, user) = (replica.next_event(), live.request.user);
        match replica.take(live, now) {
            Ok(()) => {
                let next = replica
                    .next_event()
                    .filter(|_| replica.next_event() != before);
                self.events.extend(next.map(|at| Reverse((at, index))));
            }
            Err(refused) => self.refuse(user, refused, now, arrivals),
        }
        Ok(())
    }

    fn refuse(
        &mut self,
        user: Option<u32>,
        refused: Refused,
        now: Time,
        arrivals: &mut dyn Arrivals,
    ) {
        self.statistics.refused(refused.reason, now);
        if let Some(user) = user {
            let again = now.saturating_add(refused.retry_after.unwrap_or_default());
            arrivals.ended(user, again);
        }
    }

    /// Lets the replica with the earliest event go on.
    fn advance(
        &mut self,
        arrivals: &mut dyn Arrivals,
        observe: &mut dyn FnMut(&Answered),
    ) -> Result<(), SimError> {
        let Some(Reverse((now, index))) = self.events.pop() else {
            return Ok(());
        };
        let replica = &mut self.replicas[index];
        replica.advance(now, None, &mut self.statistics, &mut self.answered)?;
        if let Some(next) = replica.next_event() {
            self.events.push(Reverse((next, index)));
        }
        let is_idle = replica.outstanding() == 0;
        let handed_over = std::mem::take(&mut replica.handed_over);
        for answered in self.answered.drain(..) {
            self.statistics.answered(&answered);
            observe(&answered);
            if let Some(user) = answered.user {
                arrivals.ended(user, now);
            }
        }
        for live in handed_over {
            self.hand_over(live, now, arrivals)?;
        }
        if is_idle && self.members.state(index) == State::Draining {
            self.members.become_(index, State::Off, now);
        }
        Ok(())
    }
}

/// The replica that a router names, if any takes requests.
fn choose(router: &mut dyn Router, live: &Live, view: FleetView<'_>) -> Option<usize> {
    if !(0..view.len()).any(|replica| view.is_open(replica)) {
        return None;
    }
    let chosen = router.route(&live.request, view);
    // A router of the caller's may name one that is not there, or takes nothing.
    match view.is_open(chosen) {
        true => Some(chosen),
        false => Some(view.least_loaded(chosen)),
    }
}

impl Refused {
    fn without_replica() -> Self {
        Self {
            reason: "no_replica",
            retry_after: Some(RETRY_WITHOUT_REPLICA),
        }
    }
}
