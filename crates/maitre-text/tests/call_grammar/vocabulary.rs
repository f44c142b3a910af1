//! llguidance over a vocabulary of single bytes, with the special tokens that a test wants.

#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::sync::Arc;

use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie};
use llguidance::{Matcher, ParserFactory};
use maitre_text::{ReasoningFormat, ToolFormat};

/// A vocabulary of single bytes and special tokens.
pub(crate) struct Vocabulary {
    pub(crate) special: HashMap<String, u32>,
    factory: ParserFactory,
    pub(crate) end: u32,
}

impl Vocabulary {
    pub(crate) fn new(special: &[&str]) -> Self {
        let mut words: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
        let mut ids = HashMap::new();
        for &text in special {
            let id = u32::try_from(words.len()).unwrap();
            ids.entry(text.to_owned()).or_insert_with(|| {
                words.push([&[TokTrie::SPECIAL_TOKEN_MARKER], text.as_bytes()].concat());
                id
            });
        }
        let end = u32::try_from(words.len()).unwrap();
        words.push(b"\xFF<|the end|>".to_vec());
        let trie = TokTrie::from(&TokRxInfo::new(end + 1, end), &words);
        let env: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        assert_eq!(env.tok_trie().vocab_size(), words.len());
        let mut factory = ParserFactory::new_simple(&env).unwrap();
        factory.quiet();
        Self {
            special: ids,
            factory,
            end,
        }
    }

    /// One that has the format's special tokens, or lacks them all.
    pub(crate) fn of(format: &ToolFormat, reasoning: &ReasoningFormat, special: bool) -> Self {
        let tokens = format.special_tokens.iter().chain(reasoning.special_tokens);
        let tokens: Vec<&str> = tokens.copied().filter(|_| special).collect();
        Self::new(&tokens)
    }

    pub(crate) fn tokens(&self, mut text: &str) -> Vec<u32> {
        let mut tokens = Vec::new();
        while let Some(&first) = text.as_bytes().first() {
            let known = self
                .special
                .iter()
                .filter(|(token, _)| text.starts_with(token.as_str()));
            match known.max_by_key(|(token, _)| token.len()) {
                Some((token, &id)) => {
                    tokens.push(id);
                    text = &text[token.len()..];
                }
                None => {
                    tokens.push(u32::from(first));
                    // Bytes of a character follow one by one.
                    let length = text.chars().next().unwrap().len_utf8();
                    tokens.extend(
                        text.as_bytes()[1..length]
                            .iter()
                            .map(|&byte| u32::from(byte)),
                    );
                    text = &text[length..];
                }
            }
        }
        tokens
    }

    pub(crate) fn text(&self, tokens: &[u32]) -> String {
        let mut bytes = Vec::new();
        for &token in tokens {
            match u8::try_from(token) {
                Ok(byte) => bytes.push(byte),
                Err(_) => {
                    let (text, _) = self.special.iter().find(|&(_, &id)| id == token).unwrap();
                    bytes.extend(text.as_bytes());
                }
            }
        }
        String::from_utf8(bytes).unwrap()
    }

    pub(crate) fn matcher(&self, grammar: &str) -> Matcher {
        let parser = self
            .factory
            .create_parser(TopLevelGrammar::from_lark(grammar.to_owned()));
        let matcher = Matcher::new(parser);
        assert!(!matcher.is_error(), "{:?}\n{grammar}", matcher.get_error());
        matcher
    }

    pub(crate) fn accepts(&self, grammar: &str, text: &str) -> bool {
        let mut matcher = self.matcher(grammar);
        for token in self.tokens(text) {
            if matcher.is_stopped() || !matcher.compute_mask().unwrap().is_allowed(token) {
                return false;
            }
            matcher.consume_token(token).unwrap();
        }
        matcher.is_accepting().unwrap()
    }
}
