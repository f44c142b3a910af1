//! What every token id stands for, worked out once when the tokenizer is loaded, so that
//! detokenizing a token is one table look-up and touches no hash map and no allocator.
//!
//! Layout: the bytes of all tokens end to end in one arena, and per id where its bytes end and
//! four flags. 150,000 tokens take about 2 MB.

use tokenizers::Tokenizer as Library;

use crate::TextError;
use crate::decoding::{Decoding, Piece};

/// The largest token id that is accepted. The table has a row per id, so one absurd id in a file
/// would otherwise decide how much memory is taken.
const MAX_TOKEN_ID: u32 = (1 << 24) - 1;

const PRESENT: u8 = 1;
const SPECIAL: u8 = 2;
const STREAM: u8 = 4;
const BYTE: u8 = 8;

/// The table.
#[derive(Debug)]
pub(crate) struct Vocabulary {
    arena: Vec<u8>,
    /// Row `id` covers `arena[ends[id - 1]..ends[id]]`.
    ends: Vec<usize>,
    flags: Vec<u8>,
}

/// One token's row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry<'a> {
    /// The token's bytes in a text, when it is not the first one.
    pub(crate) bytes: &'a [u8],
    /// Whether `skip_special_tokens` leaves it out.
    pub(crate) special: bool,
    /// How its bytes join those of its neighbours.
    pub(crate) joint: Joint,
}

/// How a token's bytes join those of its neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Joint {
    /// Complete text.
    Text,
    /// Part of a byte stream.
    Stream,
    /// One byte of a run of byte tokens.
    Byte,
}

impl Vocabulary {
    pub(crate) fn new(library: &Library, decoding: &Decoding) -> Result<Self, TextError> {
        let added = library.get_added_vocabulary();
        let largest = library
            .get_vocab(false)
            .into_values()
            .chain(added.get_added_tokens_decoder().keys().copied())
            .max()
            .ok_or_else(|| TextError::InvalidTokenizer {
                reason: "the vocabulary is empty".into(),
            })?;
        if largest > MAX_TOKEN_ID {
            let reason =
                format!("token id {largest} is larger than the largest accepted, {MAX_TOKEN_ID}");
            return Err(TextError::InvalidTokenizer { reason });
        }
        let mut vocabulary = Self {
            arena: Vec::new(),
            ends: Vec::new(),
            flags: Vec::new(),
        };
        for id in 0..=largest {
            // As in decoding: an added token that the normalizer changes is decoded from its normalized form.
            let token = added
                .simple_id_to_token(id)
                .or_else(|| library.id_to_token(id));
            let special = token
                .as_deref()
                .is_some_and(|token| added.is_special_token(token));
            vocabulary.push(token.map(|token| decoding.piece(&token, false)), special);
        }
        Ok(vocabulary)
    }

    fn push(&mut self, piece: Option<Piece>, special: bool) {
        let mut flags = if special { SPECIAL } else { 0 };
        match piece {
            None => {}
            Some(Piece::Text(text)) => {
                flags |= PRESENT;
                self.arena.extend(text.as_bytes());
            }
            Some(Piece::Stream(bytes)) => {
                flags |= PRESENT | STREAM;
                self.arena.extend(bytes);
            }
            Some(Piece::Byte(byte)) => {
                flags |= PRESENT | BYTE;
                self.arena.push(byte);
            }
        }
        self.ends.push(self.arena.len());
        self.flags.push(flags);
    }

    /// Largest token id + 1.
    pub(crate) fn num_tokens(&self) -> usize {
        self.ends.len()
    }

    /// The row of `id`; `None` for a hole in the vocabulary and beyond its end (models pad their
    /// embeddings to round sizes, so such ids can be sampled).
    pub(crate) fn get(&self, id: u32) -> Option<Entry<'_>> {
        let row = id as usize;
        let flags = *self.flags.get(row)?;
        let start = if row == 0 { 0 } else { self.ends[row - 1] };
        let joint = match flags & (STREAM | BYTE) {
            STREAM => Joint::Stream,
            BYTE => Joint::Byte,
            _ => Joint::Text,
        };
        let entry = Entry {
            bytes: &self.arena[start..self.ends[row]],
            special: flags & SPECIAL != 0,
            joint,
        };
        (flags & PRESENT != 0).then_some(entry)
    }
}
