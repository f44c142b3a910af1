// The matrix product whose sums have one order: out[m, n] = x[m, k] · w[n, k]^T on tensor cores.
//
//            k ->                     A block computes BM token rows by BN output features. It walks k in
//      x  +---------+                 steps of BK, which `cp.async` brings into shared memory STAGES - 1
//   BM    | BK|BK|..|                 ahead, and within a step in chunks of 32: two `mma_bf16` of depth 16.
//         +---------+
//            k ->                     One f32 accumulator per output meets all of k, chunk after chunk;
//      w  +---------+                 neither warps nor blocks share a sum. (int4: an accumulator per group
//   BN    | BK|BK|..|  -> out         of k that starts at zero, then sum = fmaf(scale, group, sum). int8: one per
//         +---------+                 part of 256 numbers, then sum = sum + part. linear_split.cu multiplies groups
//                                     and parts side by side.)
//
// So an output's bits depend on its row of x and its row of w alone: not on m, not on the other rows, not
// on the tile's size. All tiles may be mixed freely.
//
// Within a chunk lane t of four takes numbers 8t .. 8t+7, of x and of w alike: 16 bytes of bf16, 8 of int8,
// 4 of int4, one load each. The multiplication sees another order of k than memory has (its step s takes
// 8t + 4s .. 8t + 4s + 3 of each lane), the same for every format.
//
// Shared memory: rows of BK numbers without padding; the 16-byte pieces of a row are swapped (exclusive or
// with bits of the row's number, `place`) so that the lanes of one access meet different banks.
#pragma once

#include "linear_weights.cuh"

// Numbers of k in a chunk.
constexpr u32 CHUNK = 32;
// Chunks in a part of an int8 sum.
constexpr u32 PART_CHUNKS = 8;

struct Operands {
    const u16* x;       // [m, x_stride]
    const u8* w;        // [rows of w, w_bytes]
    const void* scales; // int8: f32 [rows of w]; int4: u32 [rows of w, scale_stride]
    const float* bias;  // [rows of w], or null
    float* out;         // [m, n]
    u32 m;
    u32 n;              // output features: rows of w, or half of them where the first half gates the second
    u32 x_stride;       // a multiple of 16
    u32 w_bytes;        // per row, a multiple of 16
    u32 scale_stride;   // int4: words per row, a multiple of 4
    u32 group_shift;    // int4: chunks per group, as a power of two
    // 0: not; else how the gate opens (`gate_mul`).
    u32 gated;
};

// The extents of a tile, and where its parts lie in shared memory.
template <typename W, u32 ROWS, u32 FEATURES, u32 DEPTH, u32 STEPS_AHEAD, u32 WARP_ROWS, u32 WARP_COLUMNS>
struct Tile {
    static constexpr u32 BM = ROWS;
    static constexpr u32 BN = FEATURES;
    static constexpr u32 BK = DEPTH;
    static constexpr u32 STAGES = STEPS_AHEAD + 1;
    static constexpr u32 COLUMNS = WARP_COLUMNS;
    static constexpr u32 THREADS = WARP_ROWS * WARP_COLUMNS * WARP;
    // Tiles of 16 rows and of 8 features per warp.
    static constexpr u32 MT = BM / WARP_ROWS / 16;
    static constexpr u32 NT = BN / WARP_COLUMNS / 8;
    static constexpr u32 X_PITCH = BK * 2;
    static constexpr u32 W_PITCH = BK / CHUNK * W::WINDOW;
    static constexpr u32 W_AT = BM * X_PITCH;
    static constexpr u32 SCALES_AT = W_AT + BN * W_PITCH;
    static constexpr u32 STAGE = SCALES_AT + (W::GROUPED ? BN * 16 : 0);
};

// Byte of the 16-byte piece `piece` of row `row`. Lanes of one access read WINDOW bytes each of 128 / WINDOW
// neighbouring rows: rows that would meet the same banks are turned against each other.
template <u32 PITCH, u32 WINDOW>
DEVICE u32 place(u32 row, u32 piece) {
    constexpr u32 SWEEP = PITCH < 128 ? PITCH : 128;
    const u32 turn = row / (128 / SWEEP) % (SWEEP / WINDOW);
    return row * PITCH + (piece ^ turn * (WINDOW / 16)) * 16;
}

// The row of w behind row `row` of the tile of block `block`. Gated: 8 gates, the 8 features that they gate, and so on,
// so that one lane holds both. Beyond the matrix: `valid` is false.
template <u32 BN>
DEVICE u32 weight_row(const Operands& o, u32 block, u32 row, bool& valid) {
    if (!o.gated) {
        const u32 feature = block * BN + row;
        valid = feature < o.n;
        return feature;
    }
    const u32 feature = block * (BN / 2) + row / 16 * 8 + row % 8;
    valid = feature < o.n;
    return feature + row / 8 % 2 * o.n;
}

