// The matrix product of f32 weights, for references: every sum is one chain of fused multiplications in the
// order of k, whatever the number of rows.
//
//   a block: 16 token rows by 64 outputs (gated: 64 gates and the 64 features that they gate); k in steps of 32,
//   which pass through shared memory in rows of 33 numbers: neighbouring rows lie in different banks.
//   a thread: one output feature, rows thread / 64 + 0, 4, 8, 12.
//
// Cost: 4·n·k bytes of w for every 16 rows, 2·m·n·k operations; bound by shared memory, 5 reads for 4 fused
// multiplications: not meant for speed.
#include "linear_weights.cuh"

namespace {

constexpr u32 ROWS = 16;
constexpr u32 FEATURES = 64;
constexpr u32 DEPTH = 32;
constexpr u32 PITCH = DEPTH + 1;
constexpr u32 ROWS_PER_THREAD = 4;

// Copies `rows` rows of `DEPTH` numbers from column `col` on to shared memory; zeros beyond the matrix.
DEVICE void load_rows(float* to, const float* from, u32 first, u32 rows, u32 limit, u32 col, u32 k) {
    for (u32 i = threadIdx.x; i < rows * DEPTH; i += blockDim.x) {
        const u32 row = i / DEPTH, at = i % DEPTH;
        const bool valid = first + row < limit && col + at < k;
        to[row * PITCH + at] = valid ? from[static_cast<u64>(first + row) * k + col + at] : 0.0f;
    }
}

}  // namespace

// Grid: x = rows / 16, y = outputs / 64, rounded up; 256 threads; (16 + 64 (gated: 128)) · 33 · 4 bytes of
// shared memory. `n` is the number of outputs.
KERNEL linear_f32(const float* x, const float* w, const float* bias, float* out, u32 m, u32 n, u32 k, u32 gated) {
    take_turn();
    SHARED(shared);
    float* x_rows = reinterpret_cast<float*>(shared);
    float* w_rows = x_rows + ROWS * PITCH;
    float* up_rows = w_rows + FEATURES * PITCH;
    const u32 first_token = blockIdx.x * ROWS, first_feature = blockIdx.y * FEATURES;
    const u32 feature = threadIdx.x % FEATURES, row = threadIdx.x / FEATURES, stride = blockDim.x / FEATURES;
    float sums[ROWS_PER_THREAD] = {};
    float ups[ROWS_PER_THREAD] = {};
    for (u32 col = 0; col < k; col += DEPTH) {
        load_rows(x_rows, x, first_token, ROWS, m, col, k);
        load_rows(w_rows, w, first_feature, FEATURES, n, col, k);
        if (gated != 0) {
            load_rows(up_rows, w + static_cast<u64>(n) * k, first_feature, FEATURES, n, col, k);
        }
        __syncthreads();
        const u32 depth = k - col < DEPTH ? k - col : DEPTH;
        for (u32 at = 0; at < depth; at++) {
            const float weight = w_rows[feature * PITCH + at];
            const float up = gated != 0 ? up_rows[feature * PITCH + at] : 0.0f;
#pragma unroll
            for (u32 i = 0; i < ROWS_PER_THREAD; i++) {
                const float value = x_rows[(row + i * stride) * PITCH + at];
                sums[i] = fmaf(value, weight, sums[i]);
                ups[i] = fmaf(value, up, ups[i]);
            }
        }
        __syncthreads();
    }
#pragma unroll
    for (u32 i = 0; i < ROWS_PER_THREAD; i++) {
        const u32 token = first_token + row + i * stride;
        const u32 output = first_feature + feature;
        if (token < m && output < n) {
            const float sum = bias == nullptr ? sums[i] : sums[i] + bias[output];
            const float up = bias == nullptr || gated == 0 ? ups[i] : ups[i] + bias[n + output];
            out[static_cast<u64>(token) * n + output] = gated != 0 ? gate_mul(gated, sum, up) : sum;
        }
    }
}
EXPORT(linear_f32);
