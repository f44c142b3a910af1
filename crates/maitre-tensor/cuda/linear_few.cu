// The matrix product for up to four token rows: out[m, n] = x[m, k] · w[n, k]^T where reading w is all the work.
//
//        lane 0   lane 1   ...  lane 31 | lane 0 ...        a warp computes two output features (of a gated
//   w    [SPAN numbers][SPAN] ... [SPAN]|[SPAN] ...         matrix a gate and what it gates) for all m rows;
//   x    the same columns of each row, from the first-level cache
//
// Each lane adds its columns up in order, f32, fused; then a tree over the lanes. That is another order than
// that of linear_tile.cuh, so these kernels serve only where the bits may depend on m.
//
// Cost: n·k·(2, 1 or 1/2 + 4/group) bytes of w, 2·m·n·k operations. A lane starts 4 rounds of 16 bytes
// (int4: 8) for both features before it uses one: 4 KiB (2) under way per warp, and with 15 warps of
// n = 4096 on each of an H100's 132 multiprocessors 60 KiB (30), where 16 suffice for 3.0 TB/s. That the
// loads stand so the machine code shows: 3.3 instructions per weight (bf16), 4.0 (int8) and 5.0 (int4).
//
// Measured on an H100, m = 1, in microseconds, and what reading alone would take:
//
//   n x k           bf16           int8           int4
//   4096 x 4096     13.1 (11.1)    8.6 (5.6)      6.6 (3.1)
//   4096 x 12288    35.6 (33.3)    20.1 (16.7)    14.9 (9.4)
//   151936 x 4096   399 (412)      201 (206)      141 (116)
//
// (bf16: before Hopper had kernels of its own.)
#include "linear_weights.cuh"

namespace {

constexpr u32 FEATURES = 2;
// Rounds of loads that are under way together.
constexpr u32 ROUNDS = 4;

struct Few {
    const u16* x;        // [m, x_stride]
    const u8* w;         // [rows of w, w_bytes]
    const void* scales;  // as in linear_tile.cuh
    const float* bias;
    float* out;          // [m, n]
    u32 m;
    u32 n;
    u32 x_stride;
    u32 w_bytes;
    u32 scale_stride;
    u32 group_shift;
    // 0: not; else how the gate opens (`gate_mul`).
    u32 gated;
};

// Numbers that a lane takes at a time, and how it loads and multiplies them.
struct FewBf16 {
    static constexpr u32 SPAN = 8;
    static constexpr bool SCALED = false;
    struct Loaded {
        Words4 words;
    };

    DEVICE static Loaded load(const Few& o, u32 row, u32 col) {
        return {*reinterpret_cast<const Words4*>(o.w + static_cast<u64>(row) * o.w_bytes + col * 2)};
    }

    DEVICE static float multiply(const Loaded& loaded, const u32 (&x)[SPAN / 2], float sum) {
#pragma unroll
        for (u32 i = 0; i < SPAN / 2; i++) {
            sum = fmaf(bf16_low(x[i]), bf16_low(loaded.words.word[i]), sum);
            sum = fmaf(bf16_high(x[i]), bf16_high(loaded.words.word[i]), sum);
        }
        return sum;
    }
};

struct FewInt8 {
    static constexpr u32 SPAN = 16;
    static constexpr bool SCALED = true;
    struct Loaded {
        Words4 words;
    };

    DEVICE static Loaded load(const Few& o, u32 row, u32 col) {
        return {*reinterpret_cast<const Words4*>(o.w + static_cast<u64>(row) * o.w_bytes + col)};
    }

    DEVICE static float multiply(const Loaded& loaded, const u32 (&x)[SPAN / 2], float sum) {
#pragma unroll
        for (u32 i = 0; i < SPAN / 2; i++) {
            const u32 word = loaded.words.word[i / 2];
            sum = fmaf(bf16_low(x[i]), int8_step(word, i % 2 * 2), sum);
            sum = fmaf(bf16_high(x[i]), int8_step(word, i % 2 * 2 + 1), sum);
        }
        return sum;
    }
};

struct FewInt4 {
    static constexpr u32 SPAN = 16;
    static constexpr bool SCALED = false;
    struct Loaded {
        Words2 words;
        u32 scale;
    };

    DEVICE static Loaded load(const Few& o, u32 row, u32 col) {
        const u32* scales = static_cast<const u32*>(o.scales) + static_cast<u64>(row) * o.scale_stride;
        return {*reinterpret_cast<const Words2*>(o.w + static_cast<u64>(row) * o.w_bytes + col / 2),
                scales[col / 32 >> o.group_shift]};
    }

