// How the products read weights: row-major `[n, kp]`, kp = k rounded up to 16 (int4: to the group), in the
// order of the file, padding zero.
//
//   bf16   two bytes a number
//   int8   one byte a number, 128 more than it means; behind all rows a f32 scale per output feature [n]:
//          w = scale · (byte - 128)
//   int4   half a byte a number, the earlier in the lower half; behind all rows a word per output feature
//          and group of input features [n, groups rounded up to 4]: the scale, a bf16, in its upper half,
//          the zero point, 0 to 15, in its lower: w = scale · (nibble - zero)
//
// Differences of integers are exact in bf16, which has 8 bits; so tensor cores multiply what the quantizer
// meant, and scales come in f32 afterwards.
#pragma once

#include "device.cuh"

struct alignas(16) Words4 {
    u32 word[4];
};

// 2^23 as a float: with an integer below 2^23 in its low bits it is 2^23 plus that integer.
constexpr u32 MAGIC = 0x4b000000u;

// The zero point of a word of int4 scales, as 2^23 plus it: what `steps` takes for its origin.
DEVICE float int4_origin(u32 word) { return __uint_as_float(MAGIC | (word & 0xffffu)); }
DEVICE float int4_scale(u32 word) { return bf16_high(word); }
// 2^23 + 128.
DEVICE float int8_origin() { return __uint_as_float(MAGIC | 128u); }

// The number that `BITS` bits of a word from `at` on stand for, less its origin; exact.
template <u32 BITS>
DEVICE float steps(u32 word, u32 at, float origin) {
    constexpr u32 MASK = (1u << BITS) - 1;
    return __uint_as_float(MAGIC | (word >> at & MASK)) - origin;
}

// Each format names how many bytes 32 numbers take (`WINDOW`), and gives 8 numbers as 4 pairs of bf16.
struct Bf16Weights {
    static constexpr u32 WINDOW = 64;
    static constexpr bool GROUPED = false;
    static constexpr bool SCALED = false;

    DEVICE static void unpack(const u8* from, float, u32 (&pairs)[4]) {
        const Words4 words = *reinterpret_cast<const Words4*>(from);
#pragma unroll
        for (u32 i = 0; i < 4; i++) {
            pairs[i] = words.word[i];
        }
    }
};

struct Int8Weights {
    static constexpr u32 WINDOW = 32;
    static constexpr bool GROUPED = false;
    static constexpr bool SCALED = true;

    DEVICE static void unpack(const u8* from, float origin, u32 (&pairs)[4]) {
        const Words2 words = *reinterpret_cast<const Words2*>(from);
#pragma unroll
        for (u32 i = 0; i < 4; i++) {
            const u32 word = words.word[i / 2];
            const u32 at = i % 2 * 16;
            pairs[i] = pack_bf16(steps<8>(word, at, origin), steps<8>(word, at + 8, origin));
        }
    }
};

struct Int4Weights {
    static constexpr u32 WINDOW = 16;
    static constexpr bool GROUPED = true;
    static constexpr bool SCALED = false;

    DEVICE static void unpack(const u8* from, float origin, u32 (&pairs)[4]) {
        const u32 word = *reinterpret_cast<const u32*>(from);
#pragma unroll
        for (u32 i = 0; i < 4; i++) {
            pairs[i] = pack_bf16(steps<4>(word, i * 8, origin), steps<4>(word, i * 8 + 4, origin));
        }
    }
};

// silu(gate) · up, as the processor's kernels have it (SwiGLU, Shazeer 2020, arXiv 2002.05202).
DEVICE float silu_mul(float gate, float up) { return gate / (1.0f + expf(-gate)) * up; }
