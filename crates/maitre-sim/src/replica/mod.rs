//! One replica: the scheduler that serves, under simulated time.
//!
//! It goes through the same cycle as the engine's step loop: a request takes a place in the bounded queue or is refused at
//! once, and is added to the scheduler; when a step ends its outcomes are committed, then the next one is planned, and the
//! plan is priced instead of computed. All tokens of a step come at its end. With several steps in flight the next ones
//! are planned while one runs, and begin when the one before them ends.

mod live;
mod step;

use std::collections::VecDeque;

use live::{Live, Lives};
use maitre_scheduler::queue::{BoundedQueue, Newcomer, QueueRefusal};
use maitre_scheduler::{NewRequest, Refusal, RequestId, Scheduler, StepPlan, TenantId, Time};
pub(crate) use step::PlannedStep;

use crate::report::{ReplicaTally, Statistics};
use crate::workload::Request;
use crate::{EngineSettings, SimError, StepPricer};

/// How long the engine waits when it could plan nothing though requests are there.
const RECHECK: Time = Time::from_millis(20);

/// Plans without a step, one after the other, after which the simulation gives up.
const VAIN_PLANS: u32 = 1000;

/// A request that was answered to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answered {
    /// Which request.
    pub number: u64,
    /// The replica that answered it, counted from 0.
    pub replica: usize,
    /// The user who sent it, in a closed loop.
    pub user: Option<u32>,
    /// When it came.
    pub arrival: Time,
    /// When its first step began to run, or was planned behind another.
    pub started: Time,
    /// When its first token came.
    pub first_token: Time,
    /// When its last token came.
    pub ended: Time,
    /// Tokens of its prompt.
    pub prompt_tokens: u32,
    /// Of them, tokens that the prefix cache had at its first admission.
    pub cached_tokens: u32,
    /// Tokens of its answer.
    pub output_tokens: u32,
}

/// Why a request was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refused {
    /// The reason, in a word.
    pub(crate) reason: &'static str,
    /// When it may be worth trying again.
    pub(crate) retry_after: Option<Time>,
}

/// How much a replica has to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReplicaLoad {
    /// Requests that wait, preempted ones among them.
    pub waiting: usize,
    /// Requests that run.
    pub running: usize,
    /// Prompt tokens of the requests that wait for their first step.
    pub waiting_tokens: usize,
    /// Blocks of the KV cache that requests hold.
    pub kv_used: usize,
}

impl ReplicaLoad {
    /// Requests that are not answered yet.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.waiting + self.running
    }
}

/// A scheduler with its queue, the price of its steps and what is known of its requests.
#[derive(Debug)]
pub(crate) struct Replica {
    index: usize,
    scheduler: Scheduler,
    queue: BoundedQueue,
    pricer: StepPricer,
    plan_ahead: bool,
    /// Tokens of the longest sequence that the KV cache holds.
    capacity_tokens: usize,
    lives: Lives,
    /// Planned steps, the one that runs first.
    in_flight: VecDeque<PlannedStep>,
    /// Steps that are done, kept for their memory.
    spare: Vec<PlannedStep>,
    /// When something happens next: the running step ends, or a plan is due.
    next_event: Option<Time>,
    vain_plans: u32,
    pub(crate) tally: ReplicaTally,
}

impl Replica {
    /// Replica `index` of a fleet, idle.
    pub(crate) fn new(
        index: usize,
        settings: &EngineSettings,
        pricer: StepPricer,
    ) -> Result<Self, SimError> {
        let scheduler = Scheduler::new(settings.scheduler())?;
        Ok(Self {
            index,
            capacity_tokens: scheduler.config().capacity_tokens(),
            scheduler,
            queue: BoundedQueue::new(settings.queue())?,
            pricer,
            plan_ahead: settings.steps_in_flight > 1,
            lives: Lives::default(),
            in_flight: VecDeque::new(),
            spare: Vec::new(),
            next_event: None,
            vain_plans: 0,
            tally: ReplicaTally::default(),
        })
    }

