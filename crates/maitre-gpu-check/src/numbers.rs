//! Numbers to compute with, and how far apart two results are.

/// Numbers between -1 and 1, the same for the same seed.
pub(super) fn random(seed: u64, len: usize) -> Vec<f32> {
    let mut dice = Dice::new(seed);
    (0..len).map(|_| dice.number()).collect()
}

/// The little-endian bytes of numbers, as a file stores them.
pub(super) fn bytes_of(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|it| it.to_le_bytes()).collect()
}

/// A source of numbers that look random: xorshift (Marsaglia 2003).
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        let mut dice = Self(seed.wrapping_mul(2).wrapping_add(0x9e37_79b9_7f4a_7c15) | 1);
        // Small seeds begin alike.
        for _ in 0..4 {
            dice.next();
        }
        dice
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Below `limit`, which is above 0.
    pub(super) fn below(&mut self, limit: usize) -> usize {
        ((self.next() >> 33) % limit as u64) as usize
    }

    fn number(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}

/// The largest difference as a share of the largest expected number. What is no number, or not there, is as far
/// away as can be.
pub(super) fn relative_error(expected: &[f32], actual: &[f32]) -> f64 {
    if expected.len() != actual.len() {
        return f64::INFINITY;
    }
    let largest = expected
        .iter()
        .fold(f32::MIN_POSITIVE, |most, it| most.max(it.abs()));
    let differences = expected.iter().zip(actual).map(|(a, b)| (a - b).abs());
    let most = differences.fold(0.0_f32, |most, it| match it.is_nan() {
        true => f32::INFINITY,
        false => most.max(it),
    });
    f64::from(most) / f64::from(largest)
}

/// How many numbers have the same bits.
pub(super) fn equal_bits(expected: &[f32], actual: &[f32]) -> usize {
    let pairs = expected.iter().zip(actual);
    pairs.filter(|(a, b)| a.to_bits() == b.to_bits()).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_told_as_a_share_of_the_largest() {
        assert_eq!(relative_error(&[4.0, -1.0], &[4.0, -1.0]), 0.0);
        assert_eq!(relative_error(&[4.0, -1.0], &[4.0, -2.0]), 0.25);
        assert_eq!(relative_error(&[1.0], &[f32::NAN]), f64::INFINITY);
        assert_eq!(relative_error(&[1.0], &[]), f64::INFINITY);
        assert_eq!(equal_bits(&[0.0, 1.0], &[-0.0, 1.0]), 1);
    }

    #[test]
    fn random_numbers_fill_their_range() {
        let numbers = random(1, 1000);
        assert!(numbers.iter().all(|it| (-1.0..1.0).contains(it)));
        assert!(numbers.iter().any(|it| *it > 0.9) && numbers.iter().any(|it| *it < -0.9));
        assert_ne!(random(1, 4), random(2, 4));
    }
}
