//! The whole engine: N users in this process, each of whom asks once, all at the same time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::future::join_all;
use maitre_bench::{InProcessTarget, MonotonicClock, Run, Settings, Stop, Workload, measure};
use maitre_model::Model;
use maitre_tensor::WeightFormat;

use super::{Mode, Programme, goals, of_users};
use crate::item::{Item, Outcome, Timed, Unit, figures};
use crate::prediction::{Rates, StepSize, step_seconds};
use crate::service::{Service, answer, request};
use crate::site::Site;

/// Tokens of a step while prompts come in.
const STEP_TOKENS: usize = 2048;

/// How much longer than predicted a run may be thought to take.
const ALLOWANCE: f64 = 1.6;

/// What a run is thought to take where nothing is known.
const UNKNOWN_S: f64 = 60.0;

/// What a run may take before it counts as hanging, with all that comes before it; none begins that needs more.
const MOST_S: f64 = 45.0;

pub(super) fn list(programme: &Programme, items: &mut Vec<Item>) {
    for mode in Mode::BOTH {
        for &users in programme.served {
            let programme = *programme;
            let shape = programme.shape;
            items.push(
                Item::speed(
                    format!("engine_{}_bf16_{users}u_{}", shape.id, mode.name()),
                    format!(
                        "{} bf16, engine, {}, {}",
                        shape.name,
                        of_users(users),
                        mode.name()
                    ),
                    move |site| time_engine(site, &programme, users, mode),
                )
                .within(MOST_S),
            );
        }
    }
}

fn time_engine(
    site: &mut Site,
    programme: &Programme,
    users: usize,
    mode: Mode,
) -> Result<Outcome> {
    let model = site.model(programme.shape, WeightFormat::Bf16)?;
    let (input, output) = programme.request;
    let rates = site.rates();
    let predicted_s = rates.map(|it| predicted_seconds(&model, it, users, programme.request));
    let needed = predicted_s.unwrap_or(UNKNOWN_S) * ALLOWANCE;
    let fits = Instant::now() + Duration::from_secs_f64(needed) <= site.deadline;
    if site.is_on_gpu() && (!fits || needed > MOST_S) {
        let reason = format!("out of time: it takes some {needed:.0} s");
        return Ok(Outcome::NotRun { reason });
    }
    let served = serve(site, model, programme.request, users, mode)?;
    let run = &served.run;
    let host_percent = (1.0 - served.device_s / run.duration_s) * 100.0;
    let mut timed = Timed::new(Unit::TokensPerS, run.output_tokens_per_second);
    timed.predicted = predicted_s.map(|seconds| (users * output) as f64 / seconds);
    let goals::Goal { reference, goal } = goals::decode(programme.shape, WeightFormat::Bf16, users);
    (timed.reference, timed.goal) = (reference, goal);
    timed.figures = figures([
        ("duration_s", run.duration_s),
        ("steps", served.steps as f64),
        ("device_s", served.device_s),
        ("host_share_percent", host_percent),
        ("ttft_p50_ms", run.ttft_ms.map_or(f64::NAN, |it| it.p50)),
        ("itl_p50_ms", run.itl_ms.map_or(f64::NAN, |it| it.p50)),
        ("itl_p99_ms", run.itl_ms.map_or(f64::NAN, |it| it.p99)),
    ]);
    timed.note = Some(format!(
        "{input} tokens in, {output} out, prompts included; {host_percent:.1} % of the time is the host's"
    ));
    Ok(timed.into())
}

/// What came of a closed loop.
struct Served {
    run: Run,
    /// Time in which the runner was at work, or waited for the device.
    device_s: f64,
    steps: u64,
}

fn serve(
    site: &Site,
    model: Arc<Model>,
    (input, output): (usize, usize),
    users: usize,
    mode: Mode,
) -> Result<Served> {
    let max_model_len = (input + output + 1).next_multiple_of(16);
    let service = Service {
        max_seqs: users,
        max_model_len,
        max_batched_tokens: STEP_TOKENS.min(users * input).max(users),
        kv_tokens: (users + 1) * max_model_len,
        host_blocks: 0,
    };
    let (engine, busy) = service.start(model, site.backend(mode.is_deterministic()))?;
    let workload = Workload {
        requests: Some(users),
        seed: 1,
        ..Workload::of(input as u32, output as u32)
    };
    let settings = Settings::closed_loop(workload, &[users as u32]);
    site.handle.block_on(async {
        // Steps of this many users are recorded before the clock starts.
        let prompt = |user: usize| vec![user as u32 % 256; 2];
        let requests = (0..users).map(|user| request(prompt(user), 4.min(output)));
        let requests = requests.collect::<Result<Vec<_>>>()?;
        join_all(requests.into_iter().map(|it| answer(&engine, it))).await;
        let (device_s, steps) = (busy.seconds(), busy.steps());
        let target = InProcessTarget::new(engine.clone());
        let report = measure(
            &target,
            &MonotonicClock::default(),
            &settings,
            &Stop::default(),
            |_| {},
        )
        .await?;
        let run = report.runs.into_iter().next();
        let run = run.context("nothing was measured")?;
        ensure!(
            run.completed == users,
            "{} of {users} requests were answered; errors: {:?}",
            run.completed,
            run.errors
        );
        Ok(Served {
            run,
            device_s: busy.seconds() - device_s,
            steps: busy.steps() - steps,
        })
    })
}

/// The prompts in full steps, then a decode for each token at the mean context.
fn predicted_seconds(
    model: &Model,
    rates: Rates,
    users: usize,
    (input, output): (usize, usize),
) -> f64 {
    let prompts = users * input;
    let chunk = STEP_TOKENS.min(prompts);
    let step = StepSize {
        rows: chunk,
        outputs: chunk.div_ceil(input),
        contexts: chunk,
        seen: chunk * (input + 1) / 2,
    };
    let prefill = step_seconds(model, step, rates) * prompts as f64 / chunk as f64;
    let decode = step_seconds(model, StepSize::decode(users, input + output / 2), rates);
    prefill + decode * output.saturating_sub(1) as f64
}
