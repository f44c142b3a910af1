//! The fleet under simulated time: arrivals are routed, replicas go from step to step.
//!
//! The one idea: a replica has at most one event, the end of its running step, and between events nothing changes in it. So
//! the fleet takes the earliest of all events and the next arrival, again and again. At the same moment arrivals go first,
//! so that requests that come together share a step, and then replicas by their number: the order is the same in each run.
//!
//! Where neither the router nor the arrivals depend on what the replicas do, they are simulated one after the other for a stretch of
//! time. The events of each replica are the same and in the same order, and so is the report.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use maitre_scheduler::Time;

use crate::replica::{Answered, Replica};
use crate::report::{Report, Statistics};
use crate::routing::{FleetView, Router, Routing};
use crate::workload::Slo;
use crate::workload::{Arrivals, Request};
use crate::{CostModel, EngineSettings, Hardware, ModelShape, ProductFormat, SimError, StepPricer};

/// Requests that are routed before the replicas go on one by one: so many that each has thousands of steps to do, and so few that
/// they take little memory.
const ROUTED_AT_ONCE: usize = 1 << 14;

/// What is simulated, but for the requests.
#[derive(Debug, Clone)]
pub struct Simulation {
    /// Name of the model, for the report.
    pub model: String,
    /// Name of the hardware, for the report.
    pub hardware: String,
    /// The requests in words, for the report.
    pub workload: String,
    /// Lines that were left out of a trace, for the report.
    pub skipped_lines: usize,
    /// The seed of the requests, for the report.
    pub seed: u64,
    /// What a step costs.
    pub cost: CostModel,
    /// The settings of each replica's engine.
    pub engine: EngineSettings,
    /// How many replicas there are.
    pub replicas: usize,
    /// How requests are sent to them.
    pub routing: Routing,
    /// What answers have to keep to.
    pub slo: Slo,
    pricer: StepPricer,
}

impl Simulation {
    /// One replica of a model on hardware, with products in bf16.
    ///
    /// # Errors
    ///
    /// [`SimError::Setting`] if a size, a rate or a setting is out of its range.
    pub fn new(
        shape: &ModelShape,
        hardware: &Hardware,
        engine: EngineSettings,
    ) -> Result<Self, SimError> {
        let cost = hardware.cost(ProductFormat::Bf16)?;
        Self::with_cost(shape, hardware.name.clone(), cost, engine)
    }

    /// One replica with this cost of a step.
    ///
    /// # Errors
    ///
    /// As [`Simulation::new`].
    pub fn with_cost(
        shape: &ModelShape,
        hardware: String,
        cost: CostModel,
        engine: EngineSettings,
    ) -> Result<Self, SimError> {
        Ok(Self {
            model: shape.name.clone(),
            hardware,
            workload: String::new(),
            skipped_lines: 0,
            seed: 0,
            pricer: StepPricer::new(shape, cost, engine.block_size)?,
            cost,
            engine,
            replicas: 1,
            routing: Routing::default(),
            slo: Slo::default(),
        })
    }

    /// Runs until every request is answered or refused.
    ///
    /// # Errors
    ///
    /// [`SimError`] if there is no replica, or the scheduler refuses its settings.
    pub fn run(&self, arrivals: &mut dyn Arrivals) -> Result<Report, SimError> {
        self.run_with(arrivals, self.routing.build(), &mut |_| ())
    }

    /// As [`Simulation::run`], with a router of the caller's. `observe` is told of each answer at its end.
    ///
    /// # Errors
    ///
    /// As [`Simulation::run`].
    pub fn run_with(
        &self,
        arrivals: &mut dyn Arrivals,
        router: Box<dyn Router>,
        observe: &mut dyn FnMut(&Answered),
    ) -> Result<Report, SimError> {
        if self.replicas == 0 {
            return Err(SimError::setting("the number of replicas", 0, "at least 1"));
        }
        let replicas = (0..self.replicas)
            .map(|index| Replica::new(index, &self.engine, self.pricer))
            .collect::<Result<_, _>>()?;
        let fleet = Fleet {
            replicas,
            router,
            events: BinaryHeap::with_capacity(self.replicas),
            statistics: Statistics::new(self.slo),
            answered: Vec::new(),
        };
        fleet.run(self, arrivals, observe)
    }
}