// Starts the copies of one step: BM rows of x, BN rows of w, and the words of int4 scales that it may need.
template <typename W, typename T>
DEVICE void fetch(const Operands& o, u8* stage, u32 step) {
    // Pieces of 16 bytes are counted in 32 bits: enough for 64 GiB.
    const Words4* x = reinterpret_cast<const Words4*>(o.x);
    const Words4* w = reinterpret_cast<const Words4*>(o.w);
    const u32 x_pieces = o.x_stride / 8, w_pieces = o.w_bytes / 16;
    constexpr u32 X_PIECES = T::X_PITCH / 16;
#pragma unroll
    for (u32 first = 0; first < T::BM * X_PIECES; first += T::THREADS) {
        const u32 row = (first + threadIdx.x) / X_PIECES;
        const u32 piece = (first + threadIdx.x) % X_PIECES;
        const u32 token = blockIdx.x * T::BM + row;
        const u32 at = step * X_PIECES + piece;
        copy_async_16(stage + place<T::X_PITCH, 64>(row, piece), x + (token * x_pieces + at),
                      token < o.m && at < x_pieces);
    }
    constexpr u32 W_PIECES = T::W_PITCH / 16;
#pragma unroll
    for (u32 first = 0; first < T::BN * W_PIECES; first += T::THREADS) {
        const u32 row = (first + threadIdx.x) / W_PIECES;
        const u32 piece = (first + threadIdx.x) % W_PIECES;
        bool valid;
        const u32 from = weight_row<T::BN>(o, blockIdx.y, row, valid);
        const u32 at = step * W_PIECES + piece;
        copy_async_16(stage + T::W_AT + place<T::W_PITCH, W::WINDOW>(row, piece), w + (from * w_pieces + at),
                      valid && at < w_pieces);
    }
    if constexpr (W::GROUPED) {
        // A step has at most 4 groups, and they begin no word but one of a multiple of 4.
        const u32 word = (step * (T::BK / CHUNK) >> o.group_shift) & ~3u;
        if (threadIdx.x < T::BN) {
            bool valid;
            const u32 from = weight_row<T::BN>(o, blockIdx.y, threadIdx.x, valid);
            copy_async_16(stage + T::SCALES_AT + threadIdx.x * 16,
                          static_cast<const u32*>(o.scales) + static_cast<u64>(from) * o.scale_stride + word,
                          valid && word < o.scale_stride);
        }
    }
}

// Multiplies one chunk of x and w into `sums`.
template <typename W, typename T>
DEVICE void multiply_chunk(const u8* stage, u32 chunk, u32 group, float (&sums)[T::MT][T::NT][4]) {
    const u32 warp = threadIdx.x / WARP, g = threadIdx.x % WARP / 4, t = threadIdx.x % 4;
    u32 w[T::NT][4];
#pragma unroll
    for (u32 j = 0; j < T::NT; j++) {
        const u32 row = (warp % T::COLUMNS * T::NT + j) * 8 + g;
        const u32 byte = chunk * W::WINDOW + t * (W::WINDOW / 4);
        u32 origin = 0;
        if constexpr (W::GROUPED) {
            const u8* words = stage + T::SCALES_AT + row * 16;
            origin = int4_origin(reinterpret_cast<const u32*>(words)[group % 4]);
        }
        W::unpack(stage + T::W_AT + place<T::W_PITCH, W::WINDOW>(row, byte / 16) + byte % 16, origin, w[j]);
    }
#pragma unroll
    for (u32 i = 0; i < T::MT; i++) {
        const u32 row = (warp / T::COLUMNS * T::MT + i) * 16 + g;
        const u32 piece = chunk * 4 + t;
        const Words4 upper = *reinterpret_cast<const Words4*>(stage + place<T::X_PITCH, 64>(row, piece));
        const Words4 lower = *reinterpret_cast<const Words4*>(stage + place<T::X_PITCH, 64>(row + 8, piece));
#pragma unroll
        for (u32 half = 0; half < 4; half += 2) {
            const u32 a[4] = {upper.word[half], lower.word[half], upper.word[half + 1], lower.word[half + 1]};
#pragma unroll
            for (u32 j = 0; j < T::NT; j++) {
                const u32 b[2] = {w[j][half], w[j][half + 1]};
                mma_bf16(sums[i][j], a, b);
            }
        }
    }
}

// Adds what a group (int8: a part) has come to, scaled if int4, and begins the next at zero.
template <typename W, typename T>
DEVICE void fold_group(const u8* stage, u32 group, float (&group_sums)[T::MT][T::NT][4],
                       float (&sums)[T::MT][T::NT][4]) {
    const u32 first = threadIdx.x / WARP % T::COLUMNS * T::NT * 8 + threadIdx.x % 4 * 2;
#pragma unroll
    for (u32 j = 0; j < T::NT; j++) {
        float scales[2] = {};
        if constexpr (W::GROUPED) {
            const u32* words = reinterpret_cast<const u32*>(stage + T::SCALES_AT + (first + j * 8) * 16);
            scales[0] = int4_scale(words[group % 4]);
            scales[1] = int4_scale(words[4 + group % 4]);
        }
#pragma unroll
        for (u32 i = 0; i < T::MT; i++) {
#pragma unroll
            for (u32 part = 0; part < 4; part++) {
                if constexpr (W::GROUPED) {
                    sums[i][j][part] = fmaf(scales[part % 2], group_sums[i][j][part], sums[i][j][part]);
                } else {
                    sums[i][j][part] = sums[i][j][part] + group_sums[i][j][part];
                }
                group_sums[i][j][part] = 0.0f;
            }
        }
    }
}

