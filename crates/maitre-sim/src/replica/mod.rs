//! One replica: the scheduler that serves, under simulated time.
//!
//! It goes through the same cycle as the engine's step loop: a request takes a place in the bounded queue or is refused at
//! once, and is added to the scheduler; when a step ends its outcomes are committed, then the next one is planned, and the
//! plan is priced instead of computed. All tokens of a step come at its end. With several steps in flight the next ones
//! are planned while one runs, and begin when the one before them ends.
//!
//! Where steps only repeat each other, since all requests decode, they are planned together and end with one event. They are
//! committed when the last one ends or when the replica is looked at, and it makes no difference that they were taken together:
//! what comes meanwhile finds the replica as it would be then, and the step that runs is the last one that did not know of it.

mod link;
mod live;
mod refused;
mod step;

use std::collections::VecDeque;

use link::Link;
pub(crate) use live::Live;
use live::Lives;
use maitre_scheduler::queue::{BoundedQueue, Newcomer};
use maitre_scheduler::{BlockSource, NewRequest, RequestId, Scheduler, StepPlan, TenantId, Time};
pub(crate) use refused::Refused;
use step::PlannedSteps;
pub(crate) use step::{PricedStep, TOKEN};

use crate::report::{ReplicaTally, Statistics};
use crate::speculation::Drafting;
use crate::workload::Request;
use crate::{Answered, EngineSettings, SimError, StepPricer};

/// How long the engine waits when it could plan nothing though requests are there.
const RECHECK: Time = Time::from_millis(20);

/// Plans without a step, one after the other, after which the simulation gives up.
const VAIN_PLANS: u32 = 1000;

/// Steps that repeat one and are planned with it, at most: what comes in between makes those behind it useless.
const MOST_REPEATED: usize = 63;

/// What a replica does of a request.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) enum Role {
    /// All of it.
    #[default]
    Both,
    /// The prompt, and the first token.
    Prefill,
    /// The other tokens, with what came of the prompt over a link on which a token takes so long.
    Decode { seconds_per_token: f64 },
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
    drafting: Option<Drafting>,
    plan_ahead: bool,
    /// Whether steps that repeat each other are taken together.
    repeats: bool,
    /// Tokens of the longest sequence that the KV cache holds.
    capacity_tokens: usize,
    lives: Lives,
    /// Planned steps, the one that runs first.
    in_flight: VecDeque<PlannedSteps>,
    /// Steps that are done, kept for their memory.
    spare: Vec<PlannedSteps>,
    /// When the running steps end, or a plan is due.
    wakes_at: Option<Time>,
    role: Role,
    link: Link,
    /// Requests whose first token is there, and that another replica goes on with.
    pub(crate) handed_over: Vec<Live>,
    vain_plans: u32,
    pub(crate) tally: ReplicaTally,
}

