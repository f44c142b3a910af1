//! The closed loop: N users, each of whom sends a request, reads the answer, sends the next.
//!
//! All users are one task. It only counts and looks at the clock, so one thread serves thousands,
//! and the report says how busy it was.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;

use crate::cpu::cpu_seconds;
use crate::report::{Report, Run};
use crate::statistics::{Observation, Statistics};
use crate::{BenchError, BenchRequest, Clock, ModelFacts, Prompts, RequestError, Target, Workload};

/// Counted like a status code: an answer that ended well with another length than asked for.
const WRONG_LENGTH: &str = "WRONG_LENGTH";

/// What to measure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The requests.
    pub workload: Workload,
    /// What is asked, one after the other; `None` = random tokens.
    pub prompts: Option<Prompts>,
    /// One run for each: how many users at once.
    pub concurrency: Vec<usize>,
    /// Requests before each run that are not counted.
    pub warmup_requests: usize,
}

impl Settings {
    fn check(&self, model: &ModelFacts) -> Result<(), BenchError> {
        if self.concurrency.is_empty() || self.concurrency.contains(&0) {
            let given: Vec<String> = self.concurrency.iter().map(usize::to_string).collect();
            return Err(BenchError::Concurrency {
                given: given.join(","),
            });
        }
        self.concurrency
            .iter()
            .try_for_each(|&users| self.workload.check(self.prompts.as_ref(), model, users))
    }
}

/// Measures every concurrency in turn; `finished` hears of each run.
///
/// # Errors
/// If the settings are impossible for this model. Requests that fail are counted in the report.
///
/// # Cancel safety
/// Dropping the future ends the requests in flight.
pub async fn measure(
    target: &dyn Target,
    clock: &dyn Clock,
    settings: &Settings,
    mut finished: impl FnMut(&Run),
) -> Result<Report, BenchError> {
    let model = target.model();
    settings.check(&model)?;
    let mut runs = Vec::with_capacity(settings.concurrency.len());
    let mut asked = 0;
    for (level, &users) in settings.concurrency.iter().enumerate() {
        let phase = level as u64 * 2;
        let mut phase_of = |phase, requests| {
            let asked_before = asked;
            asked += requests;
            Phase {
                target,
                clock,
                settings,
                vocab_size: model.vocab_size,
                phase,
                asked_before,
                requests,
                next: AtomicUsize::new(0),
                tally: Mutex::default(),
            }
        };
        phase_of(phase, settings.warmup_requests)
            .drive(users.min(settings.warmup_requests))
            .await;
        let run = phase_of(phase + 1, settings.workload.requests_of(users))
            .run(users)
            .await;
        finished(&run);
        runs.push(run);
    }
    Ok(Report::new(target.name(), model.name, settings, runs))
}

/// What a phase has gathered.
#[derive(Debug, Default)]
struct Tally {
    statistics: Statistics,
    completed: usize,
    input_tokens: usize,
    output_tokens: usize,
    errors: BTreeMap<String, usize>,
}

/// A number of requests that the users take from a common pile.
struct Phase<'a> {
    target: &'a dyn Target,
    clock: &'a dyn Clock,
    settings: &'a Settings,
    vocab_size: usize,
    phase: u64,
    asked_before: usize,
    requests: usize,
    next: AtomicUsize,
    tally: Mutex<Tally>,
}

impl Phase<'_> {
    async fn run(self, users: usize) -> Run {
        let busy_before = cpu_seconds().filter(|_| !self.target.shares_process());
        let started = self.clock.now();
        self.drive(users).await;
        let duration = self.clock.now().saturating_sub(started);
        let client_cpu_share = busy_before
            .zip(cpu_seconds())
            .map(|(before, after)| (after - before) / duration.as_secs_f64())
            .filter(|share| share.is_finite());

        let tally = self
            .tally
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        let per_second = |count: usize| match duration.as_secs_f64() {
            0.0 => 0.0,
            seconds => count as f64 / seconds,
        };
        Run {
            concurrency: users,
            requests: self.requests,
            completed: tally.completed,
            errors: tally.errors,
            duration_s: duration.as_secs_f64(),
            input_tokens: tally.input_tokens,
            output_tokens: tally.output_tokens,
            requests_per_second: per_second(tally.completed),
            output_tokens_per_second: per_second(tally.output_tokens),
            total_tokens_per_second: per_second(tally.output_tokens + tally.input_tokens),
            ttft_ms: tally.statistics.ttft.percentiles(),
            tpot_ms: tally.statistics.tpot.percentiles(),
            itl_ms: tally.statistics.itl.percentiles(),
            e2e_ms: tally.statistics.e2e.percentiles(),
            client_cpu_share,
        }
    }

    async fn drive(&self, users: usize) {
        join_all((0..users).map(|_| self.user())).await;
    }

    fn request(&self, index: usize) -> BenchRequest {
        let workload = &self.settings.workload;
        match &self.settings.prompts {
            None => workload.request(self.vocab_size, self.phase, index),
            Some(prompts) => BenchRequest {
                prompt: prompts.prompt(self.asked_before + index),
                output_tokens: workload.output_tokens,
            },
        }
    }

    async fn user(&self) {
        loop {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            if index >= self.requests {
                return;
            }
            let request = self.request(index);
            let input_tokens = request.prompt.len();
            let outcome = observe(self.target, self.clock, request).await;
            let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
            match outcome {
                Ok(seen) => {
                    tally.completed += 1;
                    tally.input_tokens += input_tokens;
                    tally.output_tokens += seen.tokens;
                    tally.statistics.record(&seen);
                }
                Err(error) => *tally.errors.entry(error.code).or_default() += 1,
            }
        }
    }
}

/// Sends one request and watches its answer arrive.
async fn observe(
    target: &dyn Target,
    clock: &dyn Clock,
    request: BenchRequest,
) -> Result<Observation, RequestError> {
    let expected = request.output_tokens;
    let sent = clock.now();
    let mut answer = target.start(request).await?;
    let mut seen = Observation::default();
    let mut last: Option<Duration> = None;
    while let Some(arrived) = answer.next().await {
        let count = arrived?;
        if count == 0 {
            continue;
        }
        let now = clock.now();
        match last.replace(now) {
            None => seen.ttft = now.saturating_sub(sent),
            Some(before) => {
                let gap = now.saturating_sub(before);
                seen.gaps.push(gap);
                seen.generating += gap;
                seen.later_tokens += count;
            }
        }
        seen.tokens += count;
    }
    seen.e2e = clock.now().saturating_sub(sent);
    if seen.tokens != expected {
        let message = format!("{} tokens came, {expected} were asked for", seen.tokens);
        return Err(RequestError::new(WRONG_LENGTH, message));
    }
    Ok(seen)
}
