//! Predicting ids that are made from a counter and one secret number.
//!
//! For ids that are SplitMix64's finalizer (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number
//! generators", figure 14) over `secret ^ counter * GOLDEN`: the finalizer is a bijection that can be inverted, so
//! two ids of one's own give the secret away.

const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
const FACTORS: [u64; 2] = [0xBF58_476D_1CE4_E5B9, 0x94D0_49BB_1331_11EB];

/// How many requests a server may have had for its counter to be found.
const MOST_REQUESTS: u64 = 1 << 21;
/// How many others may lie between two of one's own.
const MOST_BETWEEN: u64 = 1 << 12;

/// The secret, and where its counter was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sequence {
    secret: u64,
    counter: u64,
}

impl Sequence {
    /// `None` if no counter explains the two.
    pub(super) fn from_two(before: u64, after: u64) -> Option<Self> {
        let (before, after) = (unmix(before), unmix(after));
        let unscaled = inverse(GOLDEN);
        (0..MOST_REQUESTS).find_map(|first| {
            let secret = before ^ first.wrapping_mul(GOLDEN);
            let counter = (after ^ secret).wrapping_mul(unscaled);
            let between = counter.wrapping_sub(first);
            (1..=MOST_BETWEEN)
                .contains(&between)
                .then_some(Self { secret, counter })
        })
    }

    /// The ids of requests up to `reach` before and after the last one.
    pub(super) fn around(&self, reach: u64) -> impl Iterator<Item = u64> + use<> {
        let Self { secret, counter } = *self;
        let counters = counter.saturating_sub(reach)..=counter + reach;
        counters.map(move |counter| mix(secret ^ counter.wrapping_mul(GOLDEN)))
    }
}

fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(FACTORS[0]);
    bits = (bits ^ (bits >> 27)).wrapping_mul(FACTORS[1]);
    bits ^ (bits >> 31)
}

fn unmix(bits: u64) -> u64 {
    let bits = unshift(bits, 31).wrapping_mul(inverse(FACTORS[1]));
    let bits = unshift(bits, 27).wrapping_mul(inverse(FACTORS[0]));
    unshift(bits, 30)
}

/// What gives `bits` when it is xored with itself shifted right.
fn unshift(bits: u64, by: u32) -> u64 {
    // Each turn makes `by` more bits right, from the top.
    (0..64 / by).fold(bits, |found, _| bits ^ (found >> by))
}

/// The number that an odd one multiplies to 1: Newton's iteration doubles the right bits each turn, from 3.
fn inverse(odd: u64) -> u64 {
    (0..5).fold(odd, |found, _| {
        found.wrapping_mul(2_u64.wrapping_sub(odd.wrapping_mul(found)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_ids_give_all_others_away() {
        let secret = 0x0123_4567_89ab_cdef;
        let id = |counter: u64| mix(secret ^ counter.wrapping_mul(GOLDEN));
        let found = Sequence::from_two(id(77_000), id(77_040)).unwrap();
        assert_eq!(found.secret, secret);
        assert!(found.around(8).any(|predicted| predicted == id(77_048)));
    }

    #[test]
    fn ids_without_a_counter_predict_nothing() {
        assert_eq!(Sequence::from_two(0x5151_7e57, 0xabcd_ef01_2345), None);
    }
}
