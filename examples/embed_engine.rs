//! Maitre as a library: no server, no network, the engine inside your program.
//!
//! Run it with `cargo run --release --example embed_engine`; the page is
//! `docs/src/guide/embed.md`.

use std::io::Write;
use std::time::Duration;

use anyhow::Result;
use maitre::{ChatMessage, ChatRequest, Engine, EngineError, Event, GenerateRequest, Input, Role};

#[tokio::main]
async fn main() -> Result<()> {
    // Any directory in Hugging Face's layout does too: ModelSource::Directory(path).
    let engine = Engine::builder(maitre::bundled()).max_seqs(8).build()?;
    println!("{}\n", engine.info());

    stream(&engine).await?;
    repeat(&engine).await?;
    refuse(&engine).await;
    cancel(&engine).await?;

    let left = engine.drain(Duration::from_secs(5)).await;
    println!("drained: {left} request(s) had to be cancelled");
    Ok(())
}

fn chat(text: &str) -> GenerateRequest {
    let mut request = GenerateRequest::new(Input::Chat(ChatRequest::new(vec![ChatMessage::new(
        Role::User,
        text,
    )])));
    request.stopping.max_tokens = Some(40);
    request
}

/// Text as it is generated.
async fn stream(engine: &Engine) -> Result<()> {
    print!("streamed: ");
    let mut answer = engine
        .generate(chat("I would like a large latte, please."))
        .await?;
    while let Some(event) = answer.next().await {
        match event? {
            Event::Delta(delta) => {
                print!("{}", delta.text());
                std::io::stdout().flush()?;
            }
            Event::Finished(end) => println!(
                "\n          {} after {} tokens, first after {:?}",
                end.reason.name(),
                end.usage.completion_tokens,
                end.timings.ttft
            ),
            Event::PromptLogprobs(_) => {}
        }
    }
    Ok(())
}

/// The same seed gives the same answer.
async fn repeat(engine: &Engine) -> Result<()> {
    let mut texts = Vec::new();
    for seed in [7, 7, 8] {
        let mut request = chat("Find me a restaurant.");
        request.sampling.temperature = Some(0.8);
        request.sampling.seed = Some(seed);
        texts.push(maitre_examples::timed::ask(engine, request).await?.text);
    }
    println!("seed 7:   {}", texts[0].trim());
    println!(
        "again:    {}",
        if texts[0] == texts[1] {
            "the same, bit for bit"
        } else {
            "DIFFERENT"
        }
    );
    println!("seed 8:   {}", texts[2].trim());
    Ok(())
}

/// Everything that is wrong with a request comes back at once, before it is queued.
async fn refuse(engine: &Engine) {
    let mut request = chat("Hello");
    request.sampling.temperature = Some(-1.0);
    request.stopping.max_tokens = Some(0);
    if let Err(EngineError::Invalid { violations }) = engine.generate(request).await {
        for violation in violations {
            println!("refused:  {} {}", violation.field, violation.description);
        }
    }
}

/// Dropping the stream cancels the request; its memory is free at the next step.
async fn cancel(engine: &Engine) -> Result<()> {
    let mut answer = engine.generate(chat("Tell me everything.")).await?;
    answer.next().await;
    drop(answer);
    while engine.load().kv_used_blocks > 0 {
        tokio::task::yield_now().await;
    }
    println!("dropped:  every KV block is free again");
    Ok(())
}
