//! Where in the returned text each token begins, in characters.
//!
//! A token's own text does not say: special tokens are left out of what is returned, a character may be written in
//! several tokens, and a tokenizer may drop the space in front of a text. So the tokens are read as the answer's text
//! was made of them.

use maitre_engine::{Detokenizer, Engine};

/// What reads the tokens of one answer.
#[derive(Debug, Clone)]
pub(super) struct Offsets {
    detokenizer: Detokenizer,
    /// Characters so far, without those that are held back.
    characters: usize,
}

impl Offsets {
    /// At the beginning of a prompt, whose own text is returned.
    pub(super) fn of_prompt(engine: &Engine, skip_special: bool) -> Self {
        Self {
            detokenizer: Detokenizer::new(engine.tokenizer().clone(), skip_special),
            characters: 0,
        }
    }

    /// Behind `prompt`, whose text is returned in front of the answer if `is_shown`.
    pub(super) fn after_prompt(
        engine: &Engine,
        skip_special: bool,
        prompt: &[u32],
        is_shown: bool,
    ) -> Self {
        let tokenizer = engine.tokenizer().clone();
        let (detokenizer, text) = Detokenizer::with_prompt(tokenizer, skip_special, prompt);
        Self {
            detokenizer,
            characters: if is_shown { text.chars().count() } else { 0 },
        }
    }

    /// Takes the next token: where it begins. One that goes on with a character begins where the character does.
    pub(super) fn next(&mut self, id: u32) -> usize {
        let begins = self.characters + self.detokenizer.held().chars().count();
        self.characters += self.detokenizer.push(id).chars().count();
        begins
    }
}
