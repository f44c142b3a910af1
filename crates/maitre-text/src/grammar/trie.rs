//! The trie of a vocabulary: every token under the bytes that it stands for in a text.
//!
//! A special token stands for no text, and a control token such as `<tool_call>` for more than its text. So no grammar reaches it by accident: it lies under the byte 0xFF and its name,
//! which no UTF-8 text has, and a grammar has to ask for it by name (`<|name|>`) or by number (`<[7]>`).

use llguidance::toktrie::{INVALID_TOKEN, TokEnv, TokRxInfo, TokTrie, TokenId, TokenizerEnv};
use std::sync::Arc;

use super::GrammarError;
use crate::Tokenizer;

/// Texts that a tokenizer has to take apart and put together again, if its tokens shall be forced.
const PROBES: [&str; 6] = ["{\"a\": 1}", "name", " name", "\":", "0.5", "</x>\n"];
/// Stands before a text, so that the text is not the first of its kind.
const ANCHOR: &str = "\u{2}";

/// A tokenizer and its trie, as the library wants them.
struct Environment {
    trie: TokTrie,
    tokenizer: Tokenizer,
    is_canonical: bool,
}

/// The tokens of a model: those below `vocab_size`, of which `eos` end an answer.
///
/// # Errors
/// A tokenizer that joins its tokens by spaces: no token has bytes of its own.
pub(super) fn environment(
    tokenizer: &Tokenizer,
    vocab_size: usize,
    eos: &[u32],
) -> Result<TokEnv, GrammarError> {
    if tokenizer.decoding().joined_by_space {
        return Err(GrammarError::Tokenizer {
            reason:
                "its tokenizer has no decoder, so the text of a token depends on its neighbours"
                    .to_owned(),
        });
    }
    let eos: Vec<u32> = in_vocabulary(eos, vocab_size);
    let size = u32::try_from(vocab_size).unwrap_or(u32::MAX);
    let words: Vec<Vec<u8>> = (0..size).map(|id| word(tokenizer, id, &eos)).collect();
    let info = TokRxInfo::new(size, eos.first().copied().unwrap_or(INVALID_TOKEN));
    let mut trie = TokTrie::from(&info, &words);
    if !eos.is_empty() {
        trie = trie.with_eos_tokens(&eos);
    }
    let mut environment = Environment {
        trie,
        tokenizer: tokenizer.clone(),
        is_canonical: false,
    };
    environment.is_canonical = PROBES
        .iter()
        .all(|probe| environment.tokens_of(probe).is_some());
    Ok(Arc::new(environment))
}

fn in_vocabulary(ids: &[u32], vocab_size: usize) -> Vec<u32> {
    let ids = ids.iter().copied();
    ids.filter(|&id| (id as usize) < vocab_size).collect()
}

/// Where a token lies in the trie: nowhere, if it has no text.
fn word(tokenizer: &Tokenizer, id: u32, eos: &[u32]) -> Vec<u8> {
    let Some(bytes) = tokenizer.token_bytes(id) else {
        return Vec::new();
    };
    if tokenizer.is_special(id) || eos.contains(&id) || is_control(tokenizer, id, bytes) {
        return [&[TokTrie::SPECIAL_TOKEN_MARKER], bytes].concat();
    }
    bytes.to_vec()
}

/// Whether an added token is written as a tag is: it controls something, though it may not be a special token.
pub(super) fn is_control(tokenizer: &Tokenizer, id: u32, bytes: &[u8]) -> bool {
    let is_tag = matches!(bytes, [b'<', .., b'>'] | [b'[', .., b']']);
    is_tag && tokenizer.is_added(id)
}

impl Environment {
    /// The tokenizer's own tokens for `text`, if their bytes are those of the text.
    fn tokens_of(&self, text: &str) -> Option<Vec<TokenId>> {
        let is_exact = |tokens: &[TokenId], bytes: &[u8]| self.trie.decode_raw(tokens) == bytes;
        let plain = self.tokenizer.encode_plain(text).ok()?;
        if is_exact(&plain, text.as_bytes()) {
            return Some(plain);
        }
        // A tokenizer in SentencePiece's manner puts a space before a text: hide it before a character in front.
        let anchored = self.tokenizer.encode_plain(&format!("{ANCHOR}{text}"));
        let mut tokens = anchored.ok()?;
        while !tokens.is_empty() {
            tokens.remove(0);
            if is_exact(&tokens, text.as_bytes()) {
                return Some(tokens);
            }
        }
        None
    }
}

impl TokenizerEnv for Environment {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        let own = |text: &str| {
            let tokens = self.tokens_of(text);
            tokens.unwrap_or_else(|| self.trie.greedy_tokenize(text.as_bytes()))
        };
        self.trie.tokenize_with_greedy_fallback(bytes, own)
    }

    fn tokenize_is_canonical(&self) -> bool {
        self.is_canonical
    }
}
