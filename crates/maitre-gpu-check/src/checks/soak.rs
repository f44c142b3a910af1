//! Thousands of mixed requests, some cancelled, through an engine with too few blocks for all of them: afterwards
//! everything is as it was before.

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use futures_util::future::join_all;
use maitre_engine::{Engine, EngineError, Event, GenerateRequest};
use maitre_model::{LoadOptions, Model};
use maitre_tensor::Backend;

use crate::item::{Checked, Item, Outcome, figures};
use crate::numbers::Dice;
use crate::service::{Service, idle, request};
use crate::site::{Site, Sizes};

/// What free memory may shrink by: steps of sizes that came late are recorded late.
const RECORDINGS_BYTES: f64 = 64.0 * 1024.0 * 1024.0;

/// Longest prompt and answer, in tokens.
const LONGEST: (usize, usize) = (96, 24);

/// No request begins later.
const PATIENCE: Duration = Duration::from_secs(40);

/// The part of all that must have begun by then: a slow device is no wrong one.
const ENOUGH: usize = 10;

/// The part of all that comes before the count.
const WARM_UP: u32 = 5;

pub(super) fn list(items: &mut Vec<Item>) {
    items.push(Item::check("soak", "soak: mixed requests, some cancelled", soak).within(70.0));
}

/// What has happened.
#[derive(Debug, Default)]
struct Tally {
    begun: Cell<usize>,
    answered: Cell<usize>,
    cancelled: Cell<usize>,
    failed: Cell<usize>,
}

fn count(cell: &Cell<usize>) {
    cell.set(cell.get() + 1);
}

fn soak(site: &mut Site) -> Result<Outcome> {
    let (model, sizes) = (soak_model(site)?, site.sizes);
    site.forget_model();
    let backend = site.strict.clone();
    let at_first = free_bytes(&backend)?;
    let (engine, _) = service(sizes).start(model, &backend)?;
    let handle = site.handle.clone();
    // Steps of all sizes are recorded, and lists have grown, before memory is looked at.
    let warm_up = Tally::default();
    let count = sizes.soak_requests / WARM_UP as usize;
    handle.block_on(run(&engine, sizes, count, PATIENCE / WARM_UP, &warm_up));
    handle.block_on(idle(&engine))?;
    let before = free_bytes(&backend)?;
    let tally = Tally::default();
    handle.block_on(run(&engine, sizes, sizes.soak_requests, PATIENCE, &tally));
    let idle = handle.block_on(idle(&engine));
    let lost = before - free_bytes(&backend)?;
    let load = engine.load();
    drop(engine);
    let kept = handle.block_on(kept_bytes(&backend, at_first))?;
    let done = tally.answered.get() + tally.cancelled.get();
    let (all, begun) = (sizes.soak_requests, tally.begun.get());
    Ok(Checked {
        passed: done == begun
            && begun * ENOUGH >= all
            && tally.failed.get() == 0
            && idle.is_ok()
            && load.kv_used_blocks == 0
            && lost.max(kept) <= RECORDINGS_BYTES,
        measured: format!("{done} of {begun}, {} blocks", load.kv_used_blocks),
        limit: format!(
            "all, 0; {:.1} of 64 MiB",
            lost.max(kept) / f64::from(1 << 20)
        ),
        figures: figures([
            ("requests", all as f64),
            ("begun", begun as f64),
            ("answered", tally.answered.get() as f64),
            ("cancelled", tally.cancelled.get() as f64),
            ("failed", tally.failed.get() as f64),
            ("preemptions", load.preemptions as f64),
            ("blocks", load.kv_total_blocks as f64),
            ("blocks_held_after", load.kv_used_blocks as f64),
            ("blocks_cached_after", load.kv_cached_blocks as f64),
            ("memory_lost_bytes", lost),
            ("memory_kept_after_the_engine_bytes", kept),
            ("limit_memory_lost_bytes", RECORDINGS_BYTES),
        ]),
    }
    .into())
}

