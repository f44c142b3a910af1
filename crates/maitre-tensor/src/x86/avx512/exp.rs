//! The exponential function of sixteen numbers.

use std::arch::x86_64::*;

/// `e^x` as [the portable one](crate::portable::exp::exp) computes it, but with fused
/// multiply-adds: exactly 1 at 0, 0 at negative infinity, NaN for NaN.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn exp(x: __m512) -> __m512 {
    // Below it the result would be subnormal.
    let smallest = _mm512_set1_ps(-87.3);
    // Of two operands of which one is NaN, these instructions return the second.
    let clamped = _mm512_max_ps(smallest, _mm512_min_ps(_mm512_set1_ps(88.0), x));
    let n = _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT }>(_mm512_mul_ps(
        clamped,
        _mm512_set1_ps(std::f32::consts::LOG2_E),
    ));
    // ln 2 in two parts: the first has few enough bits that `n` times it is exact.
    let r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693_359_4), clamped);
    let r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.121_944_4e-4), r);
    let mut polynomial = _mm512_set1_ps(1.987_569_1e-4);
    for coefficient in [
        1.398_199_9e-3,
        8.333_452e-3,
        4.166_579_6e-2,
        1.666_666_5e-1,
        5.0e-1,
    ] {
        polynomial = _mm512_fmadd_ps(polynomial, r, _mm512_set1_ps(coefficient));
    }
    let linear = _mm512_add_ps(r, _mm512_set1_ps(1.0));
    let result = _mm512_fmadd_ps(polynomial, _mm512_mul_ps(r, r), linear);
    let kept = _mm512_cmp_ps_mask::<_CMP_NLT_UQ>(x, smallest);
    _mm512_maskz_scalef_ps(kept, result, n)
}

#[cfg(test)]
#[allow(unsafe_code)]
mod tests {
    use super::*;

    fn sixteen(x: [f32; 16]) -> [f32; 16] {
        // SAFETY: the tests below have asked the processor, and arrays have the register's size.
        unsafe { std::mem::transmute(exp(std::mem::transmute::<[f32; 16], __m512>(x))) }
    }

    #[test]
    fn agrees_with_double_precision_and_keeps_the_ends() {
        if super::super::kernels().is_none() {
            println!("skipped: the processor lacks AVX-512 with VNNI and BF16");
            return;
        }
        let mut worst = 0.0_f64;
        for step in 0..200_000 {
            let x = std::array::from_fn(|i| -87.3 + (step * 16 + i) as f32 * (175.3 / 3_200_000.0));
            for (x, y) in x.into_iter().zip(sixteen(x)) {
                let exact = f64::from(x.min(88.0)).exp();
                worst = worst.max((f64::from(y) - exact).abs() / (f64::from(f32::EPSILON) * exact));
            }
        }
        assert!(worst < 2.0, "{worst} units in the last place");
        let ends = [0.0, -0.0, -88.0, f32::NEG_INFINITY, f32::INFINITY, f32::NAN];
        let y = sixteen(std::array::from_fn(|i| ends[i % 6]));
        assert_eq!(y[..4], [1.0, 1.0, 0.0, 0.0]);
        assert_eq!(y[4], sixteen([88.0; 16])[0]);
        assert!(y[5].is_nan());
    }
}
