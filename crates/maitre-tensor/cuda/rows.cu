// Operators whose output rows are made from single input rows.
//
// At a few rows these kernels are as long as their chains of dependent reads, of some 700 ns each. So a thread
// asks for all it can hold before it stores any: a compiler can't move a load before a store, as it might read
// what was stored.
#include "device.cuh"

namespace {

// Numbers of a row that a thread of a normalisation holds in registers.
constexpr u32 HELD = 8;

// Writes number `col` of a row of bf16 or f32 activations.
DEVICE void put(float* row, u32 col, float value) { row[col] = value; }
DEVICE void put(u16* row, u32 col, float value) { row[col] = round_bf16(value); }

// Writes the four numbers from `col` on, a multiple of four.
DEVICE void put(float* row, u32 col, Floats4 values) { *reinterpret_cast<Floats4*>(row + col) = values; }
DEVICE void put(u16* row, u32 col, Floats4 values) {
    const u32 low = pack_bf16(values.number[0], values.number[1]);
    const u32 high = pack_bf16(values.number[2], values.number[3]);
    *reinterpret_cast<Words2*>(row + col) = {low, high};
}

// A row to be normalised.
template <typename Out>
struct Norm {
    float* row;
    // Added to the row first, unless it is null.
    const float* added;
    const float* weight;
    Out* out;
    float eps;
    u32 dim;

    // 1 / sqrt(mean(row²) + eps), from what each thread has summed of the squares.
    DEVICE float scale(float squares, float* scratch) const {
        const float mean = block_sum(squares, scratch) / static_cast<float>(dim);
        return 1.0f / sqrtf(mean + eps);
    }

    // Rows of at most `HELD` numbers a thread: one round trip to memory for all of them. The same operations in
    // the same order as `walked`; what is beyond the row adds 0² to a sum that is not negative.
    DEVICE void held(float* scratch) const {
        float value[HELD];
        float delta[HELD];
        float weights[HELD];
#pragma unroll
        for (u32 i = 0; i < HELD; i++) {
            const u32 col = threadIdx.x + i * blockDim.x;
            value[i] = col < dim ? row[col] : 0.0f;
            delta[i] = added != nullptr && col < dim ? added[col] : 0.0f;
            weights[i] = col < dim ? weight[col] : 0.0f;
        }
        float squares = 0.0f;
#pragma unroll
        for (u32 i = 0; i < HELD; i++) {
            const u32 col = threadIdx.x + i * blockDim.x;
            if (added != nullptr && col < dim) {
                value[i] = value[i] + delta[i];
                row[col] = value[i];
            }
            squares = fmaf(value[i], value[i], squares);
        }
        const float scale_of_row = scale(squares, scratch);
#pragma unroll
        for (u32 i = 0; i < HELD; i++) {
            const u32 col = threadIdx.x + i * blockDim.x;
            if (col < dim) {
                put(out, col, value[i] * scale_of_row * weights[i]);
            }
        }
    }

    // Rows of any length. The row is read twice, the second time from the nearest cache.
    DEVICE void walked(float* scratch) const {
        float squares = 0.0f;
        for (u32 col = threadIdx.x; col < dim; col += blockDim.x) {
            float value = row[col];
            if (added != nullptr) {
                value = value + added[col];
                row[col] = value;
            }
            squares = fmaf(value, value, squares);
        }
        const float factor = scale(squares, scratch);
        for (u32 col = threadIdx.x; col < dim; col += blockDim.x) {
            put(out, col, row[col] * factor * weight[col]);
        }
    }
};

// out[row] = x[row] / sqrt(mean(x[row]²) + eps) · weight; with `delta`, x[row] += delta[row] first.
// One block per row, whose threads order the sum. `out` has `stride` numbers per row; those beyond `dim` are padding
// and stay as they are.
template <typename Out>
DEVICE void norm_row(float* x, const float* delta, const float* weight, float eps, Out* out, u32 dim,
                     u32 stride, float* scratch) {
    const u64 first = static_cast<u64>(blockIdx.x) * dim;
    const Norm<Out> norm = {x + first, delta == nullptr ? nullptr : delta + first,
                            weight,    out + static_cast<u64>(blockIdx.x) * stride,
                            eps,       dim};
    if (dim <= HELD * blockDim.x) {
        norm.held(scratch);
    } else {
        norm.walked(scratch);
    }
}

}  // namespace

// Grid: one block per row. Reads 4·dim bytes of x and of delta, writes 4·dim of x and 2 or 4·dim of out.
KERNEL MOST_THREADS(1024)
    rms_norm_bf16(float* x, const float* delta, const float* weight, float eps, u16* out, u32 dim, u32 stride) {
    take_turn();
    SHARED(shared);
    norm_row(x, delta, weight, eps, out, dim, stride, reinterpret_cast<float*>(shared));
}
EXPORT(rms_norm_bf16);

KERNEL MOST_THREADS(1024)
    rms_norm_f32(float* x, const float* delta, const float* weight, float eps, float* out, u32 dim, u32 stride) {
    take_turn();
    SHARED(shared);
    norm_row(x, delta, weight, eps, out, dim, stride, reinterpret_cast<float*>(shared));
}
EXPORT(rms_norm_f32);