impl Replica {
    /// Replica `index` of a fleet, idle.
    pub(crate) fn new(
        index: usize,
        settings: &EngineSettings,
        pricer: StepPricer,
        drafting: Option<Drafting>,
        role: Role,
        every_step: bool,
    ) -> Result<Self, SimError> {
        let scheduler = Scheduler::new(settings.scheduler())?;
        Ok(Self {
            index,
            capacity_tokens: scheduler.config().capacity_tokens(),
            scheduler,
            queue: BoundedQueue::new(settings.queue())?,
            pricer,
            plan_ahead: settings.steps_in_flight > 1,
            // How many tokens a step brings is drawn for each step by itself.
            repeats: settings.steps_in_flight == 1 && !every_step && drafting.is_none(),
            drafting,
            lives: Lives::default(),
            in_flight: VecDeque::new(),
            spare: Vec::new(),
            wakes_at: None,
            role,
            link: Link::new(match role {
                Role::Decode { seconds_per_token } => seconds_per_token,
                _ => 0.0,
            }),
            handed_over: Vec::new(),
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

    /// Requests that wait, preempted ones among them.
    pub(crate) fn waiting(&self) -> usize {
        self.scheduler.num_waiting()
    }

    /// Requests that are not answered yet.
    pub(crate) fn outstanding(&self) -> usize {
        self.scheduler.num_waiting() + self.scheduler.num_running() + self.scheduler.num_awaiting()
    }

    /// When something happens next: steps or a transfer end, or a plan is due.
    pub(crate) fn next_event(&self) -> Option<Time> {
        let events = [self.wakes_at, self.link.next_end()];
        events.into_iter().flatten().min()
    }

    /// Takes a request from outside or refuses it, as the engine does in the thread of the caller. The replica has
    /// [caught up](Self::catch_up) with `now`. Its next event may come sooner than before.
    pub(crate) fn arrive(&mut self, request: &Request, now: Time) -> Result<(), Refused> {
        self.take(Live::new(request.clone()), now)
    }

    /// As [`Self::arrive`], for one that may have tokens of its answer.
    pub(crate) fn take(&mut self, mut live: Live, now: Time) -> Result<(), Refused> {
        let request = &live.request;
        self.check_length(request.full_length())?;
        let known_tokens = (request.prompt_tokens + live.generated) as usize;
        let newcomer = Newcomer {
            sequences: 1,
            prompt_tokens: known_tokens,
            tenant: TenantId::default(),
            queue_timeout: None,
        };
        let joined = self.queue.join(&newcomer, now).map_err(Refused::by_queue)?;
        live.joined = now;
        live.queued = joined.first().copied();
        live.leaves_with = match self.role {
            Role::Prefill => 1,
            _ => request.output_tokens,
        };
        let max_tokens = (live.leaves_with - live.generated) as usize;
        let mut prompt = request.prompt();
        prompt.resize(known_tokens, TOKEN);
        let source = matches!(self.role, Role::Decode { .. }).then_some(BlockSource {
            source: 0,
            tokens: request.prompt_tokens as usize,
        });
        let arrival = request.arrival;
        let slot = self.lives.insert(live);
        let added = self.scheduler.add(NewRequest {
            arrival,
            plan_ahead: self.plan_ahead,
            source,
            ..NewRequest::new(slot, prompt, max_tokens)
        });
        if let Err(refusal) = added {
            joined.into_iter().for_each(|entry| self.queue.leave(entry));
            self.lives.remove(RequestId(slot));
            return Err(Refused::by_scheduler(refusal));
        }
        self.tally.saw_waiting(self.scheduler.num_waiting());
        self.break_off_repeats();
        self.wakes_at.get_or_insert(now);
        Ok(())
    }

    /// The replica is lost, and a fresh one takes its place, which counts on. Returns the requests that it had.
    pub(crate) fn fail(&mut self, fresh: Self) -> Vec<Live> {
        let lost = std::mem::replace(self, fresh);
        self.tally = lost.tally;
        lost.lives.into_all()
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

    /// Does what is due at `now`, the time of the [next event](Self::next_event). `answered` gets the requests that end. Nothing comes
    /// before `until`, or something may if that is not known.
    pub(crate) fn advance(
        &mut self,
        now: Time,
        until: Option<Time>,
        statistics: &mut Statistics,
        answered: &mut Vec<Answered>,
    ) -> Result<(), SimError> {
        self.settle_transfers(now, statistics)?;
        if self.wakes_at.is_none_or(|at| at > now) {
            return Ok(());
        }
        self.wakes_at = None;
        self.finish_steps(statistics, answered)?;
        self.plan_steps(now, until, statistics);
        match self.in_flight.front_mut() {
            Some(running) => {
                self.vain_plans = 0;
                self.wakes_at = Some(running.begin(now));
            }
            // With the end of a transfer it goes on.
            None if self.link.next_end().is_some() => {}
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
        self.wakes_at = Some(now.saturating_add(RECHECK));
        Ok(())
    }

    /// Learns which transfers have ended by `now`.
    fn settle_transfers(&mut self, now: Time, statistics: &mut Statistics) -> Result<(), SimError> {
        while let Some(ended) = self.link.take_ended(now) {
            self.catch_up(now, statistics)?;
            self.scheduler.settle_transfer(ended.id, ended.tokens)?;
            self.break_off_repeats();
            self.wakes_at.get_or_insert(now);
        }
        Ok(())
    }

    /// Commits the steps that have ended before `now`, which is not behind the next event, and that others repeat. Afterwards it is
    /// as if each step were planned when the one before it ended.
    pub(crate) fn catch_up(
        &mut self,
        now: Time,
        statistics: &mut Statistics,
    ) -> Result<(), SimError> {
        let running = self.in_flight.front();
        let ended = running.map_or(0, |running| running.ended_before(now));
        if ended > 0
            && let Some(mut running) = self.in_flight.pop_front()
        {
            self.repeat(&mut running, ended)?;
            self.record(&running, ended, statistics, &mut Vec::new());
            running.steps.drain(..ended);
            self.in_flight.push_front(running);
        }
        Ok(())
    }

    /// Something changes: what would repeat the running step is planned anew. All that have ended are committed.
    fn break_off_repeats(&mut self) {
        if let Some(running) = self.in_flight.front_mut()
            && running.steps.len() > 1
        {
            running.steps.truncate(1);
            self.wakes_at = running.steps.front().map(|step| step.end);
        }
    }

    /// Commits the first step of `running` and plans the next one, so many times.
    fn repeat(&mut self, running: &mut PlannedSteps, times: usize) -> Result<(), SimError> {
        let mut repeating = running.steps.iter_mut().skip(1);
        let mut planned = |kv_used| {
            if let Some(step) = repeating.next() {
                step.kv_used = kv_used;
            }
        };
        let (id, outcomes) = (running.id, &running.outcomes);
        running.id = self.scheduler.repeat(id, outcomes, times, &mut planned)?;
        Ok(())
    }

    /// Commits the steps that run, if any do: the last of them ends now.
    fn finish_steps(
        &mut self,
        statistics: &mut Statistics,
        answered: &mut Vec<Answered>,
    ) -> Result<(), SimError> {
        let Some(mut running) = self.in_flight.pop_front() else {
            return Ok(());
        };
        let steps = running.steps.len();
        if steps > 1 {
            self.repeat(&mut running, steps - 1)?;
        }
        self.scheduler.commit(running.id, &running.outcomes)?;
        self.record(&running, steps, statistics, answered);
        running.clear();
        self.spare.push(running);
        Ok(())
    }

    /// Counts the first `ended` of the steps that run, which are committed. `answered` gets the requests that end with them.
    fn record(
        &mut self,
        running: &PlannedSteps,
        ended: usize,
        statistics: &mut Statistics,
        answered: &mut Vec<Answered>,
    ) {
        let steps = || running.steps.iter().take(ended);
        let (Some(first), Some(last)) = (steps().next(), steps().next_back()) else {
            return;
        };
        let sampling = running
            .outcomes
            .iter()
            .filter(|outcome| !outcome.tokens.is_empty());
        for outcome in sampling {
            let Some(live) = self.lives.get_mut(outcome.request) else {
                continue;
            };
            let at_once = outcome.tokens.len() as u64;
            let tokens = ended as u32 * at_once as u32;
            if let Some(gap) = live.take_tokens(tokens, first.end, last.end) {
                statistics.gaps(gap, 1);
            }
            if at_once > 1 {
                // A reader gets the tokens of a step together.
                statistics.gaps(Time::ZERO, at_once - 1);
            }
            if live.is_answered() {
                let live = live.answered(self.index);
                self.lives.remove(outcome.request);
                self.tally.answered(&live);
                answered.push(live);
            } else if live.is_done_here() {
                self.handed_over.extend(self.lives.remove(outcome.request));
            }
        }
        for (step, next) in steps().zip(steps().skip(1)) {
            statistics.gaps(next.end.saturating_sub(step.end), next.work.sequences);
        }
        self.tally.drafts.add(&running.drafts);
        for step in steps() {
            self.tally.step(step);
            let (tokens, copied) = (step.work.tokens as usize, step.work.copied_blocks as usize);
            self.scheduler
                .observe(tokens, step.took, copied, step.copying);
        }
        self.queue.set_preempted(self.scheduler.num_preempted());
    }

    /// Plans steps until as many are in flight as may be, or there is nothing to run.
    fn plan_steps(&mut self, now: Time, until: Option<Time>, statistics: &mut Statistics) {
        let depth = self.scheduler.config().steps_in_flight;
        // Behind a step that copies blocks while another runs, the engine plans no further one.
        let copies = |planned: &PlannedSteps| {
            let mut steps = planned.steps.iter();
            steps.any(|step| step.work.copied_blocks > 0)
        };
        let is_held =
            |steps: &VecDeque<PlannedSteps>| steps.len() > 1 && steps.back().is_some_and(copies);
        while self.in_flight.len() < depth && !is_held(&self.in_flight) {
            let plan = self.scheduler.schedule(now);
            self.record_admissions(&plan, now, statistics);
            if plan.is_empty() {
                break;
            }
            let mut planned = self.spare.pop().unwrap_or_default();
            let kv_used = self.scheduler.kv_usage().used;
            planned.fill(
                &plan,
                &self.pricer,
                kv_used,
                self.drafting.as_ref(),
                &mut self.lives,
            );
            if self.repeats && planned.only_decodes() {
                planned.begin(now);
                let most = self.scheduler.repeatable_steps(MOST_REPEATED);
                planned.repeat(most, until, &self.pricer);
            }
            self.in_flight.push_back(planned);
        }
    }

    fn record_admissions(&mut self, plan: &StepPlan, now: Time, statistics: &mut Statistics) {
        for admitted in &plan.admitted {
            let Some(live) = self.lives.get_mut(admitted.request) else {
                continue;
            };
            if let Some(entry) = live.queued.take() {
                self.queue.start(entry, now);
                if live.generated > 0 {
                    statistics.handover(live.since_first_token(now));
                } else {
                    live.start(now, admitted.cached_tokens as u32);
                    statistics.queue_wait(now.saturating_sub(live.joined));
                }
            }
        }
        for transfer in &plan.transfers {
            self.tally.transferred(self.link.begin(transfer, now));
        }
        let lost = plan.preempted.iter().map(|it| it.lost_tokens as u64);
        self.tally
            .preempted(plan.preempted.len() as u64, lost.sum());
    }
}
