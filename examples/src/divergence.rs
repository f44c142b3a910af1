//! How far one form of a model is from another.

use anyhow::Result;

use crate::reader::Reader;

/// Two forms of a model, compared token by token.
#[derive(Debug, Clone, Copy)]
pub struct Divergence {
    /// The mean Kullback–Leibler divergence of the other's next-token probabilities from the reference's, in nats.
    pub nats: f64,
    /// The share of tokens behind which both find the same token the most likely.
    pub agreement: f64,
}

/// Compares two forms behind every token of every window. Each window is read on its own.
///
/// # Errors
///
/// A step that fails.
pub fn between<'a>(
    reference: &mut Reader,
    other: &mut Reader,
    windows: impl Iterator<Item = &'a [u32]>,
) -> Result<Divergence> {
    let (mut nats, mut equal, mut count) = (0.0, 0, 0);
    for window in windows {
        reference.keep(0);
        other.keep(0);
        let expected = reference.read(window, window.len())?;
        let found = other.read(window, window.len())?;
        for (expected, found) in expected.iter().zip(&found) {
            nats += divergence(expected, found);
            equal += usize::from(most_likely(expected) == most_likely(found));
            count += 1;
        }
    }
    Ok(Divergence {
        nats: nats / f64::from(count),
        agreement: equal as f64 / f64::from(count),
    })
}

/// `Σ p (ln p - ln q)`, in f64: the terms nearly cancel each other.
fn divergence(expected: &[f32], found: &[f32]) -> f64 {
    let (of_expected, of_found) = (log_sum(expected), log_sum(found));
    let pairs = expected.iter().zip(found);
    let terms = pairs.map(|(expected, found)| {
        let expected = f64::from(*expected) - of_expected;
        expected.exp() * (expected - (f64::from(*found) - of_found))
    });
    terms.sum()
}

/// The logarithm of the sum of all exponentials.
fn log_sum(logits: &[f32]) -> f64 {
    let most = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let exponentials = logits.iter().map(|logit| (f64::from(*logit) - most).exp());
    most + exponentials.sum::<f64>().ln()
}

fn most_likely(logits: &[f32]) -> Option<usize> {
    let indices = 0..logits.len();
    indices.max_by(|a, b| logits[*a].total_cmp(&logits[*b]))
}
