//! Token ids to text, one token at a time.
//!
//! The contract: what all calls return, end to end, is what [`Tokenizer::decode`] returns for all
//! ids at once. (It holds by construction, `decode` being this very code; that both equal the
//! tokenizers library is what the tests check.) No call returns part of a character, and each costs
//! O(length of the token), whatever came before: nothing is ever decoded twice.

use std::sync::Arc;

use crate::byte_run::{ByteRun, Utf8Stream};
use crate::decoding::Piece;
use crate::tokenizer::Tokenizer;
use crate::vocabulary::{Entry, Joint};

/// Incremental detokenizer for one sequence.
///
/// At most three bytes of an unfinished character are held back with a byte-level tokenizer, and at
/// most 32 bytes of a run of byte tokens with one that has byte fallback. Ids outside the vocabulary
/// decode to nothing.
#[derive(Debug, Clone)]
pub struct Detokenizer {
    tokenizer: Tokenizer,
    skip_special: bool,
    /// Special tokens that are not skipped, sorted.
    kept: Arc<[u32]>,
    started: bool,
    stream: Utf8Stream,
    run: ByteRun,
    ends: StripEnds,
    /// Memory to work in.
    text: String,
}

impl Detokenizer {
    /// Starts a text. `skip_special`: special tokens (end of turn, …) contribute nothing.
    pub fn new(tokenizer: Tokenizer, skip_special: bool) -> Self {
        let ends = StripEnds::new(tokenizer.decoding().strip());
        Self {
            tokenizer,
            skip_special,
            kept: Arc::default(),
            started: false,
            stream: Utf8Stream::default(),
            run: ByteRun::default(),
            ends,
            text: String::new(),
        }
    }

    /// Special tokens that are shown even where others are skipped: the marks that a parser of answers looks for.
    #[must_use]
    pub fn keep(mut self, mut ids: Vec<u32>) -> Self {
        ids.sort_unstable();
        self.kept = ids.into();
        self
    }

    /// Goes on after `prompt`, without the text that is certain after its last token. This matters at the
    /// seam: tokenizers in SentencePiece's manner drop the space before the first word of a text, and a
    /// completion's first word is not the first of its text.
    pub fn after_prompt(tokenizer: Tokenizer, skip_special: bool, prompt: &[u32]) -> Self {
        let mut detokenizer = Self::new(tokenizer, skip_special);
        let mut shown = String::new();
        for &id in prompt {
            detokenizer.push_into(id, &mut shown);
            shown.clear();
        }
        detokenizer
    }

    /// Goes on after `prompt`, whose own text is returned beside it: each of its characters, once. A
    /// character that the prompt leaves unfinished is not part of that text; it comes with what follows.
    ///
    /// Unlike after [`after_prompt`](Self::after_prompt), no complete character of the prompt is held back:
    /// not the line break that a tokenizer with byte fallback writes as a byte token, which the next byte
    /// token could still make invalid.
    ///
    /// One pass over the prompt; clones of what is returned serve all answers to it.
    pub fn with_prompt(tokenizer: Tokenizer, skip_special: bool, prompt: &[u32]) -> (Self, String) {
        let mut detokenizer = Self::new(tokenizer, skip_special);
        let mut text = String::new();
        for &id in prompt {
            detokenizer.push_into(id, &mut text);
        }
        detokenizer.show_complete(&mut text);
        (detokenizer, text)
    }

    /// Bytes of text that are held back though its characters are complete: with byte fallback, a byte token
    /// that follows may still make them invalid; and some decoders cut characters off the end of a text.
    pub fn held_bytes(&self) -> usize {
        self.held().len()
    }

    /// The text that is held back though its characters are complete.
    pub fn held(&self) -> String {
        let mut held = String::new();
        self.clone().show_complete(&mut held);
        held
    }

    /// The tokenizer whose ids it takes.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Takes the next token and returns the text that is certain now, often empty.
    pub fn push(&mut self, id: u32) -> String {
        let mut out = String::new();
        self.push_into(id, &mut out);
        out
    }

    /// The sequence is complete: returns what was held back, and starts a new text.
    pub fn finish(&mut self) -> String {
        let mut rest = String::new();
        self.finish_run(&mut rest);
        self.stream.finish(&mut rest);
        let mut out = String::new();
        self.ends.push(&rest, &mut out);
        let kept = self.kept.clone();
        *self = Self::new(self.tokenizer.clone(), self.skip_special);
        self.kept = kept;
        out
    }

