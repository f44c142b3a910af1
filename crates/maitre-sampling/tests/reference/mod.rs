//! The sampler's meaning written down once more, the slow and obvious way: every step over the
//! whole vocabulary, in f64, by sorting.

use maitre_sampling::{SamplingParams, noise::Noise};

/// What temperature and truncation leave of a row: `(token, ln(p / p_max))`, most probable first.
///
/// `None` if a threshold lies so close to a token that rounding decides.
pub(crate) fn truncated(logits: &[f32], params: &SamplingParams) -> Option<Vec<(u32, f64)>> {
    const CLOSE: f64 = 1e-5;
    let max = logits.iter().copied().fold(f32::MIN, f32::max);
    let scaled = |logit: f32| (f64::from(logit) - f64::from(max)) / f64::from(params.temperature);
    let mut kept: Vec<(u32, f64)> = (0..)
        .zip(logits)
        .map(|(token, logit)| (token, scaled(*logit)))
        .collect();
    kept.sort_by(|(a, x), (b, y)| y.total_cmp(x).then(a.cmp(b)));

    let threshold = f64::from(params.min_p).ln();
    if kept.iter().any(|(_, z)| (z - threshold).abs() < CLOSE) {
        return None;
    }
    kept.retain(|(_, z)| *z >= threshold);

    let k = params.top_k as usize;
    if k > 0 && k < kept.len() {
        let kth = kept[k - 1].1;
        kept.retain(|(_, z)| *z >= kth);
    }

    if params.top_p < 1.0 {
        let top_p = f64::from(params.top_p);
        let total: f64 = kept.iter().map(|(_, z)| z.exp()).sum();
        let mut share = 0.0;
        let mut len = 0;
        while len < kept.len() && share < top_p {
            share += kept[len].1.exp() / total;
            len += 1;
            if (share - top_p).abs() < CLOSE {
                return None;
            }
        }
        kept.truncate(len);
    }
    Some(kept)
}

/// The token that wins at `position`, by giving every token left its noise.
#[allow(dead_code, reason = "each test file uses its own part of this module")]
pub(crate) fn winner(kept: &[(u32, f64)], seed: u64, position: u64) -> u32 {
    let score =
        |(token, z): &(u32, f64)| z + f64::from(Noise::target(seed, position).gumbel(*token));
    kept.iter()
        .max_by(|a, b| score(a).total_cmp(&score(b)).then(b.0.cmp(&a.0)))
        .unwrap()
        .0
}
