//! A tokenizer for models that have none: one token per byte.

use serde_json::{Map, Value, json};

use crate::{TextError, Tokenizer};

impl Tokenizer {
    /// A tokenizer whose ids 0 to 255 are the 256 bytes, in GPT-2's alphabet: for weights that are
    /// made up from a configuration alone, where no vocabulary means anything.
    ///
    /// # Errors
    /// None that can happen; the `tokenizers` library says so by a `Result`.
    pub fn of_bytes() -> Result<Self, TextError> {
        let vocabulary: Map<String, Value> = alphabet()
            .enumerate()
            .map(|(byte, character)| (character.to_string(), byte.into()))
            .collect();
        let byte_level = json!({
            "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false,
        });
        let tokenizer = json!({
            "added_tokens": [],
            "pre_tokenizer": byte_level,
            "decoder": byte_level,
            "model": {"type": "BPE", "vocab": vocabulary, "merges": []},
        });
        Self::from_bytes(tokenizer.to_string().as_bytes(), None, None)
    }
}

/// The character that stands for each byte, in the order of the bytes: printable Latin-1 stands for
/// itself, the other bytes for the characters from U+0100 on.
fn alphabet() -> impl Iterator<Item = char> {
    let mut next = 0x100_u32;
    (0..=u8::MAX).map(move |byte| {
        if matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff) {
            return char::from(byte);
        }
        next += 1;
        char::from_u32(next - 1).unwrap_or(char::REPLACEMENT_CHARACTER)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_is_its_bytes_and_comes_back() {
        let tokenizer = Tokenizer::of_bytes().unwrap();
        assert_eq!(tokenizer.num_tokens(), 256);
        for text in ["plain", "two words\n\t", "Grüße, 世界 🍽", "\u{0}\u{7f}"] {
            let ids = tokenizer.encode(text).unwrap();
            let bytes: Vec<u32> = text.bytes().map(u32::from).collect();
            assert_eq!(ids, bytes);
            assert_eq!(tokenizer.decode(&ids, true).unwrap(), text);
        }
    }
}
