//! `maitre generate`: one request, answered on stdout.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use maitre::server::Startup;
use maitre::{ChatMessage, ChatRequest, Event, Finished, GenerateRequest, Generation, Input, Role};
use serde_json::json;

use super::model::ModelArgs;

#[derive(Debug, Args)]
pub(crate) struct GenerateArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// The prompt; control tokens in it count.
    #[arg(long, value_name = "TEXT")]
    prompt: String,
    /// Treat the prompt as a user's message and render it with the model's chat template.
    #[arg(long)]
    chat: bool,
    /// Most tokens to generate [default: what the context holds].
    #[arg(long, value_name = "N")]
    max_tokens: Option<u32>,
    /// 0 = greedy [default: the model's].
    #[arg(long, value_name = "T")]
    temperature: Option<f32>,
    /// Keep the smallest set of tokens with this mass [default: the model's].
    #[arg(long, value_name = "P")]
    top_p: Option<f32>,
    /// Keep the K likeliest tokens; 0 = all [default: the model's].
    #[arg(long, value_name = "K")]
    top_k: Option<u32>,
    /// A text that ends the answer; may be given several times.
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// Go on past the model's end-of-sequence tokens.
    #[arg(long)]
    ignore_eos: bool,
    /// Print one JSON object instead of the text.
    #[arg(long)]
    json: bool,
    /// A TOML file of flags; flags given by hand override it.
    #[arg(long, value_name = "FILE")]
    #[allow(dead_code, reason = "read before parsing, see config_file")]
    config: Option<PathBuf>,
}

pub(crate) async fn run(args: GenerateArgs, startup: &Startup) -> Result<()> {
    let engine = args.model.engine(startup).await?;
    let mut generation = engine.generate(args.request()).await?;
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", collect(&mut generation).await?)?;
        return Ok(());
    }
    while let Some(event) = generation.next().await {
        if let Event::Delta(delta) = event? {
            write!(out, "{}", delta.text)?;
            out.flush()?;
        }
    }
    writeln!(out)?;
    Ok(())
}

impl GenerateArgs {
    fn request(&self) -> GenerateRequest {
        let input = if self.chat {
            let message = ChatMessage::new(Role::User, self.prompt.clone());
            Input::Chat(ChatRequest::new(vec![message]))
        } else {
            Input::Text(self.prompt.clone())
        };
        let mut request = GenerateRequest::new(input);
        request.sampling.temperature = self.temperature;
        request.sampling.top_p = self.top_p;
        request.sampling.top_k = self.top_k;
        request.sampling.seed = self.model.seed;
        request.stopping.max_tokens = self.max_tokens;
        request.stopping.stop.clone_from(&self.stop);
        request.stopping.ignore_eos = self.ignore_eos;
        request
    }
}

/// The whole answer as one JSON object.
async fn collect(generation: &mut Generation) -> Result<serde_json::Value> {
    let mut text = String::new();
    let mut token_ids = Vec::new();
    let mut end: Option<Finished> = None;
    while let Some(event) = generation.next().await {
        match event? {
            Event::Delta(delta) => {
                text.push_str(&delta.text);
                token_ids.extend(delta.token_ids);
            }
            Event::Finished(finished) => end = Some(finished),
            Event::PromptLogprobs(_) => {}
        }
    }
    let end = end.ok_or(maitre::EngineError::Stopped)?;
    let ms = |duration: std::time::Duration| duration.as_secs_f64() * 1e3;
    Ok(json!({
        "text": text,
        "token_ids": token_ids,
        "finish_reason": end.reason.name(),
        "usage": {
            "prompt_tokens": end.usage.prompt_tokens,
            "cached_prompt_tokens": end.usage.cached_prompt_tokens,
            "completion_tokens": end.usage.completion_tokens,
            "drafted_tokens": end.usage.drafted_tokens,
            "accepted_tokens": end.usage.accepted_tokens,
        },
        "timings": {
            "ttft_ms": ms(end.timings.ttft),
            "tpot_ms": ms(end.timings.tpot),
            "e2e_ms": ms(end.timings.e2e),
        },
    }))
}
