//! Models that a reader names on the command line, and how fast an engine answers with them.

use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use maitre::{Engine, GenerateRequest, Input};
use maitre_model::ModelSource;

use crate::timed::ask_all;

/// The model in a directory or in a GGUF file.
///
/// # Errors
///
/// A directory with several models in GGUF files.
pub fn source(path: &Path) -> Result<ModelSource> {
    Ok(match path.is_dir() {
        true => ModelSource::in_directory(path)?,
        false => ModelSource::Gguf(path.to_owned()),
    })
}

/// `users` requests of 16 tokens of a vocabulary, greedy, with answers of `new_tokens`.
fn requests(users: u32, new_tokens: u32, vocabulary: u32) -> Vec<GenerateRequest> {
    let prompt = |user: u32| {
        (0..16)
            .map(|i| (300 + user * 31 + i * 7) % vocabulary)
            .collect()
    };
    let request = |user| {
        let mut request = GenerateRequest::new(Input::Tokens(prompt(user)));
        request.sampling.temperature = Some(0.0);
        request.stopping.max_tokens = Some(new_tokens);
        request.stopping.ignore_eos = true;
        request
    };
    (0..users).map(request).collect()
}

/// Tokens per second of `users` at once, the second time that they ask.
///
/// # Errors
///
/// The first error of any answer.
pub async fn tokens_per_second(engine: &Engine, users: u32, new_tokens: u32) -> Result<f64> {
    let requests = || requests(users, new_tokens, engine.info().vocab_size as u32);
    ask_all(engine, requests()).await?;
    let began = Instant::now();
    let answers = ask_all(engine, requests()).await?;
    let tokens: usize = answers.iter().map(|answer| answer.tokens.len()).sum();
    Ok(tokens as f64 / began.elapsed().as_secs_f64())
}
