//! The engine on the device: the same answers in every crowd; and an engine that divides the device's memory itself.

use std::time::Instant;

use anyhow::Result;
use futures_util::future::join_all;
use maitre_engine::{Engine, GenerateRequest};
use maitre_model::LoadFormat;

use crate::item::{Checked, Item, Outcome, figures};
use crate::numbers::Dice;
use crate::service::{Service, answer, request};
use crate::site::{Site, Sizes};

pub(super) fn list(items: &mut Vec<Item>) {
    items.push(Item::check(
        "invariant_answers",
        "sampled answers: alone = in a crowd",
        crowd,
    ));
    super::failures::list(items);
    items.push(
        Item::check(
            "engine_by_default",
            "an engine that fills the memory answers",
            by_default,
        )
        .within(60.0),
    );
}

/// Answers that are compared.
pub(super) const ANSWERS: usize = 6;

/// An engine with space for all of a check.
pub(super) fn service(sizes: &Sizes) -> Service {
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
pub(super) fn sampled(sizes: &Sizes, which: usize) -> Result<GenerateRequest> {
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