    /// [`push`](Self::push), appending to `out`. Allocates nothing once the memory it works in has its size, but for
    /// runs of byte tokens.
    pub fn push_into(&mut self, id: u32, out: &mut String) {
        let tokenizer = self.tokenizer.clone();
        let skips = |entry: &Entry<'_>| {
            self.skip_special && entry.special && self.kept.binary_search(&id).is_err()
        };
        let Some(entry) = tokenizer.entry(id).filter(|entry| !skips(entry)) else {
            return;
        };
        let first = !std::mem::replace(&mut self.started, true);
        let decoding = tokenizer.decoding();
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        if decoding.joined_by_space && !first {
            text.push(' ');
        }
        if first && decoding.first_token_differs() {
            self.push_piece(tokenizer.first_piece(id), &mut text);
        } else {
            self.push_entry(entry, &mut text);
        }
        self.ends.push(&text, out);
        self.text = text;
    }

    fn push_entry(&mut self, entry: Entry<'_>, text: &mut String) {
        match entry.joint {
            Joint::Stream => self.stream.push(entry.bytes, text),
            Joint::Byte => self.push_byte(entry.bytes.first().copied().unwrap_or_default(), text),
            Joint::Text => {
                self.finish_run(text);
                text.push_str(std::str::from_utf8(entry.bytes).unwrap_or_default());
            }
        }
    }

    fn push_piece(&mut self, piece: Piece, text: &mut String) {
        match piece {
            Piece::Text(piece) => text.push_str(&piece),
            Piece::Stream(bytes) => self.stream.push(&bytes, text),
            Piece::Byte(byte) => self.push_byte(byte, text),
        }
    }

    fn push_byte(&mut self, byte: u8, text: &mut String) {
        let mut shown = String::new();
        self.run.push(byte, &mut shown);
        self.show_run(shown, text);
    }

    fn finish_run(&mut self, text: &mut String) {
        let mut shown = String::new();
        self.run.finish(&mut shown);
        self.show_run(shown, text);
    }

    /// Shows every complete character that is held back.
    fn show_complete(&mut self, out: &mut String) {
        let mut shown = String::new();
        self.run.show_complete(&mut shown);
        let mut text = String::new();
        self.show_run(shown, &mut text);
        self.ends.push(&text, out);
        self.ends.show_held(out);
    }

    fn show_run(&self, shown: String, text: &mut String) {
        if !shown.is_empty() {
            text.push_str(&self.tokenizer.decoding().after_bytes(shown, false));
        }
    }
}

/// Cuts a few equal characters off the two ends of a text that arrives piece by piece.
#[derive(Debug, Clone)]
struct StripEnds {
    content: char,
    /// So many may still be cut off in front.
    front: usize,
    /// At most so many are cut off behind; they are held back until something follows.
    behind: usize,
    held: usize,
}

impl StripEnds {
    fn new(strip: Option<(char, usize, usize)>) -> Self {
        let (content, front, behind) = strip.unwrap_or((' ', 0, 0));
        Self {
            content,
            front,
            behind,
            held: 0,
        }
    }

    fn push(&mut self, mut text: &str, out: &mut String) {
        while self.front > 0 && !text.is_empty() {
            match text.strip_prefix(self.content) {
                Some(rest) => (text, self.front) = (rest, self.front - 1),
                None => self.front = 0,
            }
        }
        if text.is_empty() {
            return;
        }
        let kept = text.trim_end_matches(self.content);
        let trailing = text[kept.len()..].chars().count();
        if !kept.is_empty() {
            self.show_held(out);
            out.push_str(kept);
        }
        let waiting = self.held + trailing;
        self.held = waiting.min(self.behind);
        out.extend(std::iter::repeat_n(self.content, waiting - self.held));
    }

    /// What is held back is followed by more text.
    fn show_held(&mut self, out: &mut String) {
        out.extend(std::iter::repeat_n(
            self.content,
            std::mem::take(&mut self.held),
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strip(ends: (char, usize, usize), pieces: &[&str]) -> String {
        let mut strip = StripEnds::new(Some(ends));
        let mut out = String::new();
        pieces.iter().for_each(|piece| strip.push(piece, &mut out));
        out
    }

    #[test]
    fn ends_are_stripped_across_pieces() {
        for (ends, pieces, expected) in [
            ((' ', 1, 0), &[" ", " a "][..], " a "),
            ((' ', 1, 0), &["", "a", " b"], "a b"),
            ((' ', 2, 0), &[" ", " ", " x"], " x"),
            ((' ', 0, 1), &["a ", " ", "b  "], "a  b "),
            ((' ', 0, 2), &["a ", " ", " "], "a "),
            ((' ', 1, 1), &[" a", " "], "a"),
            ((' ', 0, 0), &[" a "], " a "),
        ] {
            assert_eq!(strip(ends, pieces), expected, "{ends:?} {pieces:?}");
        }
    }
}
