//! The exponential function of eight numbers.

use super::isa::{F32x8, I32x8};

/// `e^x` as [the portable one](crate::portable::exp::exp) computes it, but with fused
/// multiply-adds: exactly 1 at 0, 0 at negative infinity, NaN for NaN.
///
/// # Safety
///
/// The processor has the instructions.
#[inline]
#[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma,f16c"))]
pub(super) unsafe fn exp(x: F32x8) -> F32x8 {
    // SAFETY: promised by the caller.
    let splat = |number: f32| unsafe { F32x8::splat(number) };
    // Below it the result would be subnormal.
    let smallest = splat(-87.3);
    // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits.
    let magic = splat(12_582_912.0);
    // NaN as the second of two numbers stays NaN.
    let clamped = smallest.max(splat(88.0).min(x));
    let shifted = clamped.mul_add(splat(std::f32::consts::LOG2_E), magic);
    let n = shifted.sub(magic);
    // ln 2 in two parts: the first has few enough bits that `n` times it is exact.
    let r = n.mul_sub_from(splat(0.693_359_4), clamped);
    let r = n.mul_sub_from(splat(-2.121_944_4e-4), r);
    let mut polynomial = splat(1.987_569_1e-4);
    for coefficient in [
        1.398_199_9e-3,
        8.333_452e-3,
        4.166_579_6e-2,
        1.666_666_5e-1,
        5.0e-1,
    ] {
        polynomial = polynomial.mul_add(r, splat(coefficient));
    }
    let result = polynomial.mul_add(r.mul(r), r.add(splat(1.0)));
    // `n` is at most 127 and at least -126, so that its power of two has exponent bits.
    let exponent = shifted.bits().shift_left::<23>();
    // SAFETY: promised by the caller.
    let power = exponent.add(unsafe { I32x8::splat(127 << 23) });
    x.is_not_less(smallest).and(result.mul(power.as_floats()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn eight(x: [f32; 8]) -> [f32; 8] {
        let mut y = [0.0; 8];
        // SAFETY: the tests below have asked the processor, and arrays have eight numbers.
        unsafe { exp(F32x8::load(x.as_ptr())).store(y.as_mut_ptr()) };
        y
    }

    #[test]
    fn agrees_with_double_precision_and_keeps_the_ends() {
        if super::super::isa::kernels().is_none() {
            println!("skipped: the processor lacks the instructions");
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
