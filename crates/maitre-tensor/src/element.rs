//! One stored number: how it widens to `f32` and how an `f32` is rounded to it.
//!
//! The `half` crate asks the processor for its conversion instruction on every single call, which
//! keeps a loop from being vectorised. These conversions are branch-free integer arithmetic
//! instead, so that the compiler turns a loop over them into vector code on plain x86-64. The
//! tests compare them with `half`, exhaustively where they can.

use half::{bf16, f16};

use crate::DType;
use crate::aligned::Plain;

/// A number format that weights or caches are stored in.
pub(crate) trait Element: Plain {
    /// The format's public name.
    const DTYPE: DType;

    /// The value as `f32`; always exact.
    fn widen(self) -> f32;

    /// The nearest value of this format, ties to even.
    fn round(value: f32) -> Self;

    /// The element stored little-endian in the first bytes of `bytes`.
    fn from_le_bytes(bytes: &[u8]) -> Self;
}

impl Element for f32 {
    const DTYPE: DType = DType::F32;

    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }

    #[inline(always)]
    fn round(value: f32) -> Self {
        value
    }

    #[inline(always)]
    fn from_le_bytes(bytes: &[u8]) -> Self {
        Self::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    }
}

impl Element for bf16 {
    const DTYPE: DType = DType::Bf16;

    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }

    #[inline(always)]
    fn round(value: f32) -> Self {
        let bits = value.to_bits();
        // Adding half of the dropped range, less one when the kept part is even, carries into the
        // kept bits exactly when rounding to nearest even goes up (also into infinity).
        let nearest = bits.wrapping_add(0x7fff + ((bits >> 16) & 1));
        // The carry could turn a NaN into zero: keep its sign and make it quiet instead.
        let kept = if value.is_nan() {
            bits | 0x0040_0000
        } else {
            nearest
        };
        Self::from_bits((kept >> 16) as u16)
    }

    #[inline(always)]
    fn from_le_bytes(bytes: &[u8]) -> Self {
        Self::from_le_bytes([bytes[0], bytes[1]])
    }
}

impl Element for f16 {
    const DTYPE: DType = DType::F16;

    #[inline(always)]
    fn widen(self) -> f32 {
        // Between the exponent biases of f16 (15) and f32 (127), at the place of f32's exponent.
        const REBIAS: u32 = (127 - 15) << 23;
        let half = u32::from(self.to_bits());
        let sign = (half & 0x8000) << 16;
        let shifted = (half & 0x7fff) << 13;
        let exponent = half & 0x7c00;
        // Subnormal: place the fraction after a one at 2^-14, then take the one away again.
        let subnormal = (f32::from_bits(shifted + REBIAS + (1 << 23))
            - f32::from_bits(REBIAS + (1 << 23)))
        .to_bits();
        let magnitude = if exponent == 0x7c00 {
            shifted | 0x7f80_0000
        } else if exponent == 0 {
            subnormal
        } else {
            shifted + REBIAS
        };
        f32::from_bits(sign | magnitude)
    }

    #[inline(always)]
    fn round(value: f32) -> Self {
        const REBIAS: u32 = (127 - 15) << 23;
        // First magnitude that rounds to infinity anyway, and the smallest normal f16.
        const OVERFLOW: u32 = (127 + 16) << 23;
        const SMALLEST_NORMAL: u32 = (127 - 14) << 23;
        // Adding this number makes the floating-point unit round to multiples of 2^-24.
        const SUBNORMAL_MAGIC: u32 = (127 - 1) << 23;
        let bits = value.to_bits();
        let sign = (bits >> 16) & 0x8000;
        let magnitude = bits & 0x7fff_ffff;
        let normal = magnitude
            .wrapping_sub(REBIAS)
            .wrapping_add(0x0fff + ((magnitude >> 13) & 1))
            >> 13;
        let subnormal = (f32::from_bits(magnitude) + f32::from_bits(SUBNORMAL_MAGIC))
            .to_bits()
            .wrapping_sub(SUBNORMAL_MAGIC);
        let kept = if magnitude > 0x7f80_0000 {
            0x7e00
        } else if magnitude >= OVERFLOW {
            0x7c00
        } else if magnitude < SMALLEST_NORMAL {
            subnormal
        } else {
            normal
        };
        Self::from_bits((sign | kept) as u16)
    }

    #[inline(always)]
    fn from_le_bytes(bytes: &[u8]) -> Self {
        Self::from_le_bytes([bytes[0], bytes[1]])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every bit pattern whose low 12 bits sit at, just below or just above a rounding boundary of
    /// either format, of both signs and every exponent.
    fn interesting_floats() -> impl Iterator<Item = f32> {
        (0..=u32::MAX >> 12).flat_map(|high| {
            [0x000, 0x001, 0x7ff, 0x800, 0xfff]
                .into_iter()
                .map(move |low| f32::from_bits((high << 12) | low))
        })
    }

    #[test]
    fn every_f16_and_bf16_widens_as_the_half_crate_does() {
        for bits in 0..=u16::MAX {
            let (a, b) = (f16::from_bits(bits), bf16::from_bits(bits));
            if a.is_nan() {
                assert!(Element::widen(a).is_nan());
            } else {
                assert_eq!(Element::widen(a).to_bits(), a.to_f32().to_bits());
            }
            if b.is_nan() {
                assert!(Element::widen(b).is_nan());
            } else {
                assert_eq!(Element::widen(b).to_bits(), b.to_f32().to_bits());
            }
        }
    }

    #[test]
    fn rounding_is_to_nearest_even_as_in_the_half_crate() {
        for value in interesting_floats() {
            let (half, brain) = (
                <f16 as Element>::round(value),
                <bf16 as Element>::round(value),
            );
            if value.is_nan() {
                assert!(half.is_nan() && brain.is_nan());
            } else {
                assert_eq!(half.to_bits(), f16::from_f32(value).to_bits(), "{value:e}");
                assert_eq!(
                    brain.to_bits(),
                    bf16::from_f32(value).to_bits(),
                    "{value:e}"
                );
            }
        }
    }
}
