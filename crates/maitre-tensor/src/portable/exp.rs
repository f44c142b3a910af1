//! The exponential function, as straight-line arithmetic that the compiler can vectorise.
//!
//! The mathematics library of the system is called once per number, and may choose its
//! instructions, and with them the last bit, by processor.

/// `e^x` within 2 units in the last place on `[-87.3, 88]`; zero below, `e^88` above, NaN for NaN.
///
/// Cody and Waite's reduction `x = n ln 2 + r`, `|r| <= ln 2 / 2`, then the polynomial of Cephes'
/// `expf` (Moshier 1984-2000) for `e^r`, and `2^n` by way of the exponent bits.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // Below it the result would be subnormal.
    const SMALLEST: f32 = -87.3;
    // Above it `n` could be 128, which has no exponent bits.
    const LARGEST: f32 = 88.0;
    // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits.
    const MAGIC: f32 = 12_582_912.0;
    // ln 2 in two parts: the first has few enough bits that `n` times it is exact.
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;

    let clamped = x.clamp(SMALLEST, LARGEST);
    let shifted = clamped * std::f32::consts::LOG2_E + MAGIC;
    let n = shifted - MAGIC;
    let r = clamped - n * LN_2_HIGH - n * LN_2_LOW;
    let polynomial =
        ((((1.987_569_1e-4 * r + 1.398_199_9e-3) * r + 8.333_452e-3) * r + 4.166_579_6e-2) * r
            + 1.666_666_5e-1)
            * r
            + 5.0e-1;
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23));
    let result = (polynomial * (r * r) + r + 1.0) * power;
    if x < SMALLEST { 0.0 } else { result }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_double_precision() {
        let mut worst = 0.0_f64;
        for step in 0..=4_000_000 {
            let x = -87.3 + step as f32 * (175.3 / 4_000_000.0);
            let exact = f64::from(x).exp();
            let ulp = f64::from(f32::EPSILON) * exact;
            worst = worst.max((f64::from(exp(x.min(88.0))) - exact.min(88_f64.exp())).abs() / ulp);
        }
        assert!(worst < 2.0, "{worst} units in the last place");
    }

    #[test]
    fn the_ends_saturate_and_nan_stays() {
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-0.0), 1.0);
        assert_eq!(exp(-88.0), 0.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(f32::INFINITY), exp(88.0));
        assert!(exp(88.0).is_finite());
        assert!(exp(f32::NAN).is_nan());
    }
}
