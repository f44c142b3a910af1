// What warps on tensor cores do with the scores of a tile: the running softmax of a chunk, and values that are not
// finite. Lanes hold scores and values as `mma_bf16` and `multiply_async` deal them out.
#pragma once

#include "attention.cuh"

namespace {

// What a warp has learned of its rows in a chunk. Lane 4g + t holds of the rows g and g + 8 the columns 2t
// and 2t + 1 of each matrix of eight dims, and a quarter of the sums: those of the positions it weighed.
template <u32 DIM>
struct Learned {
    float values[DIM / 8][4];
    Softmax rows[2];

    DEVICE void reset() {
#pragma unroll
        for (u32 i = 0; i < DIM / 8; i++) {
#pragma unroll
            for (u32 j = 0; j < 4; j++) {
                values[i][j] = 0.0f;
            }
        }
        rows[0] = NOTHING_SEEN;
        rows[1] = NOTHING_SEEN;
    }

    // Makes values summed so far relative to new largest scores.
    DEVICE void fade(const float (&decay)[2]) {
#pragma unroll
        for (u32 i = 0; i < DIM / 8; i++) {
#pragma unroll
            for (u32 j = 0; j < 4; j++) {
                values[i][j] = values[i][j] * decay[j / 2];
            }
        }
    }
};

// The whole sums of the lane's rows, in each of the four lanes.
DEVICE void complete(Softmax (&rows)[2]) {
#pragma unroll
    for (u32 half = 0; half < 2; half++) {
        float sum = rows[half].sum;
        sum = sum + __shfl_xor_sync(ALL_LANES, sum, 1);
        rows[half].sum = sum + __shfl_xor_sync(ALL_LANES, sum, 2);
    }
}

// The weights of a tile: of 16-bit pairs, those that the tensor cores take for 16·step positions are
// words[2·step .. 2·step + 1].
struct Weights {
    u32 words[4][2];
    // By which the values of the tiles before are to `fade`.
    float decay[2];
};

// Which of the lane's 16 scores count, a bit each: bit 4i + j is column 2t + j % 2 of matrix i, of row g for
// j < 2, else of g + 8.
DEVICE u32 seen_bits(const Range (&seen)[2], u32 start) {
    u32 bits = 0;
#pragma unroll
    for (u32 i = 0; i < 16; i++) {
        const u32 position = start + i / 4 * 8 + threadIdx.x % 4 * 2 + i % 2;
        const Range& range = seen[i % 4 / 2];
        bits |= (position >= range.start && position < range.end ? 1u : 0u) << i;
    }
    return bits;
}

// Makes scores of the products of queries and keys: those that are not seen weigh nothing.
template <typename Format>
DEVICE void scale_scores(float (&scores)[4][4], const float* scales, float factor, u32 seen) {
    const u32 t = threadIdx.x % 4;
#pragma unroll
    for (u32 i = 0; i < 4; i++) {
#pragma unroll
        for (u32 j = 0; j < 4; j++) {
            float score = scores[i][j];
            if (Format::SCALE_UNITS > 0) {
                score = score * scales[8 * i + 2 * t + j % 2];
            }
            const bool counts = seen >> (4 * i + j) & 1;
            scores[i][j] = counts ? score * factor : __uint_as_float(0xff800000u);
        }
    }
}

// The largest of `least` and a row's scores, in all four lanes that share the row.
DEVICE float largest_score(float least, const float (&scores)[4][4], u32 half) {
    float max = least;
#pragma unroll
    for (u32 i = 0; i < 4; i++) {
        max = fmaxf(max, fmaxf(scores[i][2 * half], scores[i][2 * half + 1]));
    }
    max = fmaxf(max, __shfl_xor_sync(ALL_LANES, max, 1));
    return fmaxf(max, __shfl_xor_sync(ALL_LANES, max, 2));
}

// The weights of a row's scores relative to `max`; returns the sum of the lane's.
template <typename Format>
DEVICE float weigh_row(u32 (&words)[4][2], const float (&scores)[4][4], const float* scales, float max, u32 seen,
                       u32 half) {
    const u32 t = threadIdx.x % 4;
    float sum = 0.0f;
#pragma unroll
    for (u32 i = 0; i < 4; i++) {
        float pair[2];
#pragma unroll
        for (u32 j = 0; j < 2; j++) {
            pair[j] = fast_exp2(scores[i][2 * half + j] - max);
        }
        if (Format::SCALE_UNITS > 0) {
            sum = sum + (pair[0] + pair[1]);
#pragma unroll
            for (u32 j = 0; j < 2; j++) {
                // An unseen scale may be NaN.
                const bool counts = seen >> (4 * i + 2 * half + j) & 1;
                pair[j] = counts ? pair[j] * scales[TILE + 8 * i + 2 * t + j] : 0.0f;
            }
        }
        words[i][half] = pack_bf16(pair[0], pair[1]);
        if (Format::SCALE_UNITS == 0) {
            // What is divided by is the sum of the weights that were used.
            sum = sum + (bf16_low(words[i][half]) + bf16_high(words[i][half]));
        }
    }
    return sum;
}

// Makes scores of the products of queries and keys, merges those seen into the running softmax of the lane's rows, and
// returns the weights.
template <typename Format>
DEVICE Weights weigh(Softmax (&rows)[2], float (&scores)[4][4], const float* scales, float factor, u32 seen) {
    scale_scores<Format>(scores, scales, factor, seen);
    Weights weights;
#pragma unroll
    for (u32 half = 0; half < 2; half++) {
        const float max = largest_score(rows[half].max, scores, half);
        const float decay = fast_exp2(rows[half].max - max);
        const float sum = weigh_row<Format>(weights.words, scores, scales, max, seen, half);
        rows[half] = {max, fmaf(rows[half].sum, decay, sum)};
        weights.decay[half] = decay;
    }
    return weights;
}

DEVICE bool is_finite_bf16(u32 bits) { return (bits & 0x7f80u) != 0x7f80u; }

// Takes what is not finite out of values that some rows do not see (a weight of zero does not silence NaN),
// and adds it where it is seen. Sixteen positions from `position` on, `N` times 8 dims.
template <typename Format, u32 DIM, u32 N>
DEVICE void part_from_garbage(Learned<DIM>& learned, u32 (&b)[N][2], const u32 (&a)[4],
                              const Range (&seen)[2], u32 position, u32 block) {
    bool bad = false;
#pragma unroll
    for (u32 i = 0; i < 2 * N; i++) {
        const u32 word = b[i / 2][i % 2];
        bad = bad || !is_finite_bf16(word) || !is_finite_bf16(word >> 16);
    }
    if (__ballot_sync(ALL_LANES, bad) == 0) {
        return;
    }
    const u32 lane = threadIdx.x % WARP;
    for (u32 row = 0; row < 16; row++) {
#pragma unroll
        for (u32 i = 0; i < N; i++) {
#pragma unroll
            for (u32 j = 0; j < 4; j++) {
                // Column c of position k is with lane 4c + k % 8 / 2.
                const u32 holder = (lane % 4 * 2 + j % 2) * 4 + row % 8 / 2;
                const u32 values = __shfl_sync(ALL_LANES, row < 8 ? b[i][0] : b[i][1], holder);
                const u32 pair = row < 8 ? a[j / 2] : a[2 + j / 2];
                const u32 weights = __shfl_sync(ALL_LANES, pair, lane / 4 * 4 + row % 8 / 2);
                const u32 value = values >> (row % 2 * 16) & 0xffffu;
                const float weight = widen_bf16(static_cast<u16>(weights >> (row % 2 * 16)));
                const Range& range = seen[j / 2];
                const bool counts = position + row >= range.start && position + row < range.end;
                if (counts && !is_finite_bf16(value)) {
                    float& sum = learned.values[N * block + i][j];
                    sum = fmaf(weight, widen_bf16(static_cast<u16>(value)), sum);
                }
            }
        }
    }
#pragma unroll
    for (u32 i = 0; i < 2 * N; i++) {
        u32& word = b[i / 2][i % 2];
        word = (is_finite_bf16(word) ? word & 0xffffu : 0) | (is_finite_bf16(word >> 16) ? word & 0xffff0000u : 0);
    }
}

}  // namespace
