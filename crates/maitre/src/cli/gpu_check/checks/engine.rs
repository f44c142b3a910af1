//! The engine on the device: the same answers in every crowd, and after a failure; and an engine that divides the
//! device's memory itself.

use std::time::Instant;

use anyhow::Result;
use futures_util::future::join_all;
use maitre::{Engine, EngineError, GenerateRequest, Input};

use super::super::item::{Checked, Item, Outcome, figures};
use super::super::numbers::Dice;
use super::super::place::{Place, Sizes};
use super::super::service::{Service, answer, idle, request};
use crate::cli::source;

pub(super) fn list(items: &mut Vec<Item>) {
    items.push(Item::check(
        "invariant_answers",
        "sampled answers: alone = in a crowd",
        crowd,
    ));
    items.push(Item::check(
        "injected_failure",
        "a failing kernel fails nothing but its step",
        injected,
    ));
    if cfg!(feature = "bundled") {
        items.push(
            Item::check(
                "engine_by_default",
                "an engine that sizes itself answers",
                by_default,
            )
            .within(60.0),
        );
    }
}

/// Answers that are compared.
const ANSWERS: usize = 6;

/// An engine with room for all of a check.
fn service(sizes: &Sizes) -> Service {
    let max_model_len = 2 * sizes.prompt_tokens + sizes.greedy_tokens;
    Service {
        max_seqs: 4 * ANSWERS,
        max_model_len,
        max_batched_tokens: 8 * sizes.prompt_tokens.max(ANSWERS),
        kv_tokens: 4 * ANSWERS * max_model_len.next_multiple_of(16),
        host_blocks: 0,
    }
}

/// Seeded, each sampled in another way.
fn sampled(sizes: &Sizes, which: usize) -> Result<GenerateRequest> {
    let mut dice = Dice::new(61 + which as u64);
    let length = sizes.prompt_tokens + dice.below(sizes.prompt_tokens);
    let prompt = (0..length).map(|_| dice.below(256) as u32).collect();
    let mut request = request(prompt, sizes.greedy_tokens)?;
    request.sampling.temperature = Some([1.0, 0.8, 1.2][which % 3]);
    request.sampling.top_p = Some([1.0, 0.9][which % 2]);
    request.sampling.top_k = Some([0, 40, 0, 5][which % 4]);
    request.sampling.seed = Some(which as u64);
    Ok(request)
}

fn crowd(place: &mut Place) -> Result<Outcome> {
    let (model, sizes) = (place.check_model()?, place.sizes);
    let (engine, _) = service(sizes).start(model, &place.strict)?;
    place.handle.block_on(async {
        let mut alone = Vec::new();
        for which in 0..ANSWERS {
            alone.push(answer(&engine, sampled(sizes, which)?).await?);
            // The next shall compute its prompt itself.
            engine.reset_prefix_cache().await?;
        }
        let requests = (0..3 * ANSWERS).map(|which| sampled(sizes, which));
        let requests = requests.collect::<Result<Vec<_>>>()?;
        let together = join_all(requests.into_iter().map(|it| answer(&engine, it))).await;
        let pairs = alone.iter().zip(&together);
        let equal = pairs
            .filter(|(alone, together)| together.as_ref().is_ok_and(|it| it == *alone))
            .count();
        Ok(Checked::all("answers", equal, ANSWERS).into())
    })
}

/// Launches before the one that fails: the first, one in the middle, one of a later step perhaps.
const FAILING: [u64; 3] = [0, 11, 97];

fn injected(place: &mut Place) -> Result<Outcome> {
    if !place.is_on_gpu() {
        let reason = "the processor launches nothing that could fail".to_owned();
        return Ok(Outcome::NotRun { reason });
    }
    let (model, sizes) = (place.check_model()?, place.sizes);
    let backend = place.strict.clone();
    let (engine, _) = service(sizes).start(model, &backend)?;
    place.handle.block_on(async {
        let right = answer(&engine, sampled(sizes, 0)?).await?;
        let (mut failed, mut wrong, mut recovered) = (0, 0, 0);
        for launches in FAILING {
            engine.reset_prefix_cache().await?;
            backend.fail_launch_after(launches);
            let requests = (0..ANSWERS).map(|which| sampled(sizes, which));
            let requests = requests.collect::<Result<Vec<_>>>()?;
            let answers = join_all(requests.into_iter().map(|it| answer(&engine, it))).await;
            failed += answers.iter().filter(|it| is_failure(it)).count();
            wrong += usize::from(answers[0].as_ref().is_ok_and(|it| *it != right));
            recovered += usize::from(answer(&engine, sampled(sizes, 0)?).await? == right);
        }
        idle(&engine).await?;
        let all = FAILING.len();
        Ok(Checked {
            passed: recovered == all && wrong == 0,
            measured: format!("{recovered} of {all} right after"),
            limit: format!("all; {failed} of {} failed", all * ANSWERS),
            figures: figures([
                ("injected_failures", all as f64),
                ("requests_meanwhile", (all * ANSWERS) as f64),
                ("requests_failed", failed as f64),
                ("answers_wrong", wrong as f64),
                ("next_answers_right", recovered as f64),
            ]),
        }
        .into())
    })
}

fn is_failure(answer: &Result<Vec<u32>, EngineError>) -> bool {
    matches!(answer, Err(EngineError::Failed { .. }))
}

/// An engine as `maitre serve` has it, with the budget it finds.
fn by_default(place: &mut Place) -> Result<Outcome> {
    place.forget_model();
    let began = Instant::now();
    let mut builder = Engine::builder(source::bundled()?)
        .device(place.device)
        .threads(Some(place.facts.host_threads));
    if place.sizes.are_small {
        // For an emulator the usual steps are too large.
        builder = Engine::builder(source::bundled_draft()?)
            .device(place.device)
            .threads(Some(1))
            .max_model_len(Some(64))
            .max_seqs(2)
            .max_batched_tokens(16);
    }
    let engine = builder.build()?;
    let ready_s = began.elapsed().as_secs_f64();
    let mut request = GenerateRequest::new(Input::Text("Once upon a time".to_owned()));
    request.sampling.temperature = Some(0.0);
    request.stopping.max_tokens = Some(u32::try_from(place.sizes.greedy_tokens)?);
    request.stopping.ignore_eos = true;
    let tokens = place.handle.block_on(answer(&engine, request))?;
    let memory = engine.info().memory;
    let kv_tokens = engine.info().limits.kv_tokens();
    Ok(Checked {
        passed: tokens.len() == place.sizes.greedy_tokens,
        measured: format!("ready in {ready_s:.1} s"),
        limit: format!("KV of {kv_tokens} tokens"),
        figures: figures([
            ("ready_s", ready_s),
            ("kv_tokens", kv_tokens as f64),
            ("kv_bytes", memory.kv_cache as f64),
            ("weight_bytes", memory.weights as f64),
            ("workspace_bytes", memory.workspace as f64),
            ("available_bytes", memory.available.unwrap_or(0) as f64),
        ]),
    }
    .into())
}
