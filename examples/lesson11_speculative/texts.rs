//! What is answered: chats, stories and quotations, each a prompt and its answer.

use anyhow::Result;
use maitre::{Engine, GenerateRequest, Input};
use maitre_examples::timed::ask_all;
use maitre_text::Tokenizer;

/// A prompt and its answer.
type Case = (Vec<u32>, Vec<u32>);

/// Held-out chats up to an answer, at most `count`.
pub(super) fn questions(tokenizer: &Tokenizer, count: usize) -> Result<Vec<Vec<u32>>> {
    let opening = "<|im_start|>assistant\n";
    let chats = maitre_bundled::HELDOUT.split("<|endoftext|>");
    // The second answer: something has been said that can be said again.
    let asked = chats.filter_map(|chat| {
        let (at, _) = chat.match_indices(opening).nth(1)?;
        Some(&chat[..at + opening.len()])
    });
    let questions = asked.take(count).map(|text| Ok(tokenizer.encode(text)?));
    questions.collect()
}

/// Questions, and what the model answers.
pub(super) async fn chats(
    tokenizer: &Tokenizer,
    engine: &Engine,
    count: usize,
) -> Result<Vec<Case>> {
    answered(engine, questions(tokenizer, count)?, 64).await
}

/// Beginnings of stories, and how the model goes on.
pub(super) async fn stories(
    tokenizer: &Tokenizer,
    engine: &Engine,
    count: usize,
) -> Result<Vec<Case>> {
    let names = [
        "Tom", "Lily", "a dog", "a bird", "Mia", "a king", "Ben", "a fish",
    ];
    let beginnings = names.iter().take(count);
    let prompts = beginnings.map(|name| {
        let text = format!("Once upon a time, there was {name}");
        Ok(tokenizer.encode(&text)?)
    });
    answered(engine, prompts.collect::<Result<_>>()?, 256).await
}

async fn answered(engine: &Engine, prompts: Vec<Vec<u32>>, tokens: u32) -> Result<Vec<Case>> {
    let requests = prompts.iter().map(|prompt| request(prompt, tokens, 0.0));
    let answers = ask_all(engine, requests.collect()).await?;
    let ids = answers.into_iter().map(|answer| answer.ids);
    Ok(prompts.into_iter().zip(ids).collect())
}

/// Chats that are repeated with every 20th token replaced by the one before it: no answers of this model, which
/// can't quote, but what one that can might say.
pub(super) fn quotations(tokenizer: &Tokenizer, count: usize) -> Result<Vec<Case>> {
    let quoted = questions(tokenizer, count)?.into_iter().map(|chat| {
        let mut answer = chat.clone();
        for at in (19..answer.len()).step_by(20) {
            answer[at] = chat[at - 1];
        }
        (chat, answer)
    });
    Ok(quoted.collect())
}

pub(super) fn request(prompt: &[u32], tokens: u32, temperature: f32) -> GenerateRequest {
    let mut request = GenerateRequest::new(Input::Tokens(prompt.to_vec()));
    request.sampling.temperature = Some(temperature);
    request.stopping.max_tokens = Some(tokens);
    request
}
