//! The step loop: plan, submit, wait, commit, publish, for ever.
//!
//! It owns the scheduler, the model and every sequence's sampling state, on a thread of its own;
//! nothing else touches them, so nothing in it is locked. The outside speaks to it by commands,
//! read between two steps, and hears from it by publications.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::Duration;

use maitre_sampling::TokenCounts;
use maitre_scheduler::queue::QueueEntry;
use maitre_scheduler::{
    Expired, ExpiredWhy, Outcome, RequestId, Scheduler, SchedulerError, StepPlan, Time,
};

use smallvec::SmallVec;
use tokio::sync::oneshot;

use crate::admission::command::{CancelledBy, Command, Submission};
use crate::admission::front::Admission;
use crate::observe::cache_events::CacheFeed;
use crate::observe::health::{LoopHealth, StepLoad};
use crate::observe::metrics::{self, SpeculationMetrics};
use crate::output::publisher::{News, Publication};
use crate::output::text::CommittedToken;
use crate::step::constraint::{Constrained, ConstraintThreads};
use crate::step::result::{SpanResult, StepResult};
use crate::step::runner::{Sequences, StepRunner};
use crate::step::sequence::Sequence;
use crate::{Clock, EngineError};

/// How long the loop waits for news when a plan was empty though work is left; only a request
/// whose turn can't come yet brings that about.
const RECHECK: Duration = Duration::from_millis(20);

/// How long the loop waits for a constraint's answer when a step was of no use to any request without one, before it
/// computes the same once more.
const ANSWER_PATIENCE: Duration = Duration::from_millis(1);

pub(crate) struct StepLoop {
    pub(crate) scheduler: Scheduler,
    pub(crate) runner: StepRunner,
    pub(crate) sequences: Sequences,
    pub(crate) constraints: Arc<ConstraintThreads>,
    pub(crate) commands: Receiver<Command>,
    /// What the current step has to tell, on its way to the publisher.
    pub(crate) news: News,
    pub(crate) admission: Arc<Admission>,
    pub(crate) health: Arc<LoopHealth>,
    pub(crate) cache_events: CacheFeed,
    pub(crate) speculation: SpeculationMetrics,
    pub(crate) clock: Arc<dyn Clock>,
}

/// Why the loop ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It was told to, or the last sender of commands is gone.
    Asked,
    /// Its own bookkeeping broke; nothing it would say could be trusted.
    Broken(String),
    /// No step can succeed before the process is restarted.
    Fatal(String),
}

impl StepLoop {
    /// Runs until told to stop.
    pub(crate) fn run(mut self) -> Ended {
        let mut idle = false;
        while self.listen(idle) {
            let is_planned = self.submit_steps();
            match self.finish_step() {
                Ok(is_finished) => idle = !is_planned && !is_finished,
                Err(ended) => return ended,
            }
            if !self.publish() {
                return Ended::Broken("the publisher is gone".into());
            }
        }
        Ended::Asked
    }

    /// Plans and submits steps until the executor has as many as it takes, or there is nothing to run. Returns
    /// whether anything was planned or has expired.
    fn submit_steps(&mut self) -> bool {
        self.runner.submit_held(&mut self.sequences);
        let mut is_planned = false;
        while self.runner.has_space() {
            let began = self.now();
            let plan = self.scheduler.schedule(began);
            self.record_admissions(&plan, began);
            for preemption in &plan.preempted {
                tracing::debug!(%preemption, "preempted");
            }
            is_planned |= !plan.is_empty() || !plan.expired.is_empty();
            if plan.is_empty() {
                self.report_load(plan.preempted.len(), 0);
                self.publish_cache_events();
                break;
            }
            self.runner.submit(plan, &mut self.sequences, began);
        }
        is_planned
    }

