//! How a tokenizer's decoder turns token strings into text, in a form that can run one token at a
//! time.
//!
//! The tokenizers library decodes whole sequences: a list of decoders, each mapping the list of
//! token strings to another. Read closely, all that generative models use fall into three stages,
//! and this module sorts a decoder into them once, when the tokenizer is loaded:
//!
//! 1. per token: `Replace`, `Strip`, `Metaspace`: applied to every token on its own (`Metaspace`
//!    treats the first token of a text differently);
//! 2. bytes: `ByteLevel` (every token is bytes written in an alphabet of 256 characters) or
//!    `ByteFallback` (some tokens, written `<0x41>`, are single bytes; runs of them form text);
//! 3. the whole text: `Strip` after `Fuse` or `ByteLevel`.
//!
//! A decoder that does not fit is refused with its name.

use tokenizers::decoders::DecoderWrapper;
use tokenizers::decoders::strip::Strip;
use tokenizers::tokenizer::Decoder;

use crate::TextError;

/// The three stages of a decoder.
#[derive(Debug, Default)]
pub(crate) struct Decoding {
    per_token: Vec<DecoderWrapper>,
    bytes: Bytes,
    whole_text: Option<Strip>,
    /// A tokenizer without a decoder joins its tokens with spaces.
    pub(crate) joined_by_space: bool,
}

/// Where a tokenizer keeps the bytes that are no text on their own.
#[derive(Debug, Default)]
enum Bytes {
    /// Nowhere: tokens are text.
    #[default]
    Never,
    /// Every token is bytes in GPT-2's alphabet (`bytes_to_unicode` in the GPT-2 code).
    ByteLevel,
    /// Tokens `<0x00>` … `<0xFF>` are bytes; what follows applies to the text of a run of them.
    Fallback { then: Vec<DecoderWrapper> },
}

/// What one token contributes to a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    /// Text, whatever stands beside it.
    Text(String),
    /// Bytes of a UTF-8 stream; characters may begin and end in other tokens.
    Stream(Vec<u8>),
    /// One byte of a run of byte tokens.
    Byte(u8),
}

impl Decoding {
    pub(crate) fn new(decoder: Option<&DecoderWrapper>) -> Result<Self, TextError> {
        let mut decoding = Self {
            joined_by_space: decoder.is_none(),
            ..Self::default()
        };
        let mut fused = false;
        for step in decoder.map(flatten).unwrap_or_default() {
            match step {
                DecoderWrapper::Strip(strip) if fused && decoding.whole_text.is_none() => {
                    decoding.whole_text = Some(strip);
                }
                DecoderWrapper::Fuse(_) if decoding.whole_text.is_none() => fused = true,
                DecoderWrapper::ByteLevel(_)
                    if !fused && matches!(decoding.bytes, Bytes::Never) =>
                {
                    decoding.bytes = Bytes::ByteLevel;
                    fused = true;
                }
                DecoderWrapper::ByteFallback(_)
                    if !fused && matches!(decoding.bytes, Bytes::Never) =>
                {
                    decoding.bytes = Bytes::Fallback { then: Vec::new() };
                }
                DecoderWrapper::Replace(_)
                | DecoderWrapper::Strip(_)
                | DecoderWrapper::Metaspace(_)
                    if !fused =>
                {
                    decoding.per_token_stage().push(step);
                }
                other => {
                    return Err(TextError::UnsupportedDecoder {
                        decoder: type_name(&other),
                    });
                }
            }
        }
        Ok(decoding)
    }

    /// The decoders that see every token: before `ByteFallback` until it appears, after it then.
    fn per_token_stage(&mut self) -> &mut Vec<DecoderWrapper> {
        match &mut self.bytes {
            Bytes::Fallback { then } => then,
            _ => &mut self.per_token,
        }
    }

    /// What the token string `token` contributes; `first` if no token stands before it.
    pub(crate) fn piece(&self, token: &str, first: bool) -> Piece {
        let text = apply(&self.per_token, token.to_owned(), first);
        match &self.bytes {
            Bytes::Never => Piece::Text(text),
            Bytes::ByteLevel => Piece::Stream(byte_level_bytes(&text)),
            Bytes::Fallback { then } => match fallback_byte(&text) {
                Some(byte) => Piece::Byte(byte),
                None => Piece::Text(apply(then, text, first)),
            },
        }
    }

    /// The text that a run of byte tokens contributes once its bytes are decoded.
    pub(crate) fn after_bytes(&self, text: String, first: bool) -> String {
        match &self.bytes {
            Bytes::Fallback { then } if !then.is_empty() => apply(then, text, first),
            _ => text,
        }
    }

    /// Whether [`piece`](Self::piece) depends on `first`.
    pub(crate) fn first_token_differs(&self) -> bool {
        let then = match &self.bytes {
            Bytes::Fallback { then } => then.as_slice(),
            _ => &[],
        };
        self.per_token
            .iter()
            .chain(then)
            .any(|step| matches!(step, DecoderWrapper::Metaspace(_)))
    }

