//! Requests for `cargo xtask bench simulator`, written as traces: so the server and the simulator get the same ones.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use maitre_workload::{Arrivals, Length, Lengths, OpenLoop, Random};

/// Chooses all that is random.
const SEED: u64 = 11;

/// Tokens of a block of Mooncake's traces, the least that prompts share.
const BLOCK: u32 = 512;

/// Turns of a chat, at most: with 2,048 tokens of context a fourth prompt has no place for its answer.
const TURNS: u64 = 3;

/// Tokens of a chat's answers.
const ANSWER: u32 = 48;

/// How long a user reads before asking on.
const READS: Duration = Duration::from_secs(2);

/// How requests come, in requests a second.
pub(super) enum Rate {
    /// Independently of each other.
    Poisson(f64),
    /// Gaps vary three times as much as they last on average.
    Bursts(f64),
}

/// How long requests are.
pub(super) struct Shape {
    pub(super) prompt: (u32, u32),
    pub(super) output: (u32, u32),
}

/// A line of a trace.
pub(super) struct Line {
    at: Duration,
    prompt: u32,
    output: u32,
    blocks: Vec<u64>,
}

impl Shape {
    /// All that come within so many seconds.
    pub(super) fn requests(&self, rate: &Rate, seconds: f64) -> Result<Vec<Line>> {
        let (process, requests) = match rate {
            Rate::Poisson(rate) => (format!("poisson:{rate}"), rate * seconds),
            Rate::Bursts(rate) => (format!("gamma:{rate},3"), rate * seconds),
        };
        let uniform = |range: (u32, u32)| Length::Uniform(range.0..=range.1);
        let lengths = Lengths::Independent {
            prompt: uniform(self.prompt),
            output: uniform(self.output),
        };
        let mut arrivals = OpenLoop::new(process.parse()?, lengths, requests as u64, SEED)?;
        let mut lines = Vec::new();
        while let Some(request) = arrivals.take() {
            lines.push(Line {
                at: request.arrival,
                prompt: request.prompt_tokens,
                output: request.output_tokens,
                blocks: Vec::new(),
            });
        }
        Ok(lines)
    }
}

/// Chats that begin independently of each other, of one to three turns. Each prompt is one block longer than the one before and
/// begins with all its blocks, and one of four chats begins as all others of its kind do.
pub(super) fn chats(rate: f64, seconds: f64) -> Result<Vec<Line>> {
    let lengths = Lengths::Independent {
        prompt: Length::Fixed(1),
        output: Length::Fixed(ANSWER),
    };
    let process = format!("poisson:{}", rate / 2.0).parse()?;
    let mut beginnings = OpenLoop::new(process, lengths, (rate / 2.0 * seconds) as u64, SEED)?;
    let mut random = Random::new(SEED, 1);
    let mut lines = Vec::new();
    let mut chat = 0;
    while let Some(beginning) = beginnings.take() {
        chat += 1;
        let first = if random.below(4) == 0 { 0 } else { 1000 * chat };
        let mut at = beginning.arrival;
        let mut blocks = vec![first];
        for turn in 0..=random.below(TURNS) {
            lines.push(Line {
                at,
                prompt: BLOCK * blocks.len() as u32 + 20 + random.below(100) as u32,
                output: ANSWER,
                blocks: blocks.clone(),
            });
            blocks.push(1000 * chat + turn + 1);
            at += READS + Duration::from_millis(random.below(2000));
        }
    }
    lines.sort_by_key(|line| line.at);
    Ok(lines)
}

/// Writes them as Mooncake does.
pub(super) fn write(folder: &Path, name: &str, lines: &[Line]) -> Result<PathBuf> {
    let mut text = String::new();
    for line in lines {
        writeln!(
            text,
            "{{\"timestamp\": {:.3}, \"input_length\": {}, \"output_length\": {}, \"hash_ids\": {:?}}}",
            line.at.as_secs_f64() * 1e3,
            line.prompt,
            line.output,
            line.blocks
        )?;
    }
    let file = folder.join(format!("{}.jsonl", name.replace(' ', "-")));
    std::fs::write(&file, text)?;
    Ok(file)
}