    /// Waits for the oldest step in flight and commits it. Returns whether there was one.
    fn finish_step(&mut self) -> Result<bool, Ended> {
        let scheduler = &mut self.scheduler;
        let retract = |step| scheduler.retract(step);
        let finished = self.runner.finish_oldest(&mut self.sequences, retract);
        let broken = |error: SchedulerError| Ended::Broken(error.to_string());
        let Some(mut result) = finished.map_err(broken)? else {
            return Ok(false);
        };
        let generated = result.spans.iter().map(|span| span.tokens.len()).sum();
        let outcomes = self.resolve_outcomes(std::mem::take(&mut result.spans));
        let was_in_vain = !outcomes.is_empty() && outcomes.iter().all(|it| it.deferred);
        let step = result.plan.step_id;
        self.scheduler.commit(step, &outcomes).map_err(broken)?;
        if result.cache_is_lost {
            self.scheduler.reset_prefix_cache();
        }
        self.observe(&result, generated);
        if was_in_vain && self.runner.is_idle() {
            self.await_an_answer(&outcomes);
        }
        match result.fatal {
            Some(why) => {
                self.give_up(&why);
                Err(Ended::Fatal(why))
            }
            None => Ok(true),
        }
    }

    /// Waits a moment for any of the constraints that no sample could be taken for.
    fn await_an_answer(&self, outcomes: &[Outcome]) {
        let sequences = outcomes.iter();
        let mut sequences = sequences.filter_map(|it| self.sequences.get(&it.request));
        let all_are_late =
            sequences.all(|it| it.constraint.as_ref().is_some_and(|it| it.is_late()));
        if all_are_late {
            self.constraints.wait_for_answer(ANSWER_PATIENCE);
        }
    }

    /// Takes what the outside has to say. Waits only when there is nothing to run.
    fn listen(&mut self, idle: bool) -> bool {
        let mut resets = Vec::new();
        loop {
            let command = if !self.scheduler.has_work() && self.runner.is_idle() {
                // A cancellation may have ended the last request since the last step.
                self.report_load(0, 0);
                self.health.rest();
                self.commands.recv().map_err(|_| TryRecvError::Disconnected)
            } else if idle {
                self.commands
                    .recv_timeout(RECHECK)
                    .map_err(|error| match error {
                        RecvTimeoutError::Timeout => TryRecvError::Empty,
                        RecvTimeoutError::Disconnected => TryRecvError::Disconnected,
                    })
            } else {
                self.commands.try_recv()
            };
            self.health.work(self.now());
            match command {
                Ok(Command::Submit(mail)) => {
                    if let Some((submission, queued)) = self.admission.open(&mail) {
                        self.submit(*submission, queued);
                    }
                }
                Ok(Command::Cancel { keys, why }) => self.cancel(&keys, why),
                Ok(Command::ResetPrefixCache(answer)) => resets.push(answer),
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => return false,
                Err(TryRecvError::Empty) => {
                    self.reset_prefix_cache(resets);
                    return true;
                }
            }
            if !self.scheduler.has_work() {
                self.reset_prefix_cache(std::mem::take(&mut resets));
            }
            // A refusal or a cancellation must not wait for a step that may never come.
            if !self.scheduler.has_work() && !self.publish() {
                return false;
            }
        }
    }

    /// Forgets all prefixes, once for all callers that asked since the last step.
    fn reset_prefix_cache(&mut self, answers: Vec<oneshot::Sender<usize>>) {
        if answers.is_empty() {
            return;
        }
        let forgotten = self.scheduler.reset_prefix_cache();
        self.publish_cache_events();
        for answer in answers {
            // The caller may have stopped waiting.
            let _ = answer.send(forgotten);
        }
    }

