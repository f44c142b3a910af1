//! Gumbel noise as a pure function of (seed, output position, token).
//!
//! The random bits come from Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as
//! 1, 2, 3", section 4.3), a generator without state: it enciphers a counter under a key. Here
//!
//! ```text
//! key     = seed, low and high half
//! counter = [token / 4, position low, position high, PURPOSE]
//! bits    = word (token mod 4) of the result
//! u       = (bits + 1/2) / 2^32           in (0, 1), never 0 or 1
//! noise   = -ln(-ln u)                    a standard Gumbel variable
//! ```
//!
//! One result serves four neighbouring tokens, which makes a scan over a vocabulary four times
//! cheaper than a counter for each token would.
//!
//! **The noise is bounded**: `bits` has 2^32 values, so it lies within [[`MIN`], [`MAX`]]. A
//! token whose scaled logit is more than `MAX - MIN` (26.0: a share of 5·10⁻¹² of the most probable
//! token) below the best can't win and need not be drawn. Leaving it out changes no result.
//!
//! The logarithms are computed in f64 by code that is the same on every platform and then rounded to
//! f32: `u` close to 1 needs more than f32's 24 bits, the result does not, and a kernel that stays within
//! an f32's accuracy of it nearly always picks the same token.

/// No noise is below this: -ln(33·ln 2) = -3.12999…
pub const MIN: f32 = -3.13;
/// No noise is above this: 33·ln 2 = 22.87385…
pub const MAX: f32 = 22.874;
/// Last word of the counter: keeps these draws apart from any other use of a request's seed.
pub const PURPOSE: u32 = 0;

/// Tokens whose noise bits are computed together.
pub(crate) const BLOCK: usize = 64;
/// Philox results, of four words each, in a block.
const CALLS: usize = BLOCK / 4;

/// The noise of `token` at output position `position` (how many tokens were generated before).
#[must_use]
pub fn gumbel(seed: u64, position: u64, token: u32) -> f32 {
    from_bits(bits(seed, position, token))
}

/// The random bits behind [`gumbel`].
#[must_use]
pub fn bits(seed: u64, position: u64, token: u32) -> u32 {
    let [low, high] = halves(position);
    philox4x32_10([token / 4, low, high, PURPOSE], halves(seed))[(token % 4) as usize]
}

/// The Gumbel variable that `bits` stands for; grows with them.
#[must_use]
pub fn from_bits(bits: u32) -> f32 {
    const STEP: f64 = 1.0 / (1_u64 << 32) as f64;
    let u = (f64::from(bits) + 0.5) * STEP;
    -libm::log(-libm::log(u)) as f32
}

/// Philox4x32 with ten rounds: enciphers `counter` under `key`.
#[must_use]
pub fn philox4x32_10(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let mut words = counter.map(|word| [word]);
    rounds(&mut words, key);
    words.map(|[word]| word)
}

/// At least the noise that `bits` stands for, without a logarithm.
///
/// From `-ln u ≥ 1 - u` the noise is at most `-ln(1 - u)`, and `1 - u` is at least the power of two
/// that the leading ones of `bits` tell.
pub(crate) fn upper_bound(bits: u32) -> f64 {
    /// Above the rounding of [`from_bits`] to f32.
    const SLACK: f64 = 1e-5;
    f64::from(bits.leading_ones() + 1) * std::f64::consts::LN_2 + SLACK
}

/// [`bits`] of the [`BLOCK`] tokens from `block · BLOCK` on.
pub(crate) fn block_bits(seed: u64, position: u64, block: u32) -> [u32; BLOCK] {
    let [low, high] = halves(position);
    let first = block * CALLS as u32;
    let mut words = [[0; CALLS], [low; CALLS], [high; CALLS], [PURPOSE; CALLS]];
    for (call, word) in words[0].iter_mut().enumerate() {
        *word = first + call as u32;
    }
    rounds(&mut words, halves(seed));
    let mut bits = [0; BLOCK];
    for (token, bits) in bits.iter_mut().enumerate() {
        *bits = words[token % 4][token / 4];
    }
    bits
}

/// Ten Philox rounds on `N` counters side by side, `words[i][n]` being word `i` of counter `n`: an
/// order in which the compiler can vectorise them.
fn rounds<const N: usize>(words: &mut [[u32; N]; 4], mut key: [u32; 2]) {
    /// The multipliers and the key's increments (golden ratio, sqrt(3) - 1) of the paper's table 2.
    const MULTIPLY: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
    const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];

    let [w0, w1, w2, w3] = words;
    for _ in 0..10 {
        for n in 0..N {
            let [low0, high0] = halves(u64::from(MULTIPLY[0]) * u64::from(w0[n]));
            let [low1, high1] = halves(u64::from(MULTIPLY[1]) * u64::from(w2[n]));
            (w0[n], w1[n], w2[n], w3[n]) =
                (high1 ^ w1[n] ^ key[0], low1, high0 ^ w3[n] ^ key[1], low0);
        }
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
}

/// Low and high half.
fn halves(x: u64) -> [u32; 2] {
    [x as u32, (x >> 32) as u32]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
    fn noise_stays_within_its_bounds() {
        assert!(
            from_bits(0) > MIN && from_bits(0) < MIN + 1e-3,
            "{}",
            from_bits(0)
        );
        assert!(
            from_bits(!0) < MAX && from_bits(!0) > MAX - 1e-3,
            "{}",
            from_bits(!0)
        );
    }

    proptest! {
        #[test]
        fn a_block_holds_the_bits_of_its_tokens(seed: u64, position: u64, block in 0..0x3ff_ffff_u32) {
            let first = block * BLOCK as u32;
            let one_by_one: Vec<u32> =
                (0..BLOCK as u32).map(|n| bits(seed, position, first + n)).collect();
            prop_assert_eq!(&block_bits(seed, position, block)[..], &one_by_one[..]);
        }

        #[test]
        fn the_cheap_bound_is_an_upper_bound(bits: u32, leading in 0..=32_u32) {
            let bits = bits | !(u32::MAX.checked_shr(leading).unwrap_or(0));
            prop_assert!(f64::from(from_bits(bits)) <= upper_bound(bits));
        }

        #[test]
        fn noise_grows_with_its_bits(a: u32, b: u32) {
            prop_assert!(from_bits(a.min(b)) <= from_bits(a.max(b)));
        }
    }
}
