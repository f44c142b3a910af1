//! Registers of eight numbers: two of NEON's.
//!
//! What makes a value is unsafe and promises that the processor has NEON and its dot products, as on x86-64, so that the
//! kernels read the same for both. NEON itself belongs to every 64-bit ARM processor.

use std::arch::aarch64::*;
use std::arch::asm;

/// Eight f32 numbers.
#[derive(Clone, Copy)]
pub(crate) struct F32x8([float32x4_t; 2]);

/// Eight 32-bit integers.
#[derive(Clone, Copy)]
pub(crate) struct I32x8(pub(super) [int32x4_t; 2]);

/// Methods of one instruction for each half.
macro_rules! instructions {
    ($($(#[$doc:meta])* fn $name:ident($a:ident $(, $argument:ident)*) -> $out:ident => $half:expr;)*) => {$(
        $(#[$doc])*
        #[inline(always)]
        pub(crate) fn $name(self $(, $argument: Self)*) -> $out {
            let of = |i: usize| {
                let ($a, $($argument,)*) = (self.0[i], $($argument.0[i],)*);
                // SAFETY: values of this type exist only where the processor has the instruction.
                unsafe { $half }
            };
            $out([of(0), of(1)])
        }
    )*};
}

/// Bitwise operations on numbers.
macro_rules! on_bits {
    ($function:ident($($argument:ident),*)) => {
        vreinterpretq_f32_u32($function($(vreinterpretq_u32_f32($argument)),*))
    };
}

impl F32x8 {
    instructions! {
        fn add(a, other) -> F32x8 => vaddq_f32(a, other);
        fn sub(a, other) -> F32x8 => vsubq_f32(a, other);
        fn mul(a, other) -> F32x8 => vmulq_f32(a, other);
        fn div(a, other) -> F32x8 => vdivq_f32(a, other);
        /// `self * factor + added`, rounded once.
        fn mul_add(a, factor, added) -> F32x8 => vfmaq_f32(added, a, factor);
        /// `added - self * factor`, rounded once.
        fn mul_sub_from(a, factor, added) -> F32x8 => vfmsq_f32(added, a, factor);
        /// The greater numbers; NaN where one is NaN.
        fn max(a, other) -> F32x8 => vmaxq_f32(a, other);
        /// The smaller numbers, as [`F32x8::max`].
        fn min(a, other) -> F32x8 => vminq_f32(a, other);
        fn and(a, other) -> F32x8 => on_bits!(vandq_u32(a, other));
        fn or(a, other) -> F32x8 => on_bits!(vorrq_u32(a, other));
        /// The bits of `other` that are not in `self`.
        fn and_not(a, other) -> F32x8 => on_bits!(vbicq_u32(other, a));
        /// The same bits as integers.
        fn bits(a) -> I32x8 => vreinterpretq_s32_f32(a);
        /// The nearest integers, ties to even. What does not fit becomes any integer.
        fn nearest(a) -> I32x8 => vcvtnq_s32_f32(a);
        /// All bits where a number is not less than the other or one of them is NaN, else none.
        fn is_not_less(a, other) -> F32x8 => vreinterpretq_f32_u32(vmvnq_u32(vcltq_f32(a, other)));
        /// All bits where a number is NaN, else none.
        fn is_nan(a) -> F32x8 => vreinterpretq_f32_u32(vmvnq_u32(vceqq_f32(a, a)));
        /// `self` where all bits of the mask are set, `other` where none is.
        fn where_or(a, mask, other) -> F32x8 => vbslq_f32(vreinterpretq_u32_f32(mask), a, other);
    }

    /// # Safety
    ///
    /// The processor has the instructions.
    #[inline(always)]
    pub(crate) unsafe fn splat(number: f32) -> Self {
        // SAFETY: promised by the caller.
        Self([unsafe { vdupq_n_f32(number) }; 2])
    }

    /// # Safety
    ///
    /// The processor has the instructions, and eight numbers are readable.
    #[inline(always)]
    pub(crate) unsafe fn load(numbers: *const f32) -> Self {
        // SAFETY: promised by the caller.
        Self(unsafe { [vld1q_f32(numbers), vld1q_f32(numbers.add(4))] })
    }

    /// # Safety
    ///
    /// There is space for eight numbers.
    #[inline(always)]
    pub(crate) unsafe fn store(self, place: *mut f32) {
        // SAFETY: promised by the caller.
        unsafe {
            vst1q_f32(place, self.0[0]);
            vst1q_f32(place.add(4), self.0[1]);
        }
    }

    /// The first number.
    #[inline(always)]
    pub(crate) fn first(self) -> f32 {
        // SAFETY: see the module.
        unsafe { vgetq_lane_f32::<0>(self.0[0]) }
    }

    /// The greatest number; NaN where one is NaN.
    #[inline(always)]
    pub(crate) fn greatest(self) -> f32 {
        // SAFETY: see the module.
        unsafe { vmaxvq_f32(vmaxq_f32(self.0[0], self.0[1])) }
    }

    /// Eight f16 numbers, widened.
    ///
    /// # Safety
    ///
    /// The processor has the instructions, and 16 bytes are readable.
    #[inline(always)]
    pub(crate) unsafe fn of_halves(numbers: *const u8) -> Self {
        let (low, high): (float32x4_t, float32x4_t);
        // SAFETY: promised by the caller. The intrinsics have a type for f16 that is not stable.
        unsafe {
            let halves = vld1q_u8(numbers);
            asm!(
                "fcvtl {low:v}.4s, {halves:v}.4h",
                "fcvtl2 {high:v}.4s, {halves:v}.8h",
                halves = in(vreg) halves,
                low = out(vreg) low,
                high = lateout(vreg) high,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
        Self([low, high])
    }
}

impl I32x8 {
    instructions! {
        fn add(a, other) -> I32x8 => vaddq_s32(a, other);
        fn sub(a, other) -> I32x8 => vsubq_s32(a, other);
        fn mul(a, other) -> I32x8 => vmulq_s32(a, other);
        fn and(a, other) -> I32x8 => vandq_s32(a, other);
        fn or(a, other) -> I32x8 => vorrq_s32(a, other);
        /// The greater integers, taken as unsigned ones.
        fn max_unsigned(a, other) -> I32x8 =>
            vreinterpretq_s32_u32(vmaxq_u32(vreinterpretq_u32_s32(a), vreinterpretq_u32_s32(other)));
        /// All bits where an integer is greater than the other, else none.
        fn is_greater(a, other) -> I32x8 => vreinterpretq_s32_u32(vcgtq_s32(a, other));
        /// The nearest numbers.
        fn floats(a) -> F32x8 => vcvtq_f32_s32(a);
        /// The same bits as numbers.
        fn as_floats(a) -> F32x8 => vreinterpretq_f32_s32(a);
    }

    /// # Safety
    ///
    /// The processor has the instructions.
    #[inline(always)]
    pub(crate) unsafe fn splat(integer: i32) -> Self {
        // SAFETY: promised by the caller.
        Self([unsafe { vdupq_n_s32(integer) }; 2])
    }

    /// # Safety
    ///
    /// The processor has the instructions, and 32 bytes are readable.
    #[inline(always)]
    pub(crate) unsafe fn load(integers: *const u8) -> Self {
        // SAFETY: promised by the caller. Bytes need no alignment.
        let half = |at: usize| unsafe { vreinterpretq_s32_u8(vld1q_u8(integers.add(at))) };
        Self([half(0), half(16)])
    }

    /// Eight 16-bit integers without a sign, widened.
    ///
    /// # Safety
    ///
    /// The processor has the instructions, and 16 bytes are readable.
    #[inline(always)]
    pub(crate) unsafe fn of_u16s(integers: *const u8) -> Self {
        // SAFETY: promised by the caller.
        unsafe { Self::widened(vreinterpretq_u16_u8(vld1q_u8(integers))) }
    }

    /// Eight bytes, widened.
    ///
    /// # Safety
    ///
    /// The processor has the instructions, and 8 bytes are readable.
    #[inline(always)]
    pub(crate) unsafe fn of_bytes(bytes: *const u8) -> Self {
        // SAFETY: promised by the caller.
        unsafe { Self::widened(vmovl_u8(vld1_u8(bytes))) }
    }

    /// # Safety
    ///
    /// The processor has the instructions.
    #[inline(always)]
    unsafe fn widened(integers: uint16x8_t) -> Self {
        // SAFETY: promised by the caller.
        unsafe {
            Self([
                vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(integers))),
                vreinterpretq_s32_u32(vmovl_high_u16(integers)),
            ])
        }
    }

    /// `self << BITS`.
    #[inline(always)]
    pub(crate) fn shift_left<const BITS: i32>(self) -> Self {
        // SAFETY: see the module.
        Self(self.0.map(|half| unsafe { vshlq_n_s32::<BITS>(half) }))
    }

    /// `self >> BITS`, with zeros from the left.
    #[inline(always)]
    pub(crate) fn shift_right<const BITS: i32>(self) -> Self {
        // SAFETY: see the module.
        let shifted = |half| unsafe { vshrq_n_u32::<BITS>(vreinterpretq_u32_s32(half)) };
        // SAFETY: see the module.
        Self(
            self.0
                .map(|half| unsafe { vreinterpretq_s32_u32(shifted(half)) }),
        )
    }

    #[inline(always)]
    pub(crate) fn to_array(self) -> [i32; 8] {
        // SAFETY: both are eight integers.
        unsafe { std::mem::transmute(self.0) }
    }

    /// The low halves of eight integers.
    #[inline(always)]
    fn halves(self) -> uint16x8_t {
        let [low, high] = self.0;
        // SAFETY: see the module.
        unsafe { vuzp1q_u16(vreinterpretq_u16_s32(low), vreinterpretq_u16_s32(high)) }
    }

    /// Writes the low halves of sixteen integers, which lie within 16 bits without a sign.
    ///
    /// # Safety
    ///
    /// There is space for eight words.
    #[inline(always)]
    pub(crate) unsafe fn store_halves(low: Self, high: Self, words: *mut u32) {
        // SAFETY: promised by the caller.
        unsafe {
            vst1q_u32(words, vreinterpretq_u32_u16(low.halves()));
            vst1q_u32(words.add(4), vreinterpretq_u32_u16(high.halves()));
        }
    }

    /// Writes the low bytes of 32 integers, which lie within 8 bits with a sign.
    ///
    /// # Safety
    ///
    /// There is space for eight words.
    #[inline(always)]
    pub(crate) unsafe fn store_bytes([a, b, c, d]: [Self; 4], words: *mut u32) {
        // SAFETY: promised by the caller.
        unsafe {
            for (pair, [low, high]) in [[a, b], [c, d]].into_iter().enumerate() {
                let [low, high] = [low, high].map(|x| vreinterpretq_u8_u16(x.halves()));
                let bytes = vreinterpretq_u32_u8(vuzp1q_u8(low, high));
                vst1q_u32(words.add(4 * pair), bytes);
            }
        }
    }

    /// Writes the words in which eight integers of 16 bits meet two words of four bytes: of each four, the first and the
    /// third, then the others. See `pair_up` of the products.
    ///
    /// # Safety
    ///
    /// There is space for four words.
    #[inline(always)]
    pub(crate) unsafe fn store_pairs(self, words: *mut u32) {
        // SAFETY: promised by the caller.
        unsafe {
            for (quad, integers) in self.0.into_iter().enumerate() {
                let integers = vreinterpretq_u32_s32(integers);
                let later = vshl_n_u32::<16>(vget_high_u32(integers));
                vst1_u32(words.add(2 * quad), vorr_u32(vget_low_u32(integers), later));
            }
        }
    }
}

/// Asks for a cache line that is wanted next.
#[inline(always)]
pub(crate) fn fetch_near(address: *const u8) {
    // SAFETY: a prefetch may name any address.
    unsafe {
        asm!("prfm pldl1keep, [{0}]", in(reg) address, options(readonly, nostack, preserves_flags));
    }
}

/// Asks for a cache line that is wanted soon: into the second-level cache.
#[inline(always)]
pub(crate) fn fetch_far(address: *const u8) {
    // SAFETY: a prefetch may name any address.
    unsafe {
        asm!("prfm pldl2keep, [{0}]", in(reg) address, options(readonly, nostack, preserves_flags));
    }
}
