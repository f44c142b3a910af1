// out[i] = table[tokens[i]], widened to f32: rows of a matrix as the products read it (linear_weights.cuh).
//
// Grid: one block per token, any number of threads. Reads a row of the table, 4 to 1/2 byte a number, and
// writes 4. Tokens are below the number of rows: the host checks them before the launch.
#include "linear_weights.cuh"

namespace {

DEVICE const u8* table_row(const u8* table, const u32* tokens, u32 row_bytes) {
    return table + static_cast<u64>(tokens[blockIdx.x]) * row_bytes;
}

}  // namespace

KERNEL embed_f32(const u8* table, const u32* tokens, float* out, u32 dim, u32 row_bytes) {
    take_turn();
    const float* row = reinterpret_cast<const float*>(table_row(table, tokens, row_bytes));
    for (u32 col = threadIdx.x; col < dim; col += blockDim.x) {
        out[static_cast<u64>(blockIdx.x) * dim + col] = row[col];
    }
}
EXPORT(embed_f32);

KERNEL embed_bf16(const u8* table, const u32* tokens, float* out, u32 dim, u32 row_bytes) {
    take_turn();
    const u16* row = reinterpret_cast<const u16*>(table_row(table, tokens, row_bytes));
    for (u32 col = threadIdx.x; col < dim; col += blockDim.x) {
        out[static_cast<u64>(blockIdx.x) * dim + col] = widen_bf16(row[col]);
    }
}
EXPORT(embed_bf16);

KERNEL embed_int8(const u8* table, const float* scales, const u32* tokens, float* out, u32 dim, u32 row_bytes) {
    take_turn();
    const u8* row = table_row(table, tokens, row_bytes);
    const float scale = scales[tokens[blockIdx.x]];
    for (u32 col = threadIdx.x; col < dim; col += blockDim.x) {
        out[static_cast<u64>(blockIdx.x) * dim + col] = int8_step(row[col], 0) * scale;
    }
}
EXPORT(embed_int8);

KERNEL embed_int4(const u8* table, const u32* scales, const u32* tokens, float* out, u32 dim, u32 row_bytes,
                  u32 scale_stride, u32 group_shift) {
    take_turn();
    const u32* row = reinterpret_cast<const u32*>(table_row(table, tokens, row_bytes));
    const u32* words = scales + static_cast<u64>(tokens[blockIdx.x]) * scale_stride;
    for (u32 col = threadIdx.x; col < dim; col += blockDim.x) {
        const u32 word = words[col / 32 >> group_shift];
        const u32 pair = int4_pair(row[col / 8], col % 8 / 2, int4_origin(word));
        const float number = col % 2 == 0 ? bf16_low(pair) : bf16_high(pair);
        out[static_cast<u64>(blockIdx.x) * dim + col] = number * int4_scale(word);
    }
}
EXPORT(embed_int4);

// Puts tokens that an earlier step chose where this step's are: token row pairs[2i] becomes the answer of row
// pairs[2i + 1] (`sample_rows`: outcome, id, log-probability), or 0 where none could be chosen. Any grid of one dimension.
KERNEL place_drawn(u32* tokens, const u32* answers, const u32* pairs, u32 count) {
    take_turn();
    const u32 i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) {
        const u32* answer = answers + 3 * static_cast<u64>(pairs[2 * i + 1]);
        tokens[pairs[2 * i]] = answer[0] == 0 ? answer[1] : 0;
    }
}
EXPORT(place_drawn);
