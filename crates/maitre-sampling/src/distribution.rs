//! What a token is drawn from, as numbers: what is left of a row of logits after bans, biases, penalties,
//! temperature and truncation.
//!
//! Most requests never need one: the [`Sampler`](crate::Sampler) draws without it. Comparing two models by
//! their probabilities, as rejection sampling does, takes the numbers.
//!
//! Probabilities are f32. They come from exponentials that are right to 2·10⁻⁷, relative to each of them, and
//! are divided by a sum in f64: to see the error in frequencies would take about 10¹³ draws, and a row of a large
//! vocabulary that nothing truncates takes half the memory that f64 would.

use crate::{
    noise::Noise,
    row::{Cut, Row},
    softmax,
};

/// A distribution over tokens. Tokens it does not list are impossible.
#[derive(Clone, Debug, PartialEq)]
pub struct Distribution {
    /// `(token, probability)`, ascending by token; the probabilities are positive and add up to one but for
    /// rounding.
    entries: Vec<(u32, f32)>,
}

impl Distribution {
    /// All of it on one token.
    #[must_use]
    pub fn point(token: u32) -> Self {
        Self {
            entries: vec![(token, 1.0)],
        }
    }

    /// Probabilities in proportion to weights, `(token, weight)` by strictly ascending token. Tokens whose
    /// weight is not positive are impossible. `None` if no token is left, or the weights' sum is no number.
    #[must_use]
    pub fn from_weights(weights: impl IntoIterator<Item = (u32, f32)>) -> Option<Self> {
        let positive = weights.into_iter().filter(|(_, weight)| *weight > 0.0);
        Self::normalised(positive.collect())
    }

    /// The softmax of what `cut` keeps of `row`, `scale` being one over the temperature. `None` if that is
    /// nothing.
    pub(crate) fn softmax(row: &Row<'_>, scale: f64, cut: Cut) -> Option<Self> {
        let max = f64::from(row.max());
        let kept = row.tokens_from(cut.logit);
        let kept = kept.filter(|(token, logit)| cut.keeps(*token, *logit));
        let scaled = kept.map(|(token, logit)| (token, ((f64::from(logit) - max) * scale) as f32));
        let mut entries: Vec<(u32, f32)> = scaled.collect();
        // A loop of its own, which the compiler vectorises.
        for (_, weight) in &mut entries {
            *weight = softmax::exp(*weight);
        }
        Self::normalised(entries)
    }

    /// Divides positive weights by their sum, and drops what is too small for it.
    fn normalised(mut entries: Vec<(u32, f32)>) -> Option<Self> {
        debug_assert!(entries.is_sorted_by(|a, b| a.0 < b.0), "{entries:?}");
        let total = sum(&entries);
        if entries.is_empty() || !total.is_finite() {
            return None;
        }
        for (_, weight) in &mut entries {
            *weight = (f64::from(*weight) / total) as f32;
        }
        entries.retain(|(_, probability)| *probability > 0.0);
        Some(Self { entries })
    }

    /// `(token, probability)` of every possible token, ascending by token.
    pub fn iter(&self) -> impl Iterator<Item = (u32, f32)> {
        self.entries.iter().copied()
    }

    /// The probability of `token`, zero if it is impossible.
    #[must_use]
    pub fn probability(&self, token: u32) -> f32 {
        let found = self
            .entries
            .binary_search_by_key(&token, |(token, _)| *token);
        found.map_or(0.0, |at| self.entries[at].1)
    }

    /// A token drawn with `noise`: the first at which the running sum of the probabilities passes
    /// [`Noise::uniform`].
    ///
    /// One random number for all tokens, unlike the [`Sampler`](crate::Sampler)'s draw: another
    /// distribution need not give a similar token. Under [`Purpose::Target`](crate::noise::Purpose::Target)
    /// it is a different draw from the sampler's, and not independent of it.
    #[must_use]
    pub fn draw(&self, noise: Noise) -> u32 {
        let threshold = noise.uniform() * sum(&self.entries);
        let mut passed = 0.0;
        let mut last = 0;
        for (token, probability) in self.iter() {
            passed += f64::from(probability);
            last = token;
            if passed > threshold {
                break;
            }
        }
        last
    }
}

/// The sum of the weights, in order.
fn sum(entries: &[(u32, f32)]) -> f64 {
    entries.iter().map(|(_, weight)| f64::from(*weight)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::Purpose;

    #[test]
    fn weights_that_make_no_distribution_are_refused() {
        let made = |weights: &[(u32, f32)]| Distribution::from_weights(weights.iter().copied());
        assert_eq!(made(&[]), None);
        assert_eq!(made(&[(0, 0.0), (3, -1.0), (4, f32::NAN)]), None);
        assert_eq!(made(&[(0, 1.0), (1, f32::INFINITY)]), None);
        let sound = made(&[(2, 3.0), (5, 0.0), (9, 1.0)]).unwrap();
        assert_eq!(sound.iter().collect::<Vec<_>>(), [(2, 0.75), (9, 0.25)]);
        assert_eq!(
            [1, 2, 5, 9, 10].map(|token| sound.probability(token)),
            [0.0, 0.75, 0.0, 0.25, 0.0]
        );
        assert_eq!(made(&[(7, 1e-30)]), Some(Distribution::point(7)));
    }

    #[test]
    fn a_draw_finds_the_token_whatever_the_noise() {
        let edges = Distribution::from_weights([(3, 1e-7), (4, 1.0), (8, 1e-7)]).unwrap();
        for position in 0..1000 {
            let noise = Noise {
                seed: 1,
                position,
                purpose: Purpose::Draft,
            };
            assert_eq!(Distribution::point(5).draw(noise), 5);
            assert!(edges.probability(edges.draw(noise)) > 0.0);
        }
    }
}
