//! Perplexity of the bundled pair on the text neither was trained on.
//!
//! As the models' README measures it: the held-out text is tokenized as one string, in which
//! `<|endoftext|>` is one token; ids 0..=59,391 are cut into 116 windows of 512; each window is run
//! on its own and predicts every id but its first. `perplexity.json` holds what transformers
//! computes for each window.

use std::collections::HashMap;

use maitre_model::{LoadOptions, Runner, RunnerConfig};
use maitre_tensor::{KvFormat, WeightFormat};
use tokenizers::Tokenizer;

use crate::support::{bundled, fixture, in_dtype, prefill, sized_runner};

const WINDOW: usize = 512;
const NUM_WINDOWS: usize = 116;
const PREDICTED: f64 = (NUM_WINDOWS * (WINDOW - 1)) as f64;

/// Every how many windows one is measured, unless `MAITRE_TEST_ALL_WINDOWS` is set: enough to find
/// an error in any part of the computation, few enough to run always.
const DEFAULT_STRIDE: usize = 16;

/// The summed negative log-likelihood of each window, by model, as transformers computes it.
fn reference() -> HashMap<String, Vec<f64>> {
    serde_json::from_slice(&std::fs::read(fixture("perplexity.json")).unwrap()).unwrap()
}

fn heldout_ids() -> Vec<u32> {
    let json = maitre_bundled::TARGET.file("tokenizer.json").unwrap();
    let encoding = Tokenizer::from_bytes(json)
        .unwrap()
        .encode(maitre_bundled::HELDOUT, false)
        .unwrap();
    encoding.get_ids()[..NUM_WINDOWS * WINDOW].to_vec()
}

fn window_loss(runner: &mut Runner, window: &[u32]) -> f64 {
    let logits = prefill(runner, window, WINDOW);
    let predictions = logits.iter().zip(&window[1..]);
    predictions
        .map(|(logits, next)| surprise(logits, *next))
        .sum()
}

/// The negative log-probability of `token`.
fn surprise(logits: &[f32], token: u32) -> f64 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exponentials = logits
        .iter()
        .map(|logit| f64::from((logit - largest).exp()));
    exponentials.sum::<f64>().ln() - f64::from(logits[token as usize] - largest)
}

/// The reference has the published perplexity, and each window measured here agrees with the
/// reference far more closely than the published figure could tell.
fn check(model: &'static maitre_bundled::BundledModel, name: &str, published: f64) {
    let reference = &reference()[name];
    assert_eq!(reference.len(), NUM_WINDOWS);
    let perplexity = (reference.iter().sum::<f64>() / PREDICTED).exp();
    assert!((perplexity / published - 1.0).abs() < 5e-3, "{perplexity}");

    let all = std::env::var_os("MAITRE_TEST_ALL_WINDOWS").is_some();
    let stride = if all { 1 } else { DEFAULT_STRIDE };
    let config = RunnerConfig::new(32, 16, WINDOW, 1);
    let mut runner = sized_runner(&bundled(model), &in_dtype(WeightFormat::F32), 2, config);
    let mut measured = Vec::new();
    for (index, window) in heldout_ids()
        .chunks_exact(WINDOW)
        .enumerate()
        .step_by(stride)
    {
        let found = window_loss(&mut runner, window);
        let expected = reference[index];
        let error = (found - expected).abs() / expected;
        assert!(
            error < 1e-4,
            "window {index}: {found} nats, transformers {expected}"
        );
        measured.push(found);
    }
    if all {
        let perplexity = (measured.iter().sum::<f64>() / PREDICTED).exp();
        println!("{name}: perplexity {perplexity:.4}, published {published}");
        assert!((perplexity / published - 1.0).abs() < 5e-3, "{perplexity}");
    }
}

#[test]
fn target_predicts_heldout_text_as_published() {
    check(&maitre_bundled::TARGET, "target", 3.88);
}

#[test]
fn draft_predicts_heldout_text_as_published() {
    check(&maitre_bundled::DRAFT, "draft", 4.92);
}

/// Perplexity of the target over every `stride`-th window.
fn target_perplexity(options: &LoadOptions, stride: usize) -> f64 {
    let config = RunnerConfig::new(32, 16, WINDOW, 1);
    let mut runner = sized_runner(&bundled(&maitre_bundled::TARGET), options, 2, config);
    let ids = heldout_ids();
    let windows = ids.chunks_exact(WINDOW).step_by(stride);
    let predicted = windows.len() * (WINDOW - 1);
    let loss: f64 = windows.map(|window| window_loss(&mut runner, window)).sum();
    (loss / predicted as f64).exp()
}

#[test]
fn integer_formats_lose_little() {
    let all = std::env::var_os("MAITRE_TEST_ALL_WINDOWS").is_some();
    let stride = if all { 1 } else { DEFAULT_STRIDE };
    let bf16 = target_perplexity(&in_dtype(WeightFormat::Bf16), stride);
    println!("bf16: {bf16:.4}");
    // The rise over bf16 that each may cost.
    let limits = [
        ("int8", 0.005),
        ("int8-g64", 0.005),
        ("int4-g32", 0.03),
        ("int4", 0.03),
        ("int4-g128", 0.03),
    ];
    for (name, limit) in limits {
        let found = target_perplexity(&in_dtype(name.parse().unwrap()), stride);
        let rise = found / bf16 - 1.0;
        println!("{name}: {found:.4}, {:+.2} %", rise * 100.0);
        assert!(rise < limit, "{name}: perplexity {found}, bf16 {bf16}");
        // Rounding to integers must show, or nothing was rounded.
        assert!(rise.abs() > 1e-6, "{name}");
    }
}

#[test]
fn an_int8_cache_loses_little() {
    let all = std::env::var_os("MAITRE_TEST_ALL_WINDOWS").is_some();
    let stride = if all { 1 } else { DEFAULT_STRIDE };
    let with_cache = |kv_dtype| LoadOptions {
        kv_dtype: Some(kv_dtype),
        ..in_dtype(WeightFormat::Bf16)
    };
    let exact = target_perplexity(&with_cache(KvFormat::F32), stride);
    for (format, limit) in [(KvFormat::Bf16, 0.002), (KvFormat::Int8, 0.005)] {
        let found = target_perplexity(&with_cache(format), stride);
        let rise = found / exact - 1.0;
        println!("{format} cache: {found:.4}, {:+.3} %", rise * 100.0);
        assert!(
            rise.abs() < limit,
            "{format}: perplexity {found}, f32 {exact}"
        );
        assert!(rise.abs() > 1e-9, "{format}: nothing was rounded");
    }
}
