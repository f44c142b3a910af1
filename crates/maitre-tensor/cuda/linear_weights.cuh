// How the products read weights: row-major `[n, kp]`, kp = k rounded up to 16 (int4: to the group), in the
// order of the file, padding zero.
//
//   bf16   two bytes a number
//   int8   one byte a number, 128 more than it means; behind all rows a f32 scale per output feature [n]:
//          w = scale · (byte - 128)
//   int4   half a byte a number; behind all rows a word per output feature and group of input features
//          [n, groups rounded up to 4]: the scale, a bf16, in its upper half, the zero point, 0 to 15, in its
//          lower: w = scale · (nibble - zero). Eight numbers are a word:
//
//             bits 31..28   27..24  23..20  19..16 | 15..12  11..8   7..4    3..0
//                  7        5       3       1      | 6       4       2       0
//
//          so that a shift by 4·i brings numbers 2i and 2i + 1 to the feet of the word's halves
//
// Differences of integers are exact in bf16, which has 8 bits; so tensor cores multiply what the quantizer
// meant, and scales come in f32 afterwards. Where few rows share a weight, widening it is as much work as
// multiplying: for a pair of int4 a shift, a mask and one addition, for a pair of int8 four instructions.
#pragma once

#include "device.cuh"

struct alignas(16) Words4 {
    u32 word[4];
};

// As bits of a bf16, these plus an integer below 128 are 128 plus that integer, and less that.
constexpr u32 PLUS_128 = 0x43004300u;
constexpr u32 MINUS_128 = 0xc300c300u;
constexpr u32 MINUS_256 = 0xc380c380u;
constexpr u32 ONES = 0x3f803f80u;

DEVICE float int4_scale(u32 word) { return bf16_high(word); }

// The zero point of a word of int4 scales as -(128 + zero), twice: what `int4_pair` takes for its origin.
DEVICE u32 int4_origin(u32 word) { return MINUS_128 | (word & 0xffffu) * 0x10001u; }

// Numbers 2i and 2i + 1 of a word of eight, as bf16: (128 + nibble) - (128 + zero), exact.
DEVICE u32 int4_pair(u32 word, u32 i, u32 origin) {
    return fma_bf16x2(select_bits(word >> 4 * i, 0x000f000fu, PLUS_128), ONES, origin);
}

// Number `i` of a word of four: 2^23, a float whose lowest bits count ones, plus the byte, less 2^23 + 128.
DEVICE float int8_step(u32 word, u32 i) {
    constexpr u32 MAGIC = 0x4b000000u;
    return __uint_as_float(__byte_perm(word, MAGIC, 0x7440u + i)) - __uint_as_float(MAGIC | 128u);
}

// Numbers 2i and 2i + 1 of a word of four, as bf16. A byte is 7 bits, to which 128 are added as above, and an
// eighth, which tells whether 128 or 256 are then too many; -256 differs from -128 in that very bit.
DEVICE u32 int8_pair(u32 word, u32 i) {
    const u32 bytes = __byte_perm(word, 0, i == 0 ? 0x4140u : 0x4342u);
    return fma_bf16x2(select_bits(bytes, 0x007f007fu, PLUS_128), ONES, (bytes & 0x00800080u) ^ MINUS_256);
}

// Each format names how many bytes 32 numbers take (`WINDOW`), and gives 8 numbers as 4 pairs of bf16; of int4
// these are less their `origin`.
struct Bf16Weights {
    static constexpr u32 WINDOW = 64;
    static constexpr bool GROUPED = false;
    static constexpr bool SCALED = false;

    DEVICE static void unpack(const u8* from, u32, u32 (&pairs)[4]) {
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

    DEVICE static void unpack(const u8* from, u32, u32 (&pairs)[4]) {
        const Words2 words = *reinterpret_cast<const Words2*>(from);
#pragma unroll
        for (u32 i = 0; i < 4; i++) {
            pairs[i] = int8_pair(words.word[i / 2], i % 2);
        }
    }
};

struct Int4Weights {
    static constexpr u32 WINDOW = 16;
    static constexpr bool GROUPED = true;
    static constexpr bool SCALED = false;

    DEVICE static void unpack(const u8* from, u32 origin, u32 (&pairs)[4]) {
        const u32 word = *reinterpret_cast<const u32*>(from);
#pragma unroll
        for (u32 i = 0; i < 4; i++) {
            pairs[i] = int4_pair(word, i, origin);
        }
    }
};

// silu(gate) · up (SwiGLU, Shazeer 2020, arXiv 2002.05202), to about 4 units in the last place where the gate is
// above -5, to some tens far below, where the result is next to nothing. With the exact
// exponential and quotient this took an eighth of the time of a gated product of 2,048 rows.
DEVICE float silu_mul(float gate, float up) {
    constexpr float LOG2_E = 1.4426950408889634f;
    return gate * fast_reciprocal(1.0f + fast_exp2(-gate * LOG2_E)) * up;
}

// gelu(gate) · up by way of tanh (Hendrycks and Gimpel 2016, arXiv 1606.08415), in the same way:
// (1 + tanh u) / 2 = 1 / (1 + e^-2u).
DEVICE float gelu_tanh_mul(float gate, float up) {
    // -2 sqrt(2 / pi) · log2 e
    constexpr float SCALE = -2.302208198f;
    constexpr float CUBE = 0.044715f;
    const float exponent = SCALE * (gate * (1.0f + CUBE * gate * gate));
    return gate * fast_reciprocal(1.0f + fast_exp2(exponent)) * up;
}

// activation(gate) · up; `kind` is not 0.
DEVICE float gate_mul(u32 kind, float gate, float up) {
    return kind == 2 ? gelu_tanh_mul(gate, up) : silu_mul(gate, up);
}