/// The replicas in a run.
struct Fleet {
    replicas: Vec<Replica>,
    router: Box<dyn Router>,
    /// The next event of each replica that has one.
    events: BinaryHeap<Reverse<(Time, usize)>>,
    statistics: Statistics,
    /// Answers that ended with the event at hand.
    answered: Vec<Answered>,
}

impl Fleet {
    fn run(
        mut self,
        simulation: &Simulation,
        arrivals: &mut dyn Arrivals,
        observe: &mut dyn FnMut(&Answered),
    ) -> Result<Report, SimError> {
        match arrivals.is_open() && !self.router.looks_at_loads() {
            true => self.run_apart(arrivals, observe)?,
            false => self.run_together(arrivals, observe)?,
        }
        let tallies: Vec<_> = self.replicas.into_iter().map(|it| it.tally).collect();
        Ok(Report::new(simulation, self.statistics, &tallies))
    }

    /// In the order of time over all replicas.
    fn run_together(
        &mut self,
        arrivals: &mut dyn Arrivals,
        observe: &mut dyn FnMut(&Answered),
    ) -> Result<(), SimError> {
        loop {
            let event = self.events.peek().map(|event| event.0.0);
            let arrival = arrivals.next_at();
            match (arrival, event) {
                (Some(at), event) if event.is_none_or(|event| at <= event) => {
                    self.arrive(at, arrivals);
                }
                (_, Some(_)) => self.advance(arrivals, observe)?,
                (_, None) => return Ok(()),
            }
        }
    }

    /// In the order of time for each replica by itself.
    fn run_apart(
        &mut self,
        arrivals: &mut dyn Arrivals,
        observe: &mut dyn FnMut(&Answered),
    ) -> Result<(), SimError> {
        let mut inboxes: Vec<Vec<Request>> = vec![Vec::new(); self.replicas.len()];
        loop {
            let mut routed = 0;
            while routed < ROUTED_AT_ONCE
                && let Some(request) = arrivals.take()
            {
                self.statistics.arrived(request.arrival);
                let chosen = self.route(&request);
                inboxes[chosen].push(request);
                routed += 1;
            }
            for (index, inbox) in inboxes.iter_mut().enumerate() {
                for request in inbox.drain(..) {
                    self.advance_before(index, Some(request.arrival), observe)?;
                    if let Err(refused) = self.replicas[index].arrive(&request, request.arrival) {
                        self.statistics.refused(refused.reason, request.arrival);
                    }
                }
                if routed == 0 {
                    self.advance_before(index, None, observe)?;
                }
            }
            if routed == 0 {
                return Ok(());
            }
        }
    }

    /// Lets a replica go on as long as its next event comes before `end`, or until it has none.
    fn advance_before(
        &mut self,
        index: usize,
        end: Option<Time>,
        observe: &mut dyn FnMut(&Answered),
    ) -> Result<(), SimError> {
        let replica = &mut self.replicas[index];
        while let Some(now) = replica
            .next_event()
            .filter(|&at| end.is_none_or(|end| at < end))
        {
            replica.advance(now, &mut self.statistics, &mut self.answered)?;
            for answered in self.answered.drain(..) {
                self.statistics.answered(&answered);
                observe(&answered);
            }
        }
        Ok(())
    }

    /// The replica for a request.
    fn route(&mut self, request: &Request) -> usize {
        let chosen = self.router.route(request, FleetView(&self.replicas));
        // A router of the caller's may name one that is not there.
        chosen.min(self.replicas.len() - 1)
    }

    /// Routes the next request.
    fn arrive(&mut self, now: Time, arrivals: &mut dyn Arrivals) {
        let Some(request) = arrivals.take() else {
            return;
        };
        self.statistics.arrived(now);
        let chosen = self.route(&request);
        match self.replicas[chosen].arrive(&request, now) {
            Ok(true) => self.events.push(Reverse((now, chosen))),
            Ok(false) => {}
            Err(refused) => {
                self.statistics.refused(refused.reason, now);
                if let Some(user) = request.user {
                    let again = now.saturating_add(refused.retry_after.unwrap_or_default());
                    arrivals.ended(user, again);
                }
            }
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
        replica.advance(now, &mut self.statistics, &mut self.answered)?;
        if let Some(next) = replica.next_event() {
            self.events.push(Reverse((next, index)));
        }
        for answered in self.answered.drain(..) {
            self.statistics.answered(&answered);
            observe(&answered);
            if let Some(user) = answered.user {
                arrivals.ended(user, now);
            }
        }
        Ok(())
    }
}
