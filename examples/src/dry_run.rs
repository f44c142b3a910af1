//! The scheduler at work without a model: every token is made up, and a step is all the time there is.
//!
//! Which requests run, which wait, and which blocks are held does not depend on the model's tokens. So it can
//! be watched in milliseconds, and comes out the same on every machine.

use anyhow::Result;
use maitre_scheduler::{Outcome, RequestId, Scheduler, SchedulerConfig, StepPlan, Time};

/// A scheduler whose steps take a millisecond of its own clock each.
#[derive(Debug)]
pub struct DryRun {
    /// The scheduler: to add requests, and to look.
    pub scheduler: Scheduler,
    steps: u64,
}

impl DryRun {
    /// An idle one.
    ///
    /// # Errors
    ///
    /// Limits that contradict each other.
    pub fn new(config: SchedulerConfig) -> Result<Self> {
        Ok(Self {
            scheduler: Scheduler::new(config)?,
            steps: 0,
        })
    }

    /// Steps planned so far.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// What its clock says.
    #[must_use]
    pub fn now(&self) -> Time {
        Time::from_millis(self.steps)
    }

    /// Plans the next step.
    pub fn plan(&mut self) -> StepPlan {
        let plan = self.scheduler.schedule(self.now());
        self.steps += 1;
        plan
    }

    /// Answers a plan: a new token for each request that samples.
    ///
    /// # Errors
    ///
    /// A plan that is not the oldest one in flight.
    pub fn commit(&mut self, plan: &StepPlan) -> Result<()> {
        if plan.is_empty() {
            return Ok(());
        }
        let outcome = |request, samples: bool, position| Outcome {
            request,
            tokens: samples
                .then(|| token(request, position))
                .into_iter()
                .collect(),
            next_drafts: 0,
            finished: false,
            failed: false,
            deferred: false,
        };
        let outcomes: Vec<Outcome> = plan
            .spans
            .iter()
            .map(|span| outcome(span.request, span.samples, span.context_len))
            .collect();
        Ok(self.scheduler.commit(plan.step_id, &outcomes)?)
    }

    /// Plans a step and answers it.
    ///
    /// # Errors
    ///
    /// None that a caller could bring about.
    pub fn step(&mut self) -> Result<StepPlan> {
        let plan = self.plan();
        self.commit(&plan)?;
        Ok(plan)
    }
}

/// A made-up token: every request says something else at every position.
fn token(request: RequestId, position: usize) -> u32 {
    (request.0 as u32)
        .wrapping_mul(0x9e37_79b9)
        .wrapping_add(position as u32)
}
