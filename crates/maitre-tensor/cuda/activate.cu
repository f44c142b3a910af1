// What stands between the two products of an MLP without a gate.
#include "linear_weights.cuh"

namespace {

DEVICE void put(float* row, u32 col, float value) { row[col] = value; }
DEVICE void put(u16* row, u32 col, float value) { row[col] = round_bf16(value); }

}  // namespace

// out[row, col] = activation(x[row, col]). Grid: rows by blocks of a row, a number a thread. Reads 4 bytes a number,
// writes 2 or 4.
#define ACTIVATE(name, Out)                                                                                  \
    KERNEL name(const float* x, Out* out, u32 cols, u32 stride, u32 kind) {                                  \
        take_turn();                                                                                         \
        const u32 col = blockIdx.y * blockDim.x + threadIdx.x;                                               \
        if (col < cols) {                                                                                    \
            const float value = x[static_cast<u64>(blockIdx.x) * cols + col];                                \
            put(out + static_cast<u64>(blockIdx.x) * stride, col, gate_mul(kind, value, 1.0f));              \
        }                                                                                                    \
    }                                                                                                        \
    EXPORT(name)

ACTIVATE(activate_bf16, u16);
ACTIVATE(activate_f32, float);