    /// How much it has to do.
    pub(crate) fn load(&self) -> ReplicaLoad {
        ReplicaLoad {
            waiting: self.scheduler.num_waiting(),
            running: self.scheduler.num_running(),
            waiting_tokens: self.queue.waiting_tokens(),
            kv_used: self.scheduler.kv_usage().used,
        }
    }

    /// Requests that are not answered yet.
    pub(crate) fn outstanding(&self) -> usize {
        self.scheduler.num_waiting() + self.scheduler.num_running()
    }

    pub(crate) fn next_event(&self) -> Option<Time> {
        self.next_event
    }

    /// Takes a request or refuses it, as the engine does in the thread of the caller. Returns whether the replica was idle and
    /// has an event now.
    pub(crate) fn arrive(&mut self, request: &Request, now: Time) -> Result<bool, Refused> {
        self.check_length(request.full_length())?;
        let newcomer = Newcomer {
            sequences: 1,
            prompt_tokens: request.prompt_tokens as usize,
            tenant: TenantId::default(),
            queue_timeout: None,
        };
        let joined = self.queue.join(&newcomer, now).map_err(Refused::by_queue)?;
        let slot = self
            .lives
            .insert(Live::new(request, joined.first().copied()));
        let added = self.scheduler.add(NewRequest {
            arrival: request.arrival,
            plan_ahead: self.plan_ahead,
            ..NewRequest::new(slot, request.prompt(), request.output_tokens as usize)
        });
        if let Err(refusal) = added {
            joined.into_iter().for_each(|entry| self.queue.leave(entry));
            self.lives.remove(RequestId(slot));
            return Err(Refused::by_scheduler(refusal));
        }
        self.tally.saw_waiting(self.scheduler.num_waiting());
        let was_idle = self.next_event.is_none();
        if was_idle {
            self.next_event = Some(now);
        }
        Ok(was_idle)
    }

    /// What could never run is refused before it has a prompt, which may be as long as a trace says.
    fn check_length(&self, tokens: usize) -> Result<(), Refused> {
        let config = self.scheduler.config();
        let reason = match tokens > config.max_model_len {
            true => "too_long",
            false if tokens > self.capacity_tokens => "never_fits",
            false => return Ok(()),
        };
        Err(Refused {
            reason,
            retry_after: None,
        })
    }

    /// Does what is due at `now`, the time of the [next event](Self::next_event). `answered` gets the requests that end.
    pub(crate) fn advance(
        &mut self,
        now: Time,
        statistics: &mut Statistics,
        answered: &mut Vec<Answered>,
    ) -> Result<(), SimError> {
        self.next_event = None;
        self.finish_step(now, statistics, answered)?;
        self.plan_steps(now, statistics);
        match self.in_flight.front() {
            Some(running) => {
                self.vain_plans = 0;
                self.next_event = Some(now.saturating_add(running.took));
            }
            None if self.scheduler.has_work() => self.wait_in_vain(now)?,
            None => {}
        }
        Ok(())
    }

    fn wait_in_vain(&mut self, now: Time) -> Result<(), SimError> {
        self.vain_plans += 1;
        if self.vain_plans > VAIN_PLANS {
            return Err(SimError::Stalled {
                replica: self.index,
                waiting: self.scheduler.num_waiting(),
                seconds: now.as_secs_f64(),
            });
        }
        self.next_event = Some(now.saturating_add(RECHECK));
        Ok(())
    }

