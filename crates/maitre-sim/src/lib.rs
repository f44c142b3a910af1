//! This crate foresees how a fleet serves: the scheduler and the KV manager that serve, under simulated time.
//!
//! A [`Simulation`] sends the requests of a workload ([`workload`]) to replicas ([`routing`]). Each replica has the
//! [`Scheduler`](maitre_scheduler::Scheduler) and the [`BoundedQueue`](maitre_scheduler::queue::BoundedQueue) of the server, with
//! the prefix cache. Each step that the scheduler plans is priced by a [`CostModel`] instead of being computed. A [`Report`] tells
//! latencies, throughput, goodput, and what the time went to.
//!
//! Every step is simulated; those that only repeat the one before, one position further on, are taken together, which no report tells.
//! Replicas may start and stop as the load asks for ([`Autoscaling`]), fail ([`Failures`]), or do prefill and decode apart ([`Split`]).
//! With [`Speculation`] the scheduler plans drafts, and how many are accepted is drawn from a recorded acceptance. What is not
//! simulated: text (answers have the lengths that the workload says), several devices for one replica, and what happens outside of the
//! engine's step loop, such as tokenizing and the network.
//!
//! **Architecture invariant:** pure and deterministic. This crate knows nothing of tensors, tokio, the engine, the server or the
//! wall clock, and the same simulation gives the same report, byte for byte.
//!
//! # Examples
//!
//! ```
//! use maitre_sim::workload::{Length, Lengths, OpenLoop};
//! use maitre_sim::{EngineSettings, Hardware, ModelShape, Simulation};
//!
//! let (model, hardware) = (ModelShape::known("qwen3-8b").unwrap(), Hardware::known("h100").unwrap());
//! let blocks = EngineSettings::kv_blocks_beside(&model, &hardware, 16)?;
//! let engine = EngineSettings::new(blocks, 4096);
//! let mut simulation = Simulation::new(&model, &hardware, engine)?;
//! simulation.slo = "ttft=500ms,tpot=50ms".parse()?;
//!
//! let lengths = Lengths::Independent { prompt: Length::Uniform(100..=200), output: Length::Fixed(20) };
//! let mut arrivals = OpenLoop::new("poisson:5".parse()?, lengths, 20, 0)?;
//! let report = simulation.run(&mut arrivals)?;
//! assert_eq!(report.requests.completed, 20);
//! assert_eq!(report.goodput.unwrap().share, 1.0);
//! # Ok::<(), maitre_sim::SimError>(())
//! ```

mod answered;
mod cost;
mod engine;
mod error;
mod fleet;
pub mod plan;
mod replica;
mod report;
pub mod routing;
mod speculation;

pub use answered::Answered;
pub use cost::{
    Calibrated, CostModel, Experts, Foreseen, Hardware, KvDtype, KvGroups, ModelShape,
    ProductFormat, StepPricer, StepSeconds, StepWork, WeightDtype, Window,
};
pub use engine::{EngineSettings, ToldSettings};
pub use error::SimError;
pub use fleet::{Autoscaling, Failures, FleetSize, OnFailure, ScaleBy, Simulation, Split};
/// What comes when: the requests of a simulation.
pub use maitre_workload as workload;
pub use maitre_workload::{Slo, parse_time};
pub use replica::ReplicaLoad;
pub use report::{
    FailuresReport, Goodput, Kv, Percentiles, Preemptions, Queue, ReplicaReport, Report, Requests,
    ScalingReport, SpeculationReport, SplitReport, Steps, Tokens,
};
pub use speculation::{Acceptance, Drafter, Speculation};
