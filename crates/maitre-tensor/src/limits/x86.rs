//! The loops with the instructions of AVX-512 and of AVX2.
//!
//! Each keeps [`CHAINS`] sums in registers and adds a product to one after the other. A sum is used
//! again only after all others, so the latency of an instruction (4 to 6 cycles, of which two start
//! in each) never shows, and 12 sums with their operands still fit the 16 registers of AVX2. The
//! operands are never loaded.
//!
//! ```text
//! instruction              bits   products in a register
//! vfmadd231ps   f32        512    16        256    8
//! vdpbf16ps     bf16       512    32
//! vpdpbusd      int8       512    64         256   32     where there is VNNI
//! vpmaddwd      int8       512    32        256   16     widened to 16 bits; and an addition
//! ```
#![allow(unsafe_code)]

use std::arch::x86_64::*;
use std::array;
use std::hint::black_box;

use super::region::LINE;
use super::{Arithmetic, Loops};

/// Independent sums.
const CHAINS: usize = 12;

/// A multiplication and an addition.
const OPS: usize = 2;

/// Parts of memory that are read side by side: the processor prefetches each by itself.
const STREAMS: usize = 4;

/// The loops for a processor with AVX-512, with the instructions for bf16 and bytes that the kernels take.
pub(super) fn avx512(has_bf16: bool, has_vnni: bool) -> Option<Loops> {
    let available = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && (!has_bf16 || is_x86_feature_detected!("avx512bf16"))
        && (!has_vnni || is_x86_feature_detected!("avx512vnni"));
    available.then(|| Loops {
        // SAFETY: AVX-512 F is there.
        f32: arithmetic(16, |turns| unsafe { f32_512(turns) }),
        bf16: has_bf16.then(|| {
            // SAFETY: and so is AVX-512 BF16.
            arithmetic(32, |turns| unsafe { bf16_512(turns) })
        }),
        int8: if has_vnni {
            // SAFETY: and so is AVX-512 VNNI.
            arithmetic(64, |turns| unsafe { int8_512(turns) })
        } else {
            // SAFETY: AVX-512 BW is there.
            arithmetic(32, |turns| unsafe { widened_int8_512(turns) })
        },
        // SAFETY: AVX-512 F is there.
        read: |lines| unsafe { sum_512(lines) },
    })
}

/// The loops for a processor with AVX2 and fused multiplication, with the instruction for bytes if the kernels take it.
pub(super) fn avx2(has_vnni: bool) -> Option<Loops> {
    let available = is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && (!has_vnni || is_x86_feature_detected!("avxvnni"));
    available.then(|| Loops {
        // SAFETY: AVX2 and FMA are there.
        f32: arithmetic(8, |turns| unsafe { f32_256(turns) }),
        bf16: None,
        int8: if has_vnni {
            // SAFETY: AVX-VNNI is there.
            arithmetic(32, |turns| unsafe { int8_256(turns) })
        } else {
            // SAFETY: AVX2 is there.
            arithmetic(16, |turns| unsafe { widened_int8_256(turns) })
        },
        // SAFETY: AVX2 is there.
        read: |lines| unsafe { sum_256(lines) },
    })
}

/// A loop of an instruction that multiplies `products` numbers.
fn arithmetic(products: usize, run: fn(usize) -> u64) -> Arithmetic {
    Arithmetic {
        ops_per_turn: CHAINS * products * OPS,
        run,
    }
}

#[target_feature(enable = "avx512f")]
fn f32_512(turns: usize) -> u64 {
    let (a, b) = black_box((_mm512_set1_ps(0.999), _mm512_set1_ps(0.001)));
    let mut sums: [__m512; CHAINS] = array::from_fn(|chain| _mm512_set1_ps(chain as f32));
    for _ in 0..turns {
        for sum in &mut sums {
            *sum = _mm512_fmadd_ps(*sum, a, b);
        }
    }
    digest_512(sums.map(|sum| _mm512_castps_si512(sum)))
}

#[target_feature(enable = "avx512f,avx512bf16")]
fn bf16_512(turns: usize) -> u64 {
    // The bits of a small bf16 number, twice in each lane: the sums stay finite.
    let factor = _mm512_set1_epi16(0x3a80);
    // SAFETY: both types are 512 bits of which every pattern is a value.
    let factor = unsafe { std::mem::transmute::<__m512i, __m512bh>(factor) };
    let (a, b) = black_box((factor, factor));
    let mut sums: [__m512; CHAINS] = array::from_fn(|chain| _mm512_set1_ps(chain as f32));
    for _ in 0..turns {
        for sum in &mut sums {
            *sum = _mm512_dpbf16_ps(*sum, a, b);
        }
    }
    digest_512(sums.map(|sum| _mm512_castps_si512(sum)))
}

#[target_feature(enable = "avx512f,avx512vnni")]
fn int8_512(turns: usize) -> u64 {
    let (a, b) = black_box((_mm512_set1_epi8(3), _mm512_set1_epi8(-5)));
    let mut sums: [__m512i; CHAINS] = array::from_fn(|chain| _mm512_set1_epi32(chain as i32));
    for _ in 0..turns {
        for sum in &mut sums {
            *sum = _mm512_dpbusd_epi32(*sum, a, b);
        }
    }
    digest_512(sums)
}

