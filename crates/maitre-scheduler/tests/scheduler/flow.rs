//! A bare scheduler under a steady stream of requests: every step is committed at once, and every span that
//! samples gets a token. For what shows only in the long run.

use maitre_scheduler::{Outcome, Scheduler, SchedulerConfig, StepPlan, Time};

pub(crate) struct Flow {
    pub(crate) scheduler: Scheduler,
    pub(crate) now: Time,
    pub(crate) next_id: u64,
}

impl Flow {
    pub(crate) fn new(config: SchedulerConfig) -> Self {
        Self {
            scheduler: Scheduler::new(config).unwrap(),
            now: Time::ZERO,
            next_id: 0,
        }
    }

    pub(crate) fn next_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// One step, which takes as long as `lasts` says.
    pub(crate) fn step(&mut self, lasts: impl Fn(&StepPlan) -> Time) -> StepPlan {
        let plan = self.scheduler.schedule(self.now);
        self.now += lasts(&plan);
        self.commit(&plan);
        plan
    }

    pub(crate) fn commit(&mut self, plan: &StepPlan) {
        if plan.is_empty() {
            return;
        }
        let outcomes: Vec<Outcome> = plan
            .spans
            .iter()
            .map(|span| Outcome {
                request: span.request,
                tokens: if span.samples { vec![7] } else { vec![] },
                next_drafts: 0,
                finished: false,
                failed: false,
                deferred: false,
            })
            .collect();
        self.scheduler.commit(plan.step_id, &outcomes).unwrap();
    }
}
