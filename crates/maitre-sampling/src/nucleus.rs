//! `top_p`: the fewest tokens that hold a given share of the probability (Holtzman et al. 2020, "The
//! curious case of neural text degeneration", section 3.1), without sorting the vocabulary.
//!
//! Two facts make it cheap. Tokens less probable than (1 - p) / V together hold less than 1 - p, so
//! the others hold the nucleus: of a large vocabulary a few hundred remain. And among these a selection
//! that halves the range each time finds the boundary in linear time.

use std::cmp::Ordering;

use crate::{row::Row, softmax};

/// A token that may belong to the nucleus.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate {
    pub(crate) token: u32,
    pub(crate) logit: f32,
    /// Its probability as a share of the most probable token's.
    weight: f32,
}

/// Leaves in `candidates` the fewest tokens of `row` that hold the share `top_p` of the mass of all
/// with a logit of at least `cut`; at least one, the lowest ids first among equals. `scale` is one over
/// the temperature.
pub(crate) fn select(
    row: &Row<'_>,
    scale: f32,
    cut: f32,
    top_p: f32,
    candidates: &mut Vec<Candidate>,
) {
    let max = row.max();
    let total = softmax::mass(row, scale, cut);
    let least_weight = total * (1.0 - f64::from(top_p)) / row.len() as f64;
    // Slightly lower than it need be, against rounding; more candidates do no harm.
    let reach = (libm::log(least_weight) - 1e-3) / f64::from(scale);
    let cut = cut.max((f64::from(max) + reach) as f32);

    candidates.clear();
    candidates.extend(row.tokens_from(cut).map(|(token, logit)| {
        let weight = softmax::exp((logit - max) * scale);
        Candidate {
            token,
            logit,
            weight,
        }
    }));
    let len = nucleus_len(candidates, total * f64::from(top_p));
    candidates.truncate(len);
}

/// Moves the fewest candidates that weigh at least `target` to the front and returns how many they are.
fn nucleus_len(candidates: &mut [Candidate], target: f64) -> usize {
    // Always: the first `inside` belong to it, those from `end` on do not.
    let (mut inside, mut end, mut weight_inside) = (0, candidates.len(), 0.0);
    while end - inside > 1 {
        let half = (end - inside) / 2;
        candidates[inside..end].select_nth_unstable_by(half, by_probability);
        let upper: f64 = candidates[inside..][..half]
            .iter()
            .map(|c| f64::from(c.weight))
            .sum();
        if weight_inside + upper >= target {
            end = inside + half;
        } else {
            weight_inside += upper;
            inside += half;
        }
    }
    end
}

/// Most probable first, lowest id among equals.
fn by_probability(a: &Candidate, b: &Candidate) -> Ordering {
    b.logit.total_cmp(&a.logit).then(a.token.cmp(&b.token))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::RowScratch;
    use proptest::prelude::*;

    fn nucleus(logits: &[f32], scale: f32, cut: f32, top_p: f32) -> Vec<u32> {
        let mut scratch = RowScratch::default();
        let row = Row::scan(logits, &mut scratch).unwrap();
        let mut candidates = Vec::new();
        select(&row, scale, cut, top_p, &mut candidates);
        let mut tokens: Vec<u32> = candidates.iter().map(|candidate| candidate.token).collect();
        tokens.sort_unstable();
        tokens
    }

    /// By sorting everything. `None` if the boundary is too close to call.
    fn naive(logits: &[f32], scale: f32, cut: f32, top_p: f32) -> Option<Vec<u32>> {
        let mut order: Vec<usize> = (0..logits.len()).filter(|i| logits[*i] >= cut).collect();
        order.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]).then(a.cmp(b)));
        let weight = |i: &usize| (f64::from(logits[*i]) * f64::from(scale)).exp();
        let total: f64 = order.iter().map(weight).sum();
        let (mut share, mut kept) = (0.0, Vec::new());
        for token in &order {
            kept.push(*token as u32);
            share += weight(token) / total;
            if (share - f64::from(top_p)).abs() < 1e-5 {
                return None;
            }
            if share >= f64::from(top_p) {
                break;
            }
        }
        kept.sort_unstable();
        Some(kept)
    }

    proptest! {
        #[test]
        fn the_nucleus_is_the_shortest_prefix_of_the_sorted_row(
            logits in prop::collection::vec(prop_oneof![-9.0..9.0_f32, (-3..3_i8).prop_map(f32::from)], 1..400),
            scale in 0.2..4.0_f32,
            cut in -12.0..0.0_f32,
            top_p in 0.01..0.999_f32,
        ) {
            let max = logits.iter().copied().fold(f32::MIN, f32::max);
            let cut = cut.min(max);
            if let Some(expected) = naive(&logits, scale, cut, top_p) {
                prop_assert_eq!(nucleus(&logits, scale, cut, top_p), expected);
            }
        }
    }

    #[test]
    fn one_token_is_always_left_and_equals_enter_by_id() {
        assert_eq!(nucleus(&[1.0, 5.0, 2.0], 1.0, f32::NEG_INFINITY, 1e-9), [1]);
        assert_eq!(nucleus(&[0.0; 8], 1.0, f32::NEG_INFINITY, 0.3), [0, 1, 2]);
        let impossible = [f32::NEG_INFINITY, 0.0, f32::NEG_INFINITY];
        assert_eq!(nucleus(&impossible, 1.0, f32::NEG_INFINITY, 0.99), [1]);
    }
}
