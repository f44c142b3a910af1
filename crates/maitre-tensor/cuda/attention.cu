// Attention over a paged cache of bf16 or int8, on tensor cores.
//
// A block of threads works on one item and one key head: 16 rows per warp, the warps sharing the tiles that
// stream through shared memory (two stages: one is loaded while the other is used; `_deep` kernels, for so few blocks
// that a multiprocessor has one, have a stage for each tile of a chunk).
//
//   scores   [16 rows, 32 positions] = queries [16, DIM] · keys [32, DIM]^T     mma m16n8k16, sums in f32
//   weights  2^(score · factor - largest score so far), rounded to bf16
//   values   [16, DIM] += weights [16, 32] · values [32, DIM]
//
// Queries are rounded to bf16. An int8 key's scale multiplies its score, a value's its weight.
//
// Grid: items by key heads by parts. With `records` null there is one part and a block walks all chunks of
// its item; else each part walks some, leaves what each chunk taught (`Records`), and `attention_merge` adds
// that up in order. Both merge the same numbers in the same order with the same function.
//
// Cost of a tile: 2·32·DIM numbers loaded (dim 128: 16 KiB in bf16, 8 KiB in int8), 4·16·32·DIM operations
// per warp. Decoding (one warp, group <= 16) is bound by memory: at 3.0 TB/s and 700 ns an H100's 132
// multiprocessors need 16 KB each under way, and hold five such blocks of 43 KB (dim 128, bf16) with a
// tile of 16 KiB under way each. A record costs 4·(DIM + 2) bytes per row and chunk, against 512·DIM in
// keys and values of the chunk (bf16) for all rows of the item.
//
// Decodes measured on an H100 (bf16, 32/8 heads of 128): 85 to 87 % of the copy rate at 64 contexts of 1024, 78 % at 8
// of 16384, 83 to 84 % at 256 of 640. Three and four stages were slower where blocks are many (2,188 and 1,780 GB/s
// for 2,527 at 256 of 640), as fewer fit a multiprocessor.
#include "attention_softmax.cuh"
#include "attention_tiles.cuh"

namespace {

constexpr u32 WARP_ROWS = 16;

// The warp's queries, as the tensor cores take them: in registers, or where they would fill them in shared
// memory.
template <typename Format, u32 DIM>
struct Queries {
    static constexpr bool IN_REGISTERS = DIM <= 128;
    static constexpr u32 ROW = DIM * 2 + 16;
    static constexpr u32 BYTES = WARP_ROWS * ROW;

    const u8* memory;
    u32 words[IN_REGISTERS ? DIM / 16 : 1][4];

    // Rounds the warp's rows, from row `first` of the item on; those that are not there become zeros.
    DEVICE Queries(const Arguments& args, const Item& item, u32 kv_head, u32 first, u8* memory)
        : memory(memory) {
        const u32 lane = threadIdx.x % WARP;
        for (u32 i = lane; i < WARP_ROWS * DIM / 2; i += WARP) {
            const u32 row = i / (DIM / 2);
            const u32 col = i % (DIM / 2) * 2;
            float pair[2] = {0.0f, 0.0f};
            if (first + row < item.rows) {
                const float* numbers = args.q + item.offset(args, kv_head, first + row);
                pair[0] = col < args.head_dim ? numbers[col] : 0.0f;
                pair[1] = col + 1 < args.head_dim ? numbers[col + 1] : 0.0f;
            }
            *reinterpret_cast<u32*>(memory + row * ROW + 2 * col) = pack_bf16(pair[0], pair[1]);
        }
        __syncwarp();
        if (IN_REGISTERS) {
#pragma unroll
            for (u32 step = 0; step < (IN_REGISTERS ? DIM / 16 : 1); step++) {
                Format::query(words[step], memory, ROW, step);
            }
        }
        __syncwarp();
    }

