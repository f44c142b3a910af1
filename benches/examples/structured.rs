//! Structured output, counted and measured: `cargo xtask structured [--generations N | --cost]`.
//!
//! `--generations N`: so many answers of the bundled model under the table of JSON schemas that the tests of `maitre-text`
//! use, each checked by the crate `jsonschema`. An answer that is cut at its length is no failure; one that is
//! complete and not valid is.
//!
//! `--cost`: what a compiler and a mask cost at the bundled model's 4,096 tokens and, with `MAITRE_TEST_DATA`, at Qwen3's
//! 151,669; and the time between tokens of 16 users with and without a schema, in pairs.
#![allow(clippy::print_stdout, reason = "a command-line tool talks on stdout")]

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use futures_util::future::try_join_all;
use maitre_engine::{
    Engine, Event, FinishReason, GenerateRequest, GrammarSpec, Input, JsonWhitespace, ModelSource,
    Speculate, TokenMask,
};
use maitre_text::Tokenizer;
use maitre_text::grammar::GrammarCompiler;
use serde_json::Value;

const SCHEMAS: &str = include_str!("../../crates/maitre-text/tests/grammar/schemas.json");
/// Requests at a time.
const USERS: usize = 16;
const PAIRS: usize = 7;

#[derive(Debug, Parser)]
struct Arguments {
    /// Answers over all schemas.
    #[arg(long, default_value_t = 1200)]
    generations: usize,
    /// Measure what constraints cost.
    #[arg(long)]
    cost: bool,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    match arguments.cost {
        true => cost().await,
        false => generate(arguments.generations).await,
    }
}

fn engine(speculate: Speculate) -> Result<Engine> {
    let model = &maitre_bundled::TARGET;
    let source = ModelSource::Memory {
        name: model.name,
        files: model.files,
    };
    Ok(Engine::builder(source).speculate(speculate).build()?)
}

/// One answer: its text, why it ended, its tokens, and the time between the first and the last of them.
struct Answer {
    text: String,
    reason: FinishReason,
    tokens: u32,
    generating: Duration,
}

async fn answer(engine: &Engine, request: GenerateRequest) -> Result<Answer> {
    let mut generation = engine.generate(request).await?;
    let mut text = String::new();
    let mut first = None;
    let mut last = Instant::now();
    while let Some(event) = generation.next().await {
        match event? {
            Event::Delta(delta) => {
                text.push_str(delta.text());
                last = Instant::now();
                first.get_or_insert(last);
            }
            Event::Finished(end) => {
                return Ok(Answer {
                    text,
                    reason: end.reason,
                    tokens: end.usage.completion_tokens,
                    generating: last - first.unwrap_or(last),
                });
            }
            Event::PromptLogprobs(_) => {}
        }
    }
    bail!("the stream ended without an end")
}

fn request(prompt: &str, seed: u64, max_tokens: u32) -> GenerateRequest {
    let mut request = GenerateRequest::new(Input::Text(prompt.to_owned()));
    request.sampling.temperature = Some(1.0);
    request.sampling.seed = Some(seed);
    request.stopping.max_tokens = Some(max_tokens);
    request
}

async fn generate(generations: usize) -> Result<()> {
    let table: Vec<Value> = serde_json::from_str(SCHEMAS)?;
    let engine = engine(Speculate::Auto)?;
    let each = generations.div_ceil(table.len());
    let (mut complete, mut cut, mut huge) = (0, 0, 0);
    let began = Instant::now();
    for row in &table {
        let (name, schema) = (row["name"].as_str().unwrap_or_default(), &row["schema"]);
        let formats = row["formats"] != Value::Bool(false);
        let validator = jsonschema::options()
            .should_validate_formats(formats)
            .build(schema)
            .map_err(|error| anyhow::anyhow!("{name}: {error}"))?;
        let mut valid = 0;
        let seeds: Vec<u64> = (0..each as u64).collect();
        for seeds in seeds.chunks(USERS) {
            let requests = seeds.iter().map(|&seed| {
                let mut request = request("Here are the data, as JSON:\n", seed, 300);
                let whitespace = match seed % 2 {
                    0 => JsonWhitespace::Compact,
                    _ => JsonWhitespace::Flexible,
                };
                let schema = schema.to_string();
                request.grammar = Some(GrammarSpec::JsonSchema { schema, whitespace }.into());
                answer(&engine, request)
            });
            for answer in try_join_all(requests).await? {
                if answer.reason == FinishReason::Length {
                    cut += 1;
                    continue;
                }
                let text = &answer.text;
                let value = match serde_json::from_str(text) {
                    Ok(value) => value,
                    // JSON has numbers that no float can hold.
                    Err(error) if error.to_string().contains("number out of range") => {
                        huge += 1;
                        continue;
                    }
                    Err(error) => bail!("{name}: {error}: {text}"),
                };
                let errors: Vec<String> = validator
                    .iter_errors(&value)
                    .map(|it| it.to_string())
                    .collect();
                ensure!(errors.is_empty(), "{name}: {text}: {errors:?}");
                valid += 1;
            }
        }
        complete += valid;
        println!("{valid:>5} of {each} complete and valid  {name}");
    }
    println!(
        "{complete} answers under {} schemas are complete and were checked, all of them valid; {cut} were cut at their length, \
         {huge} have a number that no float can hold; {:.1} s",
        table.len(),
        began.elapsed().as_secs_f64()
    );
    Ok(())
}

