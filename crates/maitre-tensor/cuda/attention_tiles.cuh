// Tiles of the cache in shared memory: how they come there, and how tensor cores take them from there.
//
//   stage    keys [32 positions][ROW]  values [32][ROW]  int8: key scales [32], value scales [32] of f32
//   a row    DIM numbers, zeros beyond the cache's padded_dim, and 16 bytes of padding
//
// With that padding rows are an odd number of 16-byte units apart, so that the eight rows that tensor
// cores take together lie in different banks (of four words, eight units make all banks), and in int8 the
// words that the lanes of a warp read at once do too.
//
// Each 16 bytes of a row is one asynchronous copy (cp.async), whatever the block size: rows are contiguous
// in the cache. What no row of the item sees becomes zeros, so that garbage never meets a tensor core.
#pragma once

#include "attention.cuh"

namespace {

// The unit of a position that no row sees.
constexpr u32 UNSEEN = 0xffffffffu;

// Numbers of eight bits, one scale per token and head; exact in bf16.
//
// A lane takes whole words: of a key the dims 4t .. 4t+3 of sixteen, so queries come in the same order
// (products are summed over all dims); of values the dims 4g .. 4g+3 of 32, so that column g of the
// i-th matrix of a block of 32 dims is dim 4g + i.
struct Int8 {
    static constexpr u32 BYTES = 1;
    // Units of 16 bytes that a cell's scales take.
    static constexpr u32 SCALE_UNITS = 2 * CELL * 4 / 16;

    // Byte `byte` of two words of signed bytes with 128 added, as two bf16: 2^23 + b is a float whose low
    // bits are b.
    static DEVICE u32 widen(u32 low, u32 high, u32 byte) {
        const u32 one = 0x4b000000u | ((low >> (8 * byte)) & 0xffu);
        const u32 other = 0x4b000000u | ((high >> (8 * byte)) & 0xffu);
        return pack_bf16(__uint_as_float(one) - 8388736.0f, __uint_as_float(other) - 8388736.0f);
    }

    template <u32 ROW>
    static DEVICE u32 word(const u8* rows, u32 row, u32 index) {
        return *reinterpret_cast<const u32*>(rows + row * ROW + 4 * index) ^ 0x80808080u;
    }

    static DEVICE void query(u32 (&a)[4], const u8* rows, u32 stride, u32 step) {
        const u32 g = threadIdx.x % WARP / 4;
        const u32 t = threadIdx.x % 4;
        const u32* row = reinterpret_cast<const u32*>(rows + g * stride) + 8 * step + 2 * t;
        const u32* below = row + 2 * stride;
        a[0] = row[0];
        a[1] = below[0];
        a[2] = row[1];
        a[3] = below[1];
    }

    // Dims 16·step .. of the 32 keys of a tile: matrix i holds the keys from 8i on.
    template <u32 ROW>
    static DEVICE void keys(u32 (&b)[4][2], const u8* rows, u32 step) {
        const u32 g = threadIdx.x % WARP / 4;
        const u32 t = threadIdx.x % 4;
#pragma unroll
        for (u32 i = 0; i < 4; i++) {
            const u32 four = word<ROW>(rows, 8 * i + g, 4 * step + t);
            b[i][0] = widen(four, four >> 8, 0);
            b[i][1] = widen(four, four >> 8, 2);
        }
    }

    // Dims 32·block .. of sixteen values of a tile, from 16·step on.
    template <u32 ROW>
    static DEVICE void values(u32 (&b)[4][2], const u8* rows, u32 step, u32 block) {
        const u32 g = threadIdx.x % WARP / 4;
        const u32 first = 16 * step + 2 * (threadIdx.x % 4);
        u32 words[4];
#pragma unroll
        for (u32 i = 0; i < 4; i++) {
            words[i] = word<ROW>(rows, first + i % 2 + 8 * (i / 2), 8 * block + g);
        }
#pragma unroll
        for (u32 i = 0; i < 4; i++) {
            b[i][0] = widen(words[0], words[1], i);
            b[i][1] = widen(words[2], words[3], i);
        }
    }

    // The dim of column `col` of matrix `i` of a block of 32 dims.
    static DEVICE u32 dim(u32 block, u32 i, u32 col) { return 32 * block + 4 * col + i; }
};

struct Bf16 {
    static constexpr u32 BYTES = 2;
    static constexpr u32 SCALE_UNITS = 0;

    static DEVICE void query(u32 (&a)[4], const u8* rows, u32 stride, u32 step) {
        const u32 lane = threadIdx.x % WARP;
        load_matrix_x4(a, rows + lane % 16 * stride + 32 * step + lane / 16 * 16);
    }

    template <u32 ROW>
    static DEVICE void keys(u32 (&b)[4][2], const u8* rows, u32 step) {
        const u32 lane = threadIdx.x % WARP;
        const u8* row = rows + (lane / 16 * 8 + lane % 8) * ROW + 32 * step + lane / 8 % 2 * 16;
#pragma unroll
        for (u32 i = 0; i < 4; i += 2) {
            u32 words[4];
            load_matrix_x4(words, row + 8 * i * ROW);
            b[i][0] = words[0];
            b[i][1] = words[1];
            b[i + 1][0] = words[2];
            b[i + 1][1] = words[3];
        }
    }