#[target_feature(enable = "avx2,avxvnni")]
fn int8_256(turns: usize) -> u64 {
    let (a, b) = black_box((_mm256_set1_epi8(3), _mm256_set1_epi8(-5)));
    let mut sums: [__m256i; CHAINS] = array::from_fn(|chain| _mm256_set1_epi32(chain as i32));
    for _ in 0..turns {
        for sum in &mut sums {
            *sum = _mm256_dpbusd_avx_epi32(*sum, a, b);
        }
    }
    digest_256(sums)
}

/// The product depends on the sum: of operands that never change, the compiler would take the
/// product once.
#[target_feature(enable = "avx512f,avx512bw")]
fn widened_int8_512(turns: usize) -> u64 {
    let a = black_box(_mm512_set1_epi16(-5));
    let mut sums: [__m512i; CHAINS] = array::from_fn(|chain| _mm512_set1_epi32(chain as i32 + 1));
    for _ in 0..turns {
        for sum in &mut sums {
            *sum = _mm512_add_epi32(*sum, _mm512_madd_epi16(*sum, a));
        }
    }
    digest_512(sums)
}

/// As [`widened_int8_512`].
#[target_feature(enable = "avx2")]
fn widened_int8_256(turns: usize) -> u64 {
    let a = black_box(_mm256_set1_epi16(-5));
    let mut sums: [__m256i; CHAINS] = array::from_fn(|chain| _mm256_set1_epi32(chain as i32 + 1));
    for _ in 0..turns {
        for sum in &mut sums {
            *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(*sum, a));
        }
    }
    digest_256(sums)
}

#[target_feature(enable = "avx2,fma")]
fn f32_256(turns: usize) -> u64 {
    let (a, b) = black_box((_mm256_set1_ps(0.999), _mm256_set1_ps(0.001)));
    let mut sums: [__m256; CHAINS] = array::from_fn(|chain| _mm256_set1_ps(chain as f32));
    for _ in 0..turns {
        for sum in &mut sums {
            *sum = _mm256_fmadd_ps(*sum, a, b);
        }
    }
    digest_256(sums.map(|sum| _mm256_castps_si256(sum)))
}

/// Adds all words of all lines.
#[target_feature(enable = "avx512f")]
fn sum_512(lines: &[[u8; LINE]]) -> u64 {
    let (streams, rest) = streams(lines);
    let mut sums = [_mm512_setzero_si512(); STREAMS];
    for line in 0..streams[0].len() {
        for (sum, stream) in sums.iter_mut().zip(streams) {
            // SAFETY: a line is 64 bytes long.
            let words = unsafe { _mm512_loadu_si512(stream[line].as_ptr().cast()) };
            *sum = _mm512_add_epi64(*sum, words);
        }
    }
    for line in rest {
        // SAFETY: as above.
        let words = unsafe { _mm512_loadu_si512(line.as_ptr().cast()) };
        sums[0] = _mm512_add_epi64(sums[0], words);
    }
    digest_512(sums)
}

/// As [`sum_512`].
#[target_feature(enable = "avx2")]
fn sum_256(lines: &[[u8; LINE]]) -> u64 {
    let (streams, rest) = streams(lines);
    let mut sums = [_mm256_setzero_si256(); 2 * STREAMS];
    for line in 0..streams[0].len() {
        for (sums, stream) in sums.as_chunks_mut().0.iter_mut().zip(streams) {
            add_line(sums, &stream[line]);
        }
    }
    for line in rest {
        add_line(&mut sums.as_chunks_mut().0[0], line);
    }
    digest_256(sums)
}

#[target_feature(enable = "avx2")]
fn add_line(sums: &mut [__m256i; 2], line: &[u8; LINE]) {
    for (sum, half) in sums.iter_mut().zip(line.as_chunks::<{ LINE / 2 }>().0) {
        // SAFETY: half a line is 32 bytes long.
        let words = unsafe { _mm256_loadu_si256(half.as_ptr().cast()) };
        *sum = _mm256_add_epi64(*sum, words);
    }
}

/// Equally long parts, and the few lines that are left over.
fn streams(lines: &[[u8; LINE]]) -> ([&[[u8; LINE]]; STREAMS], &[[u8; LINE]]) {
    let len = lines.len() / STREAMS;
    let parts = array::from_fn(|stream| &lines[stream * len..][..len]);
    (parts, &lines[STREAMS * len..])
}

/// One number of all sums.
#[target_feature(enable = "avx512f")]
fn digest_512<const N: usize>(sums: [__m512i; N]) -> u64 {
    // SAFETY: eight words are 512 bits, of which every pattern is a value.
    digest(
        sums.map(|sum| unsafe { std::mem::transmute::<__m512i, [u64; 8]>(sum) })
            .as_flattened(),
    )
}

/// As [`digest_512`].
#[target_feature(enable = "avx2")]
fn digest_256<const N: usize>(sums: [__m256i; N]) -> u64 {
    // SAFETY: four words are 256 bits, of which every pattern is a value.
    digest(
        sums.map(|sum| unsafe { std::mem::transmute::<__m256i, [u64; 4]>(sum) })
            .as_flattened(),
    )
}

fn digest(words: &[u64]) -> u64 {
    words
        .iter()
        .fold(0, |all, word| all.rotate_left(7).wrapping_mul(31) ^ word)
}
