// Queries and keys normalised and rotated; keys and values rounded into the paged cache.
//
// A block takes one token row and as many of its heads as it has warps, a warp takes one head:
//
//   row of qkv   [query 0][query 1]..  [key 0][key 1]..  [value 0][value 1]..        dim numbers each
//   lane l       numbers l, l + 32, .. of the lower half of the head, and each one's partner in the upper half;
//                where only the first numbers of a head are rotated, those behind them in pairs of neighbours
//
//   cell         [16][padded] keys, [16][padded] values, of f32, bf16 or int8; int8: [16] f32 scales of keys,
//                [16] of values. Slot s is row s % 16 of cell (s / 16) · kv_heads + head.
//
// Cost per row: reads 4 · (heads + 2 kv_heads) · dim bytes and 4 · dim of cosines and sines; writes
// 4 · heads · dim bytes of queries and the cache's 2 · kv_heads · dim numbers; some ten operations a number.
// A head is read twice, from the nearest cache the second time, where it is normalised or rounded to int8.
// To know whether a later row names the same slot, a block with keys reads the slots of all later rows:
// 2 · rows · rows bytes in all, 128 MiB from the L2 cache at 8,192 rows.
#include "device.cuh"

namespace {

constexpr u32 GROUP = 16;

// Half-split rotation (Su et al. 2021, arXiv 2104.09864) of a head that may be normalised before.
struct Head {
    const float* input;
    // Null for a head that is not normalised.
    const float* norm;
    float inverse;
    // Null for a head that is not rotated.
    const float* cos;
    const float* sin;
    // Of what was rotated; 1 of keys and values.
    float factor;
    // Pairs of a head, and how many of them are rotated.
    u32 half;
    u32 turned;
};

struct Pair {
    float low;
    float high;
};

// Where the numbers of pair `i` lie: `turned` apart if they are rotated, behind all of these side by side.
DEVICE u32 low_of(const Head& head, u32 i) { return i < head.turned ? i : 2 * i; }
DEVICE u32 high_of(const Head& head, u32 i) { return i < head.turned ? i + head.turned : 2 * i + 1; }

// Pair `i` of the result.
DEVICE Pair pair_of(const Head& head, u32 i) {
    const u32 low = low_of(head, i);
    const u32 high = high_of(head, i);
    Pair pair = {head.input[low], head.input[high]};
    if (head.norm != nullptr) {
        pair.low = pair.low * head.inverse * head.norm[low];
        pair.high = pair.high * head.inverse * head.norm[high];
    }
    if (head.cos != nullptr && i < head.turned) {
        const float cos = head.cos[i];
        const float sin = head.sin[i];
        pair = {pair.low * cos - pair.high * sin, pair.high * cos + pair.low * sin};
    }
    return {pair.low * head.factor, pair.high * head.factor};
}

// 1 / sqrt(mean(x²) + eps) of a head, in every lane.
DEVICE float inverse_rms(const float* input, u32 dim, float eps) {
    float squares = 0.0f;
    for (u32 i = threadIdx.x % WARP; i < dim; i += WARP) {
        squares = fmaf(input[i], input[i], squares);
    }
    return 1.0f / sqrtf(warp_sum(squares) / static_cast<float>(dim) + eps);
}

// As integers, magnitudes order like numbers, with NaN above infinity.
DEVICE u32 magnitude(float value) { return __float_as_uint(value) & 0x7fffffffu; }

// The largest magnitude of a head's numbers, in every lane.
DEVICE u32 largest_magnitude(const Head& head) {
    u32 most = 0;
    for (u32 i = threadIdx.x % WARP; i < head.half; i += WARP) {
        const Pair pair = pair_of(head, i);
        const u32 low = magnitude(pair.low);
        const u32 high = magnitude(pair.high);
        most = low > most ? low : most;
        most = high > most ? high : most;
    }
    for (u32 step = WARP / 2; step > 0; step /= 2) {
        const u32 other = __shfl_xor_sync(ALL_LANES, most, step);
        most = other > most ? other : most;
    }
    return most;
}

// Fixed point of 127 steps to either side.
struct Steps {
    // What one step stands for; NaN if a number of the head is not finite.
    float unit;
    float inverse;
};

DEVICE Steps steps_of(u32 most) {
    const float largest = __uint_as_float(most);
    if (most >= 0x7f800000u) {
        return {__uint_as_float(0x7fc00000u), 0.0f};
    }
    // Below it numbers count as zero, so that the inverse is finite.
    if (largest < 1e-30f) {
        return {0.0f, 0.0f};
    }
    return {largest / 127.0f, 127.0f / largest};
}

// The nearest number of steps, ties to even.
DEVICE i8 quantize(float value, float inverse) {
    // Adding 1.5 · 2^23 rounds to an integer and leaves it in the low bits.
    const float magic = 12582912.0f;
    const float product = value * inverse;
    // Infinity times the inverse zero is NaN.
    const float finite = product == product ? product : 0.0f;
    return static_cast<i8>(static_cast<u8>(__float_as_uint(finite + magic)));
}

DEVICE void put(float* row, u32 i, float value) { row[i] = value; }
DEVICE void put(u16* row, u32 i, float value) { row[i] = round_bf16(value); }

// A row of keys or values in a cell, and where its scale is kept; that is not used unless numbers are int8.
template <typename Number>
DEVICE void store(const Head& head, Number* row, float*) {
    for (u32 i = threadIdx.x % WARP; i < head.half; i += WARP) {
        const Pair pair = pair_of(head, i);
        put(row, low_of(head, i), pair.low);
        put(row, high_of(head, i), pair.high);
    }
}

DEVICE void store(const Head& head, i8* row, float* scale) {
    const Steps steps = steps_of(largest_magnitude(head));
    for (u32 i = threadIdx.x % WARP; i < head.half; i += WARP) {
        const Pair pair = pair_of(head, i);
        row[low_of(head, i)] = quantize(pair.low, steps.inverse);
        row[high_of(head, i)] = quantize(pair.high, steps.inverse);
    }
    if (threadIdx.x % WARP == 0) {
        *scale = steps.unit;
    }
}

// Whether a later row names the slot of row `row`: then that one's keys and values count. Asked by the whole
// block.
DEVICE bool is_superseded(const u32* slots, u32 row, u32 rows, u32* later) {
    if (threadIdx.x == 0) {
        *later = 0;
    }
    __syncthreads();
    u32 found = 0;
    for (u32 other = row + 1 + threadIdx.x; other < rows; other += blockDim.x) {
        found += slots[other] == slots[row] ? 1 : 0;
    }
    if (found != 0) {
        atomicAdd(later, found);
    }
    __syncthreads();
    return *later != 0;
}

template <typename Number>
DEVICE void rope_store_row(const float* qkv, const float* q_norm, const float* k_norm, float eps,
                           const float* cos, const float* sin, const float* q_factors, const u32* positions,
                           const u32* slots, u32 heads, u32 kv_heads, u32 dim, u32 rotary, float* q_out, u8* cache,
                           u32* later) {
    const u32 row = blockIdx.x;
    const u32 warps = blockDim.x / WARP;
    const u32 all = heads + 2 * kv_heads;
    const u32 number = blockIdx.y * warps + threadIdx.x / WARP;
    const u32 slot = slots[row];
    bool is_stored = slot != NO_SLOT;
    // The same in every thread of the block: whether any of its heads is stored.
    if (is_stored && (blockIdx.y + 1) * warps > heads) {
        is_stored = !is_superseded(slots, row, gridDim.x, later);
    }
    if (number >= all) {
        return;
    }
    const bool is_query = number < heads;
    const bool is_value = number >= heads + kv_heads;
    const u64 angles = static_cast<u64>(positions[row]) * (rotary / 2);
    Head head;
    head.input = qkv + (static_cast<u64>(row) * all + number) * dim;
    head.norm = is_value ? nullptr : is_query ? q_norm : k_norm;
    head.inverse = head.norm == nullptr ? 1.0f : inverse_rms(head.input, dim, eps);
    head.cos = is_value ? nullptr : cos + angles;
    head.sin = is_value ? nullptr : sin + angles;
    head.factor = is_query && q_factors != nullptr ? q_factors[positions[row]] : 1.0f;
    head.half = dim / 2;
    head.turned = is_value ? head.half : rotary / 2;
    if (is_query) {
        store(head, q_out + (static_cast<u64>(row) * heads + number) * dim, nullptr);
    } else if (is_stored) {
        const u32 padded = (dim + GROUP - 1) / GROUP * GROUP;
        const u64 numbers = 2 * GROUP * padded * sizeof(Number);
        const u64 cell_bytes = numbers + (sizeof(Number) == 1 ? 2 * GROUP * sizeof(float) : 0);
        const u32 kv_head = (number - heads) % kv_heads;
        u8* cell = cache + (static_cast<u64>(slot / GROUP) * kv_heads + kv_head) * cell_bytes;
        const u32 place = (is_value ? GROUP : 0) + slot % GROUP;
        Number* stored = reinterpret_cast<Number*>(cell) + place * padded;
        store(head, stored, reinterpret_cast<float*>(cell + numbers) + place);
    }
}

}  // namespace

// Grid: rows, and heads (queries, keys and values) by warps of a block. Shared memory: one word.
#define ROPE_STORE(name, Number)                                                                        \
    KERNEL name(const float* qkv, const float* q_norm, const float* k_norm, float eps, const float* cos, \
                const float* sin, const float* q_factors, const u32* positions, const u32* slots,        \
                u32 heads, u32 kv_heads, u32 dim, u32 rotary, float* q_out, u8* cache) {                 \
        take_turn();                                                                                     \
        SHARED(shared);                                                                                  \
        rope_store_row<Number>(qkv, q_norm, k_norm, eps, cos, sin, q_factors, positions, slots, heads,   \
                               kv_heads, dim, rotary, q_out, cache, reinterpret_cast<u32*>(shared));     \
    }                                                                                                    \
    EXPORT(name)

ROPE_STORE(rope_store_f32, float);
ROPE_STORE(rope_store_bf16, u16);
ROPE_STORE(rope_store_int8, i8);