    fn submit(&mut self, submission: Submission, queued: QueueEntry) {
        let Submission {
            mut schedule,
            mut choice,
            output,
        } = submission;
        let draws_every_token = choice.draws_every_token();
        schedule.plan_ahead = self.runner.depth() > 1 && draws_every_token;
        let key = schedule.id;
        let scored_prompt = if choice.prompt_logprobs.is_some() {
            schedule.prompt.clone()
        } else {
            Vec::new()
        };
        let counts = TokenCounts::new(&schedule.prompt);
        if choice.speculate {
            self.runner.speculator.open(key.0, &schedule.prompt);
        }
        self.news.push(Publication::Open(key, Box::new(output)));
        if let Err(refusal) = self.scheduler.add(schedule) {
            self.admission.leave_queue(queued);
            self.runner.speculator.close(key.0);
            let message = refusal.to_string();
            self.news
                .push(Publication::Failed(key, EngineError::Failed { message }));
            return;
        }
        let source = choice.constraint.take();
        let constraint = source.map(|source| {
            let threads = Arc::clone(&self.constraints);
            Constrained::new(source, threads, self.runner.choosable)
        });
        let sequence = Sequence {
            constraint,
            choice,
            counts,
            generated: 0,
            scored_prompt,
            prompt_logprobs: Vec::new(),
            started: false,
            tables: SmallVec::new(),
            newest: 0,
            draws_every_token,
            wish: 0,
            ahead: 0,
            newest_row: None,
            queued,
        };
        self.sequences.insert(key, sequence);
    }

    fn cancel(&mut self, keys: &[RequestId], why: CancelledBy) {
        for &key in keys {
            if !self.scheduler.cancel(key) {
                continue;
            }
            self.forget(key);
            if why != CancelledBy::StopString {
                metrics::cancelled();
            }
            self.news.push(if why == CancelledBy::Caller {
                Publication::Failed(key, EngineError::Cancelled)
            } else {
                Publication::Forget(key)
            });
        }
    }

    /// Notes whose first step this is, and sends away whose time has passed.
    fn record_admissions(&mut self, plan: &StepPlan, now: Time) {
        for admitted in &plan.admitted {
            if let Some(sequence) = self.sequences.get_mut(&admitted.request)
                && !sequence.started
            {
                sequence.started = true;
                self.admission.record_first_step(sequence.queued, now);
                sequence.ask_constraint(admitted.request, &mut self.runner.speculator, &[]);
                self.news.push(Publication::Started {
                    request: admitted.request,
                    at: now,
                    cached_tokens: admitted.cached_tokens,
                });
            }
        }
        for &Expired { request, why } in &plan.expired {
            let ends_well = self
                .sequences
                .get(&request)
                .is_some_and(|s| s.choice.ends_well_at_deadline);
            self.forget(request);
            self.news.push(match why {
                ExpiredWhy::Deadline if ends_well => Publication::TimeIsUp(request, now),
                ExpiredWhy::Deadline => {
                    metrics::expired("deadline");
                    Publication::Failed(request, EngineError::DeadlineExceeded)
                }
                ExpiredWhy::QueueTimeout => {
                    metrics::expired("queue_timeout");
                    Publication::Failed(request, EngineError::QueueTimeout)
                }
            });
        }
    }

    /// Decides which sequences end with this step, and what the scheduler is told.
    fn resolve_outcomes(&mut self, results: Vec<SpanResult>) -> Vec<Outcome> {
        let now = self.now();
        results
            .into_iter()
            .map(|result| self.resolve_outcome(result, now))
            .collect()
    }

