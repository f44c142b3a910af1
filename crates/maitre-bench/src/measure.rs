//! A measurement: one run for each load, each after a warm-up that is not counted.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::{Either, select};
use maitre_workload::{Request, SettingError, Slo, mix};

use crate::driver::{Driven, Driver};
use crate::machine::{EnergyMeter, cpu_seconds};
use crate::report::warnings;
use crate::requests::Plan;
use crate::server::{Watched, watch};
use crate::summary::Machine;
use crate::{
    BenchError, Clock, Load, ModelFacts, Questions, Report, Run, ServerRun, ServerState, Stop,
    Target, Workload,
};

/// What to measure.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The shape of the requests.
    pub workload: Workload,
    /// Where prompts come from.
    pub questions: Questions,
    /// One run for each.
    pub loads: Vec<Load>,
    /// Requests before each run that are not counted.
    pub warmup_requests: usize,
    /// What a good answer keeps to.
    pub slo: Slo,
    /// How long a request may bring no token; then it is given up, and counted as failed.
    pub timeout: Duration,
}

impl Settings {
    /// The timeout where none is given: longer than a queue that users would wait in, shorter than a benchmark that is left alone for
    /// a night.
    pub const TIMEOUT: Duration = Duration::from_secs(600);

    /// Users of closed loops, one run for each number, who ask random prompts.
    #[must_use]
    pub fn closed_loop(workload: Workload, users: &[u32]) -> Self {
        Self {
            workload,
            questions: Questions::Random,
            loads: users.iter().map(|users| Load::Users(*users)).collect(),
            warmup_requests: 0,
            slo: Slo::default(),
            timeout: Self::TIMEOUT,
        }
    }

    fn check(&self, model: &ModelFacts) -> Result<(), BenchError> {
        let no_users = self.loads.contains(&Load::Users(0));
        if self.loads.is_empty() || no_users {
            let given = if no_users { "0" } else { "" };
            return Err(BenchError::Concurrency {
                given: given.into(),
            });
        }
        if self.timeout.is_zero() {
            return Err(SettingError::new("timeout", "0", "a time above 0").into());
        }
        let drawn = matches!(self.questions, Questions::Random);
        self.loads
            .iter()
            .try_for_each(|load| self.workload.check(load, drawn))?;
        let users = self.loads.iter().filter_map(Load::users).max();
        if let (Questions::Chats(chats), Some(users)) = (&self.questions, users)
            && chats.count() < users as usize
        {
            let expected = format!("at least the concurrency, {users}: no fewer reach it");
            let (setting, given) = ("the number of recorded conversations", chats.count());
            return Err(SettingError::new(setting, given, expected).into());
        }
        self.questions.check(&self.workload, model)
    }

    /// Random prompts, and those of a warm-up for conversations, need to know which tokens there are.
    fn check_vocabulary(&self, target: &dyn Target, model: &ModelFacts) -> Result<(), BenchError> {
        let is_random = match self.questions {
            Questions::Random | Questions::Trace(_) => true,
            Questions::Chats(_) => self.warmup_requests > 0,
            Questions::InTurn(_) => false,
        };
        match is_random && model.vocab_size == 0 {
            true => Err(BenchError::VocabSize {
                address: target.name(),
            }),
            false => Ok(()),
        }
    }
}

/// How a measurement gets on.
#[derive(Debug)]
pub enum Progress<'a> {
    /// A request of a run has ended.
    Ended {
        /// So many have.
        done: usize,
        /// Of about so many, if that is known.
        of: Option<usize>,
    },
    /// A run is over.
    Finished(&'a Run),
}

/// Measures every load in turn; `progress` hears of each request and each run.
///
/// # Errors
/// If the settings are impossible for this model. Requests that fail are counted in the report.
///
/// # Cancel safety
/// Dropping the future ends the requests in flight. [`Stop`] does so and keeps what was measured.
pub async fn measure(
    target: &dyn Target,
    clock: &dyn Clock,
    settings: &Settings,
    stop: &Stop,
    mut progress: impl FnMut(Progress<'_>),
) -> Result<Report, BenchError> {
    let mut bench = Bench::new(target, clock, settings, stop)?;
    let mut runs = Vec::with_capacity(settings.loads.len());
    for load in &settings.loads {
        let run = bench.run(load, &mut progress).await?;
        runs.push(run);
        if stop.is_stopped() {
            break;
        }
    }
    let warnings = warnings(settings, &runs, bench.asked_again());
    Ok(Report::new(
        (target.name(), bench.model.name),
        settings,
        runs,
        warnings,
        stop.is_stopped(),
    ))
}

/// A warm-up, and what is measured.
const PHASES_PER_RUN: u64 = 2;

/// A target that is measured again and again; no two runs ask the same.
pub(crate) struct Bench<'a> {
    target: &'a dyn Target,
    clock: &'a dyn Clock,
    settings: &'a Settings,
    stop: &'a Stop,
    model: ModelFacts,
    /// Recorded conversations: the next ones come first.
    questions: Questions,
    phase: u64,
    /// Requests of all runs, those of warm-ups included.
    asked: usize,
    /// Conversations that have begun.
    begun: usize,
}

impl<'a> Bench<'a> {
    pub(crate) fn new(
        target: &'a dyn Target,
        clock: &'a dyn Clock,
        settings: &'a Settings,
        stop: &'a Stop,
    ) -> Result<Self, BenchError> {
        let model = target.model();
        settings.check(&model)?;
        settings.check_vocabulary(target, &model)?;
        Ok(Self {
            target,
            clock,
            settings,
            stop,
            model,
            questions: settings.questions.clone(),
            phase: 0,
            asked: 0,
            begun: 0,
        })
    }

