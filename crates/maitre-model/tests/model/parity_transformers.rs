//! Logits of tiny random models equal those transformers computes from the same files.
//!
//! The fixtures are made by `cargo xtask golden`; their sizes are odd on purpose.

use crate::support::{FIXTURES, Host, fixture, greedy, in_dtype, options_of, prefill};
use maitre_model::{LoadOptions, ModelSource};
use maitre_tensor::{KvFormat, WeightFormat};
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;

pub(crate) struct Expected {
    pub(crate) tokens: Vec<u32>,
    pub(crate) logits: Vec<f32>,
    /// What follows the first half of the tokens, where that is known.
    pub(crate) greedy: Vec<u32>,
}

fn ids(tensor: &TensorView<'_>) -> Vec<u32> {
    let ids = tensor.data().chunks_exact(8);
    ids.map(|id| i64::from_le_bytes(id.try_into().unwrap()) as u32)
        .collect()
}

pub(crate) fn expected(name: &str) -> Expected {
    let bytes = std::fs::read(fixture(name).join("expected.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let logits = file.tensor("logits").unwrap();
    Expected {
        tokens: ids(&file.tensor("tokens").unwrap()),
        greedy: file
            .tensor("greedy")
            .map_or_else(|_| Vec::new(), |it| ids(&it)),
        logits: logits
            .data()
            .chunks_exact(4)
            .map(|logit| f32::from_le_bytes(logit.try_into().unwrap()))
            .collect(),
    }
}

/// The largest difference, relative to the largest logit.
pub(crate) fn relative_error(found: &[Vec<f32>], expected: &[f32]) -> f32 {
    let found = found.concat();
    assert_eq!(found.len(), expected.len());
    let largest = expected
        .iter()
        .fold(0f32, |max, logit| max.max(logit.abs()));
    let difference = found.iter().zip(expected).fold(0f32, |max, (a, b)| {
        // A NaN must not pass for a small difference.
        let difference = (a - b).abs();
        if difference.is_nan() {
            f32::INFINITY
        } else {
            max.max(difference)
        }
    });
    difference / largest
}

#[test]
fn logits_match_whole_and_chunked() {
    for &name in FIXTURES {
        let expected = expected(name);
        let source = ModelSource::Directory(fixture(name));
        let host = Host::new(&source, &options_of(name), 2);
        let tolerance = match host.model().dtype() {
            WeightFormat::F32 => 1e-4,
            _ => 2e-2,
        };
        for chunk in [expected.tokens.len(), 7, 1] {
            let found = prefill(&mut host.runner(), &expected.tokens, chunk);
            let error = relative_error(&found, &expected.logits);
            println!("{name}, chunks of {chunk}: {error:.1e}");
            assert!(error <= tolerance, "{name}: {error:e} > {tolerance:e}");
        }
    }
}

#[test]
fn greedy_ids_match_whole_and_chunked() {
    for &name in FIXTURES {
        let expected = expected(name);
        let source = ModelSource::Directory(fixture(name));
        let host = Host::new(&source, &options_of(name), 2);
        // In 16 bits the reference rounds each activation, and near ties may fall either way.
        if expected.greedy.is_empty() || host.model().dtype() != WeightFormat::F32 {
            continue;
        }
        let prompt = &expected.tokens[..expected.tokens.len() / 2];
        for chunk in [prompt.len(), 5] {
            let found = greedy(
                &mut host.runner(),
                prompt,
                chunk,
                expected.greedy.len(),
                &[],
            );
            assert_eq!(found, expected.greedy, "{name}, chunks of {chunk}");
        }
    }
}

/// A model's context decides which factors LongRoPE takes and which base a dynamic one is: other contexts give other logits.
#[test]
fn rope_depends_on_the_context_that_the_model_is_set_up_for() {
    for name in [
        "phi3-bf16-longrope-short-v4",
        "llama-bf16-dynamic-short-v4",
        "llama-f32-dynamic",
    ] {
        let (expected, source) = (expected(name), ModelSource::Directory(fixture(name)));
        for context_len in [Some(65), None] {
            let options = LoadOptions {
                context_len,
                ..LoadOptions::default()
            };
            let host = Host::new(&source, &options, 1);
            let found = prefill(&mut host.runner(), &expected.tokens, usize::MAX);
            let error = relative_error(&found, &expected.logits);
            assert!(error > 1e-3, "{name}, {context_len:?}: {error:e}");
        }
    }
}

#[test]
fn the_files_type_is_kept_unless_told_otherwise() {
    for &name in FIXTURES {
        let source = ModelSource::Directory(fixture(name));
        let dtype = Host::new(&source, &LoadOptions::default(), 1)
            .model()
            .dtype();
        assert!(
            name.split('-').any(|part| part == dtype.to_string()),
            "{name} loaded as {dtype}"
        );
        let widened = Host::new(&source, &in_dtype(WeightFormat::F32), 1);
        assert_eq!(widened.model().dtype(), WeightFormat::F32);
        assert_eq!(widened.model().kv_dtype(), KvFormat::F32);
    }
}
