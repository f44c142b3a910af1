// The product of bf16 matrices on Hopper: out[m, n] = x[m, k] · w[n, k]^T.
//
//            k ->                       A block computes GROUPS · 64 rows of w by TOKENS rows of x: 64 rows of w are
//      w  +----------+                  what one multiplication takes, its columns are token rows. It walks k in steps
//   64 G  | SLICES   |                  of SLICES · 64, of which STAGES lie in shared memory. One thread asks the copy
//         +----------+                  engine for them; GROUPS warpgroups multiply.
//            k ->
//      x  +----------+                  full[stage]    counts the bytes that come       (the multipliers wait)
// TOKENS  | SLICES   |  -> out^T        empty[stage]   counts warpgroups that are done  (the asking thread waits)
//         +----------+
//
// One f32 sum per output meets all of k, 16 numbers at a time; neither warpgroups nor blocks share a sum. The
// instruction adds a sum's 16 products alike whatever its number of columns (checked on an H100), so an output's bits
// depend on its row of x and its row of w alone, and all tiles may be mixed freely.
//
// What is asked for before `wait_for_previous` are weights, as many as shared memory holds: they come while the kernel
// before still runs.
//
// Grid: x = m / TOKENS, y = rows of w / (GROUPS · 64), rounded up. Moves w once per column of tiles, x once per row of
// tiles (all but once from the second-level cache), 4·m·n bytes of output; 2·m·n·k operations (gated: twice).
//
// Measured on an H100 (3.0 TB/s, 770 TFLOP/s in that run) by gpu-check, k = 4096, in microseconds:
//
//   m      n = 4096    gated n = 12288    bound by
//   1      12.7        66.4               reading w: 87 % and 101 % of the copy rate
//   64     15.2        73.5               the same: 76 % and 92 %, with what x and the outputs move
//   256    18.9        86                 what enters the multiprocessors: 24 KB a slice of 64x128 take 384 cycles at 64
//                                         bytes a cycle, its multiplications 256
//   2048   92.2        576                multiplying, 95 % and 91 % of the rate of a large product
// Tried there without success: clusters of 2 and 4 blocks that share w, x or both by multicast (up to twice as long);
// slices of 128 numbers; blocks that walk several tiles and write their outputs by the copy engine (0 to 7 % faster at
// 2,048 rows, slower at 256); telling the second-level cache to keep w short (-2 to +1 %).
#include "hopper.cuh"
#include "linear_weights.cuh"

namespace {

// Numbers of k in a row of a box.
constexpr u32 DEPTH = 64;
constexpr u32 ROW_BYTES = DEPTH * 2;
// Threads of a warpgroup, and rows of w that it multiplies.
constexpr u32 WARPGROUP = 128;
constexpr u32 GROUP_ROWS = 64;

struct Product {
    const Matrix& w;
    const Matrix& x;
    const float* bias;  // [rows of w], or null
    float* out;         // [m, n], or null
    u16* encoded;       // the same rounded to bf16, a row every `stride` numbers, or null
    u32 stride;
    u32 m;
    u32 n;  // output features: rows of w, or half of them where the first half gates the second
    u32 k;
    // 0: not; else how the gate opens (`gate_mul`).
    u32 gated;
};

template <u32 GROUPS_, u32 TOKENS_, u32 SLICES_, u32 STAGES_>
struct Tile {
    static constexpr u32 GROUPS = GROUPS_, TOKENS = TOKENS_, SLICES = SLICES_, STAGES = STAGES_;
    static constexpr u32 THREADS = (GROUPS + 1) * WARPGROUP;
    static constexpr u32 ROWS = GROUPS * GROUP_ROWS;
    static constexpr u32 X_AT = ROWS * ROW_BYTES;
    static constexpr u32 SLICE = X_AT + TOKENS * ROW_BYTES;
    static constexpr u32 STAGE = SLICE * SLICES;
    // Many sums a thread need registers that those who multiply nothing give: 0, or how many the multipliers then have.
    static constexpr u32 REGISTERS = GROUPS == 2 && TOKENS >= 128 ? 232 : GROUPS == 3 && TOKENS > 128 ? 160 : 0;
};

// Shared memory of a block: stages, and behind them the barriers.
template <typename T>
struct Stages {
    u8* slices;
    Barrier* full;
    Barrier* empty;

    DEVICE explicit Stages(u8* shared) {
        const u64 first = (reinterpret_cast<u64>(shared) + 1023) / 1024 * 1024;
        slices = reinterpret_cast<u8*>(first);
        full = reinterpret_cast<Barrier*>(slices + T::STAGES * T::STAGE);
        empty = full + T::STAGES;
    }

