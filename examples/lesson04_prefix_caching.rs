//! Lesson 4: what was computed once need not be computed again.
//!
//! Leads conversations that share a system prompt, with a prefix cache and without; measures how the time
//! to the first token grows with a document that is cached or not; and shows which requests share. Run it
//! with `cargo run --release --example lesson04_prefix_caching`; the page is
//! `docs/src/lessons/lesson04_prefix_caching.md`.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use maitre::{ChatMessage, ChatRequest, Engine, EngineError, GenerateRequest, Input, Role};
use maitre_examples::picture::{self, Line};
use maitre_examples::timed::{TimedAnswer, ask, ms, quantile};
use maitre_examples::{quick, table};

const BLOCK_SIZE: usize = 16;

const SYSTEM_PROMPT: &str = "You are the host of a small restaurant and help guests on the telephone. Be \
    friendly and short. Ask for the number of guests, the day and the time, one after the other, and repeat all \
    three before you confirm a table. The kitchen is open from noon to ten in the evening and closed on Mondays. \
    There are tables for two, four and six. If somebody asks for something else than a table, say that you are \
    sorry and that you cannot help with it.";

/// What users say, turn by turn.
const CONVERSATIONS: [[&str; 3]; 6] = [
    [
        "I need a table for four people tonight.",
        "At seven, please.",
        "Thank you, that is all.",
    ],
    [
        "Do you have a table on Sunday?",
        "We are two.",
        "Make it half past eight.",
    ],
    [
        "Hello, are you open on Monday?",
        "Then Tuesday at noon.",
        "Three people. Thanks!",
    ],
    [
        "Can I book for six on Friday?",
        "At eight in the evening.",
        "Yes, that is correct.",
    ],
    [
        "Can you find me a hotel in Paris?",
        "Then a table for two, tomorrow.",
        "Nine o'clock is fine.",
    ],
    [
        "A table by the window, please.",
        "For four, on Saturday.",
        "At six. See you then.",
    ],
];

#[tokio::main]
async fn main() -> Result<()> {
    let cached = Engine::builder(maitre::bundled())
        .block_size(BLOCK_SIZE)
        .build()?;
    let uncached = Engine::builder(maitre::bundled())
        .block_size(BLOCK_SIZE)
        .prefix_cache(false)
        .build()?;
    for engine in [&cached, &uncached] {
        ask(engine, tokens(document(9, 256), "warm-up")).await?;
    }
    cached.reset_prefix_cache().await?;
    conversations(&cached, &uncached).await?;
    documents(&cached).await?;
    sharing(&cached).await
}

// ---- Conversations.

/// The conversations to lead: those of MT-bench where they are, our own otherwise.
fn scripts() -> Result<(String, Vec<Vec<String>>)> {
    let count = if quick() { 3 } else { 40 };
    let own = CONVERSATIONS
        .iter()
        .map(|turns| turns.map(String::from).to_vec());
    let Some(folder) = std::env::var_os("MAITRE_TEST_DATA") else {
        return Ok(("our own".into(), own.take(count).collect()));
    };
    let file = Path::new(&folder).join("prompts/mt_bench_question.jsonl");
    let text =
        std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
    let turns = |line: &str| -> Result<Vec<String>> {
        let question: serde_json::Value = serde_json::from_str(line)?;
        Ok(serde_json::from_value(question["turns"].clone())?)
    };
    let scripts: Result<Vec<_>> = text.lines().take(count).map(turns).collect();
    Ok(("MT-bench".into(), scripts?))
}

/// One turn, with the cache and without.
struct Turn {
    turn: usize,
    first_conversation: bool,
    with: TimedAnswer,
    without: TimedAnswer,
}

impl Turn {
    fn prompt(&self) -> usize {
        self.with.end.usage.prompt_tokens as usize
    }

    fn found(&self) -> usize {
        self.with.end.usage.cached_prompt_tokens as usize
    }
}

