//! Models small enough to be functions: a row of logits made of the tokens before it.

use maitre_sampling::noise::Noise;

/// A model whose row is a hash of the whole text before it.
#[derive(Clone, Debug)]
pub(crate) struct Hashed {
    pub(crate) vocab: usize,
    /// How far logits lie apart.
    pub(crate) spread: f32,
    pub(crate) seed: u64,
}

impl Hashed {
    /// The logits `[vocab]` behind `text`; one in eight tokens is impossible.
    pub(crate) fn row(&self, text: &[u32]) -> Vec<f32> {
        // FNV-1a over the tokens.
        let hash = text.iter().fold(0xcbf2_9ce4_8422_2325, |hash, token| {
            (hash ^ u64::from(*token)).wrapping_mul(0x100_0000_01b3)
        });
        let noise = Noise::target(self.seed, hash);
        let logit = |token: u32| {
            let impossible = token > 0 && (u64::from(token) ^ hash).is_multiple_of(8);
            if impossible {
                f32::NEG_INFINITY
            } else {
                self.spread * noise.gumbel(token)
            }
        };
        (0..self.vocab as u32).map(logit).collect()
    }
}

/// A model that looks at the last token only, of a vocabulary one can count on one hand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Markov {
    /// The logits at the start of a text, then behind each token.
    pub(crate) rows: [[f32; Self::VOCAB]; 1 + Self::VOCAB],
}

impl Markov {
    pub(crate) const VOCAB: usize = 4;

    /// What one would rather say.
    pub(crate) const TARGET: Self = Self {
        rows: [
            [1.0, 0.2, -0.5, 0.4],
            [-1.0, 1.5, 0.3, 0.0],
            [0.7, -0.8, 0.1, 1.1],
            [0.0, 0.9, -2.0, 0.6],
            [1.3, -0.1, 0.8, -1.2],
        ],
    };
    /// Something like it, with probabilities above and below the target's in every row.
    pub(crate) const DRAFT: Self = Self {
        rows: [
            [0.1, 0.9, 0.4, -0.6],
            [0.3, 0.8, -1.0, 0.9],
            [-0.4, 0.6, 0.5, 0.2],
            [1.0, -0.3, 0.7, 0.0],
            [0.5, 0.4, -0.2, 1.0],
        ],
    };

    /// The logits behind `text`.
    pub(crate) fn row(&self, text: &[u32]) -> &[f32; Self::VOCAB] {
        &self.rows[text.last().map_or(0, |token| 1 + *token as usize)]
    }
}
