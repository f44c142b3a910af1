//! Day 5: several tokens a step.
//!
//! A small model guesses the next tokens and the large one verifies them all in one step, by hand: two models, a
//! cache each, no engine. Shows which guesses stood; that the answer is the one without guesses, bit for bit; how often the
//! first, second, … eighth guess stands; and what that is worth, beside the formula. Run it with `cargo run --release
//! --example day05_speculative_decoding`; the page is `docs/src/lessons/day05_speculative_decoding.md`.

mod guesses;
mod pair;
mod worth;

use anyhow::Result;
use maitre_examples::quick;
use maitre_examples::reader::{self, Reader};
use maitre_sampling::{Sampler, SamplingParams};
use maitre_tensor::Backend;
use maitre_text::Tokenizer;
use pair::Pair;

/// The most tokens that are guessed at a time.
const MOST_DRAFTS: usize = 8;

/// Space for a prompt, an answer and the guesses behind it.
const LONGEST: usize = 512;

fn main() -> Result<()> {
    // Two would wait for each other whenever the machine does something else.
    let backend = Backend::cpu(1)?;
    println!("\n1 thread, {} kernels\n", backend.name());
    let tokenizer = reader::tokenizer()?;
    let reader = |model| Reader::new(reader::load(model, None, &backend)?, &backend, LONGEST);
    let mut pair = Pair {
        target: reader(&maitre_bundled::TARGET)?,
        draft: reader(&maitre_bundled::DRAFT)?,
        sampler: Sampler::new(),
        stop: tokenizer.encode("<|im_end|>")?.as_slice().try_into()?,
    };
    guesses::one_answer(&mut pair, &tokenizer)?;
    let prompts = prompts(&tokenizer, if quick() { 2 } else { 24 })?;
    guesses::by_position(&mut pair, &prompts)?;
    let greedy = worth::speed(&mut pair, &prompts, "greedy", 0.0)?;
    let sampled = worth::speed(&mut pair, &prompts, "temperature 0.8", 0.8)?;
    worth::draw_speed(&[greedy, sampled])
}

/// Greedy but for the temperature; with log-probabilities, so that these are compared, too.
fn params(temperature: f32, seed: u64) -> SamplingParams {
    SamplingParams {
        temperature,
        seed,
        logprobs: Some(0),
        ..SamplingParams::default()
    }
}

/// Held-out chats up to the first answer, one after the other.
fn prompts(tokenizer: &Tokenizer, count: usize) -> Result<Vec<Vec<u32>>> {
    let opening = "<|im_start|>assistant\n";
    let chats = maitre_bundled::HELDOUT.split("<|endoftext|>");
    let asked = chats.filter_map(|chat| Some(&chat[..chat.find(opening)? + opening.len()]));
    let prompts = asked.take(count).map(|text| Ok(tokenizer.encode(text)?));
    prompts.collect()
}
