// Attention over a paged cache of f32, without rounding: for references, simple rather than fast.
//
// One warp per row, an item of as many rows as a block has warps. Each tile of 32 positions is looked at
// twice: lane p multiplies the query with the key of position p, dim after dim; then lane d adds up the
// dims d, d + 32, ... of the values, position after position. Only what is seen is read.
//
// Grid: items by key heads by parts, as of the kernels in `attention.cu`. Cost of a tile per row: 256·dim
// bytes, mostly from caches, and 128·dim operations.
#include "attention.cuh"

namespace {

constexpr u32 WARPS = 4;
// Dims per lane at the most: heads of 256.
constexpr u32 MOST = 8;

struct Row {
    const Arguments& args;
    const Item& item;
    u32 kv_head;
    Range seen;
    const float* query;   // in shared memory
    Softmax softmax;
    float values[MOST];

    DEVICE void reset() {
        softmax = NOTHING_SEEN;
#pragma unroll
        for (u32 i = 0; i < MOST; i++) {
            values[i] = 0.0f;
        }
    }

    // The key of a position that is seen.
    DEVICE const float* key(u32 position) const {
        const u32 slot = slot_of(args, item, position);
        const u64 cell = static_cast<u64>(slot / CELL) * args.kv_heads + kv_head;
        const u64 rows = cell * 2 * CELL + slot % CELL;
        return reinterpret_cast<const float*>(args.cache) + rows * args.padded_dim;
    }

    DEVICE void attend(u32 start) {
        const u32 lane = threadIdx.x % WARP;
        const u32 position = start + lane;
        const bool counts = position >= seen.start && position < seen.end;
        const float* mine = counts ? key(position) : nullptr;
        float score = __uint_as_float(0xff800000u);
        if (counts) {
            score = 0.0f;
            for (u32 dim = 0; dim < args.head_dim; dim++) {
                score = fmaf(query[dim], mine[dim], score);
            }
            score = score * args.factor;
        }
        const float max = fmaxf(softmax.max, warp_max(score));
        const float decay = fast_exp2(softmax.max - max);
        const float weight = fast_exp2(score - max);
        softmax = {max, fmaf(softmax.sum, decay, warp_sum(weight))};
#pragma unroll
        for (u32 i = 0; i < MOST; i++) {
            values[i] = values[i] * decay;
        }
        const u32 first = seen.start > start ? seen.start - start : 0;
        const u32 end = seen.end - start < TILE ? seen.end - start : TILE;
        for (u32 from = first; from < end; from++) {
            add(start + from, __shfl_sync(ALL_LANES, weight, from));
        }
    }

    // Adds the value of a position by weight.
    DEVICE void add(u32 position, float weight) {
        const float* value = key(position) + CELL * args.padded_dim;
#pragma unroll
        for (u32 i = 0; i < MOST; i++) {
            const u32 dim = threadIdx.x % WARP + WARP * i;
            if (dim < args.head_dim) {
                values[i] = fmaf(weight, value[dim], values[i]);
            }
        }
    }
};

// Leaves a chunk for `attention_merge`.
DEVICE void leave(const Row& row, float* values, float* state) {
#pragma unroll
    for (u32 i = 0; i < MOST; i++) {
        const u32 dim = threadIdx.x % WARP + WARP * i;
        if (dim < row.args.head_dim) {
            values[dim] = row.values[i];
        }
    }
    if (threadIdx.x % WARP == 0) {
        state[0] = row.softmax.max;
        state[1] = row.softmax.sum;
    }
}

// A row's chunks from `chunks.start` on, of which the item's first is `item_start`.
DEVICE void walk(Row& row, u32 number, Range chunks, u32 item_start, const Records& records) {
    const Arguments& args = row.args;
    const u32 lane = threadIdx.x % WARP;
    Softmax total = NOTHING_SEEN;
    float means[MOST] = {};
    for (u32 chunk = chunks.start; chunk < chunks.end; chunk++) {
        row.reset();
        for (u32 start = chunk * CHUNK; start < (chunk + 1) * CHUNK; start += TILE) {
            if (start < row.seen.end && start + TILE > row.seen.start) {
                row.attend(start);
            }
        }
        if (args.records != nullptr) {
            leave(row, records.values(chunk - item_start, number), records.state(chunk - item_start, number));
            continue;
        }
        const Decay decay = merge(total, row.softmax);
#pragma unroll
        for (u32 i = 0; i < MOST; i++) {
            means[i] = merge_value(means[i], row.values[i], decay);
        }
    }
    if (args.records == nullptr) {
        const float inverse = 1.0f / total.sum;
        float* out = args.out + row.item.offset(args, row.kv_head, number);
#pragma unroll
        for (u32 i = 0; i < MOST; i++) {
            const u32 dim = lane + WARP * i;
            if (dim < args.head_dim) {
                out[dim] = mean(means[i], inverse);
            }
        }
    }
}

}  // namespace

// Threads: 128. Shared memory: a query per warp, 4·4·head_dim bytes.
KERNEL attention_f32(ATTENTION_PARAMETERS) {
    take_turn();
    SHARED(shared);
    const Arguments args = ATTENTION_ARGUMENTS;
    const Item item = find_item(args, WARPS);
    const u32 number = threadIdx.x / WARP;
    if (number >= item.rows) {
        return;
    }
    const Range item_chunks = chunks_of(item.seen_by_any(0, item.rows));
    const Range chunks = part_of(item_chunks, blockIdx.z, gridDim.z);
    float* query = reinterpret_cast<float*>(shared) + number * head_dim;
    const float* from = q + item.offset(args, blockIdx.y, number);
    for (u32 dim = threadIdx.x % WARP; dim < head_dim; dim += WARP) {
        query[dim] = from[dim];
    }
    __syncwarp();
    Row row{args, item, blockIdx.y, item.seen_by(number), query, NOTHING_SEEN, {}};
    walk(row, number, chunks, item_chunks.start, Records(args, blockIdx.x, blockIdx.y, WARPS, head_dim));
}
EXPORT(attention_f32);