    DEVICE void get(u32 (&a)[4], u32 step) const {
        if (IN_REGISTERS) {
#pragma unroll
            for (u32 i = 0; i < 4; i++) {
                a[i] = words[IN_REGISTERS ? step : 0][i];
            }
        } else {
            Format::query(a, memory, ROW, step);
        }
    }
};

// One tile. `all_see` says that every row of the warp sees all of it.
template <typename Format, u32 DIM>
DEVICE void attend(Learned<DIM>& learned, const Queries<Format, DIM>& queries,
                   const Stage<Format, DIM>& stage, const Range (&seen)[2], u32 start, bool all_see,
                   float factor) {
    constexpr u32 ROW = Stage<Format, DIM>::ROW;
    float scores[4][4] = {};
#pragma unroll
    for (u32 step = 0; step < DIM / 16; step++) {
        u32 a[4];
        u32 b[4][2];
        queries.get(a, step);
        Format::template keys<ROW>(b, stage.keys(), step);
#pragma unroll
        for (u32 i = 0; i < 4; i++) {
            mma_bf16(scores[i], a, b[i]);
        }
    }
    const u32 bits = all_see ? 0xffffu : seen_bits(seen, start);
    const Weights weights = weigh<Format>(learned.rows, scores, stage.scales(), factor, bits);
    learned.fade(weights.decay);
#pragma unroll
    for (u32 step = 0; step < TILE / 16; step++) {
        const u32 a[4] = {weights.words[2 * step][0], weights.words[2 * step][1],
                          weights.words[2 * step + 1][0], weights.words[2 * step + 1][1]};
#pragma unroll
        for (u32 block = 0; block < DIM / 32; block++) {
            u32 b[4][2];
            Format::template values<ROW>(b, stage.values(), step, block);
            // Bytes are finite, and a scale that is not is with the weights.
            if (Format::SCALE_UNITS == 0 && !all_see) {
                part_from_garbage<Format>(learned, b, a, seen, start + 16 * step, block);
            }
#pragma unroll
            for (u32 i = 0; i < 4; i++) {
                mma_bf16(learned.values[4 * block + i], a, b[i]);
            }
        }
    }
}

// What a warp does with what it learned in a chunk.
template <typename Format, u32 DIM>
struct Keeper {
    static constexpr u32 BYTES = DIM / 8 * 4 * WARP * 4;

    const Arguments& args;
    const Item& item;
    u32 kv_head;
    u32 first;         // the warp's first row
    float* memory;     // the values of all chunks so far, [DIM / 2][WARP]: each lane has its own
    Softmax total[2];

    // Calls `put(row, dim, value)` for the lane's values of rows that are there.
    template <typename Put>
    DEVICE void each(const Learned<DIM>& learned, Put put) const {
        const u32 lane = threadIdx.x % WARP;
#pragma unroll
        for (u32 half = 0; half < 2; half++) {
            const u32 row = first + lane / 4 + 8 * half;
            if (row < item.rows) {
#pragma unroll
                for (u32 i = 0; i < DIM / 8; i++) {
#pragma unroll
                    for (u32 j = 0; j < 2; j++) {
                        const u32 dim = Format::dim(i / 4, i % 4, lane % 4 * 2 + j);
                        put(row, half, dim, learned.values[i][2 * half + j]);
                    }
                }
            }
        }
    }

    // Leaves a chunk for `attention_merge`.
    DEVICE void leave(const Learned<DIM>& learned, const Records& records, u32 chunk) const {
        const u32 lane = threadIdx.x % WARP;
        each(learned, [&](u32 row, u32, u32 dim, float value) { records.values(chunk, row)[dim] = value; });
        if (lane % 4 < 2) {
            const u32 row = first + lane / 4 + 8 * (lane % 4);
            if (row < item.rows) {
                float* state = records.state(chunk, row);
                state[0] = lane % 4 == 0 ? learned.rows[0].max : learned.rows[1].max;
                state[1] = lane % 4 == 0 ? learned.rows[0].sum : learned.rows[1].sum;
            }
        }
    }

    // Merges a chunk into what is known, and remembers that; or after the last writes the means.
    DEVICE void take(Learned<DIM>& learned, bool is_first, bool is_last) {
        float* mine = memory + threadIdx.x % WARP;
        if (!is_first) {
#pragma unroll
            for (u32 half = 0; half < 2; half++) {
                const Decay decay = merge(total[half], learned.rows[half]);
                learned.rows[half] = total[half];
#pragma unroll
                for (u32 i = 0; i < DIM / 8; i++) {
#pragma unroll
                    for (u32 j = 2 * half; j < 2 * half + 2; j++) {
                        learned.values[i][j] = merge_value(mine[(4 * i + j) * WARP], learned.values[i][j], decay);
                    }
                }
            }
        }
        if (is_last) {
            write(learned);
            return;
        }
        total[0] = learned.rows[0];
        total[1] = learned.rows[1];
#pragma unroll
        for (u32 i = 0; i < DIM / 8; i++) {
#pragma unroll
            for (u32 j = 0; j < 4; j++) {
                mine[(4 * i + j) * WARP] = learned.values[i][j];
            }
        }
    }

