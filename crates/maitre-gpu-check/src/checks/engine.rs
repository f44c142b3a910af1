//! The engine on the device: the same answers in every crowd, and after a failure; and an engine that divides the
//! device's memory itself.

use std::time::Instant;

use anyhow::{Result, ensure};
use futures_util::future::join_all;
use maitre_engine::{Engine, EngineError, GenerateRequest};
use maitre_model::LoadFormat;

use crate::item::{Checked, Item, Outcome, figures};
use crate::numbers::Dice;
use crate::service::{Service, answer, idle, request};
use crate::site::{Site, Sizes};

pub(super) fn list(items: &mut Vec<Item>) {
    items.push(Item::check(
        "invariant_answers",
        "sampled answers: alone = in a crowd",
        crowd,
    ));
    items.push(Item::check(
        "injected_failure",
        "failing kernels fail nothing but their steps",
        injected,
    ));
    items.push(
        Item::check(
            "engine_by_default",
            "an engine that fills the memory answers",
            by_default,
        )
        .within(60.0),
    );
}

/// Tokens, or why there are none.
type Answer = Result<Vec<u32>, EngineError>;

/// Answers that are compared.
const ANSWERS: usize = 6;

/// An engine with space for all of a check.
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

fn crowd(site: &mut Site) -> Result<Outcome> {
    let (model, sizes) = (site.check_model()?, site.sizes);
    let (engine, _) = service(sizes).start(model, &site.strict)?;
    site.handle.block_on(async {
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

/// Requests at once, and launches before the one that fails. Each failure is to come while prompts are computed, whose
/// kernels are launched one by one: in the first kernel, in one of the first layer, in one of the second. A step of
/// several requests is run again in halves and fails none of them; that of one fails it. So each fails one request at
/// most (the first of a crowd may begin before the others are there), and the last, which is alone, fails it.
const FAILING: [(usize, u64); 4] = [(ANSWERS, 0), (ANSWERS, 5), (ANSWERS, 14), (1, 5)];

fn injected(site: &mut Site) -> Result<Outcome> {
    if !site.is_on_gpu() {
        let reason = "the processor launches nothing that could fail".to_owned();
        return Ok(Outcome::NotRun { reason });
    }
    let (model, sizes) = (site.check_model()?, site.sizes);
    let backend = site.strict.clone();
    let (engine, busy) = service(sizes).start(model, &backend)?;
    site.handle.block_on(async {
        let right = together(&engine, sizes, ANSWERS).await?;
        ensure!(
            right.iter().all(Result::is_ok) && busy.failures() == 0,
            "steps failed before any was made to"
        );
        let (mut failed, mut struck, mut wrong, mut recovered) = (0, 0, 0, 0);
        for (at_once, launches) in FAILING {
            // They shall compute their prompts themselves.
            engine.reset_prefix_cache().await?;
            let before = busy.failures();
            backend.fail_launch_after(launches);
            let meanwhile = together(&engine, sizes, at_once).await?;
            // What did not fail by now shall not fail later.
            backend.fail_launch_after(u64::MAX);
            struck += usize::from(busy.failures() > before);
            failed += meanwhile.iter().filter(|it| is_failure(it)).count();
            wrong += differing(&right, &meanwhile);
            engine.reset_prefix_cache().await?;
            let after = together(&engine, sizes, ANSWERS).await?;
            recovered += usize::from(after.iter().all(Result::is_ok));
            wrong += differing(&right, &after);
        }
        idle(&engine).await?;
        let all = FAILING.len();
        Ok(Checked {
            passed: struck == all && (1..=all).contains(&failed) && recovered == all && wrong == 0,
            measured: format!("{struck} of {all}, {failed}, {wrong} wrong"),
            limit: format!("all steps, 1 to {all} requests, 0"),
            figures: figures([
                ("failures_to_inject", all as f64),
                ("failures_injected", struck as f64),
                ("steps_failed", busy.failures() as f64),
                ("requests_failed", failed as f64),
                ("answers_wrong", wrong as f64),
                ("recoveries", recovered as f64),
            ]),
        }
        .into())
    })
}

/// The first so many answers, asked for at the same time.
async fn together(engine: &Engine, sizes: &Sizes, count: usize) -> Result<Vec<Answer>> {
    let requests = (0..count).map(|which| sampled(sizes, which));
    let requests = requests.collect::<Result<Vec<_>>>()?;
    Ok(join_all(requests.into_iter().map(|it| answer(engine, it))).await)
}

/// Answers that came and are not as they should be.
fn differing(right: &[Answer], found: &[Answer]) -> usize {
    let mut count = 0;
    for (right, found) in right.iter().zip(found) {
        if let (Ok(right), Ok(found)) = (right, found) {
            count += usize::from(right != found);
        }
    }
    count
}

fn is_failure(answer: &Answer) -> bool {
    matches!(answer, Err(EngineError::Failed { .. }))
}

/// An engine as `maitre serve` has it, with the limits and the budget it finds, for a model whose keys and values
/// could fill more memory than there is: what is reserved must fit nevertheless.
fn by_default(site: &mut Site) -> Result<Outcome> {
    site.forget_model();
    let before = site.free_bytes()?;
    let began = Instant::now();
    let engine = Engine::builder(site.sizes.long_model.source())
        .load_format(LoadFormat::Random { seed: 1 })
        .device(site.device)
        .threads(Some(site.facts.host_threads))
        .build()?;
    let ready_s = began.elapsed().as_secs_f64();
    let request = request(vec![1, 2, 3], site.sizes.greedy_tokens)?;
    let tokens = site.handle.block_on(answer(&engine, request))?;
    let (memory, limits) = (engine.info().memory, engine.info().limits);
    let kv_tokens = limits.kv_tokens();
    let free = site.free_bytes()?;
    let all_fit = kv_tokens >= limits.max_seqs * limits.max_model_len;
    Ok(Checked {
        // A pool that holds all there can ever be would not have been cut to the memory.
        passed: tokens.len() == site.sizes.greedy_tokens && !(site.is_on_gpu() && all_fit),
        measured: format!("ready in {ready_s:.1} s"),
        limit: format!("KV of {kv_tokens} tokens"),
        figures: figures([
            ("ready_s", ready_s),
            ("kv_tokens", kv_tokens as f64),
            ("kv_bytes", memory.kv_cache as f64),
            ("weight_bytes", memory.weights as f64),
            ("workspace_bytes", memory.workspace as f64),
            ("available_bytes", memory.available.unwrap_or(0) as f64),
            ("memory_free_before_bytes", before),
            ("memory_free_meanwhile_bytes", free),
        ]),
    }
    .into())
}