    template <u32 ROW>
    static DEVICE void values(u32 (&b)[4][2], const u8* rows, u32 step, u32 block) {
        const u32 lane = threadIdx.x % WARP;
        const u8* row = rows + (16 * step + lane % 16) * ROW + 64 * block + lane / 16 * 16;
#pragma unroll
        for (u32 i = 0; i < 4; i += 2) {
            u32 words[4];
            load_matrix_x4_transposed(words, row + 16 * i);
            b[i][0] = words[0];
            b[i][1] = words[1];
            b[i + 1][0] = words[2];
            b[i + 1][1] = words[3];
        }
    }

    static DEVICE u32 dim(u32 block, u32 i, u32 col) { return 32 * block + 8 * i + col; }
};

template <typename Format, u32 DIM>
struct Stage {
    static constexpr u32 ROW = DIM * Format::BYTES + 16;
    static constexpr u32 BYTES = 2 * TILE * ROW + TILE / CELL * Format::SCALE_UNITS * 16;

    u8* memory;

    DEVICE u8* keys() const { return memory; }
    DEVICE u8* values() const { return memory + TILE * ROW; }
    // Key scales, then value scales.
    DEVICE float* scales() const { return reinterpret_cast<float*>(memory + 2 * TILE * ROW); }
};

// Brings tiles to shared memory, in order. The block's `THREADS` threads share the copies; each knows where
// the position of its lane lies, looked up one tile ahead of the copies.
template <typename Format, u32 DIM, u32 THREADS>
struct Loader {
    const Arguments& args;
    const Item& item;
    u32 kv_head;
    Range seen;        // positions to load
    u32 row_units;     // units of a row in the cache
    u32 cell_units;
    u32 cell;          // of this lane's position of the tile to be loaded next: first unit of its cell,
    u32 row;           // and its row there
    float scales[2];   // of this lane's position of the tile loaded last

    DEVICE Loader(const Arguments& args, const Item& item, u32 kv_head, Range seen, u32 first_tile)
        : args(args), item(item), kv_head(kv_head), seen(seen) {
        row_units = args.padded_dim * Format::BYTES / 16;
        cell_units = 2 * CELL * row_units + Format::SCALE_UNITS;
        scales[0] = 0.0f;
        scales[1] = 0.0f;
        look_up(first_tile);
    }

    DEVICE void look_up(u32 tile) {
        const u32 position = tile * TILE + threadIdx.x % WARP;
        cell = UNSEEN;
        row = 0;
        if (position >= seen.start && position < seen.end) {
            const u32 slot = slot_of(args, item, position);
            cell = (slot / CELL * args.kv_heads + kv_head) * cell_units;
            row = slot % CELL;
        }
    }

    // Starts to copy the tile that was looked up, and looks up the next.
    DEVICE void load(u32 tile, const Stage<Format, DIM>& stage) {
        constexpr u32 UNITS = DIM * Format::BYTES / 16;
        const u32 first_unit = cell == UNSEEN ? UNSEEN : cell + row * row_units;
#pragma unroll
        for (u32 i = threadIdx.x; i < TILE * UNITS; i += THREADS) {
            const u32 start = __shfl_sync(ALL_LANES, first_unit, i / UNITS);
            const bool valid = start != UNSEEN && i % UNITS < row_units;
            const u8* key = args.cache + (valid ? 16 * static_cast<u64>(start + i % UNITS) : 0);
            const u8* value = key + (valid ? 16 * CELL * row_units : 0);
            const u32 to = i / UNITS * Stage<Format, DIM>::ROW + i % UNITS * 16;
            copy_async_16(stage.keys() + to, key, valid);
            copy_async_16(stage.values() + to, value, valid);
        }
        if (Format::SCALE_UNITS > 0 && threadIdx.x < TILE) {
            load_scales();
        }
        look_up(tile + 1);
    }

    // Scales come by way of registers, as copies are of sixteen bytes: asked for here, stored a tile later.
    DEVICE void load_scales() {
        scales[0] = 0.0f;
        scales[1] = 0.0f;
        if (cell != UNSEEN) {
            const u64 unit = static_cast<u64>(cell) + 2 * CELL * row_units;
            const float* from = reinterpret_cast<const float*>(args.cache + 16 * unit);
            scales[0] = from[row];
            scales[1] = from[CELL + row];
        }
    }

    // Stores what `load` asked for last.
    DEVICE void store_scales(const Stage<Format, DIM>& stage) const {
        if (Format::SCALE_UNITS > 0 && threadIdx.x < TILE) {
            stage.scales()[threadIdx.x] = scales[0];
            stage.scales()[TILE + threadIdx.x] = scales[1];
        }
    }
};

}  // namespace
