//! Whole models: the tokens that the processor finds, and the same bits however a step is made.

use std::sync::Arc;

use anyhow::{Context, Result};
use maitre_model::ModelSource;
use maitre_model::{LoadOptions, Model};
use maitre_tensor::Backend;
use maitre_tensor::WeightFormat;
use maitre_text::Tokenizer;

use super::identical;
use crate::item::{Checked, Item, Outcome, figures};
use crate::numbers::Dice;
use crate::sequences::{Capacity, Sequences};
use crate::site::{Site, Sizes};
use crate::{Options, ShapeChoice};

/// Tokens of a step that fills a cache.
const CHUNK: usize = 512;

/// Most seconds for the greedy tokens of a bundled model, and of one in a directory, which may be large.
const BUNDLED_S: f64 = 40.0;
const DIRECTORY_S: f64 = 120.0;

pub(super) fn list(options: &Options, items: &mut Vec<Item>) {
    let bundled = options.bundled.iter().map(|models| {
        // The emulator needs a second for a token of the larger one.
        let (name, source) = match options.shape {
            ShapeChoice::Tiny => ("bundled draft", &models.draft),
            ShapeChoice::Large | ShapeChoice::Small => ("bundled", &models.chat),
        };
        (name.to_owned(), source.clone(), BUNDLED_S)
    });
    let directories = options.models.iter().map(|directory| {
        let name = directory.file_name().unwrap_or(directory.as_os_str());
        let source = ModelSource::Directory(directory.clone());
        (name.to_string_lossy().into_owned(), source, DIRECTORY_S)
    });
    for (name, source, most_s) in bundled.chain(directories) {
        for format in [WeightFormat::F32, WeightFormat::Bf16] {
            let source = source.clone();
            items.push(
                Item::check(
                    format!("greedy_{format}_{name}").replace(' ', "_"),
                    format!("greedy tokens, {format}: {name}"),
                    move |site| greedy(site, &source, format),
                )
                .within(most_s),
            );
        }
    }
    items.push(Item::check(
        "recorded_steps",
        "recorded steps = unrecorded ones",
        recorded,
    ));
    items.push(Item::check(
        "invariant_model",
        "logits: alone, whole = in a crowd, in chunks",
        crowd,
    ));
}

/// What models are asked to go on with.
const TEXTS: [&str; 4] = [
    "Once upon a time there was a little girl who lived in a house near the sea. One day",
    "The kitchen was warm and smelled of bread. Tom looked at the table and said",
    "In the garden a bird and a cat met for the first time. The bird was not afraid because",
    "It rained all night. In the morning the river had come up to the bridge, and the people",
];

fn prompts(source: &ModelSource, sizes: &Sizes) -> Result<Vec<Vec<u32>>> {
    let json = source.read("tokenizer.json")?;
    let json = json.context("the model has no tokenizer.json")?;
    let tokenizer = Tokenizer::from_bytes(&json, None, None)?;
    let texts = TEXTS.iter().take(sizes.prompts);
    texts
        .map(|text| {
            let mut tokens = tokenizer.encode(text)?;
            tokens.truncate(sizes.prompt_tokens);
            Ok(tokens)
        })
        .collect()
}

fn greedy(site: &mut Site, source: &ModelSource, format: WeightFormat) -> Result<Outcome> {
    // Its memory may be needed.
    site.forget_model();
    let prompts = prompts(source, site.sizes)?;
    let count = site.sizes.greedy_tokens;
    let continued = |backend: &Backend| {
        let options = LoadOptions {
            dtype: Some(format),
            ..LoadOptions::default()
        };
        let model = Arc::new(Model::load(source, &options, backend)?);
        continue_all(&model, backend, &prompts, count)
    };
    let (expected, before) = (continued(&site.cpu)?, site.free_bytes()?);
    let (actual, after) = (continued(&site.strict)?, site.free_bytes()?);
    let pairs = || {
        let (right, found) = (expected.iter().flatten(), actual.iter().flatten());
        right.zip(found)
    };
    let equal = pairs().filter(|(a, b)| a.token == b.token).count();
    let mut checked = Checked::all("tokens", equal, pairs().count());
    checked.figures.extend(figures([
        ("memory_free_before_bytes", before),
        ("memory_free_after_bytes", after),
    ]));
    // What follows a difference follows other tokens, so only the first of a prompt tells anything.
    let firsts = expected.iter().zip(&actual).filter_map(|(right, found)| {
        let mut both = right.iter().zip(found);
        both.find(|(a, b)| a.token != b.token)
    });
    if let Some((right, found)) = firsts.max_by(|a, b| a.0.margin.total_cmp(&b.0.margin)) {
        checked.figures.extend(figures([
            ("margin_at_first_difference", f64::from(right.margin)),
            ("device_margin_there", f64::from(found.margin)),
        ]));
        checked.limit = format!("all; margin {:.1e}", right.margin);
    }
    if format != WeightFormat::F32 {
        // Where two tokens are almost equally likely roundings decide, and what follows differs.
        checked.passed = equal > 0;
        if equal == pairs().count() {
            checked.limit = "told, not judged".to_owned();
        } else {
            checked.limit = checked.limit.replace("all;", "not judged;");
        }
    }
    Ok(checked.into())
}

/// A greedy token, and by how much its logit is above all others.
#[derive(Debug, Clone, Copy)]
struct Chosen {
    token: u32,
    margin: f32,
}

