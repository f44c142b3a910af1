//! A planned step: what is committed when it ends, and how long it takes.

use maitre_scheduler::{Outcome, RequestId, StepId, StepPlan, Time};

use crate::{StepPricer, StepSeconds, StepWork};

/// The token of every answer: a simulation knows lengths, not text.
const TOKEN: u32 = 0;

/// What is left of a plan once it is priced. Its memory is used for a later step again.
#[derive(Debug)]
pub(crate) struct PlannedStep {
    pub(super) id: StepId,
    pub(super) outcomes: Vec<Outcome>,
    /// Outcomes beyond those of the step, kept for their memory.
    spare: Vec<Outcome>,
    pub(crate) work: StepWork,
    pub(crate) seconds: StepSeconds,
    pub(crate) took: Time,
    pub(super) copying: Time,
    /// Blocks that requests hold while it runs.
    pub(crate) kv_used: usize,
}

impl Default for PlannedStep {
    fn default() -> Self {
        Self {
            id: StepId(0),
            outcomes: Vec::new(),
            spare: Vec::new(),
            work: StepWork::default(),
            seconds: StepSeconds::default(),
            took: Time::ZERO,
            copying: Time::ZERO,
            kv_used: 0,
        }
    }
}

impl PlannedStep {
    /// Takes on a plan: each span that samples will have one token.
    pub(super) fn fill(
        &mut self,
        plan: &StepPlan,
        work: StepWork,
        pricer: &StepPricer,
        kv_used: usize,
    ) {
        self.id = plan.step_id;
        for span in &plan.spans {
            let mut outcome = self.spare.pop().unwrap_or_else(empty);
            outcome.request = span.request;
            if span.samples {
                outcome.tokens.push(TOKEN);
            }
            self.outcomes.push(outcome);
        }
        self.work = work;
        self.seconds = pricer.price(&work);
        // A step takes time, or time would stand still.
        let took = Time::try_from_secs_f64(self.seconds.total()).unwrap_or(Time::MAX);
        self.took = took.max(Time::from_nanos(1));
        self.copying = pricer.copy_time(&work);
        self.kv_used = kv_used;
    }

    /// Empties it.
    pub(super) fn clear(&mut self) {
        for mut outcome in self.outcomes.drain(..) {
            outcome.tokens.clear();
            self.spare.push(outcome);
        }
    }
}

fn empty() -> Outcome {
    Outcome::of(RequestId(0), Vec::with_capacity(1))
}
