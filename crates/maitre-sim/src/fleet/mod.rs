//! The fleet under simulated time: arrivals are routed, replicas go from step to step.
//!
//! The one idea: a replica has at most one event, the end of the steps that run, and between events nothing changes in it. So
//! the fleet takes the earliest of all events and the next arrival, again and again. At the same moment arrivals go first,
//! so that requests that come together share a step, and then replicas by their number: the order is the same in each run
//! (`together.rs`). Beside them there are timers, by which replicas start, stop and fail (`timers.rs`).
//!
//! Where neither the router nor the arrivals depend on what the replicas do, each is simulated from its beginning to its end before the
//! next one (`apart.rs`). The events of each replica are the same and in the same order, and so is the report.

mod apart;
mod autoscaling;
mod failures;
mod members;
mod split;
mod timers;
mod together;

pub use autoscaling::{Autoscaling, ScaleBy};
pub use failures::{Failures, OnFailure};
pub use members::FleetSize;
pub(crate) use members::replica_seconds;
pub use split::Split;

use crate::Answered;
use crate::replica::{Replica, Role};
use crate::report::{ReplicaTally, Report, Statistics};
use crate::routing::{Looks, Router, Routing};
use crate::speculation::{Drafting, Speculation};
use crate::workload::{Arrivals, Slo};
use crate::{CostModel, EngineSettings, Hardware, ModelShape, ProductFormat, SimError, StepPricer};

/// What was counted in a run.
struct Ran {
    statistics: Statistics,
    /// Of each replica.
    tallies: Vec<ReplicaTally>,
    fleet: FleetCounts,
}

/// What was counted of replicas that start, stop and fail.
#[derive(Debug, Default)]
pub(crate) struct FleetCounts {
    /// The sizes of the fleet, each from its time on; none where it never changes.
    pub(crate) sizes: Vec<FleetSize>,
    pub(crate) started: u64,
    pub(crate) stopped: u64,
    pub(crate) failures: u64,
    /// Tokens of answers that failures took.
    pub(crate) lost_tokens: u64,
}

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
    /// Of them, those that were out of the order of time, for the report.
    pub lines_out_of_order: usize,
    /// The seed of the requests, for the report, and of failures.
    pub seed: u64,
    /// What a step costs.
    pub cost: CostModel,
    /// The settings of each replica's engine.
    pub engine: EngineSettings,
    /// How many replicas there are; with autoscaling, at first.
    pub replicas: usize,
    /// How requests are sent to them.
    pub routing: Routing,
    /// What answers have to keep to.
    pub slo: Slo,
    /// Whether steps that only repeat each other are taken one by one. The report is the same, and takes longer.
    pub every_step: bool,
    /// Whether and when replicas are started and stopped.
    pub autoscaling: Option<Autoscaling>,
    /// Whether and when replicas fail.
    pub failures: Option<Failures>,
    /// Whether prefill and decode have replicas of their own; their numbers are in place of [`Self::replicas`].
    pub split: Option<Split>,
    /// Whether and how several tokens of an answer come from one step. The KV cache of a draft model has to be in
    /// [`EngineSettings::kv_blocks`](EngineSettings::kv_blocks) already.
    pub speculation: Option<Speculation>,
    vocabulary: u32,
    kv_bytes_per_token: f64,
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
            lines_out_of_order: 0,
            seed: 0,
            pricer: StepPricer::new(shape, cost.clone(), engine.block_size)?,
            cost,
            engine,
            replicas: 1,
            routing: Routing::default(),
            slo: Slo::default(),
            every_step: false,
            autoscaling: None,
            failures: None,
            split: None,
            speculation: None,
            vocabulary: shape.vocabulary,
            kv_bytes_per_token: shape.kv_bytes_per_token(),
        })
    }

    /// Runs until every request is answered or refused.
    ///
    /// # Errors
    ///
    /// [`SimError`] if there is no replica, a draft model has another vocabulary, or the scheduler refuses its settings.
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
        self.validate()?;
        let is_still =
            self.autoscaling.is_none() && self.failures.is_none() && self.split.is_none();
        let looks = !arrivals.is_open() || router.looks() != Looks::Nothing;
        let ran = match is_still && !looks {
            true => apart::run(self, router, arrivals, observe, apart::ROUTED_AT_ONCE),
            false => together::run(self, router, arrivals, observe),
        }?;
        Ok(Report::new(self, ran.statistics, &ran.tallies, ran.fleet))
    }

    fn validate(&self) -> Result<(), SimError> {
        if self.replicas == 0 {
            return Err(SimError::setting("the number of replicas", 0, "at least 1"));
        }
        if let Some(scaling) = &self.autoscaling {
            scaling.validate(self.replicas, !self.slo.is_empty())?;
            if self.split.is_some() {
                let expected = "as many prefill and decode replicas all the time";
                return Err(SimError::setting("autoscaling", scaling.by, expected));
            }
        }
        if let Some(speculation) = &self.speculation {
            let drafter = &speculation.drafter;
            drafter.check_vocabulary(&self.model, self.vocabulary)?;
        }
        self.failures
            .map_or(Ok(()), |failures| failures.validate())?;
        self.split.map_or(Ok(()), |split| split.validate())
    }

    /// Replicas that may be there at a time.
    fn places(&self) -> usize {
        let scaled = self.autoscaling.map(|scaling| scaling.max);
        let split = self.split.map(|split| split.prefill + split.decode);
        scaled.or(split).unwrap_or(self.replicas)
    }

    /// Replicas that are there from the beginning.
    fn ready_at_first(&self) -> usize {
        match self.split {
            Some(_) => self.places(),
            None => self.replicas,
        }
    }

    fn role(&self, index: usize) -> Role {
        match self.split {
            None => Role::Both,
            Some(split) if index < split.prefill => Role::Prefill,
            Some(split) => Role::Decode {
                seconds_per_token: self.kv_bytes_per_token / split.link_bytes_per_second,
            },
        }
    }

    /// Bytes of a token's keys and values.
    pub(crate) fn kv_bytes_per_token(&self) -> f64 {
        self.kv_bytes_per_token
    }

    fn replica(&self, index: usize, engine: &EngineSettings) -> Result<Replica, SimError> {
        let drafting = self.speculation.as_ref().map(|speculation| {
            Drafting::new(speculation, self.seed, &self.cost, engine.block_size)
        });
        Replica::new(
            index,
            engine,
            self.pricer.clone(),
            drafting.transpose()?,
            self.role(index),
            self.every_step,
        )
    }
}