/// So many greedy tokens after each prompt, all at once.
fn continue_all(
    model: &Arc<Model>,
    backend: &Backend,
    prompts: &[Vec<u32>],
    count: usize,
) -> Result<Vec<Vec<Chosen>>> {
    let longest = prompts.iter().map(Vec::len).max().unwrap_or(0);
    let capacity = Capacity {
        sequences: prompts.len(),
        positions: longest + count,
        step_tokens: prompts.iter().map(Vec::len).sum(),
        record_steps: true,
    };
    let mut sequences = Sequences::new(Arc::clone(model), backend, capacity)?;
    let work: Vec<(usize, &[u32])> = prompts.iter().map(Vec::as_slice).enumerate().collect();
    sequences.extend(&work)?;
    let mut tokens: Vec<Vec<Chosen>> = vec![Vec::new(); prompts.len()];
    for step in 0..count {
        let margins = sequences.margins()?;
        let next = sequences.next_tokens().iter().zip(margins);
        for (tokens, (&token, margin)) in tokens.iter_mut().zip(next) {
            tokens.push(Chosen { token, margin });
        }
        if step + 1 < count {
            sequences.decode()?;
        }
    }
    Ok(tokens)
}

/// Random prompts for a model whose vocabulary means nothing.
fn random_prompts(model: &Model, sizes: &Sizes, lengths: &[usize]) -> Vec<Vec<u32>> {
    let vocab = model.config().vocab_size;
    let prompt = |(seed, length): (usize, &usize)| {
        let mut dice = Dice::new(seed as u64 + 51);
        let length = length * sizes.prompt_tokens;
        (0..length).map(|_| dice.below(vocab) as u32).collect()
    };
    lengths.iter().enumerate().map(prompt).collect()
}

/// Sequences of the check of recorded steps, and how many of them are left out while the first steps run: the shape
/// for four is recorded with one filling row and played without it.
const RECORDED: (usize, usize) = (4, 1);

/// Steps before the last sequence joins: the first runs, the second is recorded, the third is played.
const RECORDED_STEPS: usize = 3;

/// The same tokens twice, decoded by steps that are recorded and by steps that never are. First contexts are short;
/// then one is so long that it is shared among blocks of threads whose results are joined: another kind of step.
fn recorded(site: &mut Site) -> Result<Outcome> {
    let model = site.check_model()?;
    let sizes = site.sizes;
    let (queued, none) = decoded(site, &model, false)?;
    let (played, kinds) = decoded(site, &model, true)?;
    if site.is_on_gpu() && (kinds != 2 || none != 0) {
        let message = format!(
            "{kinds} kinds of steps were recorded where 2 were to be, {none} where none; contexts of {} positions",
            sizes.recorded_context
        );
        return Ok(Outcome::Failed { message });
    }
    Ok(identical(&queued, &played))
}

/// The logits after each stretch of decodes, and how many kinds of steps were recorded.
fn decoded(site: &Site, model: &Arc<Model>, record_steps: bool) -> Result<(Vec<f32>, usize)> {
    let (sizes, (count, absent)) = (site.sizes, RECORDED);
    let prompts = random_prompts(model, sizes, &[1, 2, 1, 2]);
    let chunk = sizes.recorded_context.min(CHUNK);
    let capacity = Capacity {
        sequences: count,
        positions: sizes.recorded_context + 2 * sizes.prompt_tokens + 4 * RECORDED_STEPS,
        step_tokens: chunk.max(count * 2 * sizes.prompt_tokens),
        record_steps,
    };
    let mut sequences = Sequences::new(Arc::clone(model), &site.strict, capacity)?;
    let work: Vec<(usize, &[u32])> = prompts.iter().map(Vec::as_slice).enumerate().collect();
    sequences.extend(&work)?;
    let mut logits = Vec::new();
    for is_long in [false, true] {
        if is_long {
            let tokens = vec![7; sizes.recorded_context];
            for chunk in tokens.chunks(chunk) {
                sequences.prefill(0, chunk)?;
            }
        }
        for _ in 0..RECORDED_STEPS {
            sequences.decode_first(count - absent)?;
        }
        for _ in 0..RECORDED_STEPS {
            sequences.decode_first(count)?;
        }
        let next = sequences.next_tokens().to_vec();
        let work: Vec<(usize, &[u32])> = next.chunks(1).enumerate().collect();
        logits.extend(sequences.logits(&work)?.concat());
    }
    Ok((logits, sequences.runner().recorded_steps()))
}

/// A prompt's logits when it comes alone and whole, and when it comes in chunks, beside others.
fn crowd(site: &mut Site) -> Result<Outcome> {
    let model = site.check_model()?;
    let sizes = site.sizes;
    let lengths = [3, 1, 2, 1, 2, 1];
    let prompts = random_prompts(&model, sizes, &lengths);
    let capacity = Capacity {
        sequences: prompts.len(),
        positions: 4 * sizes.prompt_tokens,
        step_tokens: 12 * sizes.prompt_tokens,
        record_steps: true,
    };
    let first = prompts[0].as_slice();
    let mut alone = Sequences::new(Arc::clone(&model), &site.strict, capacity)?;
    let expected = alone.logits(&[(0, first)])?.concat();
    drop(alone);
    let mut sequences = Sequences::new(model, &site.strict, capacity)?;
    let (head, tail) = first.split_at(first.len() * 2 / 5);
    let mut work: Vec<(usize, &[u32])> = prompts.iter().map(Vec::as_slice).enumerate().collect();
    work[0].1 = head;
    sequences.extend(&work)?;
    let next = sequences.next_tokens().to_vec();
    let mut work: Vec<(usize, &[u32])> = next.chunks(1).enumerate().collect();
    // The prompt's rest comes last of all.
    work[0].1 = tail;
    work.rotate_left(1);
    let actual = sequences.logits(&work)?.pop().unwrap_or_default();
    Ok(identical(&expected, &actual))
}
