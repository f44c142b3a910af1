//! Files of prompts for `maitre bench --prompts`, one for each kind:
//! `cargo run --release --package maitre-benches --example prompts -- FOLDER [COUNT]`.
//!
//! - `chat`: the bundled held-out dialogues up to the point where the assistant speaks next, control tokens included;
//! - `quote`, `edit`, `summary`: questions about passages of them whose answers repeat the passage;
//! - `random`: words of them in no order.
#![allow(clippy::print_stdout, reason = "a command-line tool talks on stdout")]

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use maitre_benches::repeats::{Repeat, dialogues};
use maitre_benches::texts;
use serde_json::json;

/// Prompts in a file when their number is not given.
const COUNT: usize = 512;
/// Words of a random prompt.
const WORDS: usize = 48;

/// A dialogue up to one of the assistant's turns; which one differs from dialogue to dialogue.
fn chats() -> Vec<String> {
    let opening = "<|im_start|>assistant\n";
    let dialogues = maitre_bundled::HELDOUT.split("<|endoftext|>");
    dialogues
        .enumerate()
        .filter_map(|(index, dialogue)| {
            let turns: Vec<usize> = dialogue.match_indices(opening).map(|(at, _)| at).collect();
            let at = *turns.get(index % turns.len().max(1))?;
            Some(dialogue[..at + opening.len()].to_owned())
        })
        .collect()
}

/// What the model is asked to repeat, as a chat.
fn repeating(repeat: Repeat) -> Vec<String> {
    let passages = dialogues();
    let chat = |passage: &String| {
        let (question, _) = repeat.ask(passage);
        format!("<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n")
    };
    passages.iter().map(chat).collect()
}

fn random(count: usize) -> Vec<String> {
    let text = dialogues().join(" ");
    let words: Vec<&str> = text.split_whitespace().collect();
    let drawn: Vec<&str> = texts::random(3)
        .take(count * WORDS)
        .map(|bits| words[bits as usize % words.len()])
        .collect();
    drawn.chunks(WORDS).map(|words| words.join(" ")).collect()
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let folder: PathBuf = arguments.next().context("name a folder")?.into();
    let count = match arguments.next() {
        Some(given) => given
            .parse()
            .with_context(|| format!("`{given}` is no number of prompts"))?,
        None => COUNT,
    };
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let mut kinds = vec![("chat", chats()), ("random", random(count))];
    kinds.extend(Repeat::ALL.map(|repeat| (repeat.name(), repeating(repeat))));
    for (kind, prompts) in kinds {
        let path = folder.join(format!("{kind}.jsonl"));
        let prompts = prompts.iter().take(count);
        let lines: String = prompts
            .map(|prompt| format!("{}\n", json!({"kind": kind, "prompt": prompt})))
            .collect();
        fs::write(&path, &lines).with_context(|| format!("writing {}", path.display()))?;
        println!("{}: {} prompts", path.display(), lines.lines().count());
    }
    Ok(())
}
