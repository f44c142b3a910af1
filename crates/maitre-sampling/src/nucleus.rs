//! `top_p`: the fewest tokens that hold a given share of the probability (Holtzman et al. 2020, "The
//! curious case of neural text degeneration", section 3.1), without sorting the vocabulary.
//!
//! Tokens less probable than (1 - p) / V together hold less than 1 - p, so the others hold the nucleus: of
//! a large vocabulary a few hundred remain. These are thrown into buckets by logit; the bucket in which the mass
//! passes p is found by adding up, and the last token of the nucleus by a selection inside it.

use crate::{
    row::{BLOCK, Cut, Row, falling},
    softmax,
};

/// A token that may belong to the nucleus.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate {
    token: u32,
    logit: f32,
    /// Its probability as a share of the most probable token's.
    weight: f32,
}

/// Cuts `row` down to the fewest tokens that hold the share `top_p` of the mass of all with a logit of at
/// least `floor`; at least one, the lowest ids first among equals. `scale` is one over the temperature,
/// `candidates` is memory to work in.
pub(crate) fn cut(
    row: &Row<'_>,
    scale: f32,
    floor: f32,
    top_p: f32,
    candidates: &mut Vec<Candidate>,
) -> Cut {
    let max = row.max();
    let total = softmax::mass(row, scale, floor);
    let least_weight = total * (1.0 - f64::from(top_p)) / row.len() as f64;
    // Slightly lower than it need be, against rounding; more candidates do no harm.
    let reach = (libm::log(least_weight) - 1e-3) / f64::from(scale);
    let floor = floor.max((f64::from(max) + reach) as f32);

    candidates.clear();
    candidates.reserve(row.len());
    for (number, block) in row.blocks_from(floor) {
        let weights = softmax::block_weights(block, max, scale);
        let tokens = (number * BLOCK) as u32..;
        for ((token, logit), weight) in tokens.zip(block.iter().copied()).zip(weights) {
            if logit >= floor {
                candidates.push(Candidate {
                    token,
                    logit,
                    weight,
                });
            }
        }
    }
    match last_inside(candidates, max, total * f64::from(top_p)) {
        Some(last) => Cut {
            logit: last.logit,
            last_equal: last.token,
        },
        None => Cut::at(floor),
    }
}

/// The least probable of the fewest candidates that weigh at least `target`. Reorders them.
fn last_inside(candidates: &mut [Candidate], max: f32, target: f64) -> Option<Candidate> {
    let (mut rest, mut missing) = crossing_bucket(candidates, max, target);
    while rest.len() > 1 {
        let half = rest.len() / 2;
        rest.select_nth_unstable_by(half, |a, b| falling((a.token, a.logit), (b.token, b.logit)));
        let (upper, lower) = rest.split_at_mut(half);
        let weight: f64 = upper
            .iter()
            .map(|candidate| f64::from(candidate.weight))
            .sum();
        if weight >= missing {
            rest = upper;
        } else {
            missing -= weight;
            rest = lower;
        }
    }
    rest.first().copied()
}

/// The candidates among which the running weight reaches `target`, and how much of it the more probable
/// ones leave to them. Equal logits always share a bucket.
fn crossing_bucket(candidates: &mut [Candidate], max: f32, target: f64) -> (&mut [Candidate], f64) {
    const BUCKETS: usize = 256;
    let least = candidates
        .iter()
        .map(|candidate| candidate.logit)
        .fold(max, f32::min);
    let per_logit = BUCKETS as f32 / (max - least);
    // Rises as the logit falls. If all are equal, 0 · inf is NaN, which `as` makes zero.
    let bucket =
        |candidate: &Candidate| (((max - candidate.logit) * per_logit) as usize).min(BUCKETS - 1);
    let mut weights = [0.0; BUCKETS];
    for candidate in &*candidates {
        weights[bucket(candidate)] += f64::from(candidate.weight);
    }
    let (mut crossing, mut missing) = (0, target);
    // The last bucket with anything in it holds `least`: rounding must not lead past it.
    while crossing + 1 < BUCKETS && weights[crossing] < missing {
        missing -= weights[crossing];
        crossing += 1;
    }
    let mut len = 0;
    for at in 0..candidates.len() {
        if bucket(&candidates[at]) == crossing {
            candidates.swap(at, len);
            len += 1;
        }
    }
    (&mut candidates[..len], missing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::RowScratch;
    use proptest::prelude::*;

    fn nucleus(logits: &[f32], scale: f32, floor: f32, top_p: f32) -> Vec<u32> {
        let mut scratch = RowScratch::default();
        let row = Row::scan(logits, &mut scratch).unwrap();
        let kept = cut(&row, scale, floor, top_p, &mut Vec::new());
        (0..)
            .zip(logits)
            .filter(|(token, logit)| kept.keeps(*token, **logit))
            .map(|(t, _)| t)
            .collect()
    }

    /// By sorting everything. `None` if the boundary is too close to call.
    fn naive(logits: &[f32], scale: f32, floor: f32, top_p: f32) -> Option<Vec<u32>> {
        let mut order: Vec<usize> = (0..logits.len()).filter(|i| logits[*i] >= floor).collect();
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
            floor in -12.0..0.0_f32,
            top_p in 0.01..0.999_f32,
        ) {
            let max = logits.iter().copied().fold(f32::MIN, f32::max);
            let floor = floor.min(max);
            if let Some(expected) = naive(&logits, scale, floor, top_p) {
                prop_assert_eq!(nucleus(&logits, scale, floor, top_p), expected);
            }
        }
    }

    #[test]
    fn one_token_is_always_left_and_equals_enter_by_id() {
        assert_eq!(nucleus(&[1.0, 5.0, 2.0], 1.0, f32::NEG_INFINITY, 1e-9), [1]);
        assert_eq!(nucleus(&[0.0; 8], 1.0, f32::NEG_INFINITY, 0.3), [0, 1, 2]);
        let zeros = [-0.0, 0.0, -0.0, 0.0, -9.0];
        assert_eq!(
            nucleus(&zeros, 1.0, f32::NEG_INFINITY, 0.45),
            [0, 1],
            "0 equals -0"
        );
        let impossible = [f32::NEG_INFINITY, 0.0, f32::NEG_INFINITY];
        assert_eq!(nucleus(&impossible, 1.0, f32::NEG_INFINITY, 0.99), [1]);
    }
}
