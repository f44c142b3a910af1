//! What a history would have proposed for a text that is known already, and how much of it came true.
//!
//! The walk is that of greedy verification: a step proposes, keeps what agrees with the text, and adds the
//! token that the target takes itself. Its counts are those of speculating on a model that writes this text.

use super::{Guess, History};

/// One step of a [`Replay`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplayStep {
    /// The length of the match that the proposal came from; 0 without a proposal.
    pub match_len: usize,
    /// Tokens proposed.
    pub proposed: usize,
    /// Of these, the first ones that came true.
    pub accepted: usize,
}

/// The steps in which a text would have been generated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay {
    /// One after the other.
    pub steps: Vec<ReplayStep>,
    /// Tokens generated.
    pub tokens: usize,
}

impl Replay {
    /// Lets `history`, which holds the prompt, propose at most `drafts` tokens a step until all of `text` is
    /// generated. As a real step it never proposes the very last token, which comes without.
    #[must_use]
    pub fn run(mut history: History, text: &[u32], drafts: usize) -> Self {
        let (mut steps, mut rest) = (Vec::new(), text);
        while !rest.is_empty() {
            history.absorb(usize::MAX);
            let guess = history.propose(drafts.min(rest.len() - 1));
            let Guess { tokens, match_len } = guess.unwrap_or(Guess {
                tokens: Vec::new(),
                match_len: 0,
            });
            let pairs = tokens.iter().zip(rest);
            let accepted = pairs.take_while(|(guessed, came)| guessed == came).count();
            steps.push(ReplayStep {
                match_len,
                proposed: tokens.len(),
                accepted,
            });
            let (came, later) = rest.split_at(accepted + 1);
            history.extend(came);
            rest = later;
        }
        Self {
            steps,
            tokens: text.len(),
        }
    }

    /// Tokens per step; 1 without speculation.
    #[must_use]
    pub fn tokens_per_step(&self) -> f64 {
        self.tokens as f64 / self.steps.len().max(1) as f64
    }

    /// For each position of a proposal: how often the target came to verify it, as all before it had come
    /// true, and how often it came true itself.
    #[must_use]
    pub fn by_position(&self) -> Vec<(usize, usize)> {
        let longest = self.steps.iter().map(|step| step.proposed).max();
        let count = |holds: &dyn Fn(&ReplayStep) -> bool| {
            self.steps.iter().filter(|step| holds(step)).count()
        };
        (0..longest.unwrap_or(0))
            .map(|at| {
                (
                    count(&|step| step.proposed > at && step.accepted >= at),
                    count(&|step| step.accepted > at),
                )
            })
            .collect()
    }
}
