// Chunks of a cache of bf16 in shared memory, for attention of few rows on Hopper: how the copy engine brings them
// there.
//
//   shared memory   SLOTS chunks of four tiles, each of boxes of half a cell: 16 positions, 64 dims
//   a box           [16 keys][64]  [16 values][64], rows of 128 bytes (turned as `hopper.cuh` says)
//   full[slot][i]   counts the bytes of tile i
//
// One lane of each of a block's four warps asks for the tile that the warp multiplies first. Blocks of the cache have a
// multiple of 16 positions, so that those of a box lie in one cell.
#pragma once

#include "attention.cuh"
#include "hopper.cuh"

namespace {

// Rows of an item; warps of a block, and tiles of a chunk.
constexpr u32 ROWS = 16;
constexpr u32 WARPS = TILES_PER_CHUNK;
constexpr u32 THREADS = WARPS * WARP;
constexpr u32 CELLS = TILE / CELL;
// Dims of a box; bytes of a row of one, of a box, and of the keys in it.
constexpr u32 STRIP = 64;
constexpr u32 ROW_BYTES = 2 * STRIP;
constexpr u32 KEY_BYTES = CELL * ROW_BYTES;
constexpr u32 BOX_BYTES = 2 * KEY_BYTES;
// A row behind all cells: the copy engine makes zeros of it.
constexpr u32 NO_ROW = 0x7fff0000u;

// Eight words that a lane leaves for the same lane of other warps.
struct alignas(16) Words4 {
    u32 word[4];
};

struct alignas(8) Pair {
    float number[2];
};

// Shared memory of a block.
template <u32 DIM, u32 SLOTS>
struct Shelves {
    static constexpr u32 STRIPS = DIM / STRIP;
    static constexpr u32 TILE_BYTES = STRIPS * CELLS * BOX_BYTES;

    u8* first;
    Words4* weights;  // [tile][step][lane]: what `mma_bf16` takes of 16 positions
    Pair* sums;       // [tile][lane]: of the lane's weights of its two rows
    float* largest;   // [tile][row]: scores
    Barrier* full;    // [slot][tile]

    DEVICE explicit Shelves(u8* shared) {
        // So compilers still know that it is shared memory.
        first = shared + (0 - reinterpret_cast<u64>(shared)) % 1024;
        weights = reinterpret_cast<Words4*>(tile(SLOTS, 0));
        sums = reinterpret_cast<Pair*>(weights + WARPS * CELLS * WARP);
        largest = reinterpret_cast<float*>(sums + WARPS * WARP);
        full = reinterpret_cast<Barrier*>(largest + WARPS * ROWS);
    }

    DEVICE u8* tile(u32 slot, u32 index) const { return first + (slot * WARPS + index) * TILE_BYTES; }

    // Other threads meet the barriers behind a `__syncthreads`.
    DEVICE void set_up() const {
        if (threadIdx.x == 0) {
            for (u32 i = 0; i < SLOTS * WARPS; i++) {
                barrier_init(full + i, 1);
            }
            barriers_are_set();
        }
    }
};

// The chunks that a block works on. Numbers are the same in all lanes of a warp unless they are said to be a lane's.
template <u32 DIM, u32 SLOTS>
struct Chunks {
    static constexpr u32 STRIPS = DIM / STRIP;
    // Chunks whose cells are looked up at once.
    static constexpr u32 BATCH = WARP / CELLS;

    const Matrix& cells;
    const Arguments& args;
    const Item& item;
    Range seen;    // by any row
    Range chunks;  // of the block,
    Range tiles;   // and tiles
    Shelves<DIM, SLOTS> shelves;
    u32 kv_head;
    u32 warp;
    u32 asked;  // the chunk that is asked for next
    u32 here;   // a lane's: the row of `cells` where a cell's keys begin, of the chunks asked for now
    u32 ahead;  // and of the batch behind

    DEVICE Chunks(const Matrix& cells, const Arguments& args, const Item& item, Range seen, Range chunks,
                  const Shelves<DIM, SLOTS>& shelves)
        : cells(cells), args(args), item(item), seen(seen), chunks(chunks), shelves(shelves) {
        const u32 seen_end = (seen.end + TILE - 1) / TILE;
        const u32 start = chunks.start * TILES_PER_CHUNK, end = chunks.end * TILES_PER_CHUNK;
        tiles = {seen.start / TILE > start ? seen.start / TILE : start, seen_end < end ? seen_end : end};
        kv_head = blockIdx.y;
        // The compiler is to know that it is the same in all lanes.
        warp = __shfl_sync(ALL_LANES, threadIdx.x / WARP, 0);
        asked = chunks.start;
        ahead = look_up(asked);
    }

    DEVICE bool has(u32 tile) const { return tile >= tiles.start && tile < tiles.end; }

    DEVICE Barrier* full(u32 chunk, u32 index) const {
        return shelves.full + (chunk - chunks.start) % SLOTS * WARPS + index;
    }
    DEVICE u8* tile_of(u32 chunk, u32 index) const {
        return shelves.tile((chunk - chunks.start) % SLOTS, index);
    }
    DEVICE void wait_for(u32 chunk, u32 index) const {
        barrier_wait(full(chunk, index), (chunk - chunks.start) / SLOTS % 2);
    }

    // Where the warp's tile of a batch of chunks lies: lane CELLS · i + c has cell c of chunk `chunk` + i.
    DEVICE u32 look_up(u32 chunk) const {
        const u32 lane = threadIdx.x % WARP;
        const u32 start = ((chunk + lane / CELLS) * TILES_PER_CHUNK + warp) * TILE + lane % CELLS * CELL;
        if (start >= seen.end || start + CELL <= seen.start) {
            return NO_ROW;
        }
        return (slot_of(args, item, start) / CELL * args.kv_heads + kv_head) * 2 * CELL;
    }

    // Asks for the warp's tile of the next chunk, if there is one.
    DEVICE void ask() {
        const u32 chunk = asked++, index = chunk - chunks.start;
        if (chunk >= chunks.end) {
            return;
        }
        if (index % BATCH == 0) {
            here = ahead;
            ahead = look_up(chunk + BATCH);
        }
        u32 row[CELLS];
#pragma unroll
        for (u32 i = 0; i < CELLS; i++) {
            row[i] = __shfl_sync(ALL_LANES, here, index % BATCH * CELLS + i);
        }
        if (threadIdx.x % WARP != 0) {
            return;
        }
        Barrier* const barrier = full(chunk, warp);
        if (!has(chunk * TILES_PER_CHUNK + warp)) {
            barrier_arrive(barrier);
            return;
        }
        u8* const tile = tile_of(chunk, warp);
        barrier_expect(barrier, Shelves<DIM, SLOTS>::TILE_BYTES);
#pragma unroll
        for (u32 i = 0; i < CELLS; i++) {
#pragma unroll
            for (u32 strip = 0; strip < STRIPS; strip++) {
                load_passing_box(tile + (strip * CELLS + i) * BOX_BYTES, cells, strip * STRIP, row[i], barrier);
            }
        }
    }
};

}  // namespace
