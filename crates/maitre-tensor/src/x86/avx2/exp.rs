//! The exponential function of eight numbers.

use std::arch::x86_64::*;

/// `e^x` as [the portable one](crate::portable::exp::exp) computes it, but with fused
/// multiply-adds: exactly 1 at 0, 0 at negative infinity, NaN for NaN.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(super) fn exp(x: __m256) -> __m256 {
    // Below it the result would be subnormal.
    let smallest = _mm256_set1_ps(-87.3);
    // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits.
    let magic = _mm256_set1_ps(12_582_912.0);
    // Of two operands of which one is NaN, these instructions return the second.
    let clamped = _mm256_max_ps(smallest, _mm256_min_ps(_mm256_set1_ps(88.0), x));
    let shifted = _mm256_fmadd_ps(clamped, _mm256_set1_ps(std::f32::consts::LOG2_E), magic);
    let n = _mm256_sub_ps(shifted, magic);
    // ln 2 in two parts: the first has few enough bits that `n` times it is exact.
    let r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0.693_359_4), clamped);
    let r = _mm256_fnmadd_ps(n, _mm256_set1_ps(-2.121_944_4e-4), r);
    let mut polynomial = _mm256_set1_ps(1.987_569_1e-4);
    for coefficient in [
        1.398_199_9e-3,
        8.333_452e-3,
        4.166_579_6e-2,
        1.666_666_5e-1,
        5.0e-1,
    ] {
        polynomial = _mm256_fmadd_ps(polynomial, r, _mm256_set1_ps(coefficient));
    }
    let linear = _mm256_add_ps(r, _mm256_set1_ps(1.0));
    let result = _mm256_fmadd_ps(polynomial, _mm256_mul_ps(r, r), linear);
    // `n` is at most 127 and at least -126, so that its power of two has exponent bits.
    let exponent = _mm256_slli_epi32::<23>(_mm256_castps_si256(shifted));
    let power = _mm256_add_epi32(exponent, _mm256_set1_epi32(127 << 23));
    let kept = _mm256_cmp_ps::<_CMP_NLT_UQ>(x, smallest);
    _mm256_and_ps(kept, _mm256_mul_ps(result, _mm256_castsi256_ps(power)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn eight(x: [f32; 8]) -> [f32; 8] {
        // SAFETY: the tests below have asked the processor, and arrays have the register's size.
        unsafe { std::mem::transmute(exp(std::mem::transmute::<[f32; 8], __m256>(x))) }
    }

    #[test]
    fn agrees_with_double_precision_and_keeps_the_ends() {
        if super::super::kernels().is_none() {
            println!("skipped: the processor lacks AVX2, FMA or F16C");
            return;
        }
        let mut worst = 0.0_f64;
        for step in 0..400_000 {
            let x = std::array::from_fn(|i| -87.3 + (step * 8 + i) as f32 * (175.3 / 3_200_000.0));
            for (x, y) in x.into_iter().zip(eight(x)) {
                let exact = f64::from(x.min(88.0)).exp();
                worst = worst.max((f64::from(y) - exact).abs() / (f64::from(f32::EPSILON) * exact));
            }
        }
        assert!(worst < 2.0, "{worst} units in the last place");
        let ends = [
            0.0,
            -0.0,
            -88.0,
            f32::NEG_INFINITY,
            f32::INFINITY,
            f32::NAN,
            88.0,
            -1e30,
        ];
        let y = eight(ends);
        assert_eq!(y[..4], [1.0, 1.0, 0.0, 0.0]);
        assert_eq!(y[4], y[6]);
        assert!(y[5].is_nan());
        assert_eq!(y[7], 0.0);
    }
}
