//! Which tokens of a vocabulary may come next: one bit each.
//!
//! ```text
//! word 0                     word 1
//! token 0 1 2 3 ... 63       64 65 ... 127     ...     the bits behind the vocabulary stay 0
//! ```
//!
//! A word covers the tokens of one block of the [row](crate::BLOCK), so a word of zeros rules out a whole block.
//! A vocabulary of 150,000 tokens takes 19 kB.

/// A set of tokens. It is meant to be used again: [`clear`](Self::clear) and the setters keep its memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenMask {
    words: Vec<u64>,
    vocab_size: usize,
}

/// Bits of a word.
const BITS: usize = u64::BITS as usize;

impl TokenMask {
    /// A mask that allows none of `vocab_size` tokens.
    #[must_use]
    pub fn new(vocab_size: usize) -> Self {
        Self {
            words: vec![0; vocab_size.div_ceil(BITS)],
            vocab_size,
        }
    }

    /// Tokens that have a bit.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// Allows nothing.
    pub fn clear(&mut self) {
        self.words.fill(0);
    }

    /// Allows every token of the vocabulary.
    pub fn allow_all(&mut self) {
        self.words.fill(u64::MAX);
        let rest = self.vocab_size % BITS;
        if let Some(last) = self.words.last_mut().filter(|_| rest > 0) {
            *last = (1 << rest) - 1;
        }
    }

    /// Allows `token`. One beyond the vocabulary is passed over.
    pub fn allow(&mut self, token: u32) {
        if let Some((word, bit)) = self.place(token) {
            self.words[word] |= bit;
        }
    }

    /// Forbids `token`.
    pub fn forbid(&mut self, token: u32) {
        if let Some((word, bit)) = self.place(token) {
            self.words[word] &= !bit;
        }
    }

    /// Forbids what `other` does not allow. What lies beyond the vocabulary of `other` is forbidden too.
    pub fn intersect(&mut self, other: &Self) {
        let others = other.words.iter().copied().chain(std::iter::repeat(0));
        for (word, other) in self.words.iter_mut().zip(others) {
            *word &= other;
        }
    }

    /// Whether `token` is allowed. One beyond the vocabulary is not.
    #[must_use]
    pub fn allows(&self, token: u32) -> bool {
        self.place(token)
            .is_some_and(|(word, bit)| self.words[word] & bit != 0)
    }

    /// Tokens that are allowed.
    #[must_use]
    pub fn count(&self) -> usize {
        self.words
            .iter()
            .map(|word| word.count_ones() as usize)
            .sum()
    }

    /// Whether nothing is allowed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// The bits, 64 tokens a word, the lowest bit first: the form for code that sets many at once. Bits behind the
    /// vocabulary must stay 0.
    #[must_use]
    pub fn words_mut(&mut self) -> &mut [u64] {
        &mut self.words
    }

    /// The bits, 64 tokens a word, the lowest bit first.
    #[must_use]
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// Makes all logits of `row` that are not allowed -inf.
    pub(crate) fn apply(&self, row: &mut [f32]) {
        let words = self.words.iter().copied().chain(std::iter::repeat(0));
        for (block, word) in row.chunks_mut(BITS).zip(words) {
            match word {
                0 => block.fill(f32::NEG_INFINITY),
                u64::MAX => {}
                _ => {
                    for (bit, logit) in block.iter_mut().enumerate() {
                        if word >> bit & 1 == 0 {
                            *logit = f32::NEG_INFINITY;
                        }
                    }
                }
            }
        }
    }

    fn place(&self, token: u32) -> Option<(usize, u64)> {
        let token = token as usize;
        (token < self.vocab_size).then(|| (token / BITS, 1 << (token % BITS)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn tokens() -> impl Strategy<Value = BTreeSet<u32>> {
        prop::collection::btree_set(0..300_u32, 0..60)
    }

    fn mask(vocab_size: usize, tokens: &BTreeSet<u32>) -> TokenMask {
        let mut mask = TokenMask::new(vocab_size);
        tokens.iter().for_each(|token| mask.allow(*token));
        mask
    }

    fn set(mask: &TokenMask) -> BTreeSet<u32> {
        (0..400).filter(|token| mask.allows(*token)).collect()
    }

    proptest! {
        #[test]
        fn a_mask_is_a_set_of_tokens(a in tokens(), b in tokens(), size in 0..320_usize, other in 0..320_usize) {
            let within = |size: usize, set: &BTreeSet<u32>| -> BTreeSet<u32> {
                set.iter().copied().filter(|token| (*token as usize) < size).collect()
            };
            let (left, right) = (within(size, &a), within(other, &b));
            let mut both = mask(size, &a);
            prop_assert_eq!(set(&both), left.clone());
            prop_assert_eq!((both.count(), both.is_empty()), (left.len(), left.is_empty()));
            both.intersect(&mask(other, &b));
            prop_assert_eq!(set(&both), left.intersection(&right).copied().collect());
            let mut rest = mask(size, &a);
            b.iter().for_each(|token| rest.forbid(*token));
            prop_assert_eq!(set(&rest), left.difference(&b).copied().collect());
            both.allow_all();
            prop_assert_eq!((both.count(), both.vocab_size()), (size, size));
            both.clear();
            prop_assert!(both.is_empty());
        }

        #[test]
        fn what_is_not_allowed_becomes_impossible(a in tokens(), size in 0..320_usize, len in 0..320_usize) {
            let mask = mask(size, &a);
            let mut row = vec![1.0_f32; len];
            mask.apply(&mut row);
            for (token, logit) in (0..).zip(&row) {
                prop_assert_eq!(*logit == 1.0, mask.allows(token), "{}", token);
            }
        }
    }
}