    fn resolve_outcome(&mut self, result: SpanResult, now: Time) -> Outcome {
        let request = result.request;
        let mut outcome = Outcome {
            request,
            tokens: Vec::with_capacity(result.tokens.len()),
            next_drafts: 0,
            finished: false,
            failed: false,
            deferred: result.deferred,
        };
        let Some(sequence) = self.sequences.get_mut(&request) else {
            return outcome;
        };
        if let Some(message) = result.failure {
            outcome.failed = true;
            self.forget(request);
            metrics::failed();
            let error = match result.is_stuck {
                true => EngineError::ConstraintFailed { message },
                false => EngineError::Failed { message },
            };
            self.news.push(Publication::Failed(request, error));
            return outcome;
        }
        sequence.prompt_logprobs.extend(result.prompt_logprobs);
        if result.deferred {
            metrics::deferred();
            sequence.wish = sequence.next_wish(request, &self.runner.speculator);
            outcome.next_drafts = sequence.wish;
            return outcome;
        }
        if result.tokens.is_empty() && !result.is_complete {
            return outcome;
        }
        if !sequence.scored_prompt.is_empty() {
            sequence.scored_prompt = Vec::new();
            let rows = std::mem::take(&mut sequence.prompt_logprobs);
            self.news.push(Publication::PromptLogprobs(request, rows));
        }
        let mut drafted = result.drafted;
        for (index, sampled) in result.tokens.into_iter().enumerate() {
            sequence.counts.record(sampled.token);
            sequence.newest = sampled.token;
            sequence.generated += 1;
            let finish = sequence.finish_of(sampled.token);
            outcome.tokens.push(sampled.token);
            outcome.finished = finish.is_some();
            let committed = CommittedToken {
                token: sampled.token,
                logprobs: sampled.logprobs,
                drafted: std::mem::take(&mut drafted),
                accepted: index < result.accepted,
                finish,
                at: now,
            };
            self.news.push(Publication::Token(request, committed));
        }
        if result.is_complete {
            outcome.finished = true;
            self.news.push(Publication::Complete(request, now));
        }
        if outcome.finished {
            self.forget(request);
        } else {
            let speculator = &mut self.runner.speculator;
            sequence.ask_constraint(request, speculator, &outcome.tokens);
            sequence.wish = sequence.next_wish(request, speculator);
            outcome.next_drafts = sequence.wish;
        }
        outcome
    }

    /// Fails all requests that are left, with the reason that the step's own requests were given, and reports that
    /// reason as the engine's health. Requests that come now are told that the engine has stopped.
    fn give_up(&mut self, why: &str) {
        self.health.give_up(why);
        let left: Vec<RequestId> = self.sequences.keys().copied().collect();
        for request in left {
            self.forget(request);
            metrics::failed();
            let message = why.to_owned();
            self.news.push(Publication::Failed(
                request,
                EngineError::Failed { message },
            ));
        }
        // Without a publisher there is no receiver to tell.
        self.publish();
    }

    /// Hands this step's news to the publisher; false when it is gone.
    fn publish(&mut self) -> bool {
        self.news.publish()
    }

    fn forget(&mut self, request: RequestId) {
        self.runner.speculator.close(request.0);
        if let Some(sequence) = self.sequences.remove(&request)
            && !sequence.started
        {
            self.admission.leave_queue(sequence.queued);
        }
    }

    /// What the scheduler learns from the step just run, and what the outside may know of it.
    fn observe(&mut self, result: &StepResult, generated: usize) {
        let StepResult {
            plan, rows, took, ..
        } = result;
        self.report_load(plan.preempted.len(), generated);
        self.publish_cache_events();
        self.scheduler
            .observe(*rows, *took, plan.moves.len(), result.moving);
        metrics::step(*took, plan.spans.len(), *rows);
        self.speculation.show(self.runner.speculator.counts());
    }

    fn publish_cache_events(&mut self) {
        let events = self.scheduler.take_cache_events();
        self.cache_events.publish(events);
    }

    /// Publishes the current load, for [`Load`](crate::Load) and the gauges.
    fn report_load(&self, preempted: usize, generated: usize) {
        let counts = self.scheduler.counts();
        let load = StepLoad {
            running: self.scheduler.num_running(),
            preempted_waiting: self.scheduler.num_preempted(),
            kv: self.scheduler.kv_usage(),
            prefix_queries: counts.prefix_queries,
            prefix_hits: counts.prefix_hits,
            preempted,
            generated,
        };
        self.admission.set_preempted(load.preempted_waiting);
        self.health.set_load(&load, self.now());
        metrics::load(&load, self.admission.queue(), &counts);
    }

    fn now(&self) -> Time {
        self.clock.now()
    }
}

impl Drop for StepLoop {
    /// However the loop ends, a panic included, readiness must say so.
    fn drop(&mut self) {
        self.health.died();
    }
}