    /// Commits the step that runs, if one does: it ends now.
    fn finish_step(
        &mut self,
        now: Time,
        statistics: &mut Statistics,
        answered: &mut Vec<Answered>,
    ) -> Result<(), SimError> {
        let Some(mut step) = self.in_flight.pop_front() else {
            return Ok(());
        };
        self.scheduler.commit(step.id, &step.outcomes)?;
        let sampling = step
            .outcomes
            .iter()
            .filter(|outcome| !outcome.tokens.is_empty());
        for outcome in sampling {
            if let Some(ended) = self.token(outcome.request, now, statistics) {
                answered.push(ended);
            }
        }
        self.tally.step(&step);
        let tokens = step.work.tokens as usize;
        let copied = step.work.copied_blocks as usize;
        self.scheduler
            .observe(tokens, step.took, copied, step.copying);
        self.queue.set_preempted(self.scheduler.num_preempted());
        step.clear();
        self.spare.push(step);
        Ok(())
    }

    /// A request has its next token. Returns what is to be told of it if that was the last one.
    fn token(&mut self, id: RequestId, now: Time, statistics: &mut Statistics) -> Option<Answered> {
        let live = self.lives.get_mut(id)?;
        if live.generated == 0 {
            live.first_token = now;
        } else {
            statistics.gap(now.saturating_sub(live.last_token));
        }
        live.last_token = now;
        live.generated += 1;
        if live.generated < live.output_tokens {
            return None;
        }
        let ended = live.answered(self.index);
        self.lives.remove(id);
        self.tally.answered(&ended);
        Some(ended)
    }

    /// Plans steps until as many are in flight as may be, or there is nothing to run.
    fn plan_steps(&mut self, now: Time, statistics: &mut Statistics) {
        let depth = self.scheduler.config().steps_in_flight;
        // Behind a step that copies blocks while another runs, the engine plans no further one.
        let is_held = |steps: &VecDeque<PlannedStep>| {
            steps.len() > 1 && steps.back().is_some_and(|step| step.work.copied_blocks > 0)
        };
        while self.in_flight.len() < depth && !is_held(&self.in_flight) {
            let plan = self.scheduler.schedule(now);
            self.record_admissions(&plan, now, statistics);
            if plan.is_empty() {
                break;
            }
            let work = self.pricer.work(&plan);
            let mut step = self.spare.pop().unwrap_or_default();
            let kv_used = self.scheduler.kv_usage().used;
            step.fill(&plan, work, &self.pricer, kv_used);
            self.in_flight.push_back(step);
        }
    }

    fn record_admissions(&mut self, plan: &StepPlan, now: Time, statistics: &mut Statistics) {
        for admitted in &plan.admitted {
            let Some(live) = self.lives.get_mut(admitted.request) else {
                continue;
            };
            if let Some(entry) = live.queued.take() {
                live.started = now;
                live.cached_tokens = admitted.cached_tokens as u32;
                self.queue.start(entry, now);
                statistics.queue_wait(now.saturating_sub(live.arrival));
            }
        }
        let lost = plan.preempted.iter().map(|it| it.lost_tokens as u64);
        self.tally
            .preempted(plan.preempted.len() as u64, lost.sum());
    }
}

impl Refused {
    fn by_queue(refusal: QueueRefusal) -> Self {
        let (reason, retry_after) = match refusal {
            QueueRefusal::Full { retry_after, .. } => ("queue_full", retry_after),
            QueueRefusal::TenantFull { retry_after, .. } => ("tenant_full", retry_after),
            QueueRefusal::TokensFull { retry_after, .. } => ("queue_tokens_full", retry_after),
            QueueRefusal::WaitTooLong { retry_after, .. } => ("wait_too_long", retry_after),
        };
        Self {
            reason,
            retry_after: Some(retry_after),
        }
    }

    fn by_scheduler(refusal: Refusal) -> Self {
        let reason = match refusal {
            Refusal::NeverFits { .. } => "never_fits",
            Refusal::TooLong { .. } => "too_long",
            Refusal::EmptyPrompt | Refusal::ZeroMaxTokens => "empty",
            Refusal::DuplicateId { .. } => "duplicate",
        };
        Self {
            reason,
            retry_after: None,
        }
    }
}
