//! Registers of eight numbers: 256 bits.
//!
//! A value of these types exists only where the processor has AVX2, FMA and F16C, since what makes one is unsafe and
//! promises that. So what computes with values is safe.

use std::arch::x86_64::*;

/// Eight f32 numbers.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct F32x8(__m256);

/// Eight 32-bit integers.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct I32x8(pub(super) __m256i);

/// Methods of one instruction.
macro_rules! instructions {
    ($($(#[$doc:meta])* fn $name:ident(self $(, $argument:ident)*) -> $out:ident => $instruction:ident;)*) => {$(
        $(#[$doc])*
        #[inline(always)]
        pub(crate) fn $name(self $(, $argument: Self)*) -> $out {
            // SAFETY: values of this type exist only where the processor has the instruction.
            $out(unsafe { $instruction(self.0 $(, $argument.0)*) })
        }
    )*};
}

impl F32x8 {
    instructions! {
        fn add(self, other) -> F32x8 => _mm256_add_ps;
        fn sub(self, other) -> F32x8 => _mm256_sub_ps;
        fn mul(self, other) -> F32x8 => _mm256_mul_ps;
        fn div(self, other) -> F32x8 => _mm256_div_ps;
        /// `self * factor + added`, rounded once.
        fn mul_add(self, factor, added) -> F32x8 => _mm256_fmadd_ps;
        /// `added - self * factor`, rounded once.
        fn mul_sub_from(self, factor, added) -> F32x8 => _mm256_fnmadd_ps;
        /// The greater numbers. Where `other` is NaN, NaN; where `self` alone is, either.
        fn max(self, other) -> F32x8 => _mm256_max_ps;
        /// The smaller numbers, as [`F32x8::max`].
        fn min(self, other) -> F32x8 => _mm256_min_ps;
        fn and(self, other) -> F32x8 => _mm256_and_ps;
        fn or(self, other) -> F32x8 => _mm256_or_ps;
        /// The bits of `other` that are not in `self`.
        fn and_not(self, other) -> F32x8 => _mm256_andnot_ps;
        /// The same bits as integers.
        fn bits(self) -> I32x8 => _mm256_castps_si256;
        /// The nearest integers, ties to even. What does not fit becomes any integer.
        fn nearest(self) -> I32x8 => _mm256_cvtps_epi32;
    }

    /// # Safety
    ///
    /// The processor has the instructions.
    #[inline(always)]
    pub(crate) unsafe fn splat(number: f32) -> Self {
        // SAFETY: promised by the caller.
        Self(unsafe { _mm256_set1_ps(number) })
    }

    /// # Safety
    ///
    /// The processor has the instructions, and eight numbers are readable.
    #[inline(always)]
    pub(crate) unsafe fn load(numbers: *const f32) -> Self {
        // SAFETY: promised by the caller.
        Self(unsafe { _mm256_loadu_ps(numbers) })
    }

    /// # Safety
    ///
    /// There is space for eight numbers.
    #[inline(always)]
    pub(crate) unsafe fn store(self, place: *mut f32) {
        // SAFETY: promised by the caller.
        unsafe { _mm256_storeu_ps(place, self.0) };
    }

    /// All bits where a number is not less than the other or one of them is NaN, else none.
    #[inline(always)]
    pub(crate) fn is_not_less(self, other: Self) -> Self {
        // SAFETY: see the module.
        Self(unsafe { _mm256_cmp_ps::<_CMP_NLT_UQ>(self.0, other.0) })
    }

    /// All bits where a number is NaN, else none.
    #[inline(always)]
    pub(crate) fn is_nan(self) -> Self {
        // SAFETY: see the module.
        Self(unsafe { _mm256_cmp_ps::<_CMP_UNORD_Q>(self.0, self.0) })
    }

    /// `self` where all bits of the mask are set, `other` where none is.
    #[inline(always)]
    pub(crate) fn where_or(self, mask: Self, other: Self) -> Self {
        // SAFETY: see the module.
        Self(unsafe { _mm256_blendv_ps(other.0, self.0, mask.0) })
    }

    /// The first number.
    #[inline(always)]
    pub(crate) fn first(self) -> f32 {
        // SAFETY: see the module.
        unsafe { _mm256_cvtss_f32(self.0) }
    }

    /// The greatest number; any of them where one is NaN.
    #[inline(always)]
    pub(crate) fn greatest(self) -> f32 {
        // SAFETY: see the module.
        unsafe {
            let four = _mm_max_ps(
                _mm256_castps256_ps128(self.0),
                _mm256_extractf128_ps::<1>(self.0),
            );
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
        }
    }

    /// Eight f16 numbers, widened.
    ///
    /// # Safety
    ///
    /// The processor has the instructions, and 16 bytes are readable.
    #[inline(always)]
    pub(crate) unsafe fn of_halves(numbers: *const u8) -> Self {
        // SAFETY: promised by the caller.
        Self(unsafe { _mm256_cvtph_ps(_mm_loadu_si128(numbers.cast())) })
    }
}

impl I32x8 {
    instructions! {
        fn add(self, other) -> I32x8 => _mm256_add_epi32;
        fn sub(self, other) -> I32x8 => _mm256_sub_epi32;
        fn mul(self, other) -> I32x8 => _mm256_mullo_epi32;
        fn and(self, other) -> I32x8 => _mm256_and_si256;
        fn or(self, other) -> I32x8 => _mm256_or_si256;
        /// The greater integers, taken as unsigned ones.
        fn max_unsigned(self, other) -> I32x8 => _mm256_max_epu32;
        /// All bits where an integer is greater than the other, else none.
        fn is_greater(self, other) -> I32x8 => _mm256_cmpgt_epi32;
        /// The nearest numbers.
        fn floats(self) -> F32x8 => _mm256_cvtepi32_ps;
        /// The same bits as numbers.
        fn as_floats(self) -> F32x8 => _mm256_castsi256_ps;
    }

    /// # Safety
    ///
    /// The processor has the instructions.
    #[inline(always)]
    pub(crate) unsafe fn splat(integer: i32) -> Self {
        // SAFETY: promised by the caller.
        Self(unsafe { _mm256_set1_epi32(integer) })
    }

    /// # Safety
    ///
    /// The processor has the instructions, and 32 bytes are readable.
    #[inline(always)]
    pub(crate) unsafe fn load(integers: *const u8) -> Self {
        // SAFETY: promised by the caller.
        Self(unsafe { _mm256_loadu_si256(integers.cast()) })
    }

    /// Eight 16-bit integers without a sign, widened.
    ///
    /// # Safety
    ///
    /// The processor has the instructions, and 16 bytes are readable.
    #[inline(always)]
    pub(crate) unsafe fn of_u16s(integers: *const u8) -> Self {
        // SAFETY: promised by the caller.
        Self(unsafe { _mm256_cvtepu16_epi32(_mm_loadu_si128(integers.cast())) })
    }

    /// Eight bytes, widened.
    ///
    /// # Safety
    ///
    /// The processor has the instructions, and 8 bytes are readable.
    #[inline(always)]
    pub(crate) unsafe fn of_bytes(bytes: *const u8) -> Self {
        // SAFETY: promised by the caller.
        Self(unsafe { _mm256_cvtepu8_epi32(_mm_loadl_epi64(bytes.cast())) })
    }

    /// `self << BITS`.
    #[inline(always)]
    pub(crate) fn shift_left<const BITS: i32>(self) -> Self {
        // SAFETY: see the module.
        Self(unsafe { _mm256_slli_epi32::<BITS>(self.0) })
    }

    /// `self >> BITS`, with zeros from the left.
    #[inline(always)]
    pub(crate) fn shift_right<const BITS: i32>(self) -> Self {
        // SAFETY: see the module.
        Self(unsafe { _mm256_srli_epi32::<BITS>(self.0) })
    }

    #[inline(always)]
    pub(crate) fn to_array(self) -> [i32; 8] {
        // SAFETY: both are eight integers.
        unsafe { std::mem::transmute(self.0) }
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
            // Quarters 0 and 2 are the low numbers, 1 and 3 the high ones.
            let packed = _mm256_packus_epi32(low.0, high.0);
            let pairs = _mm256_permute4x64_epi64::<0b11_01_10_00>(packed);
            _mm256_storeu_si256(words.cast(), pairs);
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
            // Each half of the register packs its own words: 0 2 4 6 and 1 3 5 7.
            let (low, high) = (_mm256_packs_epi32(a.0, b.0), _mm256_packs_epi32(c.0, d.0));
            let packed = _mm256_packs_epi16(low, high);
            let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
            let quads = _mm256_permutevar8x32_epi32(packed, order);
            _mm256_storeu_si256(words.cast(), quads);
        }
    }

    /// Writes the words in which eight integers of 16 bits meet two words of four bytes: of each four, the first and the
    /// third, then the others. See [`split_int8`](crate::vector::eight::split_int8).
    ///
    /// # Safety
    ///
    /// There is space for four words.
    #[inline(always)]
    pub(crate) unsafe fn store_pairs(self, words: *mut u32) {
        // SAFETY: promised by the caller.
        unsafe {
            let later = _mm256_shuffle_epi32::<0b11_10_11_10>(self.0);
            let pairs = _mm256_or_si256(self.0, _mm256_slli_epi32::<16>(later));
            let pairs = _mm256_permute4x64_epi64::<0b11_01_10_00>(pairs);
            _mm_storeu_si128(words.cast(), _mm256_castsi256_si128(pairs));
        }
    }
}

/// Asks for a cache line that is wanted next.
#[inline(always)]
pub(crate) fn fetch_near(address: *const u8) {
    // SAFETY: a prefetch may name any address.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
}

/// Asks for a cache line that is wanted soon: into the second-level cache.
#[inline(always)]
pub(crate) fn fetch_far(address: *const u8) {
    // SAFETY: a prefetch may name any address.
    unsafe { _mm_prefetch::<_MM_HINT_T1>(address.cast()) };
}
