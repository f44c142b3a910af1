// Operators whose output rows are made from single input rows.
#include "device.cuh"

namespace {

// Writes number `col` of a row of bf16 or f32 activations.
DEVICE void put(float* row, u32 col, float value) { row[col] = value; }
DEVICE void put(u16* row, u32 col, float value) { row[col] = round_bf16(value); }

// out[row] = x[row] / sqrt(mean(x[row]²) + eps) · weight; with `delta`, x[row] += delta[row] first.
// One block per row, whose threads order the sum. `out` has `stride` numbers per row; those beyond `dim` are padding
// and stay as they are. The row is read twice, the second time from the nearest cache, where its threads left it.
template <typename Out>
DEVICE void norm_row(float* x, const float* delta, const float* weight, float eps, Out* out, u32 dim,
                     u32 stride, float* scratch) {
    float* row = x + static_cast<u64>(blockIdx.x) * dim;
    const float* added = delta == nullptr ? nullptr : delta + static_cast<u64>(blockIdx.x) * dim;
    float squares = 0.0f;
    for (u32 col = threadIdx.x; col < dim; col += blockDim.x) {
        float value = row[col];
        if (added != nullptr) {
            value = value + added[col];
            row[col] = value;
        }
        squares = fmaf(value, value, squares);
    }
    const float mean = block_sum(squares, scratch) / static_cast<float>(dim);
    const float scale = 1.0f / sqrtf(mean + eps);
    Out* result = out + static_cast<u64>(blockIdx.x) * stride;
    for (u32 col = threadIdx.x; col < dim; col += blockDim.x) {
        put(result, col, row[col] * scale * weight[col]);
    }
}

}  // namespace

// Grid: one block per row. Reads 4·dim bytes of x and of delta, writes 4·dim of x and 2 or 4·dim of out.
KERNEL rms_norm_bf16(float* x, const float* delta, const float* weight, float eps, u16* out, u32 dim,
                     u32 stride) {
    SHARED(shared);
    norm_row(x, delta, weight, eps, out, dim, stride, reinterpret_cast<float*>(shared));
}
EXPORT(rms_norm_bf16);

KERNEL rms_norm_f32(float* x, const float* delta, const float* weight, float eps, float* out, u32 dim,
                    u32 stride) {
    SHARED(shared);
    norm_row(x, delta, weight, eps, out, dim, stride, reinterpret_cast<float*>(shared));
}
EXPORT(rms_norm_f32);

namespace {

// One block per row: out[row] = x[row], rounded if `out` is of bf16.
template <typename Out>
DEVICE void encode_row(const float* x, Out* out, u32 cols, u32 stride) {
    const float* row = x + static_cast<u64>(blockIdx.x) * cols;
    Out* result = out + static_cast<u64>(blockIdx.x) * stride;
    for (u32 col = threadIdx.x; col < cols; col += blockDim.x) {
        put(result, col, row[col]);
    }
}

}  // namespace

// Grid: one block per row. Reads 4·cols bytes, writes 2 or 4·cols.
KERNEL encode_bf16(const float* x, u16* out, u32 cols, u32 stride) { encode_row(x, out, cols, stride); }
EXPORT(encode_bf16);

KERNEL encode_f32(const float* x, float* out, u32 cols, u32 stride) { encode_row(x, out, cols, stride); }
EXPORT(encode_f32);

// out[i] = x[rows[i]]. Grid: one block per row of `out`. Reads 4·dim bytes and writes as many.
KERNEL gather_rows(const float* x, const u32* rows, float* out, u32 dim) {
    const float* row = x + static_cast<u64>(rows[blockIdx.x]) * dim;
    float* result = out + static_cast<u64>(blockIdx.x) * dim;
    for (u32 col = threadIdx.x; col < dim; col += blockDim.x) {
        result[col] = row[col];
    }
}
EXPORT(gather_rows);
