//! Lesson 11: whose guesses, judged how, and when to stop guessing.
//!
//! Compares the two rules by which a guess stands, on small distributions and on the bundled pair, and shows by a
//! chi-square test which rules change the answers; compares the drafters, on chats, stories and quotations; and lets
//! the controller choose, from one user to sixty-four. Run it with `cargo run --release --example
//! lesson11_speculative`; the page is `docs/src/lessons/lesson11_speculative.md`.

mod controller;
mod drafters;
mod rules;
mod texts;

use anyhow::Result;
use maitre_examples::heldout::WINDOW;
use maitre_examples::reader::{self, Reader};
use maitre_tensor::Backend;

#[tokio::main]
async fn main() -> Result<()> {
    rules::small_distributions()?;
    rules::distributions_kept()?;
    let tokenizer = reader::tokenizer()?;
    let backend = Backend::cpu(std::thread::available_parallelism().map_or(1, usize::from))?;
    let mut models = [&maitre_bundled::TARGET, &maitre_bundled::DRAFT]
        .into_iter()
        .map(|model| Reader::new(reader::load(model, None, &backend)?, &backend, 2 * WINDOW))
        .collect::<Result<Vec<_>>>()?;
    let [target, draft] = models.as_mut_slice() else {
        return Ok(());
    };
    rules::on_text(target, draft)?;
    drafters::proposers(&tokenizer, draft).await?;
    controller::users(&tokenizer).await
}