    DEVICE static float multiply(const Loaded& loaded, const u32 (&x)[SPAN / 2], float sum) {
        const u32 origin = int4_origin(loaded.scale);
        float part = 0.0f;
#pragma unroll
        for (u32 i = 0; i < SPAN / 2; i++) {
            const u32 pair = int4_pair(loaded.words.word[i / 4], i % 4, origin);
            part = fmaf(bf16_low(x[i]), bf16_low(pair), part);
            part = fmaf(bf16_high(x[i]), bf16_high(pair), part);
        }
        return fmaf(int4_scale(loaded.scale), part, sum);
    }
};

// Columns `col`, and those `COUNT - 1` rounds beyond.
template <typename W, u32 M, u32 COUNT>
DEVICE void add_rounds(const Few& o, const u32 (&rows)[FEATURES], u32 col, float (&sums)[FEATURES][M]) {
    typename W::Loaded loaded[COUNT][FEATURES];
#pragma unroll
    for (u32 round = 0; round < COUNT; round++) {
#pragma unroll
        for (u32 feature = 0; feature < FEATURES; feature++) {
            loaded[round][feature] = W::load(o, rows[feature], col + round * WARP * W::SPAN);
        }
    }
    if constexpr (COUNT > 1) {
        // The compiler would move loads down to where their numbers are used, but not past this.
        __syncwarp();
    }
#pragma unroll
    for (u32 round = 0; round < COUNT; round++) {
#pragma unroll
        for (u32 token = 0; token < M; token++) {
            // The kernel for four rows computes the last of three twice.
            const u32 from = token < o.m ? token : o.m - 1;
            const u16* row = o.x + static_cast<u64>(from) * o.x_stride + col + round * WARP * W::SPAN;
            u32 x[W::SPAN / 2];
#pragma unroll
            for (u32 i = 0; i < W::SPAN / 2; i += 4) {
                const Words4 words = *reinterpret_cast<const Words4*>(row + i * 2);
#pragma unroll
                for (u32 j = 0; j < 4; j++) {
                    x[i + j] = words.word[j];
                }
            }
#pragma unroll
            for (u32 feature = 0; feature < FEATURES; feature++) {
                sums[feature][token] = W::multiply(loaded[round][feature], x, sums[feature][token]);
            }
        }
    }
}

template <typename W>
DEVICE float finished(const Few& o, float sum, u32 row) {
    if constexpr (W::SCALED) {
        sum = sum * static_cast<const float*>(o.scales)[row];
    }
    return o.bias == nullptr ? sum : sum + o.bias[row];
}

template <typename W, u32 M>
DEVICE void multiply_few(const Few& o) {
    const u32 warp = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP;
    const u32 lane = threadIdx.x % WARP;
    const u32 first = o.gated ? warp : warp * FEATURES;
    if (first >= o.n) {
        return;
    }
    // Beside the last of an odd number stands that one again.
    const u32 second = o.gated ? first + o.n : first + 1 < o.n ? first + 1 : first;
    const u32 rows[FEATURES] = {first, second};
    float sums[FEATURES][M] = {};
    constexpr u32 ROUND = WARP * W::SPAN;
    u32 round = 0;
    for (; (round + ROUNDS) * ROUND <= o.x_stride; round += ROUNDS) {
        add_rounds<W, M, ROUNDS>(o, rows, round * ROUND + lane * W::SPAN, sums);
    }
    for (u32 col = round * ROUND + lane * W::SPAN; col < o.x_stride; col += ROUND) {
        add_rounds<W, M, 1>(o, rows, col, sums);
    }
    __syncwarp();
#pragma unroll
    for (u32 token = 0; token < M; token++) {
        const float a = finished<W>(o, warp_sum(sums[0][token]), first);
        const float b = finished<W>(o, warp_sum(sums[1][token]), second);
        if (lane == 0 && token < o.m) {
            float* out = o.out + static_cast<u64>(token) * o.n + first;
            if (o.gated) {
                out[0] = gate_mul(o.gated, a, b);
            } else {
                out[0] = a;
                if (second != first) {
                    out[1] = b;
                }
            }
        }
    }
}

}  // namespace

// Four blocks a multiprocessor: space for 128 registers. Without a word on it the compiler saves registers by
// moving each load to where its numbers are used, and one round is under way instead of four; with less space
// the kernels for four rows spill.
#ifdef MAITRE_EMULATOR
#define FEW_BOUNDS
#else
#define FEW_BOUNDS __launch_bounds__(128, 4)
#endif

// Grid: a warp per two features (gated: per feature), 4 warps a block.
#define LINEAR_FEW(name, weights, rows)                                                                     \
    KERNEL FEW_BOUNDS name(const u16* x, const u8* w, const void* scales, const float* bias, float* out,    \
                           u32 m, u32 n, u32 x_stride, u32 w_bytes, u32 scale_stride, u32 group_shift,      \
                           u32 gated) {                                                                     \
        take_turn();                                                                                        \
        multiply_few<weights, rows>({x, w, scales, bias, out, m, n, x_stride, w_bytes, scale_stride,        \
                                     group_shift, gated});                                             \
    }                                                                                                       \
    EXPORT(name)

LINEAR_FEW(linear_bf16_few1, FewBf16, 1);
LINEAR_FEW(linear_bf16_few2, FewBf16, 2);
LINEAR_FEW(linear_bf16_few4, FewBf16, 4);
LINEAR_FEW(linear_int8_few1, FewInt8, 1);
LINEAR_FEW(linear_int8_few2, FewInt8, 2);
LINEAR_FEW(linear_int8_few4, FewInt8, 4);
LINEAR_FEW(linear_int4_few1, FewInt4, 1);
LINEAR_FEW(linear_int4_few2, FewInt4, 2);
LINEAR_FEW(linear_int4_few4, FewInt4, 4);
