//! This crate decides which requests run in the next step, and how many tokens each of them gets.
//!
//! [`Scheduler::schedule`] decides and returns a [`StepPlan`]. The caller computes the plan and reports the
//! results to [`Scheduler::commit`]. In between, requests may be added and cancelled, and further steps planned,
//! as many as [`SchedulerConfig::steps_in_flight`] says. [`Scheduler::retract`] takes the newest one back.
//!
//! - *Continuous batching* (Orca: Yu et al. 2022, section 3): requests join and leave between steps.
//! - *Chunked prefill under one token budget* (Sarathi-Serve: Agrawal et al. 2024, section 4): decodes
//!   first, so that a request that streams does not wait for the prompt of another; the rest of the budget goes
//!   to prompts, cut wherever the budget ends.
//! - *Preemption* (PagedAttention: Kwon et al. 2023, section 4.5): when blocks run out, the request that has
//!   least work to lose gives its blocks back. Its next admission finds those that either tier still holds.
//! - *Speculation* (Leviathan et al. 2023): a decode may verify drafted tokens in the same step. Drafts get the
//!   tokens and blocks that decodes, prompts and admissions leave.
//! - *Planning ahead* (asynchronous scheduling, as in vLLM and SGLang): a decode may be planned while the step that
//!   samples its token is in flight. Its span then says which step that is ([`TokenRef::Sampled`]).
//! - *Prefix sharing and forks*: a request starts from what others with the same beginning have computed.
//! - *Transfers* (prefill and decode apart, a tier on disk): a request may await blocks that come from elsewhere while
//!   others run. See [`Scheduler::settle_transfer`].
//! - A [`Policy`] says which waiting request is next; deadlines end requests.
//! - *Admission control*: a [`BoundedQueue`](queue::BoundedQueue) in front of the scheduler refuses a request at once
//!   when too much waits, and says when to try again.
//!
//! **Architecture invariant:** pure and deterministic. This crate knows nothing of tensors, text, tokio,
//! I/O or the wall clock: time is an argument, and the same calls give the same plans, byte for byte.
//!
//! # Examples
//!
//! ```
//! use maitre_scheduler::{KvConfig, NewRequest, Outcome, Scheduler, SchedulerConfig, Time};
//!
//! let config = SchedulerConfig::new(4, 8, 64, KvConfig::new(8, 4));
//! let mut scheduler = Scheduler::new(config)?;
//! scheduler.add(NewRequest::new(1, (100..110).collect(), 2))?;
//!
//! // The prompt of 10 tokens takes two steps under a budget of 8; the second one samples.
//! while scheduler.has_work() {
//!     let plan = scheduler.schedule(Time::ZERO);
//!     let outcomes: Vec<Outcome> = plan
//!         .spans
//!         .iter()
//!         .map(|span| Outcome::of(span.request, if span.samples { vec![7] } else { vec![] }))
//!         .collect();
//!     scheduler.commit(plan.step_id, &outcomes)?;
//! }
//! assert_eq!(scheduler.kv_usage().used, 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod admit;
mod commit;
mod config;
mod cost;
mod drafts;
mod error;
mod forks;
mod in_flight;
mod invariants;
mod plan;
mod policy;
mod preempt;
pub mod queue;
mod repeat;
mod replay;
mod request;
mod retract;
mod schedule;
mod scheduler;
mod timers;
mod transfers;

pub use config::SchedulerConfig;
pub use error::{InvariantViolation, Refusal, SchedulerError};
pub use plan::{
    Admitted, Expired, ExpiredWhy, GroupSpan, NO_SLOT, Outcome, PlannedSpan, Preemption, StepId,
    StepPlan, TokenRef,
};
pub use policy::{
    OUTPUT_TOKEN_COST, PROMPT_TOKEN_COST, Policy, PolicyKind, QueueOrder, Ranked, Service, Waiting,
    WeightedFair,
};
pub use replay::{BadCall, Call, Recorder, ReplayError, replay, replay_with};
pub use request::{NewRequest, Place, RequestId, TenantId, Time};
pub use scheduler::{KvUsage, Scheduler, SchedulerCounts};
pub use transfers::{BlockSource, Phase, PlannedTransfer, TransferId};

// What the plans and the configuration are made of.
pub use maitre_kv::{
    Ahead, BlockHash, BlockId, BlockMove, BlockMoves, CacheEvent, HashKey, KvConfig, KvCounts,
    KvSpec, Namespace, StateRef, StateSpan, StateWrite, TableDelta,
};