    /// How often a prompt of a file, or a recorded conversation, was asked once more.
    pub(crate) fn asked_again(&self) -> usize {
        match &self.questions {
            Questions::Chats(chats) => self.begun.saturating_sub(chats.count()),
            Questions::InTurn(prompts) => self.asked.saturating_sub(prompts.count()),
            Questions::Random | Questions::Trace(_) => 0,
        }
    }

    /// Requests of all runs, those that were skipped included.
    pub(crate) fn asked(&self) -> usize {
        self.asked
    }

    /// So many runs have been made elsewhere, with so many requests: the next ones ask something else.
    pub(crate) fn skip(&mut self, runs: u64, asked: usize) {
        self.phase = runs * PHASES_PER_RUN;
        self.asked = asked;
    }

    /// A warm-up, and a run.
    pub(crate) async fn run(
        &mut self,
        load: &Load,
        progress: &mut impl FnMut(Progress<'_>),
    ) -> Result<Run, BenchError> {
        self.warm_up(load).await?;
        let settings = self.settings;
        let seed = self.next_seed();
        let plan = Plan::new(&settings.workload, &self.questions, load, seed)?;
        let expected = plan.expected;
        let mut done = 0;
        let mut ended = || {
            done += 1;
            progress(Progress::Ended { done, of: expected });
        };
        let before = self.target.state().await;
        let cpu = cpu_seconds().filter(|_| !self.target.shares_process());
        let mut energy = EnergyMeter::start();
        let mut watched = Watched::default();
        let (driven, begun) = {
            let watching = pin!(watch(self.target, self.clock, &mut watched, &mut energy));
            let driving = pin!(self.drive(plan, &self.questions, seed, &mut ended));
            match select(driving, watching).await {
                Either::Left((driven, _)) => driven,
                Either::Right(((), driving)) => driving.await,
            }
        };
        self.asked += driven.records.len() + driven.unfinished;
        self.begun += begun;
        if let Questions::Chats(chats) = &mut self.questions {
            Arc::make_mut(chats).advance(begun);
        }
        let seconds = driven.duration.as_secs_f64();
        let after = self.target.state().await;
        let machine = Machine {
            client_cpu_seconds: cpu.zip(cpu_seconds()).map(|(before, after)| after - before),
            energy_joules: energy.as_mut().map(EnergyMeter::joules),
            server: counted(&watched, before, after, seconds),
        };
        let run = Run::new(load, &driven, &settings.slo, machine);
        progress(Progress::Finished(&run));
        Ok(run)
    }

    /// Requests that are not counted, of a user or several who ask random prompts, or those of the file.
    async fn warm_up(&mut self, load: &Load) -> Result<(), BenchError> {
        let requests = self.settings.warmup_requests;
        let seed = self.next_seed();
        if requests == 0 || self.stop.is_stopped() {
            return Ok(());
        }
        let workload = Workload {
            requests: Some(requests),
            turns: None,
            think_time: None,
            ..self.settings.workload.clone()
        };
        let users = load
            .users()
            .unwrap_or(1)
            .min(u32::try_from(requests).unwrap_or(u32::MAX));
        let questions = match &self.settings.questions {
            Questions::Trace(trace) => Questions::Trace(Arc::clone(trace)),
            Questions::InTurn(prompts) => Questions::InTurn(prompts.clone()),
            Questions::Random | Questions::Chats(_) => Questions::Random,
        };
        let plan = Plan::new(&workload, &questions, &Load::Users(users), seed)?;
        self.drive(plan, &questions, seed, &mut || {}).await;
        self.asked += requests;
        Ok(())
    }

    /// The requests of a plan, and how many conversations began.
    async fn drive(
        &self,
        mut plan: Plan,
        questions: &Questions,
        seed: u64,
        ended: &mut impl FnMut(),
    ) -> (Driven, usize) {
        let driver = Driver {
            target: self.target,
            clock: self.clock,
            stop: self.stop,
            timeout: self.settings.timeout,
        };
        let (vocab_size, asked) = (self.model.vocab_size, self.asked);
        let seed = seed ^ mix(self.settings.workload.prompt_seed);
        let begun = AtomicU64::new(0);
        let ask = |request: &Request| {
            // Conversations are counted in the order in which they begin.
            begun.fetch_max(request.session.map_or(0, |it| it + 1), Ordering::Relaxed);
            questions.ask(request, vocab_size, seed, asked)
        };
        let driven = driver.drive(&mut *plan.arrivals, &ask, |_| ended()).await;
        (driven, begun.into_inner() as usize)
    }

    /// Each warm-up and each run asks something else.
    fn next_seed(&mut self) -> u64 {
        let seed = mix(self.settings.workload.seed) ^ self.phase;
        self.phase += 1;
        seed
    }
}

/// What a server counted in a run; `None` unless it told both before and after it: what it told once counts from its start.
fn counted(
    watched: &Watched,
    before: Option<ServerState>,
    after: Option<ServerState>,
    seconds: f64,
) -> Option<ServerRun> {
    Some(watched.run(&before?, &after?, seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_since_a_server_s_start_are_not_those_of_a_run() {
        let state = |preemptions| ServerState {
            preemptions: Some(preemptions),
            ..ServerState::default()
        };
        let preemptions = |before, after| {
            let run = counted(&Watched::default(), before, after, 1.0);
            run.map(|run| run.preemptions)
        };
        assert_eq!(
            preemptions(Some(state(40.0)), Some(state(42.0))),
            Some(Some(2.0))
        );
        assert_eq!(preemptions(None, Some(state(42.0))), None);
        assert_eq!(preemptions(Some(state(40.0)), None), None);
    }
}