/// An engine with half of the blocks that its requests need at their longest: some lose theirs and get them back.
fn service(sizes: &Sizes) -> Service {
    let (prompt, answer) = longest(sizes);
    Service {
        max_seqs: sizes.soak_at_once,
        max_model_len: prompt + answer,
        max_batched_tokens: 4 * sizes.soak_at_once,
        kv_tokens: (sizes.soak_at_once * (prompt + answer) / 2).next_multiple_of(16),
        host_blocks: sizes.soak_at_once,
    }
}

fn longest(sizes: &Sizes) -> (usize, usize) {
    match sizes.are_small {
        true => (2 * sizes.prompt_tokens, sizes.greedy_tokens),
        false => LONGEST,
    }
}

/// The bundled model where the device is one: a step of it is short, so that much happens in little time.
fn soak_model(site: &mut Site) -> Result<Arc<Model>> {
    match &site.bundled {
        Some(bundled) if !site.sizes.are_small => {
            let options = LoadOptions::default();
            let model = Model::load(&bundled.chat, &options, &site.strict)?;
            Ok(Arc::new(model))
        }
        _ => site.check_model(),
    }
}

/// Free bytes of the GPU; 0 on the processor, where they are not counted.
fn free_bytes(backend: &Backend) -> Result<f64> {
    Ok(backend.gpu_memory()?.map_or(0.0, |it| it.free_bytes as f64))
}

/// What the GPU has less than at first, once an engine that was dropped has ended its threads.
async fn kept_bytes(backend: &Backend, at_first: f64) -> Result<f64> {
    let mut kept = at_first - free_bytes(backend)?;
    for _ in 0..500 {
        if kept <= RECORDINGS_BYTES {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        kept = at_first - free_bytes(backend)?;
    }
    Ok(kept)
}

/// As many users as fit, each with one request after the other.
async fn run(engine: &Engine, sizes: &Sizes, requests: usize, patience: Duration, tally: &Tally) {
    let deadline = Instant::now() + patience;
    let user = |_| async {
        while tally.begun.get() < requests && Instant::now() < deadline {
            let which = tally.begun.get();
            count(&tally.begun);
            match ask(engine, sizes, which).await {
                Ok(true) => count(&tally.answered),
                Ok(false) => count(&tally.cancelled),
                Err(_) => count(&tally.failed),
            }
        }
    };
    join_all((0..sizes.soak_at_once * 5 / 4).map(user)).await;
}

/// True if it was answered in full, false if it was cancelled on the way.
async fn ask(engine: &Engine, sizes: &Sizes, which: usize) -> Result<bool, EngineError> {
    let request = mixed(sizes, which).map_err(|error| EngineError::Failed {
        message: error.to_string(),
    })?;
    let leaves_early = which % 7 == 3;
    let mut generation = engine.generate(request).await?;
    while let Some(event) = generation.next().await {
        match event? {
            Event::Delta(_) if leaves_early => return Ok(false),
            Event::Delta(_) | Event::Finished(_) | Event::PromptLogprobs(_) => {}
        }
    }
    Ok(true)
}

/// Greedy, sampled on the device in several ways, and with what only the host samples; some prompts begin alike.
fn mixed(sizes: &Sizes, which: usize) -> Result<GenerateRequest> {
    let (longest_prompt, longest_answer) = longest(sizes);
    let mut dice = Dice::new(71 + which as u64);
    let length = 1 + dice.below(longest_prompt);
    let mut family = Dice::new((which % 5) as u64);
    let shared = if which.is_multiple_of(2) {
        length / 2
    } else {
        0
    };
    let prompt = (0..length).map(|at| match at < shared {
        true => family.below(256) as u32,
        false => dice.below(256) as u32,
    });
    let mut request = request(prompt.collect(), 1 + which * 7 % longest_answer)?;
    let sampling = &mut request.sampling;
    sampling.seed = Some(which as u64);
    sampling.temperature = Some(if which.is_multiple_of(3) { 0.0 } else { 0.9 });
    match which % 11 {
        1 => sampling.top_p = Some(0.9),
        2 => sampling.top_k = Some(20),
        4 => sampling.min_p = Some(0.05),
        5 => sampling.frequency_penalty = Some(0.5),
        8 => sampling.repetition_penalty = Some(1.1),
        9 => request.output.logprobs = Some(2),
        _ => {}
    }
    Ok(request)
}
