//! Whole models: the tokens that the processor finds, and the same bits however a step is made.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use maitre::{ModelSource, WeightFormat};
use maitre_model::{LoadOptions, Model};
use maitre_tensor::Backend;
use maitre_text::Tokenizer;

use super::super::item::{Checked, Item, Outcome};
use super::super::numbers::Dice;
use super::super::place::{Place, Sizes};
use super::super::sequences::{Room, Sequences};
use super::super::{GpuCheckArgs, ShapeArg};
use super::identical;
use crate::cli::source;

pub(super) fn list(args: &GpuCheckArgs, items: &mut Vec<Item>) {
    let mut models: Vec<(String, Named)> = Vec::new();
    if cfg!(feature = "bundled") {
        // The emulator needs a second for a token of the larger one.
        models.push(match args.shape {
            ShapeArg::Tiny => ("bundled draft".into(), Named::BundledDraft),
            ShapeArg::Large | ShapeArg::Small => ("bundled".into(), Named::Bundled),
        });
    }
    for directory in &args.model {
        let name = directory.file_name().unwrap_or(directory.as_os_str());
        let name = name.to_string_lossy().into_owned();
        models.push((name, Named::Directory(directory.clone())));
    }
    for (name, model) in models {
        for format in [WeightFormat::F32, WeightFormat::Bf16] {
            let model = model.clone();
            let most_s = match model {
                Named::Directory(_) => 120.0,
                Named::Bundled | Named::BundledDraft => 40.0,
            };
            items.push(
                Item::check(
                    format!("greedy_{format}_{name}").replace(' ', "_"),
                    format!("greedy tokens, {format}: {name}"),
                    move |place| greedy(place, &model, format),
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

/// A model of files.
#[derive(Debug, Clone)]
enum Named {
    Bundled,
    BundledDraft,
    Directory(PathBuf),
}

impl Named {
    fn source(&self) -> Result<ModelSource> {
        match self {
            Self::Bundled => source::bundled(),
            Self::BundledDraft => source::bundled_draft(),
            Self::Directory(directory) => Ok(ModelSource::Directory(directory.clone())),
        }
    }
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

fn greedy(place: &mut Place, model: &Named, format: WeightFormat) -> Result<Outcome> {
    // Its memory may be needed.
    place.forget_model();
    let source = model.source()?;
    let prompts = prompts(&source, place.sizes)?;
    let count = place.sizes.greedy_tokens;
    let continued = |backend: &Backend| {
        let options = LoadOptions {
            dtype: Some(format),
            ..LoadOptions::default()
        };
        let model = Arc::new(Model::load(&source, &options, backend)?);
        continue_all(&model, backend, &prompts, count)
    };
    let (expected, actual) = (continued(&place.cpu)?, continued(&place.strict)?);
    let pairs = || expected.iter().flatten().zip(actual.iter().flatten());
    let equal = pairs().filter(|(a, b)| a == b).count();
    let mut checked = Checked::all("tokens", equal, pairs().count());
    if format != WeightFormat::F32 {
        // Where two tokens are almost equally likely roundings decide, and what follows differs.
        checked.passed = equal > 0;
        checked.limit = "told, not judged".to_owned();
    }
    Ok(checked.into())
}

/// So many greedy tokens after each prompt, all at once.
fn continue_all(
    model: &Arc<Model>,
    backend: &Backend,
    prompts: &[Vec<u32>],
    count: usize,
) -> Result<Vec<Vec<u32>>> {
    let longest = prompts.iter().map(Vec::len).max().unwrap_or(0);
    let room = Room {
        sequences: prompts.len(),
        positions: longest + count,
        step_tokens: prompts.iter().map(Vec::len).sum(),
        record_steps: true,
    };
    let mut sequences = Sequences::new(Arc::clone(model), backend, room)?;
    let work: Vec<(usize, &[u32])> = prompts.iter().map(Vec::as_slice).enumerate().collect();
    sequences.extend(&work)?;
    let mut tokens: Vec<Vec<u32>> = vec![Vec::new(); prompts.len()];
    for step in 0..count {
        for (tokens, next) in tokens.iter_mut().zip(sequences.next_tokens()) {
            tokens.push(*next);
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

/// The same tokens twice, decoded by steps that are recorded and by steps that never are.
fn recorded(place: &mut Place) -> Result<Outcome> {
    let model = place.check_model()?;
    let sizes = place.sizes;
    let prompts = random_prompts(&model, sizes, &[1, 2, 1]);
    let steps = sizes.greedy_tokens.max(4);
    let mut logits = [true, false].map(|record_steps| {
        let room = Room {
            sequences: prompts.len(),
            positions: 2 * sizes.prompt_tokens + steps,
            step_tokens: 4 * sizes.prompt_tokens,
            record_steps,
        };
        let mut sequences = Sequences::new(Arc::clone(&model), &place.strict, room)?;
        let work: Vec<(usize, &[u32])> = prompts.iter().map(Vec::as_slice).enumerate().collect();
        sequences.extend(&work)?;
        for _ in 1..steps {
            sequences.decode()?;
        }
        let next = sequences.next_tokens().to_vec();
        let work: Vec<(usize, &[u32])> = next.chunks(1).enumerate().collect();
        let logits = sequences.logits(&work)?.concat();
        Ok((logits, sequences.runner().recorded_steps()))
    });
    let take = |it: &mut Result<(Vec<f32>, usize)>| std::mem::replace(it, Err(anyhow!("taken")));
    let (played, kinds) = take(&mut logits[0])?;
    let (queued, none) = take(&mut logits[1])?;
    if place.is_on_gpu() && (kinds == 0 || none != 0) {
        let message =
            format!("{kinds} kinds of steps were recorded where 1 was to be, {none} where none");
        return Ok(Outcome::Failed { message });
    }
    Ok(identical(&queued, &played))
}

/// A prompt's logits when it comes alone and whole, and when it comes in chunks, beside others.
fn crowd(place: &mut Place) -> Result<Outcome> {
    let model = place.check_model()?;
    let sizes = place.sizes;
    let lengths = [3, 1, 2, 1, 2, 1];
    let prompts = random_prompts(&model, sizes, &lengths);
    let room = Room {
        sequences: prompts.len(),
        positions: 4 * sizes.prompt_tokens,
        step_tokens: 12 * sizes.prompt_tokens,
        record_steps: true,
    };
    let first = prompts[0].as_slice();
    let mut alone = Sequences::new(Arc::clone(&model), &place.strict, room)?;
    let expected = alone.logits(&[(0, first)])?.concat();
    drop(alone);
    let mut sequences = Sequences::new(model, &place.strict, room)?;
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