    DEVICE void write(const Learned<DIM>& learned) const {
        const float inverse[2] = {1.0f / learned.rows[0].sum, 1.0f / learned.rows[1].sum};
        each(learned, [&](u32 row, u32 half, u32 dim, float value) {
            if (dim < args.head_dim) {
                args.out[item.offset(args, kv_head, row) + dim] = mean(value, inverse[half]);
            }
        });
    }
};

template <u32 WARPS>
DEVICE void synchronize() {
    if (WARPS == 1) {
        __syncwarp();
    } else {
        __syncthreads();
    }
}

// Shared memory: stages, then per warp a `Keeper`'s, where the queries pass through, or beside it their own.
//
// Lists of a step are there before its first kernel: what they say is looked up while the kernel before may run.
template <typename Format, u32 DIM, u32 WARPS, u32 STAGES>
DEVICE void paged_attention(const Arguments& args, u8* shared) {
    using Shelf = Stage<Format, DIM>;
    const u32 kv_head = blockIdx.y;
    const Item item = find_item(args, WARPS * WARP_ROWS);
    if (item.rows == 0) {
        wait_for_previous();
        return;
    }
    const Range seen = item.seen_by_any(0, item.rows);
    const Range chunks = chunks_of(seen);
    const Range part = part_of(chunks, blockIdx.z, gridDim.z);
    if (part.start >= part.end) {
        wait_for_previous();
        return;
    }
    const u32 all_tiles_end = (seen.end + TILE - 1) / TILE;
    const u32 part_start = part.start * TILES_PER_CHUNK;
    const u32 part_end = part.end * TILES_PER_CHUNK;
    const u32 tiles_start = seen.start / TILE > part_start ? seen.start / TILE : part_start;
    const u32 tiles_end = all_tiles_end < part_end ? all_tiles_end : part_end;
    const auto stage = [&](u32 tile) { return Shelf{shared + tile % STAGES * Shelf::BYTES}; };

    Loader<Format, DIM, WARPS * WARP> loader(args, item, kv_head, seen, tiles_start);
    wait_for_previous();
    for (u32 ahead = 0; ahead + 1 < STAGES; ahead++) {
        if (tiles_start + ahead < tiles_end) {
            loader.load(tiles_start + ahead, stage(tiles_start + ahead));
        }
        copy_commit();
    }
    const u32 warp = threadIdx.x / WARP;
    const u32 first = warp * WARP_ROWS;
    u8* kept = shared + STAGES * Shelf::BYTES + warp * Keeper<Format, DIM>::BYTES;
    u8* asked = Queries<Format, DIM>::IN_REGISTERS
                    ? kept
                    : shared + STAGES * Shelf::BYTES + WARPS * Keeper<Format, DIM>::BYTES +
                          warp * Queries<Format, DIM>::BYTES;
    const Queries<Format, DIM> queries(args, item, kv_head, first, asked);
    Keeper<Format, DIM> keeper{args, item, kv_head, first, reinterpret_cast<float*>(kept), {}};
    const Records records(args, blockIdx.x, kv_head, WARPS * WARP_ROWS, DIM);

    // What the warp's rows see: any of them, all of them, each of the lane's two.
    const u32 left = item.rows > first ? item.rows - first : 0;
    const u32 end = first + (left < WARP_ROWS ? left : WARP_ROWS);
    const Range any = left > 0 ? item.seen_by_any(first, end) : Range{0, 0};
    const Range all = left > 0 ? item.seen_by_all(first, end) : Range{0, 0};
    Range lane_seen[2];
#pragma unroll
    for (u32 half = 0; half < 2; half++) {
        const u32 row = first + threadIdx.x % WARP / 4 + 8 * half;
        lane_seen[half] = row < end ? item.seen_by(row) : Range{0, 0};
    }

    Learned<DIM> learned;
    learned.reset();
    for (u32 tile = tiles_start; tile < tiles_end; tile++) {
        loader.store_scales(stage(tile));
        copy_wait<STAGES - 2>();
        // Now the tile is there for all warps, and all are done with the one before.
        synchronize<WARPS>();
        if (tile + STAGES - 1 < tiles_end) {
            loader.load(tile + STAGES - 1, stage(tile + STAGES - 1));
        }
        copy_commit();
        const u32 start = tile * TILE;
        if (start < any.end && start + TILE > any.start) {
            const bool all_see = start >= all.start && start + TILE <= all.end;
            attend(learned, queries, stage(tile), lane_seen, start, all_see, args.factor);
        }
        const bool is_last = tile + 1 == tiles_end;
        if (is_last || (tile + 1) % TILES_PER_CHUNK == 0) {
            const u32 chunk = tile / TILES_PER_CHUNK;
            complete(learned.rows);
            if (args.records != nullptr) {
                keeper.leave(learned, records, chunk - chunks.start);
            } else {
                keeper.take(learned, chunk == chunks.start, is_last);
            }
            learned.reset();
        }
    }
}

}  // namespace

