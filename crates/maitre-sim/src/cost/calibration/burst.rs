//! Requests that come at once, and the steps that they are.

use maitre_scheduler::{NewRequest, Outcome, Scheduler, Time};
use maitre_workload::{Burst, ObservedBurst};

use crate::error::check_positive;
use crate::replica::TOKEN;
use crate::{EngineSettings, SimError, StepPricer, StepWork};

/// Tokens of the prompts of a burst that is about the steps of its answers.
const SHORT_PROMPT: u32 = 16;

/// Tokens of its answers: the first step has some of the prompts still, and the last one misses some of the users.
const ANSWER: u32 = 33;

/// Tokens of all prompts together of a burst that is about answers behind long prompts.
const LONG_PROMPTS: u32 = 4096;

/// Bursts that tell the terms of a step's time apart, for an engine with these bounds: answers of more and more users, prompts of
/// more and more tokens, and answers behind long prompts.
pub(super) fn ladder(engine: &EngineSettings) -> Vec<Burst> {
    let context = engine.max_model_len as u32;
    let fits = |users: u32, tokens: u32| {
        let blocks = u64::from(users) * u64::from(tokens.div_ceil(engine.block_size));
        tokens <= context && blocks <= u64::from(engine.kv_blocks)
    };
    let mut bursts = Vec::new();
    let mut add = |users: u32, prompt_tokens: u32, output_tokens: u32| {
        if users <= engine.max_seqs as u32 && fits(users, prompt_tokens + output_tokens) {
            bursts.push(Burst {
                users,
                prompt_tokens,
                output_tokens,
            });
        }
    };
    for users in [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256] {
        add(users, SHORT_PROMPT, ANSWER);
    }
    for prompt_tokens in [8, 32, 64, 128, 256, 512, 1024, 2048] {
        add(1, prompt_tokens, 1);
    }
    for users in [1, 4, 8, 16] {
        let prompt_tokens = (LONG_PROMPTS / users).min(1024).min(context / 2);
        add(users, prompt_tokens, ANSWER);
    }
    bursts
}

pub(super) fn validate(observed: &ObservedBurst) -> Result<(), SimError> {
    check_positive("users", f64::from(observed.burst.users))?;
    check_positive("first_tokens_seconds", observed.first_tokens_seconds)?;
    match observed.burst.output_tokens {
        1 => Ok(()),
        _ => check_positive("answers_seconds", observed.answers_seconds),
    }
}

/// The steps of a burst.
#[derive(Debug, Clone, Default)]
pub(super) struct BurstWork {
    /// Up to the one with the last of the first tokens.
    first_tokens: Vec<StepWork>,
    answers: Vec<StepWork>,
}

impl BurstWork {
    /// As the scheduler that serves plans them, whatever they cost.
    pub(super) fn of(
        burst: &Burst,
        engine: &EngineSettings,
        window: Option<u32>,
    ) -> Result<Self, SimError> {
        let mut scheduler = Scheduler::new(engine.scheduler())?;
        for user in 0..burst.users {
            let prompt = vec![user; burst.prompt_tokens as usize];
            let request = NewRequest::new(user.into(), prompt, burst.output_tokens as usize);
            let added = scheduler.add(request);
            added.map_err(|refusal| {
                SimError::setting(
                    "a burst",
                    format!("{burst:?}"),
                    format!("one that the engine takes: {refusal:?}"),
                )
            })?;
        }
        let mut work = Self::default();
        let mut waiting_for_first = burst.users;
        let mut answered = vec![false; burst.users as usize];
        while scheduler.has_work() {
            let plan = scheduler.schedule(Time::ZERO);
            if plan.is_empty() {
                return Err(SimError::setting(
                    "a burst",
                    format!("{burst:?}"),
                    "one that the KV cache holds",
                ));
            }
            let steps = match waiting_for_first {
                0 => &mut work.answers,
                _ => &mut work.first_tokens,
            };
            steps.push(StepWork::of(&plan, window));
            let mut outcomes = Vec::with_capacity(plan.spans.len());
            for span in &plan.spans {
                let tokens = if span.samples {
                    vec![TOKEN]
                } else {
                    Vec::new()
                };
                if span.samples && !std::mem::replace(&mut answered[span.request.0 as usize], true)
                {
                    waiting_for_first -= 1;
                }
                outcomes.push(Outcome::of(span.request, tokens));
            }
            scheduler.commit(plan.step_id, &outcomes)?;
        }
        Ok(work)
    }

    pub(super) fn first_tokens_seconds(&self, pricer: &StepPricer) -> f64 {
        seconds(&self.first_tokens, pricer)
    }

    pub(super) fn answers_seconds(&self, pricer: &StepPricer) -> f64 {
        seconds(&self.answers, pricer)
    }

    /// Tokens of each of [`Self::even_steps`].
    pub(super) fn even_tokens(&self, observed: &ObservedBurst) -> Option<f64> {
        let (steps, _) = self.even_steps(observed)?;
        steps.first().map(|step| step.tokens as f64)
    }

    /// Steps that all have about as many tokens, and what they took: those of the answers, or the one of a prompt.
    pub(super) fn even_steps(&self, observed: &ObservedBurst) -> Option<(&[StepWork], f64)> {
        match (self.answers.is_empty(), self.first_tokens.len()) {
            (false, _) => Some((&self.answers, observed.answers_seconds)),
            (true, 1) => Some((&self.first_tokens, observed.first_tokens_seconds)),
            (true, _) => None,
        }
    }
}

pub(super) fn seconds(steps: &[StepWork], pricer: &StepPricer) -> f64 {
    steps.iter().map(|step| pricer.price(step).total()).sum()
}
