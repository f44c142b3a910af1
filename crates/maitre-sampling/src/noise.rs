//! Gumbel noise as a pure function of (seed, output position, purpose, token).
//!
//! The random bits come from Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as
//! 1, 2, 3", section 4.3), a generator without state: it enciphers a counter under a key. Here
//!
//! ```text
//! key     = seed, low and high half
//! counter = [token / 4, position low, position high, purpose]
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

/// What a random number decides: the last word of the counter. Numbers of different purposes are independent,
/// which is what makes rejection sampling exact: a draft drawn with the number that then judges it, or that
/// replaces it, would follow another distribution than the target's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Purpose {
    /// The choice of a token from the target model's own row.
    Target = 0,
    /// The choice of a drafted token from a draft model's row.
    Draft,
    /// Whether a drafted token is accepted.
    Accept,
    /// The choice of a token in place of a drafted one that was not accepted.
    Residual,
}

/// The random numbers of one decision: a number for each token, made when it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Noise {
    /// Which of all possible answers.
    pub seed: u64,
    /// Output position: how many tokens were generated before.
    pub position: u64,
    /// What is decided there.
    pub purpose: Purpose,
}

/// Tokens whose noise bits are computed together.
pub(crate) const BLOCK: usize = 64;
/// Philox results, of four words each, in a block.
const CALLS: usize = BLOCK / 4;

impl Noise {
    /// The noise with which the target model's own row becomes a token.
    #[must_use]
    pub fn target(seed: u64, position: u64) -> Self {
        let purpose = Purpose::Target;
        Self {
            seed,
            position,
            purpose,
        }
    }

    /// The Gumbel noise of `token`.
    #[must_use]
    pub fn gumbel(self, token: u32) -> f32 {
        from_bits(self.bits(token))
    }

    /// The random bits behind [`gumbel`](Self::gumbel).
    #[must_use]
    pub fn bits(self, token: u32) -> u32 {
        self.words(token / 4)[(token % 4) as usize]
    }

    /// One number for the whole decision, uniform in (0, 1), in steps of 2⁻⁵²: of the words that
    /// [`bits`](Self::bits) would give tokens 0 and 1.
    #[must_use]
    pub fn uniform(self) -> f64 {
        const STEP: f64 = 1.0 / (1_u64 << 52) as f64;
        let [high, low, ..] = self.words(0);
        let bits = (u64::from(high) << 20) | u64::from(low >> 12);
        (bits as f64 + 0.5) * STEP
    }

    /// [`bits`](Self::bits) of the [`BLOCK`] tokens from `block · BLOCK` on.
    pub(crate) fn block_bits(self, block: u32) -> [u32; BLOCK] {
        let noise = self;
        pulp::Arch::new().dispatch(BlockBits { noise, block })
    }

    /// The same, to be compiled for a width of vector.
    #[inline(always)]
    fn plain_block_bits(self, block: u32) -> [u32; BLOCK] {
        let first = block * CALLS as u32;
        let mut words = self.counter(0).map(|word| [word; CALLS]);
        for (call, word) in words[0].iter_mut().enumerate() {
            *word = first + call as u32;
        }
        rounds(&mut words, halves(self.seed));
        let mut bits = [0; BLOCK];
        for (token, bits) in bits.iter_mut().enumerate() {
            *bits = words[token % 4][token / 4];
        }
        bits
    }

    fn words(self, call: u32) -> [u32; 4] {
        philox4x32_10(self.counter(call), halves(self.seed))
    }

    fn counter(self, call: u32) -> [u32; 4] {
        let [low, high] = halves(self.position);
        [call, low, high, self.purpose as u32]
    }
}

/// What [`Noise::block_bits`] computes.
struct BlockBits {
    noise: Noise,
    block: u32,
}

impl pulp::WithSimd for BlockBits {
    type Output = [u32; BLOCK];

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> [u32; BLOCK] {
        self.noise.plain_block_bits(self.block)
    }
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

/// Ten Philox rounds on `N` counters side by side, `words[i][n]` being word `i` of counter `n`: an
/// order in which the compiler can vectorise them.
#[inline(always)]
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

    const PURPOSES: [Purpose; 4] = [
        Purpose::Target,
        Purpose::Draft,
        Purpose::Accept,
        Purpose::Residual,
    ];

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
            for purpose in PURPOSES {
                let noise = Noise { seed, position, purpose };
                let one_by_one: Vec<u32> =
                    (0..BLOCK as u32).map(|n| noise.bits(first + n)).collect();
                prop_assert_eq!(&noise.block_bits(block)[..], &one_by_one[..]);
            }
        }

        /// Answers that were given stay the same: this is the formula of the module's root page.
        #[test]
        fn bits_are_a_word_of_the_enciphered_counter(seed: u64, position: u64, token: u32) {
            for (number, purpose) in (0..).zip(PURPOSES) {
                let noise = Noise { seed, position, purpose };
                let counter = [token / 4, position as u32, (position >> 32) as u32, number];
                let words = philox4x32_10(counter, [seed as u32, (seed >> 32) as u32]);
                prop_assert_eq!(noise.bits(token), words[(token % 4) as usize]);
                prop_assert!(noise.uniform() > 0.0 && noise.uniform() < 1.0);
            }
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
