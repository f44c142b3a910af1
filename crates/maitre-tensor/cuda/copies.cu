// Copies of slots from block to block of a paged cache, or to another cache of the same shape.
//
//   copies   [n][3]: block that is read, block that is written, positions that are copied
//   cell     [16] rows of keys, [16] rows of values, of `row_words` words; int8: [16] + [16] scales
//
// The copies of one launch must not depend on each other: none reads or writes a block that another writes.
// A warp takes one slot of one key head. Cost per slot and head: 8 · row_words bytes read and as many written,
// and 8 bytes of scales; no arithmetic but addresses.
#include "device.cuh"

namespace {

constexpr u32 GROUP = 16;

}  // namespace

// Grid: copies, key heads, positions of a block by warps of a thread block.
KERNEL copy_slots(const u32* source, u32* target, const u32* copies, u32 block_size, u32 kv_heads,
                  u32 row_words, u32 has_scales) {
    take_turn();
    const u32* copy = copies + 3 * blockIdx.x;
    const u32 position = blockIdx.z * (blockDim.x / WARP) + threadIdx.x / WARP;
    if (position >= copy[2]) {
        return;
    }
    const u64 rows = 2 * GROUP * row_words;
    const u64 cell_words = rows + (has_scales != 0 ? 2 * GROUP : 0);
    const u64 from_slot = static_cast<u64>(copy[0]) * block_size + position;
    const u64 to_slot = static_cast<u64>(copy[1]) * block_size + position;
    const u32* from = source + (from_slot / GROUP * kv_heads + blockIdx.y) * cell_words;
    u32* to = target + (to_slot / GROUP * kv_heads + blockIdx.y) * cell_words;
    const u32 lane = threadIdx.x % WARP;
    // Keys, then values.
    for (u32 part = 0; part < 2; part++) {
        const u64 read = part * GROUP + from_slot % GROUP;
        const u64 written = part * GROUP + to_slot % GROUP;
        for (u32 word = lane; word < row_words; word += WARP) {
            to[written * row_words + word] = from[read * row_words + word];
        }
        if (has_scales != 0 && lane == 0) {
            to[rows + written] = from[rows + read];
        }
    }
}
EXPORT(copy_slots);
