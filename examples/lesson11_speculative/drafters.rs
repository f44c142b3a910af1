//! The drafters compared: in how many steps texts of three kinds come with each, and how many of its guesses stand.

use anyhow::Result;
use maitre::{Engine, Speculate};
use maitre_examples::reader::Reader;
use maitre_examples::{quick, table};
use maitre_sampling::{Sampler, SamplingParams, TokenCounts};
use maitre_speculative::{History, HistoryKind, Replay};
use maitre_text::Tokenizer;

use crate::texts::{chats, quotations, stories};

/// Steps that texts of three kinds take with each proposer.
pub(super) async fn proposers(tokenizer: &Tokenizer, draft: &mut Reader) -> Result<()> {
    let count = if quick() { 2 } else { 40 };
    let engine = Engine::builder(maitre::bundled())
        .speculate(Speculate::Off)
        .build()?;
    let kinds = [
        ("chats", chats(tokenizer, &engine, count).await?),
        ("stories", stories(tokenizer, &engine, count.min(8)).await?),
        ("quotations", quotations(tokenizer, count)?),
    ];
    let mut rows = Vec::new();
    for (name, cases) in &kinds {
        for (proposer, kind) in [
            ("n-gram", Some(HistoryKind::Ngram)),
            ("suffix", Some(HistoryKind::Suffix)),
            ("draft model", None),
        ] {
            let mut row = vec![(*name).to_owned(), proposer.to_owned()];
            for drafts in [2, 4, 8] {
                let (mut tokens, mut steps, mut proposed) = (0, 0, 0);
                for (prompt, answer) in cases {
                    let walk = match kind {
                        Some(kind) => {
                            Walk::of(&Replay::run(History::new(kind, prompt), answer, drafts))
                        }
                        None => Walk::of_model(draft, prompt, answer, drafts)?,
                    };
                    tokens += answer.len();
                    steps += walk.steps;
                    proposed += walk.proposed;
                }
                let accepted = (tokens - steps) as f64 / proposed.max(1) as f64;
                row.push(format!("{:.2}", tokens as f64 / steps.max(1) as f64));
                row.push(format!("{:.0} %", 100.0 * accepted));
            }
            rows.push(row);
        }
    }
    println!("  Greedy answers, tokens a step and the share of guesses that stood\n");
    let header = ["", "", "k = 2", "stood", "k = 4", "stood", "k = 8", "stood"];
    table::print(&header, &rows);
    Ok(())
}

/// In how many steps an answer came.
struct Walk {
    steps: usize,
    proposed: usize,
}

impl Walk {
    fn of(replay: &Replay) -> Self {
        Self {
            steps: replay.steps.len(),
            proposed: replay.steps.iter().map(|step| step.proposed).sum(),
        }
    }

    /// While its guesses are right the small model reads just this text. So one pass over the text tells what it
    /// would have guessed in any step.
    fn of_model(draft: &mut Reader, prompt: &[u32], answer: &[u32], drafts: usize) -> Result<Self> {
        let text = [prompt, &answer[..answer.len() - 1]].concat();
        draft.keep(0);
        let rows = draft.read(&text, answer.len())?;
        let (params, counts) = (greedy(), TokenCounts::default());
        let mut sampler = Sampler::new();
        let mut right = Vec::with_capacity(answer.len());
        for (row, token) in rows.iter().zip(answer) {
            right.push(sampler.choose(row, &params, &counts, 0, &[])? == *token);
        }
        let (mut walk, mut at) = (
            Self {
                steps: 0,
                proposed: 0,
            },
            0,
        );
        while at < answer.len() {
            let most = drafts.min(answer.len() - at - 1);
            let guesses = right[at..at + most].iter();
            at += 1 + guesses.take_while(|is_right| **is_right).count();
            walk.steps += 1;
            walk.proposed += most;
        }
        Ok(walk)
    }
}

fn greedy() -> SamplingParams {
    SamplingParams {
        temperature: 0.0,
        ..SamplingParams::default()
    }
}
