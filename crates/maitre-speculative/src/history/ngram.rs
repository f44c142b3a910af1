//! Where each sequence of 2, 3 and 4 tokens ended last.
//!
//! A table holds positions only, four bytes each: which n-gram ends there stands in the text, and is compared
//! token by token, so that two with one hash are never taken for each other.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::Match;

/// The lengths that are looked up; vLLM calls them `prompt_lookup_min` and `prompt_lookup_max`.
const LENGTHS: [usize; 3] = [2, 3, 4];

/// The n-grams of a text and the last occurrence of each.
#[derive(Debug, Clone, Default)]
pub(super) struct Ngrams {
    /// For each of [`LENGTHS`], the position behind the last occurrence of each n-gram.
    latest: [HashTable<u32>; LENGTHS.len()],
    /// Keyed at random, since tokens are chosen by strangers and colliding ones would be slow. Which
    /// n-gram is found does not depend on the key.
    hasher: RandomState,
    len: usize,
    found: Option<Match>,
}

impl Ngrams {
    /// Tokens that are indexed.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The longest n-gram at the end of the text that occurred before.
    pub(super) fn found(&self) -> Option<Match> {
        self.found
    }

    /// Indexes the last token of `text`, all others of which are indexed.
    pub(super) fn push(&mut self, text: &[u32]) {
        let (hasher, end) = (&self.hasher, text.len());
        self.len = end;
        self.found = None;
        for (len, latest) in LENGTHS.into_iter().zip(&mut self.latest) {
            let Some(start) = end.checked_sub(len) else {
                break;
            };
            let ngram = &text[start..];
            let ending_at = |&end: &u32| &text[end as usize - len..end as usize];
            let entry = latest.entry(
                hasher.hash_one(key(ngram)),
                |end| ending_at(end) == ngram,
                |end| hasher.hash_one(key(ending_at(end))),
            );
            match entry {
                Entry::Occupied(mut entry) => {
                    let before = std::mem::replace(entry.get_mut(), end as u32);
                    self.found = Some(Match {
                        end: before,
                        len: len as u32,
                    });
                }
                Entry::Vacant(entry) => {
                    entry.insert(end as u32);
                }
            }
        }
    }

    /// Bytes of memory beside the struct itself.
    pub(super) fn bytes(&self) -> usize {
        self.latest.iter().map(HashTable::allocation_size).sum()
    }
}

/// An n-gram as one number, which is hashed sooner than a slice of any length.
fn key(ngram: &[u32]) -> u128 {
    ngram
        .iter()
        .fold(0, |key, &token| key << 32 | u128::from(token))
}
