// Adds up, in order, what the chunks of split contexts left behind.
#include "attention.cuh"

namespace {

// Chunks whose numbers are asked for at once, so that their latencies overlap.
constexpr u32 BATCH = 16;

// Dim `dim` of a row, or if `dim` is beyond the head nothing.
DEVICE void merge_row(const Arguments& args, const Item& item, const Records& records, u32 row, u32 dim,
                      u32 count) {
    const u32 lane = threadIdx.x % WARP;
    const bool there = dim < args.head_dim;
    Softmax total = NOTHING_SEEN;
    float value = 0.0f;
    for (u32 first = 0; first < count; first += BATCH) {
        // Lane l < BATCH has the state of chunk first + l.
        const bool has_state = lane < BATCH && first + lane < count;
        const float max = has_state ? records.state(first + lane, row)[0] : 0.0f;
        const float sum = has_state ? records.state(first + lane, row)[1] : 0.0f;
        float parts[BATCH];
#pragma unroll
        for (u32 i = 0; i < BATCH; i++) {
            parts[i] = there && first + i < count ? records.values(first + i, row)[dim] : 0.0f;
        }
#pragma unroll
        for (u32 i = 0; i < BATCH; i++) {
            const Softmax chunk = {__shfl_sync(ALL_LANES, max, i), __shfl_sync(ALL_LANES, sum, i)};
            if (first + i < count) {
                value = merge_value(value, parts[i], merge(total, chunk));
            }
        }
    }
    if (there) {
        args.out[item.offset(args, blockIdx.y, row) + dim] = mean(value, 1.0f / total.sum);
    }
}

}  // namespace

// Grid: items by key heads by rows of an item, or less; threads: 128, each warp merging 32 dims of a row at a time. The arguments are
// those of the kernel that left the records, in items of `item_rows` rows of `item_dim` numbers. Reads
// 4·(item_dim + 2) bytes per row and chunk, writes 4·head_dim per row.
KERNEL attention_merge(ATTENTION_PARAMETERS, u32 item_rows, u32 item_dim) {
    let_next_begin();
    const Arguments args = ATTENTION_ARGUMENTS;
    const Item item = find_item(args, item_rows);
    wait_for_previous();
    if (item.rows == 0) {
        return;
    }
    const Range chunks = chunks_of(item.seen_by_any(0, item.rows));
    const Records left(args, blockIdx.x, blockIdx.y, item_rows, item_dim);
    const u32 strips = (head_dim + WARP - 1) / WARP;
    for (u32 row = blockIdx.z; row < item.rows; row += gridDim.z) {
        for (u32 strip = threadIdx.x / WARP; strip < strips; strip += blockDim.x / WARP) {
            const u32 dim = strip * WARP + threadIdx.x % WARP;
            merge_row(args, item, left, row, dim, chunks.end - chunks.start);
        }
    }
}
EXPORT(attention_merge);