const PERSON: &str = r#"{"type":"object","properties":{"name":{"type":"string"},"age":{"type":"integer","minimum":0,"maximum":130},"address":{"type":"object","properties":{"street":{"type":"string"},"city":{"type":"string"},"zip":{"type":"string","pattern":"^[0-9]{5}$"}},"required":["street","city","zip"],"additionalProperties":false},"tags":{"type":"array","items":{"type":"string"},"minItems":40}},"required":["name","age","address","tags"],"additionalProperties":false}"#;
/// An answer of the schema that is long enough to measure.
const SAMPLE: &str = r#"{"name":"Ada Lovelace, Countess","age":36,"address":{"street":"12 St James's Square","city":"London","zip":"12345"},"tags":["mathematics","analytical engine","poetry","notes on the sketch","first program"#;

async fn cost() -> Result<()> {
    let bundled = engine(Speculate::Off)?;
    let info = bundled.info().clone();
    masks(
        "bundled",
        bundled.tokenizer(),
        info.vocab_size,
        &info.eos_token_ids,
    )?;
    if let Some(data) = std::env::var_os("MAITRE_TEST_DATA") {
        let folder = std::path::Path::new(&data).join("tokenizers/qwen3-rebuilt");
        let json = std::fs::read(folder.join("tokenizer.json"))
            .with_context(|| format!("reading {}", folder.display()))?;
        let tokenizer = Tokenizer::from_bytes(&json, None, None)?;
        let eos: Vec<u32> = tokenizer.token_to_id("<|im_end|>").into_iter().collect();
        masks("Qwen3", &tokenizer, tokenizer.num_tokens(), &eos)?;
    } else {
        println!("skipped: set MAITRE_TEST_DATA for a vocabulary of 151,669 tokens");
    }
    drop(bundled);
    between_tokens().await
}

/// What a compiler costs, and masks along an answer.
fn masks(name: &str, tokenizer: &Tokenizer, vocab_size: usize, eos: &[u32]) -> Result<()> {
    let began = Instant::now();
    let compiler = GrammarCompiler::new(tokenizer, vocab_size, eos)?;
    let built = began.elapsed();
    let spec = GrammarSpec::JsonSchema {
        schema: PERSON.to_owned(),
        whitespace: JsonWhitespace::Flexible,
    };
    let began = Instant::now();
    let source = compiler.compile(&spec)?;
    let compiled = began.elapsed();
    let began = Instant::now();
    compiler.compile(&spec)?;
    let found = began.elapsed();
    let mut times = Vec::new();
    let mut constraint = source.start();
    let began = Instant::now();
    drop(source.start());
    let started = began.elapsed();
    let mut masks = [TokenMask::new(vocab_size)];
    for token in tokenizer.encode_plain(SAMPLE)? {
        let began = Instant::now();
        masks[0].clear();
        constraint.masks(&[], &mut masks);
        times.push(began.elapsed());
        // What is forced may be cut into other tokens than this text is.
        let token = match masks[0].allows(token) {
            true => token,
            false => (0..vocab_size as u32)
                .find(|id| masks[0].allows(*id))
                .context("nothing is allowed")?,
        };
        constraint.advance(&[token]);
    }
    times.sort();
    let at = |part: usize| times[(times.len() - 1) * part / 100];
    println!(
        "{name}, {vocab_size} tokens: compiler {built:.1?}; schema compiled {compiled:.1?}, found again {found:.1?}, answer \
         started {started:.1?}; {} masks: median {:.1?}, 90 % {:.1?}, longest {:.1?}",
        times.len(),
        at(50),
        at(90),
        at(100)
    );
    Ok(())
}

/// The mean time between the tokens of 16 users: (seconds, tokens) of all together.
async fn users(engine: &Engine, grammar: Option<&GrammarSpec>, round: usize) -> Result<f64> {
    let requests = (0..USERS).map(|user| {
        let seed = (round * USERS + user) as u64;
        let mut request = request("Here are the data, as JSON:\n", seed, 200);
        request.stopping.ignore_eos = true;
        request.grammar = grammar.map(|spec| spec.clone().into());
        answer(engine, request)
    });
    let answers = try_join_all(requests).await?;
    let seconds: f64 = answers.iter().map(|it| it.generating.as_secs_f64()).sum();
    let tokens: u32 = answers.iter().map(|it| it.tokens.saturating_sub(1)).sum();
    Ok(seconds / f64::from(tokens.max(1)))
}

async fn between_tokens() -> Result<()> {
    let spec = GrammarSpec::JsonSchema {
        schema: PERSON.to_owned(),
        whitespace: JsonWhitespace::Flexible,
    };
    for speculate in [Speculate::Off, Speculate::Auto] {
        let engine = engine(speculate)?;
        users(&engine, Some(&spec), 0).await?;
        users(&engine, None, 0).await?;
        let mut ratios = Vec::new();
        let (mut with, mut without) = (0.0, 0.0);
        for pair in 0..PAIRS {
            let constrained = users(&engine, Some(&spec), pair).await?;
            let free = users(&engine, None, pair).await?;
            ratios.push(constrained / free);
            with += constrained / PAIRS as f64;
            without += free / PAIRS as f64;
        }
        ratios.sort_by(f64::total_cmp);
        println!(
            "{USERS} users, speculation {speculate:?}: {:.3} ms between tokens under the schema, {:.3} ms without; ratio of \
             {PAIRS} pairs: median {:.3} ({:.3} to {:.3})",
            with * 1e3,
            without * 1e3,
            ratios[PAIRS / 2],
            ratios[0],
            ratios[PAIRS - 1]
        );
    }
    Ok(())
}
