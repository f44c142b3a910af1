//! The choice of a token, as plain as it can be told: what is kept is sorted, everything else is tried.
//!
//! Probabilities are weighed in fixed point, as a GPU's threads do it, whose sums then don't depend on their
//! order. Both drop what is lighter than 2^-43 of the most probable token, and their sums are exact otherwise: a
//! share is within 2·10⁻⁷ of that of a row's exact exponentials, most of it the exponential's own rounding. So
//! `top_p` keeps one token more or less than exact arithmetic only where a share that close to it is reached.

use super::exp::exp;
use crate::sampling::{GREEDY_BELOW, SampleRow, SampledRow};

/// The fixed-point weight 1.
const WEIGHT_UNIT: f32 = 8_796_093_022_208.0; // 2^43

/// The token of a row, see [`SampleRow`].
pub(crate) fn sample(logits: &[f32], request: &SampleRow) -> SampledRow {
    if logits
        .iter()
        .any(|logit| logit.is_nan() || *logit == f32::INFINITY)
    {
        return SampledRow::NonFinite;
    }
    let mut mode = Token {
        id: 0,
        logit: f32::NEG_INFINITY,
    };
    for token in tokens(logits) {
        if token.logit > mode.logit {
            mode = token;
        }
    }
    if mode.logit == f32::NEG_INFINITY {
        return SampledRow::NothingPossible;
    }
    let chosen = if request.temperature < GREEDY_BELOW {
        mode
    } else {
        draw(&kept(logits, mode.logit, request), mode, request)
    };
    let mass: u64 = logits.iter().map(|logit| weight(logit - mode.logit)).sum();
    let log_mass = libm::log(mass as f64 / f64::from(WEIGHT_UNIT));
    let below = f64::from(chosen.logit) - f64::from(mode.logit);
    SampledRow::Token {
        id: chosen.id,
        logprob: (below - log_mass) as f32,
    }
}

#[derive(Debug, Clone, Copy)]
struct Token {
    id: u32,
    logit: f32,
}

fn tokens(logits: &[f32]) -> impl Iterator<Item = Token> {
    (0..).zip(logits).map(|(id, &logit)| Token { id, logit })
}

/// `e^x` for `x <= 0` in fixed point.
fn weight(x: f32) -> u64 {
    (exp(x) * WEIGHT_UNIT) as u64
}

/// The tokens that truncation keeps, by falling logit, lowest id among equals.
fn kept(logits: &[f32], max: f32, request: &SampleRow) -> Vec<Token> {
    let mut kept: Vec<Token> = tokens(logits).collect();
    kept.sort_by(|a, b| {
        b.logit
            .partial_cmp(&a.logit)
            .unwrap_or(std::cmp::Ordering::Equal)
    });
    // p >= min_p · p_max says (logit - max) / temperature >= ln(min_p); ln 0 is -inf.
    let reach = libm::log(f64::from(request.min_p)) * f64::from(request.temperature);
    let mut floor = (f64::from(max) + reach) as f32;
    if let Some(last) = (request.top_k as usize).checked_sub(1)
        && let Some(kth) = kept.get(last)
    {
        floor = floor.max(kth.logit);
    }
    kept.retain(|token| token.logit >= floor);
    if request.top_p < 1.0 {
        kept.truncate(nucleus_len(&kept, max, request));
    }
    kept
}

/// How many of the tokens hold the share `top_p` of their mass (Holtzman et al. 2020, "The curious case of
/// neural text degeneration", section 3.1).
fn nucleus_len(falling: &[Token], max: f32, request: &SampleRow) -> usize {
    let scale = 1.0 / request.temperature;
    let weights = || {
        falling
            .iter()
            .map(|token| weight((token.logit - max) * scale))
    };
    let total: u64 = weights().sum();
    let wanted = (total as f64 * f64::from(request.top_p)).ceil() as u64;
    let (target, mut sum) = (wanted.clamp(1, total), 0);
    let before = weights().take_while(|weight| {
        sum += weight;
        sum < target
    });
    before.count() + 1
}

/// The token with the largest scaled logit plus noise, the lowest id among equals. Scores are f64, so that a low
/// temperature's large scaled logits keep the noise's digits.
fn draw(kept: &[Token], mode: Token, request: &SampleRow) -> Token {
    let scale = 1.0 / f64::from(request.temperature);
    let (mut best, mut best_score) = (mode, f64::NEG_INFINITY);
    for token in kept {
        let scaled = (f64::from(token.logit) - f64::from(mode.logit)) * scale;
        let score = scaled + f64::from(gumbel(bits(request, token.id)));
        if score > best_score || (score == best_score && token.id < best.id) {
            (best, best_score) = (*token, score);
        }
    }
    best
}

/// A standard Gumbel variable.
fn gumbel(bits: u32) -> f32 {
    const STEP: f64 = 1.0 / (1_u64 << 32) as f64;
    let u = (f64::from(bits) + 0.5) * STEP;
    -libm::log(-libm::log(u)) as f32
}

/// The random bits of a token.
fn bits(request: &SampleRow, token: u32) -> u32 {
    let [low, high] = halves(request.position);
    philox4x32_10([token / 4, low, high, 0], halves(request.seed))[token as usize % 4]
}

fn philox4x32_10(counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    /// The multipliers and the key's increments (golden ratio, sqrt(3) - 1) of the paper's table 2.
    const MULTIPLY: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
    const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];

    let mut words = counter;
    for _ in 0..10 {
        let [low0, high0] = halves(u64::from(MULTIPLY[0]) * u64::from(words[0]));
        let [low1, high1] = halves(u64::from(MULTIPLY[1]) * u64::from(words[2]));
        words = [
            high1 ^ words[1] ^ key[0],
            low1,
            high0 ^ words[3] ^ key[1],
            low0,
        ];
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    words
}

/// Low and high half.
fn halves(x: u64) -> [u32; 2] {
    [x as u32, (x >> 32) as u32]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn philox_gives_the_known_answers_of_random123() {
        let pi = [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344];
        let known = [
            (
                [0; 4],
                [0; 2],
                [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8],
            ),
            (
                [!0; 4],
                [!0; 2],
                [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd],
            ),
            (
                pi,
                [0xa409_3822, 0x299f_31d0],
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
            ),
        ];
        for (counter, key, answer) in known {
            assert_eq!(philox4x32_10(counter, key), answer, "counter {counter:x?}");
        }
    }

    #[test]
    fn draws_follow_the_softmax() {
        let logits = [0.0_f32, 1.0, f32::NEG_INFINITY, 2.0, -1.0];
        let mut request = SampleRow {
            temperature: 0.7,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            seed: 7,
            position: 0,
        };
        const DRAWS: usize = 20_000;
        let mut seen = [0.0; 5];
        for position in 0..DRAWS as u64 {
            request.position = position;
            let SampledRow::Token { id, .. } = sample(&logits, &request) else {
                panic!("no token");
            };
            seen[id as usize] += 1.0 / DRAWS as f64;
        }
        let weights = logits.map(|logit| (f64::from(logit) / 0.7).exp());
        let total: f64 = weights.iter().sum();
        for (seen, weight) in seen.iter().zip(weights) {
            // Four standard deviations at most.
            assert!(
                (seen - weight / total).abs() < 0.015,
                "{seen} {}",
                weight / total
            );
        }
    }
}