    DEVICE u8* slice(u32 stage, u32 i) const { return slices + stage * T::STAGE + i * T::SLICE; }

    DEVICE void set_up() const {
        if (threadIdx.x == 0) {
            for (u32 stage = 0; stage < T::STAGES; stage++) {
                barrier_init(full + stage, 1);
                barrier_init(empty + stage, T::GROUPS);
            }
            barriers_are_set();
        }
        __syncthreads();
    }
};

template <typename T>
DEVICE void ask_for_weights(const Product& p, const Stages<T>& stages, u32 step) {
    const u32 stage = step % T::STAGES;
    barrier_expect(stages.full + stage, T::STAGE);
#pragma unroll
    for (u32 i = 0; i < T::SLICES; i++) {
        const u32 col = (step * T::SLICES + i) * DEPTH;
        if (p.gated) {
            load_paired_box(stages.slice(stage, i), p.w, col, blockIdx.y * T::ROWS / 2, stages.full + stage);
        } else {
            load_box(stages.slice(stage, i), p.w, col, blockIdx.y * T::ROWS, stages.full + stage);
        }
    }
}

template <typename T>
DEVICE void ask_for_tokens(const Product& p, const Stages<T>& stages, u32 step) {
    const u32 stage = step % T::STAGES;
#pragma unroll
    for (u32 i = 0; i < T::SLICES; i++) {
        const u32 col = (step * T::SLICES + i) * DEPTH;
        load_box(stages.slice(stage, i) + T::X_AT, p.x, col, blockIdx.x * T::TOKENS, stages.full + stage);
    }
}

// What the one thread does that multiplies nothing.
template <typename T>
DEVICE void ask(const Product& p, const Stages<T>& stages, u32 steps) {
    const u32 early = steps < T::STAGES ? steps : T::STAGES;
    for (u32 step = 0; step < early; step++) {
        ask_for_weights<T>(p, stages, step);
    }
    wait_for_previous();
    for (u32 step = 0; step < early; step++) {
        ask_for_tokens<T>(p, stages, step);
    }
    for (u32 step = early; step < steps; step++) {
        barrier_wait(stages.empty + step % T::STAGES, (step / T::STAGES - 1) % 2);
        ask_for_weights<T>(p, stages, step);
        ask_for_tokens<T>(p, stages, step);
    }
}

// Compilers refuse an instruction of 256 columns where a kernel begins with 128 registers.
template <typename T>
DEVICE void multiply_part(float (&sums)[T::TOKENS / 2], u64 w, u64 x) {
    if constexpr (T::GROUPS == 3 && T::TOKENS == 256) {
        multiply_async<128>(*reinterpret_cast<float(*)[64]>(&sums[0]), w, x);
        multiply_async<128>(*reinterpret_cast<float(*)[64]>(&sums[64]), w, further_operand(x, 128));
    } else {
        multiply_async<T::TOKENS>(sums, w, x);
    }
}

template <typename T>
DEVICE void multiply(const Stages<T>& stages, u32 steps, float (&sums)[T::TOKENS / 2]) {
    const u32 group = threadIdx.x / WARPGROUP;
    pinned(sums);
    for (u32 step = 0; step < steps; step++) {
        const u32 stage = step % T::STAGES;
        barrier_wait(stages.full + stage, step / T::STAGES % 2);
        multiply_begin();
#pragma unroll
        for (u32 i = 0; i < T::SLICES; i++) {
            const u8* slice = stages.slice(stage, i);
            const u64 w = operand(slice + group * GROUP_ROWS * ROW_BYTES);
            const u64 x = operand(slice + T::X_AT);
#pragma unroll
            for (u32 part = 0; part < DEPTH / 16; part++) {
                multiply_part<T>(sums, next_operand(w, part), next_operand(x, part));
            }
        }
        multiply_commit();
        // All but this step's are done: the stage before is free.
        multiply_wait<1>();
        if (step > 0 && threadIdx.x % WARPGROUP == 0) {
            barrier_arrive(stages.empty + (step - 1) % T::STAGES);
        }
    }
    multiply_wait<0>();
    pinned(sums);
}

DEVICE float with_bias(const Product& p, float sum, u32 row) { return p.bias == nullptr ? sum : sum + p.bias[row]; }

template <bool ENCODED>
DEVICE void put(const Product& p, u32 token, u32 feature, float value) {
    if (ENCODED) {
        p.encoded[static_cast<u64>(token) * p.stride + feature] = round_bf16(value);
    } else {
        p.out[static_cast<u64>(token) * p.n + feature] = value;
    }
}

// Writes a warp's outputs: lane (g, t) has features g and g + 8 of its 16, and tokens 2t and 2t + 1 of every 8.
// Eight lanes write 32 neighbouring bytes.
template <typename T, bool ENCODED>
DEVICE void write_out(const Product& p, const float (&sums)[T::TOKENS / 2]) {
    const u32 warp = threadIdx.x / WARP, g = threadIdx.x % WARP / 4, t = threadIdx.x % 4;
    const u32 first = p.gated ? blockIdx.y * (T::ROWS / 2) + warp * 8 + g : blockIdx.y * T::ROWS + warp * 16 + g;
#pragma unroll
    for (u32 j = 0; j < T::TOKENS / 8; j++) {
#pragma unroll
        for (u32 i = 0; i < 2; i++) {
            const u32 token = blockIdx.x * T::TOKENS + j * 8 + t * 2 + i;
            const float upper = sums[4 * j + i], lower = sums[4 * j + 2 + i];
            if (token >= p.m || first >= p.n) {
                continue;
            }
            if (p.gated) {
                put<ENCODED>(p, token, first, gate_mul(p.gated, with_bias(p, upper, first), with_bias(p, lower, first + p.n)));
                continue;
            }
            put<ENCODED>(p, token, first, with_bias(p, upper, first));
            if (first + 8 < p.n) {
                put<ENCODED>(p, token, first + 8, with_bias(p, lower, first + 8));
            }
        }
    }
}

template <typename T>
DEVICE void multiply_tile(const Product& p, u8* shared) {
    const Stages<T> stages(shared);
    stages.set_up();
    let_next_begin();
    const u32 steps = (p.k + T::SLICES * DEPTH - 1) / (T::SLICES * DEPTH);
    if (threadIdx.x / WARPGROUP == T::GROUPS) {
        if constexpr (T::REGISTERS > 0) {
            give_registers<T::GROUPS == 2 ? 40 : 32>();
        }
        if (threadIdx.x % WARPGROUP == 0) {
            ask<T>(p, stages, steps);
        } else {
            wait_for_previous();
        }
        return;
    }
    if constexpr (T::REGISTERS > 0) {
        take_registers<T::REGISTERS>();
    }
    float sums[T::TOKENS / 2] = {};
    multiply<T>(stages, steps, sums);
    // What the kernel before reads may lie where this one writes.
    wait_for_previous();
    if (p.encoded != nullptr) {
        write_out<T, true>(p, sums);
    } else {
        write_out<T, false>(p, sums);
    }
}

using Tile64x8 = Tile<1, 8, 2, 8>;
using Tile64x16 = Tile<1, 16, 2, 8>;
using Tile64x32 = Tile<1, 32, 2, 8>;
using Tile64x64 = Tile<1, 64, 2, 6>;
using Tile64x128 = Tile<1, 128, 1, 8>;
using Tile128x64 = Tile<2, 64, 1, 8>;
using Tile192x64 = Tile<3, 64, 1, 6>;
using Tile128x128 = Tile<2, 128, 1, 6>;
using Tile128x256 = Tile<2, 256, 1, 4>;
using Tile192x128 = Tile<3, 128, 1, 5>;
using Tile192x256 = Tile<3, 256, 1, 4>;

}  // namespace

