//! One request to an engine, with the moment of every token.

use std::time::{Duration, Instant};

use maitre::{Engine, EngineError, Event, Finished, GenerateRequest, Generation};

/// An answer and when its parts arrived.
#[derive(Debug, Clone)]
pub struct TimedAnswer {
    /// The text.
    pub text: String,
    /// Its tokens.
    pub ids: Vec<u32>,
    /// When it was asked for.
    pub asked: Instant,
    /// When each token arrived.
    pub tokens: Vec<Instant>,
    /// What the engine says about it.
    pub end: Finished,
}

impl TimedAnswer {
    /// Time to first token.
    #[must_use]
    pub fn ttft(&self) -> Duration {
        self.tokens
            .first()
            .map_or(Duration::ZERO, |first| *first - self.asked)
    }

    /// Gaps between tokens.
    pub fn gaps(&self) -> impl Iterator<Item = Duration> {
        self.tokens.windows(2).map(|pair| pair[1] - pair[0])
    }

    /// From the question to the last token.
    #[must_use]
    pub fn e2e(&self) -> Duration {
        self.tokens
            .last()
            .map_or(Duration::ZERO, |last| *last - self.asked)
    }
}

/// Runs one request to its end.
///
/// # Errors
///
/// Whatever the engine refuses it or ends it with.
pub async fn ask(engine: &Engine, request: GenerateRequest) -> Result<TimedAnswer, EngineError> {
    let asked = Instant::now();
    let generation = engine.generate(request).await?;
    read(asked, generation, |_| ()).await
}

/// Reads an answer to its end and tells `arrived`, at every token, how many there are.
///
/// # Errors
///
/// Whatever the engine ends it with.
pub async fn read(
    asked: Instant,
    mut generation: Generation,
    mut arrived: impl FnMut(usize) + Send,
) -> Result<TimedAnswer, EngineError> {
    let (mut text, mut ids, mut tokens) = (String::new(), Vec::new(), Vec::new());
    while let Some(event) = generation.next().await {
        match event? {
            Event::Delta(delta) => {
                text.push_str(delta.text());
                for id in delta.token_ids {
                    ids.push(id);
                    tokens.push(Instant::now());
                    arrived(tokens.len());
                }
            }
            Event::Finished(end) => {
                return Ok(TimedAnswer {
                    text,
                    ids,
                    asked,
                    tokens,
                    end,
                });
            }
            Event::PromptLogprobs(_) => {}
        }
    }
    Err(EngineError::Stopped)
}

/// Submits all of `requests`, one after the other without waiting for any answer, so that they queue in
/// this order; then runs them to their ends.
///
/// # Errors
///
/// The first error of any of them.
pub async fn ask_in_order(
    engine: &Engine,
    requests: Vec<GenerateRequest>,
) -> anyhow::Result<Vec<TimedAnswer>> {
    let mut tasks = Vec::new();
    for request in requests {
        let asked = Instant::now();
        let generation = engine.generate(request).await?;
        tasks.push(tokio::spawn(read(asked, generation, |_| ())));
    }
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(task.await??);
    }
    Ok(answers)
}

/// Runs all of `requests` at the same time.
///
/// # Errors
///
/// The first error of any of them.
pub async fn ask_all(
    engine: &Engine,
    requests: Vec<GenerateRequest>,
) -> anyhow::Result<Vec<TimedAnswer>> {
    let mut tasks = Vec::new();
    for request in requests {
        let engine = engine.clone();
        tasks.push(tokio::spawn(async move { ask(&engine, request).await }));
    }
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(task.await??);
    }
    Ok(answers)
}

/// The value that a fraction `q` of `values` does not exceed; zero for none.
#[must_use]
pub fn quantile(mut values: Vec<Duration>, q: f64) -> Duration {
    values.sort_unstable();
    let index = ((values.len() as f64 * q).ceil() as usize).saturating_sub(1);
    values.get(index).copied().unwrap_or_default()
}

/// Milliseconds with two digits, for tables.
#[must_use]
pub fn ms(duration: Duration) -> String {
    format!("{:.2}", duration.as_secs_f64() * 1e3)
}