async fn conversations(cached: &Engine, uncached: &Engine) -> Result<()> {
    let (whose, scripts) = scripts()?;
    let mut turns: Vec<Turn> = Vec::new();
    let mut left_out = 0;
    for script in &scripts {
        let first_conversation = turns.is_empty();
        let mut messages = vec![ChatMessage::new(Role::System, SYSTEM_PROMPT)];
        for (turn, text) in script.iter().enumerate() {
            messages.push(ChatMessage::new(Role::User, text));
            let mut request = GenerateRequest::new(Input::Chat(ChatRequest::new(messages.clone())));
            request.sampling.temperature = Some(0.0);
            request.stopping.max_tokens = Some(32);
            if let Err(EngineError::Invalid { .. }) = cached.check(request.clone()).await {
                // Longer than the model's context.
                left_out += 1;
                break;
            }
            let without = ask(uncached, request.clone()).await?;
            let with = ask(cached, request).await?;
            ensure!(
                with.ids == without.ids,
                "the cache must not change an answer"
            );
            messages.push(ChatMessage::new(Role::Assistant, with.text.clone()));
            turns.push(Turn {
                turn,
                first_conversation,
                with,
                without,
            });
        }
    }
    check(cached, &turns).await?;
    println!(
        "\n{} conversations ({whose}) behind one system prompt, {left_out} of them cut short by the context\n",
        scripts.len()
    );
    print(&turns);
    Ok(())
}

/// What must have been found, however fast it was.
async fn check(cached: &Engine, turns: &[Turn]) -> Result<()> {
    let whole_blocks = |tokens: usize| tokens / BLOCK_SIZE * BLOCK_SIZE;
    for pair in turns.windows(2).filter(|pair| pair[1].turn > 0) {
        ensure!(
            pair[1].found() >= whole_blocks(pair[0].prompt()),
            "turn {} found {} tokens, but {} were there from the turn before",
            pair[1].turn + 1,
            pair[1].found(),
            pair[0].prompt()
        );
    }
    let system = cached.tokenizer().encode_plain(SYSTEM_PROMPT)?.len();
    for turn in turns.iter().filter(|turn| !turn.first_conversation) {
        ensure!(
            turn.found() >= whole_blocks(system),
            "{} tokens found, fewer than the system prompt's {system}",
            turn.found()
        );
    }
    ensure!(
        turns.first().is_none_or(|turn| turn.found() == 0),
        "the first prompt finds nothing"
    );
    // Passes through the step loop, so that what the engine says next is said after the last step.
    ensure!(
        cached.reset_prefix_cache().await? > 0,
        "there was something to forget"
    );
    let (load, found) = (
        cached.load(),
        turns.iter().map(|turn| turn.found() as u64).sum::<u64>(),
    );
    ensure!(
        load.prefix_hits == found,
        "the engine counted {} tokens as found, its answers {found}",
        load.prefix_hits
    );
    Ok(())
}

fn print(turns: &[Turn]) {
    let most = turns.iter().map(|turn| turn.turn).max().unwrap_or(0);
    let mut rows = vec![row("the very first prompt", turns, |turn| {
        turn.first_conversation && turn.turn == 0
    })];
    for n in 0..=most {
        let name = format!("turn {} of the others", n + 1);
        rows.push(row(&name, turns, |turn| {
            !turn.first_conversation && turn.turn == n
        }));
    }
    rows.push(row("all", turns, |_| true));
    table::print(
        &[
            "",
            "prompts",
            "tokens",
            "found",
            "hit rate",
            "TTFT without (ms)",
            "TTFT with (ms)",
        ],
        &rows,
    );
}

fn row(name: &str, turns: &[Turn], of: impl Fn(&Turn) -> bool) -> Vec<String> {
    let turns: Vec<&Turn> = turns.iter().filter(|turn| of(turn)).collect();
    let tokens: usize = turns.iter().map(|turn| turn.prompt()).sum();
    let found: usize = turns.iter().map(|turn| turn.found()).sum();
    let median = |ttft: &dyn Fn(&Turn) -> Duration| {
        ms(quantile(turns.iter().map(|turn| ttft(turn)).collect(), 0.5))
    };
    vec![
        name.into(),
        turns.len().to_string(),
        tokens.to_string(),
        found.to_string(),
        format!("{:.0} %", 100.0 * found as f64 / tokens.max(1) as f64),
        median(&|turn| turn.without.end.timings.ttft),
        median(&|turn| turn.with.end.timings.ttft),
    ]
}

// ---- One document, many questions.

/// `len` made-up tokens, others for each `seed`.
fn document(seed: u32, len: usize) -> Vec<u32> {
    (0..len as u32)
        .map(|i| 300 + (seed * 977 + i * 31 + i * i % 101) % 3000)
        .collect()
}

fn tokens(ids: Vec<u32>, salt: &str) -> GenerateRequest {
    let mut request = GenerateRequest::new(Input::Tokens(ids));
    request.sampling.temperature = Some(0.0);
    request.stopping.max_tokens = Some(2);
    request.stopping.ignore_eos = true;
    request.cache.salt = salt.into();
    request
}