// Columns `first .. first + dim` of each row of `width` numbers, in place. Grid: one block per row.
KERNEL MOST_THREADS(1024)
    rms_norm_columns(float* x, const float* weight, float eps, u32 dim, u32 width, u32 first) {
    take_turn();
    SHARED(shared);
    float* part = x + static_cast<u64>(blockIdx.x) * width + first;
    const Norm<float> norm = {part, nullptr, weight, part, eps, dim};
    if (dim <= HELD * blockDim.x) {
        norm.held(reinterpret_cast<float*>(shared));
    } else {
        norm.walked(reinterpret_cast<float*>(shared));
    }
}
EXPORT(rms_norm_columns);

namespace {

// x[row] += delta[row] / rms(delta[row]) · after; then out[row] = x[row] / rms(x[row]) · before, or x[row] if `before`
// is null. A thread has the same columns in each pass, so that it alone reads what it wrote.
template <typename Out>
DEVICE void add_normed_row(float* x, const float* delta, const float* after, const float* before, float eps,
                           Out* out, u32 dim, u32 stride, float* scratch) {
    const u64 first = static_cast<u64>(blockIdx.x) * dim;
    float* row = x + first;
    const float* added = delta + first;
    out += static_cast<u64>(blockIdx.x) * stride;
    float squares = 0.0f;
    for (u32 col = threadIdx.x; col < dim; col += blockDim.x) {
        squares = fmaf(added[col], added[col], squares);
    }
    const float of_delta = 1.0f / sqrtf(block_sum(squares, scratch) / static_cast<float>(dim) + eps);
    squares = 0.0f;
    for (u32 col = threadIdx.x; col < dim; col += blockDim.x) {
        const float value = row[col] + added[col] * of_delta * after[col];
        row[col] = value;
        squares = fmaf(value, value, squares);
        if (before == nullptr) {
            put(out, col, value);
        }
    }
    if (before == nullptr) {
        return;
    }
    __syncthreads();
    const float of_row = 1.0f / sqrtf(block_sum(squares, scratch) / static_cast<float>(dim) + eps);
    for (u32 col = threadIdx.x; col < dim; col += blockDim.x) {
        put(out, col, row[col] * of_row * before[col]);
    }
}

}  // namespace

// Grid: one block per row. Reads 4·dim bytes of x and of delta, writes 4·dim of x and 2 or 4·dim of out; both norms'
// second reads come from the nearest cache.
#define ADD_NORMED(name, Out)                                                                               \
    KERNEL MOST_THREADS(1024)                                                                               \
        name(float* x, const float* delta, const float* after, const float* before, float eps, Out* out,    \
             u32 dim, u32 stride) {                                                                         \
        take_turn();                                                                                        \
        SHARED(shared);                                                                                     \
        add_normed_row(x, delta, after, before, eps, out, dim, stride, reinterpret_cast<float*>(shared));   \
    }                                                                                                       \
    EXPORT(name)

ADD_NORMED(add_normed_bf16, u16);
ADD_NORMED(add_normed_f32, float);

// x[i] *= factor. Grid: a thread per number. Reads and writes 4 bytes a number.
KERNEL scale_numbers(float* x, float factor, u32 len) {
    take_turn();
    const u64 at = static_cast<u64>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (at < len) {
        x[at] = x[at] * factor;
    }
}
EXPORT(scale_numbers);

namespace {

// Copies the block's 4·blockDim.x numbers of a row, rounded if `out` is of bf16. A thread takes four that lie
// together where rows begin at multiples of 16 bytes.
template <typename Out>
DEVICE void copy_row(const float* __restrict__ row, Out* __restrict__ out, u32 cols) {
    const u32 first = blockIdx.y * 4 * blockDim.x;
    if (cols % 4 == 0) {
        const u32 col = first + 4 * threadIdx.x;
        if (col < cols) {
            const Floats4 values = *reinterpret_cast<const Floats4*>(row + col);
            put(out, col, values);
        }
        return;
    }
    float values[4];
#pragma unroll
    for (u32 i = 0; i < 4; i++) {
        const u32 col = first + threadIdx.x + i * blockDim.x;
        values[i] = col < cols ? row[col] : 0.0f;
    }
#pragma unroll
    for (u32 i = 0; i < 4; i++) {
        const u32 col = first + threadIdx.x + i * blockDim.x;
        if (col < cols) {
            put(out, col, values[i]);
        }
    }
}

}  // namespace

// out[row] = x[row]. Grid: rows by blocks of a row, of four numbers a thread. Reads 4·cols bytes a row, writes
// 2 or 4·cols, in one round trip to memory whatever the width.
KERNEL encode_bf16(const float* x, u16* out, u32 cols, u32 stride) {
    take_turn();
    copy_row(x + static_cast<u64>(blockIdx.x) * cols, out + static_cast<u64>(blockIdx.x) * stride, cols);
}
EXPORT(encode_bf16);

KERNEL encode_f32(const float* x, float* out, u32 cols, u32 stride) {
    take_turn();
    copy_row(x + static_cast<u64>(blockIdx.x) * cols, out + static_cast<u64>(blockIdx.x) * stride, cols);
}
EXPORT(encode_f32);

// out[i] = x[rows[i]]. The same grid. Reads 4·dim bytes a row and writes as many.
KERNEL gather_rows(const float* x, const u32* rows, float* out, u32 dim) {
    take_turn();
    copy_row(x + static_cast<u64>(rows[blockIdx.x]) * dim, out + static_cast<u64>(blockIdx.x) * dim, dim);
}
EXPORT(gather_rows);