// Threads: 32 (`_narrow` and `_deep`, items of 16 rows) or 128 (`_wide`, of 64 rows).
#define PAGED_ATTENTION(name, format, dim, warps, stages)                                                   \
    KERNEL name(ATTENTION_PARAMETERS) {                                                                     \
        let_next_begin();                                                                                   \
        SHARED(shared);                                                                                     \
        paged_attention<format, dim, warps, stages>(ATTENTION_ARGUMENTS, shared);                           \
    }                                                                                                       \
    EXPORT(name)

PAGED_ATTENTION(attention_bf16_32_narrow, Bf16, 32, 1, 2);
PAGED_ATTENTION(attention_bf16_64_narrow, Bf16, 64, 1, 2);
PAGED_ATTENTION(attention_bf16_96_narrow, Bf16, 96, 1, 2);
PAGED_ATTENTION(attention_bf16_128_narrow, Bf16, 128, 1, 2);
PAGED_ATTENTION(attention_bf16_256_narrow, Bf16, 256, 1, 2);
PAGED_ATTENTION(attention_bf16_32_deep, Bf16, 32, 1, 4);
PAGED_ATTENTION(attention_bf16_32_wide, Bf16, 32, 4, 2);
PAGED_ATTENTION(attention_bf16_64_deep, Bf16, 64, 1, 4);
PAGED_ATTENTION(attention_bf16_64_wide, Bf16, 64, 4, 2);
PAGED_ATTENTION(attention_bf16_96_deep, Bf16, 96, 1, 4);
PAGED_ATTENTION(attention_bf16_96_wide, Bf16, 96, 4, 2);
PAGED_ATTENTION(attention_bf16_128_deep, Bf16, 128, 1, 4);
PAGED_ATTENTION(attention_bf16_128_wide, Bf16, 128, 4, 2);
PAGED_ATTENTION(attention_bf16_256_deep, Bf16, 256, 1, 4);
PAGED_ATTENTION(attention_bf16_256_wide, Bf16, 256, 4, 2);
PAGED_ATTENTION(attention_int8_32_narrow, Int8, 32, 1, 2);
PAGED_ATTENTION(attention_int8_64_narrow, Int8, 64, 1, 2);
PAGED_ATTENTION(attention_int8_96_narrow, Int8, 96, 1, 2);
PAGED_ATTENTION(attention_int8_128_narrow, Int8, 128, 1, 2);
PAGED_ATTENTION(attention_int8_256_narrow, Int8, 256, 1, 2);
PAGED_ATTENTION(attention_int8_32_wide, Int8, 32, 4, 2);
PAGED_ATTENTION(attention_int8_64_wide, Int8, 64, 4, 2);
PAGED_ATTENTION(attention_int8_96_wide, Int8, 96, 4, 2);
PAGED_ATTENTION(attention_int8_128_wide, Int8, 128, 4, 2);
PAGED_ATTENTION(attention_int8_256_wide, Int8, 256, 4, 2);
