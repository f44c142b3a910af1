//! `maitre generate`: one request, answered on stdout.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use maitre::server::Startup;
use maitre::{
    ChatMessage, ChatRequest, Engine, Event, FinishReason, Finished, GenerateRequest, Generation,
    Input, Matched, Role,
};
use serde_json::json;

use super::form::FormArgs;
use super::model::ModelArgs;
use super::sampling::SamplingArgs;

#[derive(Debug, Args)]
pub(crate) struct GenerateArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// The prompt: a user's message, rendered with the model's chat template if it has one.
    #[arg(long, value_name = "TEXT")]
    prompt: String,
    /// Go on from the prompt as it stands, without the chat template; control tokens in it count.
    #[arg(long)]
    raw: bool,
    /// Refuse a model without a chat template instead of going on from the prompt as it stands.
    #[arg(long, conflicts_with = "raw")]
    chat: bool,
    #[command(flatten)]
    sampling: SamplingArgs,
    #[command(flatten)]
    form: FormArgs,
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
    let request = args.request(&engine)?;
    let is_chat = matches!(request.input, Input::Chat(_));
    let mut generation = engine.generate(request).await?;
    let mut out = std::io::stdout().lock();
    let answer = Answer::collect(&mut generation, |text| {
        if args.json {
            return Ok(());
        }
        write!(out, "{text}")?;
        out.flush()
    })
    .await?;
    if args.json {
        writeln!(out, "{}", answer.as_json())?;
    } else {
        writeln!(out)?;
    }
    if answer.text.trim().is_empty() {
        tracing::warn!("{}", answer.why_empty(&engine, is_chat));
    }
    Ok(())
}

impl GenerateArgs {
    fn request(&self, engine: &Engine) -> Result<GenerateRequest> {
        let has_template = engine.info().has_chat_template;
        let input = if self.chat || (has_template && !self.raw) {
            let message = ChatMessage::new(Role::User, self.prompt.clone());
            Input::Chat(ChatRequest::new(vec![message]))
        } else {
            if !self.raw {
                tracing::warn!(
                    "the model has no chat template: it goes on from the prompt as it stands, as with --raw"
                );
            }
            Input::Text(self.prompt.clone())
        };
        let mut request = GenerateRequest::new(input);
        self.sampling.apply(&mut request);
        request.sampling.seed = self.model.seed;
        request.grammar = self.form.options()?;
        Ok(request)
    }
}

/// A whole answer.
struct Answer {
    text: String,
    token_ids: Vec<u32>,
    end: Finished,
}

impl Answer {
    /// Takes all of it, and hands on each piece of text as it comes.
    async fn collect(
        generation: &mut Generation,
        mut show: impl FnMut(&str) -> std::io::Result<()>,
    ) -> Result<Self> {
        let mut text = String::new();
        let mut token_ids = Vec::new();
        let mut end: Option<Finished> = None;
        while let Some(event) = generation.next().await {
            match event? {
                Event::Delta(delta) => {
                    show(delta.text())?;
                    text.push_str(delta.text());
                    token_ids.extend(delta.token_ids);
                }
                Event::Finished(finished) => end = Some(finished),
                Event::PromptLogprobs(_) => {}
            }
        }
        let end = end.ok_or(maitre::EngineError::Stopped)?;
        Ok(Self {
            text,
            token_ids,
            end,
        })
    }

    fn as_json(&self) -> serde_json::Value {
        let ms = |duration: std::time::Duration| duration.as_secs_f64() * 1e3;
        let (usage, timings) = (&self.end.usage, &self.end.timings);
        json!({
            "text": self.text,
            "token_ids": self.token_ids,
            "finish_reason": self.end.reason.name(),
            "usage": {
                "prompt_tokens": usage.prompt_tokens,
                "cached_prompt_tokens": usage.cached_prompt_tokens,
                "completion_tokens": usage.completion_tokens,
                "drafted_tokens": usage.drafted_tokens,
                "accepted_tokens": usage.accepted_tokens,
            },
            "timings": {
                "ttft_ms": ms(timings.ttft),
                "tpot_ms": ms(timings.tpot),
                "e2e_ms": ms(timings.e2e),
            },
        })
    }

    /// Why there is nothing to read, and what to try.
    fn why_empty(&self, engine: &Engine, is_chat: bool) -> String {
        let count = self.end.usage.completion_tokens;
        let what = match (self.text.is_empty(), count) {
            (true, 0 | 1) => "the answer is empty".to_owned(),
            (true, _) => format!(
                "the answer is empty: its {count} tokens are control tokens or no whole character"
            ),
            (false, _) => "the answer is nothing but white space".to_owned(),
        };
        let end = match (self.end.reason, &self.end.matched) {
            (FinishReason::Stop, Some(Matched::Token(id))) => {
                let text = engine.tokenizer().token_text(*id).unwrap_or_default();
                let how = if count <= 1 {
                    "its first token is"
                } else {
                    "it ended with"
                };
                let advice = match is_chat {
                    true => {
                        "ask in other words, try another --seed, or go on past it with --ignore-eos"
                    }
                    false => {
                        "if the prompt is a message, leave out --raw; or go on past it with --ignore-eos"
                    }
                };
                format!("{how} token {id} ({text:?}), which ends an answer: {advice}")
            }
            (FinishReason::StopSequence, Some(Matched::Text(stop))) => format!(
                "the stop string {stop:?} came before anything else, and is no part of an answer: leave out --stop, or \
                 choose another"
            ),
            (FinishReason::Length, _) => {
                "it ended at its length: raise --max-tokens or --max-model-len".to_owned()
            }
            (reason, _) => format!("it ended for the reason {}", reason.name()),
        };
        format!("{what}; {end}")
    }
}
