//! What was drafted and accepted.

/// Totals since the start. Nothing of it decides anything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpeculationCounts {
    /// Times that tokens were drafted for a sequence.
    pub drafts: u64,
    /// Tokens that were drafted and verified.
    pub drafted: u64,
    /// Of them, tokens that were accepted.
    pub accepted: u64,
    /// Drafts that had a token at this place, the first being 0.
    pub drafted_at: Vec<u64>,
    /// Drafts whose token at this place was accepted, and so all before it.
    pub accepted_at: Vec<u64>,
    /// Times that the draft model failed.
    pub draft_failures: u64,
}

impl SpeculationCounts {
    /// Nothing yet, of drafts of up to `draft_tokens`.
    pub(crate) fn new(draft_tokens: usize) -> Self {
        Self {
            drafted_at: vec![0; draft_tokens],
            accepted_at: vec![0; draft_tokens],
            ..Self::default()
        }
    }

    /// A draft of so many tokens was verified.
    pub(crate) fn verified(&mut self, drafted: usize, accepted: usize) {
        self.drafts += 1;
        self.drafted += drafted as u64;
        self.accepted += accepted as u64;
        for (counts, reached) in [
            (&mut self.drafted_at, drafted),
            (&mut self.accepted_at, accepted),
        ] {
            counts
                .iter_mut()
                .take(reached)
                .for_each(|count| *count += 1);
        }
    }
}
