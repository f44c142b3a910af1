// Normalisation by mean and variance (Ba, Kiros and Hinton 2016, arXiv 1607.06450), and sums without one.
#include "device.cuh"

namespace {

// Writes number `col` of a row of bf16 or f32 activations.
DEVICE void put(float* row, u32 col, float value) { row[col] = value; }
DEVICE void put(u16* row, u32 col, float value) { row[col] = round_bf16(value); }

// x[row] += delta[row] if there is one; then out[row] = (x[row] - mean) / sqrt(variance + eps) * weight + bias.
// A thread has the same columns in each pass, so that it alone reads what it wrote. Mean and variance are sums over the
// block one after the other: the order of both depends on the length of the row alone.
template <typename Out>
DEVICE void layer_norm_row(float* x, const float* delta, const float* weight, const float* bias, float eps, Out* out,
                           u32 dim, u32 stride, float* scratch) {
    const u64 first = static_cast<u64>(blockIdx.x) * dim;
    float* row = x + first;
    out += static_cast<u64>(blockIdx.x) * stride;
    float sum = 0.0f;
    for (u32 col = threadIdx.x; col < dim; col += blockDim.x) {
        float value = row[col];
        if (delta != nullptr) {
            value = value + delta[first + col];
            row[col] = value;
        }
        sum = sum + value;
    }
    const float count = static_cast<float>(dim);
    const float mean = block_sum(sum, scratch) / count;
    float squares = 0.0f;
    for (u32 col = threadIdx.x; col < dim; col += blockDim.x) {
        const float distance = row[col] - mean;
        squares = fmaf(distance, distance, squares);
    }
    __syncthreads();
    const float inverse = 1.0f / sqrtf(block_sum(squares, scratch) / count + eps);
    for (u32 col = threadIdx.x; col < dim; col += blockDim.x) {
        const float normed = (row[col] - mean) * inverse * weight[col];
        put(out, col, bias == nullptr ? normed : normed + bias[col]);
    }
}

}  // namespace

// Grid: one block per row. Reads 4·dim bytes of x and of delta, writes 4·dim of x and 2 or 4·dim of out; the second and
// third read of x come from the nearest cache.
#define LAYER_NORM(name, Out)                                                                               \
    KERNEL MOST_THREADS(1024)                                                                               \
        name(float* x, const float* delta, const float* weight, const float* bias, float eps, Out* out,     \
             u32 dim, u32 stride) {                                                                         \
        take_turn();                                                                                        \
        SHARED(shared);                                                                                     \
        layer_norm_row(x, delta, weight, bias, eps, out, dim, stride, reinterpret_cast<float*>(shared));    \
    }                                                                                                       \
    EXPORT(name)

LAYER_NORM(layer_norm_bf16, u16);
LAYER_NORM(layer_norm_f32, float);

// sum[i] += delta[i]. Grid: a thread per number. Reads 8 bytes a number, writes 4.
KERNEL add_numbers(float* sum, const float* delta, u32 len) {
    take_turn();
    const u64 at = static_cast<u64>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (at < len) {
        sum[at] = sum[at] + delta[at];
    }
}
EXPORT(add_numbers);
