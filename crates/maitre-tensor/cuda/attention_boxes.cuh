// Tiles of a cache of bf16 in shared memory on Hopper: how the copy engine brings them there.
//
//   strip 0                   strip 1                    A stage: a tile's keys and values, in strips of 64 dims,
//   keys   [32 positions]     keys   [32 positions]      which is a row of a box. One warp asks the copy engine for
//   values [32 positions]     values [32 positions]      them, 16 positions and 64 dims at a time: half a cell's keys
//                                                        or values where heads have 128 dims.
//
//   full[stage]    counts the bytes that come     (those who multiply wait)
//   empty[stage]   counts warps that are done     (the asking warp waits)
//
// Blocks of the cache have a multiple of 16 positions, so that these lie in one cell.
#pragma once

#include "attention.cuh"
#include "hopper.cuh"

namespace {

constexpr u32 GROUPS = 2;
constexpr u32 WARPGROUP = 128;
constexpr u32 GROUP_ROWS = 64;
constexpr u32 ITEM_ROWS = GROUPS * GROUP_ROWS;
constexpr u32 WARP_ROWS = 16;
constexpr u32 THREADS = (GROUPS + 1) * WARPGROUP;
constexpr u32 STAGES = 8;
constexpr u32 CELLS = TILE / CELL;
// Dims of a strip, and bytes of a row of one, of a cell's rows, of a tile's.
constexpr u32 STRIP = 64;
constexpr u32 ROW_BYTES = 2 * STRIP;
constexpr u32 CELL_BYTES = CELL * ROW_BYTES;
constexpr u32 TILE_BYTES = TILE * ROW_BYTES;
// A row behind all cells: the copy engine makes zeros of it.
constexpr u32 NO_ROW = 0x7fff0000u;

// Shared memory of a block: stages, where queries pass through, barriers.
template <u32 DIM>
struct Shelves {
    static constexpr u32 STRIPS = DIM / STRIP;
    static constexpr u32 STAGE = 2 * STRIPS * TILE_BYTES;
    // Of a query; with 16 bytes of padding, as in `attention_tiles.cuh`.
    static constexpr u32 QUERY = 2 * DIM + 16;

    u8* first;
    Barrier* full;   // of a stage: its bytes
    Barrier* empty;  // of a stage: warps that are done with it

    DEVICE explicit Shelves(u8* shared) {
        first = reinterpret_cast<u8*>((reinterpret_cast<u64>(shared) + 1023) / 1024 * 1024);
        full = reinterpret_cast<Barrier*>(queries(GROUPS * WARPGROUP / WARP));
        empty = full + STAGES;
    }

    DEVICE u8* keys(u32 stage) const { return first + stage * STAGE; }
    DEVICE u8* values(u32 stage) const { return keys(stage) + STRIPS * TILE_BYTES; }
    DEVICE u8* queries(u32 warp) const { return first + STAGES * STAGE + warp * WARP_ROWS * QUERY; }

    DEVICE void set_up() const {
        if (threadIdx.x == 0) {
            for (u32 stage = 0; stage < STAGES; stage++) {
                barrier_init(full + stage, 1);
                barrier_init(empty + stage, GROUPS * WARPGROUP / WARP);
            }
            barriers_are_set();
        }
        __syncthreads();
    }
};

// What all threads of a block know.
template <u32 DIM>
struct Work {
    const Matrix& cells;
    const Arguments& args;
    Item item;
    u32 kv_head;
    Range seen;  // by any row
    Range tiles;
    Shelves<DIM> shelves;

    DEVICE u32 stage_of(u32 tile) const { return (tile - tiles.start) % STAGES; }

    // The row of `cells` where the keys of 16 positions begin; their values follow.
    DEVICE u32 row_of(u32 cell) const {
        const u32 start = cell * CELL;
        if (start >= seen.end || start + CELL <= seen.start) {
            return NO_ROW;
        }
        return (slot_of(args, item, start) / CELL * args.kv_heads + kv_head) * 2 * CELL;
    }

    // What the warp does that computes nothing. Its lanes look up a batch of cells ahead.
    DEVICE void bring() const {
        constexpr u32 BATCH = WARP / CELLS;
        const u32 lane = threadIdx.x % WARP;
        u32 rows = row_of(tiles.start * CELLS + lane);
        for (u32 first = tiles.start; first < tiles.end; first += BATCH) {
            const u32 next = row_of((first + BATCH) * CELLS + lane);
            const u32 end = first + BATCH < tiles.end ? first + BATCH : tiles.end;
            for (u32 tile = first; tile < end; tile++) {
                u32 row[CELLS];
#pragma unroll
                for (u32 i = 0; i < CELLS; i++) {
                    row[i] = __shfl_sync(ALL_LANES, rows, (tile - first) * CELLS + i);
                }
                if (lane == 0) {
                    ask(tile, row);
                }
            }
            rows = next;
        }
    }

    DEVICE void ask(u32 tile, const u32 (&row)[CELLS]) const {
        const u32 round = (tile - tiles.start) / STAGES, stage = stage_of(tile);
        Barrier* full = shelves.full + stage;
        if (round > 0) {
            barrier_wait(shelves.empty + stage, (round - 1) % 2);
        }
        barrier_expect(full, Shelves<DIM>::STAGE);
#pragma unroll
        for (u32 strip = 0; strip < Shelves<DIM>::STRIPS; strip++) {
#pragma unroll
            for (u32 i = 0; i < CELLS; i++) {
                const u32 at = strip * TILE_BYTES + i * CELL_BYTES;
                load_box(shelves.keys(stage) + at, cells, strip * STRIP, row[i], full);
                load_box(shelves.values(stage) + at, cells, strip * STRIP, row[i] + CELL, full);
            }
        }
    }
};

}  // namespace
