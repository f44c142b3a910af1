//! One replica after the other, where neither the router nor the arrivals look at what replicas do.
//!
//! Requests are all routed first. A replica then goes from its first request to its last answer while its memory is in the
//! processor's caches, and is gone before the next one is made. Only where there are more requests than are kept at a time, replicas
//! stay, and go on by turns.
//!
//! Half of the time goes into names of blocks, by which later requests find them. Where no prompt begins like another, only a request
//! that was preempted could find any, which are its own. So a replica goes without names first, and once more with them if it preempts a request.

use maitre_scheduler::Time;

use super::{FleetCounts, Ran, Simulation};
use crate::Answered;
use crate::replica::Replica;
use crate::report::{ReplicaTally, Statistics};
use crate::routing::{FleetView, Router};
use crate::workload::{Arrivals, Request};
use crate::{EngineSettings, SimError};

/// Requests that are routed before the replicas go on: 1.3 GB.
pub(super) const ROUTED_AT_ONCE: usize = 1 << 24;

pub(super) fn run(
    simulation: &Simulation,
    mut router: Box<dyn Router>,
    arrivals: &mut dyn Arrivals,
    observe: &mut dyn FnMut(&Answered),
    routed_at_once: usize,
) -> Result<Ran, SimError> {
    let count = simulation.replicas;
    let mut statistics = Statistics::new(simulation.slo);
    let mut inboxes: Vec<Vec<Request>> = vec![Vec::new(); count];
    let mut begun: Vec<Option<Lone>> = (0..count).map(|_| None).collect();
    let mut tallies: Vec<ReplicaTally> = Vec::with_capacity(count);
    while tallies.len() < count {
        let is_last = route_all(
            &mut *router,
            arrivals,
            &mut inboxes,
            &mut statistics,
            routed_at_once,
        );
        for (index, inbox) in inboxes.iter_mut().enumerate() {
            let inbox = std::mem::take(inbox);
            let mut lone = match begun[index].take() {
                None if is_last => {
                    whole_life(simulation, index, &inbox, arrivals.shares_prefixes())?
                }
                begun => {
                    let anew = || Lone::new(simulation, index, &simulation.engine);
                    let mut lone = begun.map_or_else(anew, Ok)?;
                    lone.go_through(&inbox, is_last)?;
                    lone
                }
            };
            lone.answers.drain(..).for_each(|it| observe(&it));
            match is_last {
                true => {
                    statistics.add(lone.statistics);
                    tallies.push(lone.replica.tally);
                }
                false => begun[index] = Some(lone),
            }
        }
    }
    Ok(Ran {
        statistics,
        tallies,
        fleet: FleetCounts::default(),
    })
}

/// Sends as many requests to their replicas as are kept at a time. Returns whether there are no others.
fn route_all(
    router: &mut dyn Router,
    arrivals: &mut dyn Arrivals,
    inboxes: &mut [Vec<Request>],
    statistics: &mut Statistics,
    routed_at_once: usize,
) -> bool {
    let replicas = inboxes.len();
    for _ in 0..routed_at_once {
        let Some(request) = arrivals.take() else {
            return true;
        };
        statistics.arrived(request.arrival);
        let chosen = router.route(&request, FleetView::of_idle(replicas));
        // A router of the caller's may name one that is not there.
        inboxes[chosen.min(replicas - 1)].push(request);
    }
    false
}

/// A replica from its first request to its last answer.
fn whole_life(
    simulation: &Simulation,
    index: usize,
    inbox: &[Request],
    names: bool,
) -> Result<Lone, SimError> {
    if !names && simulation.engine.prefix_cache {
        let nameless = EngineSettings {
            prefix_cache: false,
            ..simulation.engine.clone()
        };
        let mut lone = Lone::new(simulation, index, &nameless)?;
        lone.stops_at_preemption = true;
        lone.go_through(inbox, true)?;
        if lone.replica.tally.preemptions == 0 {
            return Ok(lone);
        }
    }
    let mut lone = Lone::new(simulation, index, &simulation.engine)?;
    lone.go_through(inbox, true)?;
    Ok(lone)
}

/// A replica by itself, with what was counted of its requests.
struct Lone {
    replica: Replica,
    statistics: Statistics,
    answers: Vec<Answered>,
    stops_at_preemption: bool,
}

impl Lone {
    fn new(
        simulation: &Simulation,
        index: usize,
        engine: &EngineSettings,
    ) -> Result<Self, SimError> {
        Ok(Self {
            replica: simulation.replica(index, engine)?,
            statistics: Statistics::new(simulation.slo),
            answers: Vec::new(),
            stops_at_preemption: false,
        })
    }

    /// Takes these requests at their times, and answers all if they are the last ones.
    fn go_through(&mut self, requests: &[Request], are_last: bool) -> Result<(), SimError> {
        for request in requests {
            self.go_on(Some(request.arrival))?;
            if self.stops_at_preemption && self.replica.tally.preemptions > 0 {
                return Ok(());
            }
            self.replica
                .catch_up(request.arrival, &mut self.statistics)?;
            if let Err(refused) = self.replica.arrive(request, request.arrival) {
                self.statistics.refused(refused.reason, request.arrival);
            }
        }
        match are_last {
            true => self.go_on(None),
            false => Ok(()),
        }
    }

    /// As long as its next event comes before `until`, when the next request comes, or until it has none.
    fn go_on(&mut self, until: Option<Time>) -> Result<(), SimError> {
        let in_time = |at: &Time| until.is_none_or(|until| *at < until);
        while let Some(now) = self.replica.next_event().filter(in_time) {
            let before = self.answers.len();
            self.replica
                .advance(now, until, &mut self.statistics, &mut self.answers)?;
            for answered in &self.answers[before..] {
                self.statistics.answered(answered);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Report;
    use crate::workload::{Length, Lengths, OpenLoop};
    use crate::{Hardware, ModelShape};

    /// Replicas that go on by turns do what they do in one go.
    #[test]
    fn how_many_are_routed_at_a_time_makes_no_difference() {
        let (model, hardware) = (ModelShape::known("qwen3-0.6b"), Hardware::known("l4"));
        let engine = EngineSettings {
            max_queue: 5,
            max_seqs: 4,
            ..EngineSettings::new(30, 512)
        };
        let mut simulation = Simulation::new(&model.unwrap(), &hardware.unwrap(), engine).unwrap();
        simulation.replicas = 3;
        let report = |routed_at_once| {
            let lengths = Lengths::Independent {
                prompt: Length::Uniform(50..=200),
                output: Length::Uniform(1..=60),
            };
            let process = "poisson:300".parse().unwrap();
            let mut arrivals = OpenLoop::new(process, lengths, 120, 0).unwrap();
            let router = simulation.routing.build();
            let observe = &mut |_: &Answered| ();
            let ran = run(&simulation, router, &mut arrivals, observe, routed_at_once).unwrap();
            Report::new(&simulation, ran.statistics, &ran.tallies, ran.fleet)
        };
        let whole = report(ROUTED_AT_ONCE);
        assert!(
            whole.preemptions.requests > 0 && !whole.requests.refused.is_empty(),
            "{whole}"
        );
        assert_eq!(whole.to_json(), report(7).to_json());
        assert_eq!(whole.to_json(), report(120).to_json());
    }
}
