//! What the penalties need to know of a sequence: which tokens it holds, and how often each was
//! generated. A sorted list: memory grows with the distinct tokens only, and applying the penalties
//! walks the logits in order.

/// Which tokens a sequence holds and how often each was generated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenCounts {
    /// `(token, times generated)` by ascending token; zero if it is in the prompt only.
    seen: Vec<(u32, u32)>,
}

impl TokenCounts {
    /// The counts of a sequence that consists of its prompt.
    #[must_use]
    pub fn new(prompt: &[u32]) -> Self {
        let mut seen: Vec<(u32, u32)> = prompt.iter().map(|token| (*token, 0)).collect();
        seen.sort_unstable();
        seen.dedup();
        seen.shrink_to_fit();
        Self { seen }
    }

    /// Counts one more generated token. Time grows with the distinct tokens if it is new.
    pub fn record(&mut self, token: u32) {
        match self.seen.binary_search_by_key(&token, |(token, _)| *token) {
            Ok(at) => self.seen[at].1 = self.seen[at].1.saturating_add(1),
            Err(at) => self.seen.insert(at, (token, 1)),
        }
    }

    /// `(token, times generated)` for every token of the prompt or the output, ascending by token.
    pub fn iter(&self) -> impl Iterator<Item = (u32, u32)> {
        self.seen.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompt_tokens_count_as_seen_and_output_tokens_are_counted() {
        let mut counts = TokenCounts::new(&[5, 2, 5, 9]);
        for token in [2, 7, 2, 0] {
            counts.record(token);
        }
        let all: Vec<_> = counts.iter().collect();
        assert_eq!(all, [(0, 1), (2, 2), (5, 0), (7, 1), (9, 0)]);
    }
}
