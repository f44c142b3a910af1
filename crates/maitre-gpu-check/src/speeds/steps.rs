//! A runner's steps, without an engine: a batch is made, all layers run, tokens are drawn.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use maitre_tensor::WeightFormat;

use super::{Mode, Programme, goals, of_users};
use crate::item::{Item, Outcome, Timed, Unit, figures};
use crate::numbers::Dice;
use crate::prediction::{StepSize, matrix_flop_per_token, step_seconds};
use crate::sequences::{Capacity, Sequences};
use crate::site::Site;

/// Decodes before the clock starts: the second is recorded.
const WARM_UP: usize = 4;

/// Prompts that are timed.
const PROMPTS: usize = 5;

/// Tokens of a step that fills caches.
const CHUNK: usize = 2048;

pub(super) fn load(programme: &Programme, format: WeightFormat, items: &mut Vec<Item>) {
    let shape = programme.shape;
    items.push(
        Item::speed(
            format!("load_{}_{format}", shape.id),
            format!("{} {format}, weights made and loaded", shape.name),
            move |site| {
                site.forget_model();
                let before = site.free_bytes()?;
                let began = Instant::now();
                let model = site.model(shape, format)?;
                let mut timed = Timed::new(Unit::Seconds, began.elapsed().as_secs_f64());
                let after = site.free_bytes()?;
                timed.figures = figures([
                    ("weight_bytes", model.weight_bytes() as f64),
                    ("parameters", model.config().num_parameters() as f64),
                    ("memory_free_before_bytes", before),
                    ("memory_free_after_bytes", after),
                ]);
                if site.facts.has_real_speeds() {
                    timed.note = Some(format!(
                        "{:.2} GB free before, {:.2} GB after; {:.2} GB are weights",
                        before / 1e9,
                        after / 1e9,
                        model.weight_bytes() as f64 / 1e9
                    ));
                }
                Ok(timed.into())
            },
        )
        .within(programme.loading_s),
    );
}

/// Decodes and prefills in bf16.
pub(super) fn list(programme: &Programme, items: &mut Vec<Item>) {
    let format = WeightFormat::Bf16;
    for mode in Mode::BOTH {
        for &users in programme.users {
            decode(programme, format, users, mode, true, items);
        }
        if let Some(tokens) = programme.prompt {
            prefill(programme, tokens, mode, items);
        }
    }
    decode(programme, format, 1, Mode::Strict, false, items);
}

/// Adds decodes of `users` users, recorded or not.
pub(super) fn decode(
    programme: &Programme,
    format: WeightFormat,
    users: usize,
    mode: Mode,
    record: bool,
    items: &mut Vec<Item>,
) {
    let programme = *programme;
    let shape = programme.shape;
    let (suffix, said) = match record {
        true => ("", ""),
        false => ("_unrecorded", ", unrecorded"),
    };
    items.push(
        Item::speed(
            format!(
                "decode_{}_{format}_{users}u_{}{suffix}",
                shape.id,
                mode.name()
            ),
            format!(
                "{} {format}, {}, {}{said}",
                shape.name,
                of_users(users),
                mode.name()
            ),
            move |site| time_decode(site, &programme, format, (users, mode, record)),
        )
        .within(programme.loading_s),
    );
}

fn time_decode(
    site: &mut Site,
    programme: &Programme,
    format: WeightFormat,
    (users, mode, record_steps): (usize, Mode, bool),
) -> Result<Outcome> {
    let model = site.model(programme.shape, format)?;
    let (context, steps) = (programme.context, programme.steps);
    let capacity = Capacity {
        sequences: users,
        positions: context + WARM_UP + steps + 1,
        step_tokens: CHUNK.min(context).max(users),
        record_steps,
    };
    let backend = site.backend(mode.is_deterministic());
    let mut sequences = Sequences::new(Arc::clone(&model), backend, capacity)?;
    let prompt = prompt(model.config().vocab_size, context);
    for chunk in prompt.chunks(CHUNK) {
        sequences.prefill(0, chunk)?;
    }
    sequences.share_first()?;
    for _ in 0..WARM_UP {
        sequences.decode()?;
    }
    let began = Instant::now();
    for _ in 0..steps {
        sequences.decode()?;
    }
    let step_s = began.elapsed().as_secs_f64() / steps as f64;
    let mean = context + WARM_UP + steps.div_ceil(2);
    let size = StepSize::decode(users, mean);
    let predicted_s = site.rates().map(|rates| step_seconds(&model, size, rates));
    let mut timed = Timed::new(Unit::TokensPerS, users as f64 / step_s);
    timed.predicted = predicted_s.map(|seconds| users as f64 / seconds);
    let goals::Goal { reference, goal } = goals::decode(programme.shape, format, users);
    (timed.reference, timed.goal) = (reference, goal);
    timed.figures = figures([
        ("step_ms", step_s * 1e3),
        ("predicted_step_ms", predicted_s.unwrap_or(f64::NAN) * 1e3),
        ("steps", steps as f64),
        ("mean_context_tokens", mean as f64),
        (
            "recorded_kinds_of_steps",
            sequences.runner().recorded_steps() as f64,
        ),
    ]);
    Ok(timed.into())
}

fn prefill(programme: &Programme, tokens: usize, mode: Mode, items: &mut Vec<Item>) {
    let programme = *programme;
    let shape = programme.shape;
    items.push(
        Item::speed(
            format!("prefill_{}_bf16_{tokens}t_{}", shape.id, mode.name()),
            format!("{} bf16, prefill of {tokens}, {}", shape.name, mode.name()),
            move |site| time_prefill(site, &programme, tokens, mode),
        )
        .within(programme.loading_s),
    );
}

fn time_prefill(
    site: &mut Site,
    programme: &Programme,
    tokens: usize,
    mode: Mode,
) -> Result<Outcome> {
    let model = site.model(programme.shape, WeightFormat::Bf16)?;
    let capacity = Capacity {
        sequences: 1,
        positions: tokens,
        step_tokens: tokens,
        record_steps: false,
    };
    let backend = site.backend(mode.is_deterministic());
    let mut sequences = Sequences::new(Arc::clone(&model), backend, capacity)?;
    let prompt = prompt(model.config().vocab_size, tokens);
    let mut began = Instant::now();
    for round in 0..=PROMPTS {
        if round == 1 {
            began = Instant::now();
        }
        sequences.extend(&[(0, &prompt)])?;
        sequences.rewind(0, tokens);
    }
    let prompt_s = began.elapsed().as_secs_f64() / PROMPTS as f64;
    let flop_per_token = matrix_flop_per_token(&model);
    let rate = tokens as f64 / prompt_s;
    let mut timed = Timed::new(Unit::TokensPerS, rate);
    timed.figures = figures([("prompt_ms", prompt_s * 1e3)]);
    if let Some(rates) = site.rates() {
        let predicted_s = step_seconds(&model, StepSize::prefill(tokens), rates);
        let share = rate * flop_per_token / rates.flop_per_s;
        timed.predicted = Some(tokens as f64 / predicted_s);
        timed.goal = Some(goals::PREFILL_SHARE * rates.flop_per_s / flop_per_token);
        timed.figures.extend(figures([
            ("predicted_prompt_ms", predicted_s * 1e3),
            ("share_of_matmul_rate", share),
        ]));
        timed.note = Some(format!(
            "{:.0} % of the rate of a large product",
            share * 100.0
        ));
    }
    Ok(timed.into())
}

fn prompt(vocab: usize, tokens: usize) -> Vec<u32> {
    let mut dice = Dice::new(81);
    (0..tokens).map(|_| dice.below(vocab) as u32).collect()
}