// One output before any gate: scaled, and its bias added.
template <typename W>
DEVICE float finished(const Operands& o, float sum, u32 row) {
    if constexpr (W::SCALED) {
        sum = sum * static_cast<const float*>(o.scales)[row];
    }
    return o.bias == nullptr ? sum : sum + o.bias[row];
}

// Writes a warp's outputs: lane (g, t) has rows g and g + 8, features 2t and 2t + 1 of each 16 x 8 tile.
template <typename W, typename T>
DEVICE void write_out(const Operands& o, const float (&sums)[T::MT][T::NT][4]) {
    const u32 warp = threadIdx.x / WARP, g = threadIdx.x % WARP / 4, t = threadIdx.x % 4;
    const u32 first_token = blockIdx.x * T::BM + warp / T::COLUMNS * T::MT * 16 + g;
    const u32 first_tile = warp % T::COLUMNS * T::NT;
#pragma unroll
    for (u32 i = 0; i < T::MT; i++) {
#pragma unroll
        for (u32 part = 0; part < 4; part++) {
            const u32 token = first_token + i * 16 + part / 2 * 8;
            float* out = o.out + static_cast<u64>(token) * o.n;
#pragma unroll
            for (u32 j = 0; j < T::NT; j++) {
                const u32 column = t * 2 + part % 2;
                if (!o.gated) {
                    const u32 feature = blockIdx.y * T::BN + (first_tile + j) * 8 + column;
                    if (token < o.m && feature < o.n) {
                        out[feature] = finished<W>(o, sums[i][j][part], feature);
                    }
                } else if (j % 2 == 0 && j + 1 < T::NT) {
                    const u32 feature = blockIdx.y * (T::BN / 2) + (first_tile + j) / 2 * 8 + column;
                    if (token < o.m && feature < o.n) {
                        out[feature] = gate_mul(o.gated, finished<W>(o, sums[i][j][part], feature),
                                                finished<W>(o, sums[i][(j + 1) % T::NT][part], feature + o.n));
                    }
                }
            }
        }
    }
}

template <typename W, typename T>
DEVICE void multiply_tile(const Operands& o, u8* shared) {
    static_assert(T::BM * T::X_PITCH % (T::THREADS * 16) == 0, "threads copy x in equal shares");
    static_assert(T::BN * T::W_PITCH % (T::THREADS * 16) == 0, "threads copy w in equal shares");
    static_assert(!W::GROUPED || (T::BN <= T::THREADS && T::BK <= 4 * CHUNK), "scales of a step: a piece each");
    // The same chunks whatever the tile: k is walked to a multiple of 128, with zeros at its end.
    const u32 spans = (o.w_bytes + 4 * W::WINDOW - 1) / (4 * W::WINDOW);
    const u32 steps = spans * (4 * CHUNK / T::BK);
    float sums[T::MT][T::NT][4] = {};
    float group_sums[T::MT][T::NT][4] = {};
    for (u32 step = 0; step + 1 < T::STAGES; step++) {
        if (step < steps) {
            fetch<W, T>(o, shared + step * T::STAGE, step);
        }
        copy_commit();
    }
    for (u32 step = 0; step < steps; step++) {
        copy_wait<T::STAGES - 2>();
        // What this step reads has come, and no thread reads what the next copies overwrite.
        __syncthreads();
        const u32 ahead = step + T::STAGES - 1;
        if (ahead < steps) {
            fetch<W, T>(o, shared + ahead % T::STAGES * T::STAGE, ahead);
        }
        copy_commit();
        const u8* stage = shared + step % T::STAGES * T::STAGE;
#pragma unroll
        for (u32 chunk = 0; chunk < T::BK / CHUNK; chunk++) {
            const u32 passed = step * (T::BK / CHUNK) + chunk;
            if constexpr (W::GROUPED) {
                const u32 group = passed >> o.group_shift;
                multiply_chunk<W, T>(stage, chunk, group, group_sums);
                if ((passed + 1) >> o.group_shift != group) {
                    fold_group<W, T>(stage, group, group_sums, sums);
                }
            } else if constexpr (W::SCALED) {
                multiply_chunk<W, T>(stage, chunk, 0, group_sums);
                if ((passed + 1) % PART_CHUNKS == 0) {
                    fold_group<W, T>(stage, 0, group_sums, sums);
                }
            } else {
                multiply_chunk<W, T>(stage, chunk, 0, sums);
            }
        }
    }
    if constexpr (W::SCALED) {
        if (steps * (T::BK / CHUNK) % PART_CHUNKS != 0) {
            fold_group<W, T>(shared, 0, group_sums, sums);
        }
    }
    write_out<W, T>(o, sums);
}