#ifdef MAITRE_EMULATOR
#define ONE_BLOCK(tile)
#else
#define ONE_BLOCK(tile) __launch_bounds__(tile::THREADS, 1)
#endif

#define LINEAR_HOPPER(name, tile)                                                                          \
    KERNEL ONE_BLOCK(tile) name(PARAMETER(Matrix) w, PARAMETER(Matrix) x, const float* bias, float* out,   \
                                u16* encoded, u32 stride, u32 m, u32 n, u32 k, u32 gated) {                \
        SHARED(shared);                                                                                    \
        multiply_tile<tile>({w, x, bias, out, encoded, stride, m, n, k, gated}, shared);              \
    }                                                                                                      \
    EXPORT(name)

LINEAR_HOPPER(linear_hopper_64x8, Tile64x8);
LINEAR_HOPPER(linear_hopper_64x16, Tile64x16);
LINEAR_HOPPER(linear_hopper_64x32, Tile64x32);
LINEAR_HOPPER(linear_hopper_64x64, Tile64x64);
LINEAR_HOPPER(linear_hopper_64x128, Tile64x128);
LINEAR_HOPPER(linear_hopper_128x64, Tile128x64);
LINEAR_HOPPER(linear_hopper_192x64, Tile192x64);
LINEAR_HOPPER(linear_hopper_128x128, Tile128x128);
LINEAR_HOPPER(linear_hopper_128x256, Tile128x256);
LINEAR_HOPPER(linear_hopper_192x128, Tile192x128);
LINEAR_HOPPER(linear_hopper_192x256, Tile192x256);
