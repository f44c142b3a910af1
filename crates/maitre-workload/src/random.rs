//! Random numbers that are the same on every machine for the same seed.
//!
//! SplitMix64 gives the bits, and `libm` the logarithms and powers, since those of the standard library may differ
//! between platforms in their last bit.

/// SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Random(u64);

impl Random {
    /// A stream of its own for each pair of a seed and a number of the stream.
    pub fn new(seed: u64, stream: u64) -> Self {
        Self(mix(mix(seed) ^ stream))
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// Uniform above 0 and up to 1, so that its logarithm is finite.
    pub fn unit(&mut self) -> f64 {
        // 53 bits are the precision of a double.
        ((self.bits() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    /// Uniform in `0..bound`, up to a bias of `bound` / 2⁶⁴; 0 if `bound` is.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(bound)) >> 64) as u64
    }

    /// Exponential with mean 1: the gaps of a Poisson process of rate 1.
    pub fn exponential(&mut self) -> f64 {
        -libm::log(self.unit())
    }

    /// Normal with mean 0 and variance 1 (Box and Muller 1958).
    pub fn normal(&mut self) -> f64 {
        let radius = (2.0 * self.exponential()).sqrt();
        radius * libm::cos(2.0 * std::f64::consts::PI * self.unit())
    }

    /// Gamma with this shape and scale 1 (Marsaglia and Tsang 2000, "A simple method for generating gamma variables").
    pub fn gamma(&mut self, shape: f64) -> f64 {
        if shape < 1.0 {
            // Their section 6: the variable of shape + 1, times a power of a uniform one.
            let boost = libm::pow(self.unit(), 1.0 / shape);
            return self.gamma(shape + 1.0) * boost;
        }
        let d = shape - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let x = self.normal();
            let v = 1.0 + c * x;
            if v <= 0.0 {
                continue;
            }
            let v = v * v * v;
            if libm::log(self.unit()) < 0.5 * x * x + d - d * v + d * libm::log(v) {
                return d * v;
            }
        }
    }
}

/// The finaliser of SplitMix64: every input bit changes half of the output bits.
#[must_use]
pub fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(mut draw: impl FnMut() -> f64) -> (f64, f64) {
        let drawn: Vec<f64> = (0..200_000).map(|_| draw()).collect();
        let mean = drawn.iter().sum::<f64>() / drawn.len() as f64;
        let squares = drawn.iter().map(|x| (x - mean) * (x - mean));
        (mean, squares.sum::<f64>() / drawn.len() as f64)
    }

    #[test]
    fn distributions_have_their_means_and_variances() {
        let mut random = Random::new(1, 2);
        let near = |(mean, variance): (f64, f64), expected: (f64, f64)| {
            let close = (mean - expected.0).abs() < 0.02 && (variance - expected.1).abs() < 0.1;
            assert!(close, "{mean} {variance}, expected {expected:?}");
        };
        near(moments(|| random.unit()), (0.5, 1.0 / 12.0));
        near(moments(|| random.exponential()), (1.0, 1.0));
        near(moments(|| random.normal()), (0.0, 1.0));
        // Mean and variance of a gamma variable of scale 1 are its shape.
        for shape in [0.25, 1.0, 3.0] {
            near(moments(|| random.gamma(shape)), (shape, shape));
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_numbers_and_another_stream_others() {
        let draw = |seed, stream| {
            let mut random = Random::new(seed, stream);
            [random.bits(), random.below(1 << 40)]
        };
        assert_eq!(draw(7, 1), draw(7, 1));
        assert_ne!(draw(7, 1), draw(7, 2));
        assert_ne!(draw(7, 1), draw(8, 1));
        assert_eq!(Random::new(1, 1).below(0), 0);
    }
}