/// A document with a question behind it, a block long.
fn asked(length: usize, question: u32) -> Vec<u32> {
    let mut ids = document(1, length - BLOCK_SIZE);
    ids.extend((0..BLOCK_SIZE as u32).map(|i| 3500 + 20 * question + i));
    ids
}

async fn documents(engine: &Engine) -> Result<()> {
    let (lengths, rounds): (&[usize], u32) = if quick() {
        (&[64, 128], 1)
    } else {
        (&[64, 128, 256, 512, 768, 1024, 1536, 2032], 7)
    };
    let mut rows = Vec::new();
    let (mut cold_line, mut warm_line) = (Vec::new(), Vec::new());
    for &length in lengths {
        let (mut cold, mut warm, mut again) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..rounds {
            // A salt of its own finds nothing, whatever was asked before.
            let salt = format!("round {length} {round}");
            for (question, found, times) in [
                (1, 0, &mut cold),
                (2, length - BLOCK_SIZE, &mut warm),
                (2, length - 1, &mut again),
            ] {
                let answer = ask(engine, tokens(asked(length, question), &salt)).await?;
                let usage = answer.end.usage;
                ensure!(
                    usage.cached_prompt_tokens as usize == found,
                    "{} of {length} tokens were found, expected {found}",
                    usage.cached_prompt_tokens
                );
                times.push(answer.end.timings.ttft);
            }
        }
        let [cold, warm, again] = [cold, warm, again].map(|times| quantile(times, 0.5));
        rows.push(vec![length.to_string(), ms(cold), ms(warm), ms(again)]);
        cold_line.push((length as f64, cold.as_secs_f64() * 1e3));
        warm_line.push((length as f64, warm.as_secs_f64() * 1e3));
    }
    println!(
        "One document, and a question of {BLOCK_SIZE} tokens behind it: time to first token, median of {rounds}\n"
    );
    table::print(
        &[
            "tokens",
            "nothing cached (ms)",
            "another question (ms)",
            "the same again (ms)",
        ],
        &rows,
    );
    let line = |name: &str, points| Line {
        name: name.into(),
        points,
    };
    let path = picture::lines(
        "lesson04_ttft",
        "Time to first token behind a document",
        "tokens of the prompt",
        "milliseconds",
        &[
            line("nothing cached", cold_line),
            line("document cached", warm_line),
        ],
    )?;
    println!("picture: {}\n", path.display());
    Ok(())
}

// ---- Which requests share.

async fn sharing(engine: &Engine) -> Result<()> {
    const LENGTH: usize = 6 * BLOCK_SIZE;
    /// All but the last token, which has to be computed for its logits.
    const ALL: u32 = LENGTH as u32 - 1;
    engine.reset_prefix_cache().await?;
    let steps: [(&str, &str, bool, u32); 9] = [
        ("ada", "", false, 0),
        ("ada", "", false, ALL),
        ("bob", "", false, 0),
        ("bob", "", false, ALL),
        ("ada", "travel", false, 0),
        ("ada", "travel", false, ALL),
        ("ada", "", true, 0),
        ("cyd", "", true, 0),
        ("cyd", "", false, 0),
    ];
    let mut rows = Vec::new();
    for (tenant, salt, bypass, expected) in steps {
        let mut request = tokens(document(7, LENGTH), salt);
        request.service.tenant = tenant.into();
        request.cache.bypass = bypass;
        rows.push(found(engine, request, expected).await?);
    }
    let forgotten = engine.reset_prefix_cache().await?;
    // Each of four prefixes: ada's, bob's, ada's under a salt, cyd's.
    ensure!(
        forgotten == 4 * (LENGTH / BLOCK_SIZE),
        "{forgotten} blocks were forgotten"
    );
    rows.push(vec![format!("reset: {forgotten} blocks forgotten")]);
    let mut request = tokens(document(7, LENGTH), "");
    request.service.tenant = "ada".into();
    rows.push(found(engine, request, 0).await?);
    println!("The same prompt of {LENGTH} tokens, asked by several\n");
    table::print(&["tenant", "salt", "bypass", "found"], &rows);
    Ok(())
}

/// Asks and makes a row of it.
async fn found(engine: &Engine, request: GenerateRequest, expected: u32) -> Result<Vec<String>> {
    let (tenant, cache) = (request.service.tenant.clone(), request.cache.clone());
    let found = ask(engine, request).await?.end.usage.cached_prompt_tokens;
    ensure!(
        found == expected,
        "{tenant} (salt {:?}) found {found} tokens, expected {expected}",
        cache.salt
    );
    let bypass = if cache.bypass { "yes" } else { "" };
    Ok(vec![tenant, cache.salt, bypass.into(), found.to_string()])
}