    /// What is cut off the ends of the whole text: (character, at most so many in front, behind).
    pub(crate) fn strip(&self) -> Option<(char, usize, usize)> {
        self.whole_text
            .as_ref()
            .map(|strip| (strip.content, strip.start, strip.stop))
    }
}

fn flatten(decoder: &DecoderWrapper) -> Vec<DecoderWrapper> {
    match decoder {
        DecoderWrapper::Sequence(sequence) => {
            sequence.get_decoders().iter().flat_map(flatten).collect()
        }
        other => vec![other.clone()],
    }
}

/// Runs per-token decoders. The library's decoders see a list and look at a token's index in it,
/// so a later token is given as the second of two. A decoder that fails leaves the token as it is.
fn apply(steps: &[DecoderWrapper], token: String, first: bool) -> String {
    steps.iter().fold(token, |token, step| {
        let mut list = if first {
            Vec::new()
        } else {
            vec![PLACEHOLDER.to_owned()]
        };
        list.push(token.clone());
        step.decode_chain(list)
            .ok()
            .and_then(|mut list| list.pop())
            .unwrap_or(token)
    })
}

/// Stands before a later token in [`apply`]. Longer than any `Strip`, which needs as many characters.
const PLACEHOLDER: &str = "................";

/// `<0x41>` → `0x41`, as the library's `ByteFallback` reads it.
fn fallback_byte(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    (digits.len() == 2)
        .then(|| u8::from_str_radix(digits, 16).ok())
        .flatten()
}

/// Undoes GPT-2's byte alphabet. A token with a character outside it (an added token with a space,
/// say) stands for its own UTF-8 bytes.
fn byte_level_bytes(token: &str) -> Vec<u8> {
    token
        .chars()
        .map(byte_level_byte)
        .collect::<Option<Vec<u8>>>()
        .unwrap_or_else(|| token.as_bytes().to_vec())
}

/// The alphabet: printable Latin-1 stands for itself; the other 68 bytes, in order, are U+0100…U+0143.
fn byte_level_byte(c: char) -> Option<u8> {
    match u32::from(c) {
        code @ (0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff) => u8::try_from(code).ok(),
        code @ 0x100..=0x120 => u8::try_from(code - 0x100).ok(), // 0x00…0x20
        code @ 0x121..=0x142 => u8::try_from(code - 0x121 + 0x7f).ok(), // 0x7f…0xa0
        0x143 => Some(0xad),
        _ => None,
    }
}

fn type_name(decoder: &DecoderWrapper) -> String {
    serde_json::to_value(decoder)
        .ok()
        .and_then(|value| value.get("type")?.as_str().map(str::to_owned))
        .unwrap_or_else(|| "of an unknown type".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoding(json: &str) -> Result<Decoding, TextError> {
        Decoding::new(Some(&serde_json::from_str(json).unwrap()))
    }

    #[test]
    fn the_byte_alphabet_is_a_bijection() {
        let mut seen: Vec<u8> = (0..0x200)
            .filter_map(char::from_u32)
            .filter_map(byte_level_byte)
            .collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..=255).collect::<Vec<u8>>());
        assert_eq!(byte_level_bytes("Ġhé"), [b' ', b'h', 0xe9]);
        assert_eq!(byte_level_bytes("a b"), b"a b");
    }

    #[test]
    fn a_sentencepiece_decoder_falls_into_its_stages() {
        let decoding = decoding(
            r#"{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"▁"},"content":" "},
                {"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]}"#,
        )
        .unwrap();
        assert_eq!(decoding.piece("▁the", true), Piece::Text(" the".into()));
        assert_eq!(decoding.piece("<0x0A>", false), Piece::Byte(10));
        assert_eq!(
            decoding.piece("<0xZZ>", false),
            Piece::Text("<0xZZ>".into())
        );
        assert_eq!(decoding.strip(), Some((' ', 1, 0)));
        assert!(!decoding.first_token_differs());
    }

    #[test]
    fn metaspace_drops_the_first_tokens_space_only() {
        let decoding = decoding(
            r#"{"type":"Metaspace","replacement":"▁","prepend_scheme":"always","split":true}"#,
        )
        .unwrap();
        assert_eq!(decoding.piece("▁the", true), Piece::Text("the".into()));
        assert_eq!(decoding.piece("▁the", false), Piece::Text(" the".into()));
        assert!(decoding.first_token_differs());
    }

    #[test]
    fn what_cannot_be_streamed_is_refused_by_name() {
        for (json, name) in [
            (
                r#"{"type":"WordPiece","prefix":"x","cleanup":true}"#,
                "WordPiece",
            ),
            (r#"{"type":"BPEDecoder","suffix":"</w>"}"#, "BPEDecoder"),
            (
                r#"{"type":"Sequence","decoders":[{"type":"Fuse"},{"type":"ByteFallback"}]}"#,
                "ByteFallback",
            ),
        ] {
            match decoding(json) {
                Err(TextError::UnsupportedDecoder { decoder }) => assert_eq!(decoder, name),
                other => panic!("{json}: {other:?}"),
            }
        }
    }
}
