//! Questions whose answers repeat them: a passage is quoted, edited, or shortened to some of its sentences.
//!
//! The passages are real text, the bundled held-out dialogues or poems; what is asked of them and the answers are
//! made from them by rule, the same each time.

use std::path::Path;

use anyhow::{Context, Result};

use crate::texts;

/// Characters of a passage, at least; one more dialogue or poem is added until it has them.
const PASSAGE: usize = 400;
/// One word in so many is changed.
const EVERY: u64 = 20;

/// How an answer repeats a passage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// Word by word.
    Quote,
    /// With about one word in twenty changed.
    Edit,
    /// Every second sentence of it.
    Summary,
}

impl Repeat {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Quote, Self::Edit, Self::Summary];

    /// How reports call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Quote => "quote",
            Self::Edit => "edit",
            Self::Summary => "summary",
        }
    }

    /// A question about a passage and its answer.
    #[must_use]
    pub fn ask(self, passage: &str) -> (String, String) {
        let request = match self {
            Self::Quote => "Please repeat this text:",
            Self::Edit => "Please correct the mistakes in this text:",
            Self::Summary => "Please tell me the most important sentences of this text:",
        };
        let answer = match self {
            Self::Quote => passage.to_owned(),
            Self::Edit => edited(passage),
            Self::Summary => every_second_sentence(passage),
        };
        (format!("{request}\n\n{passage}\n\nAnswer:\n\n"), answer)
    }
}

/// About one word in twenty is another one of the passage's words, everything else as it was.
fn edited(passage: &str) -> String {
    let words: Vec<&str> = passage.split_whitespace().collect();
    let mut chances = texts::random(11);
    let pieces = passage.split_inclusive(char::is_whitespace).map(|piece| {
        let word = piece.trim_end();
        let bits = chances.next().unwrap_or(0);
        if word.is_empty() || !bits.is_multiple_of(EVERY) {
            return piece.to_owned();
        }
        let other = words[(bits >> 32) as usize % words.len()];
        piece.replacen(word, other, 1)
    });
    pieces.collect()
}

fn every_second_sentence(passage: &str) -> String {
    let ends = ['.', '?', '!', '\n'];
    let sentences = passage.split_inclusive(ends).map(str::trim);
    // A full stop at the end of a line leaves an empty sentence behind.
    let real = sentences.filter(|sentence| sentence.chars().any(char::is_alphabetic));
    real.step_by(2).collect::<Vec<_>>().join(" ")
}

/// Passages of the bundled held-out dialogues.
#[must_use]
pub fn dialogues() -> Vec<String> {
    let dialogues = maitre_bundled::HELDOUT.split("<|endoftext|>");
    grouped(dialogues.map(|dialogue| {
        let spoken = dialogue.replace("<|im_start|>user\n", "Guest: ");
        let spoken = spoken.replace("<|im_start|>assistant\n", "Waiter: ");
        spoken.replace("<|im_end|>", "").trim().to_owned()
    }))
}

/// Passages of the poems in the folder of test data.
///
/// # Errors
///
/// If they can't be read.
pub fn poems(data: &Path) -> Result<Vec<String>> {
    let path = data.join("prompts/sonnet.txt");
    let text =
        std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let lines: Vec<&str> = text.lines().collect();
    Ok(grouped(lines.chunks(14).map(|poem| poem.join("\n"))))
}

fn grouped(texts: impl Iterator<Item = String>) -> Vec<String> {
    let mut passages = Vec::new();
    let mut passage = String::new();
    for text in texts {
        if !passage.is_empty() {
            passage.push_str("\n\n");
        }
        passage.push_str(&text);
        if passage.len() >= PASSAGE {
            passages.push(std::mem::take(&mut passage));
        }
    }
    passages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_made_of_what_was_asked_about() {
        let passages = dialogues();
        assert!(passages.len() > 100, "{}", passages.len());
        let (mut words, mut changed) = (0, 0);
        for passage in &passages {
            assert!(passage.len() >= PASSAGE && !passage.contains("<|"));
            let (prompt, quote) = Repeat::Quote.ask(passage);
            assert!(prompt.contains(passage) && quote == *passage);
            let (_, edit) = Repeat::Edit.ask(passage);
            let pairs = passage.split_whitespace().zip(edit.split_whitespace());
            changed += pairs.clone().filter(|(word, other)| word != other).count();
            words += pairs.count();
            let (_, summary) = Repeat::Summary.ask(passage);
            assert!(summary.len() < passage.len() && !summary.is_empty());
            let first: String = summary.chars().take(8).collect();
            assert!(passage.starts_with(&first), "{first}");
        }
        let share = changed as f64 / words as f64;
        assert!((0.035..0.055).contains(&share), "{share}");
    }
}
