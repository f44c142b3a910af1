// Attention of few rows, as decoding has them, over a cache of bf16 on Hopper: the sums of `attention.cu`, bit for bit,
// with tiles that the copy engine brings (`hopper.cuh`) and a chunk that four warps share.
//
// A block works on 16 rows of a span that share a key head, chunk by chunk. Each warp
//
//   1. multiplies queries and the keys of one of the chunk's four tiles,       largest score of each row -> shared memory
//   2. makes weights of them, relative to the tile's running largest score,    weights, their sums       -> shared memory
//   3. adds up a quarter of the dims of the values of all four tiles, in order,
//
// so that no sum is in another order, and a chunk takes about a third of the time that it takes a warp alone.
//
//   shared memory   SLOTS chunks of four tiles, each of boxes of half a cell: 16 positions, 64 dims
//   a box           [16 keys][64]  [16 values][64], rows of 128 bytes (turned as `hopper.cuh` says)
//   full[slot][i]   counts the bytes of tile i
//
// One lane of each warp asks for the tile that the warp multiplies first, when all warps are done with the chunk that
// lay there. Blocks of the cache have a multiple of 16 positions. Grid: items by key heads by parts, as in
// `attention.cu`.
//
// Cost of a chunk, dim 128, by the machine code: 64 KiB, and per warp some 650 instructions: 190 for scores, 110 for
// weights, 170 for values, 50 to merge, 130 to ask for the next chunk and to wait. `attention.cu` has about 1,150 per
// tile, and 400 per chunk to merge, all in one warp. At 3.0 TB/s a chunk is due every 2.8 us on each of an H100's 132
// multiprocessors; that of three blocks of 72 KB two are under way while one computes.
#include "attention_softmax.cuh"
#include "attention_tiles.cuh"
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

// What a warp does; all numbers are the same in its lanes unless they are said to be a lane's.
template <u32 DIM, u32 SLOTS>
struct Team {
    static constexpr u32 STRIPS = DIM / STRIP;
    static constexpr u32 STEPS = DIM / 16;
    // Dims of values that a warp adds up, and matrices of eight of them.
    static constexpr u32 DIMS = DIM / WARPS;
    static constexpr u32 N = DIMS / 8;
    // Chunks whose cells are looked up at once.
    static constexpr u32 BATCH = WARP / CELLS;
    static_assert(N % 2 == 0 && STRIP % DIMS == 0, "two matrices come at a time, from one strip");

    const Matrix& cells;
    const Arguments& args;
    Item item;
    Range seen;    // by any row
    Range all;     // by every row
    Range tiles;   // of the block
    Range chunks;
    Shelves<DIM, SLOTS> shelves;
    u32 kv_head;
    u32 warp;
    u32 lane;
    u32 asked;             // the chunk that is asked for next
    u32 here;              // a lane's: the row of `cells` where a cell's keys begin, of the chunks asked for now
    u32 ahead;             // and of the batch behind
    u32 key_at[4];         // a lane's: where in a box it reads keys, by the step within a strip
    u32 value_at[N / 2];   // and values, from the tile on
    Range lane_seen[2];    // by a lane's two rows
    u32 queries[STEPS][4];
    // Of the chunk that goes on, and of those before it.
    Learned<DIMS> learned;
    Learned<DIMS> total;

    DEVICE Team(const Matrix& cells, const Arguments& args, const Item& item, Range seen, Range tiles, Range chunks,
                const Shelves<DIM, SLOTS>& shelves)
        : cells(cells), args(args), item(item), seen(seen), tiles(tiles), chunks(chunks), shelves(shelves) {
        kv_head = blockIdx.y;
        // The compiler is to know that it is the same in all lanes.
        warp = __shfl_sync(ALL_LANES, threadIdx.x / WARP, 0);
        lane = threadIdx.x % WARP;
        all = item.seen_by_all(0, item.rows);
#pragma unroll
        for (u32 half = 0; half < 2; half++) {
            lane_seen[half] = row_of(half) < item.rows ? item.seen_by(row_of(half)) : Range{0, 0};
        }
        // As `Bf16::keys` and `Bf16::values` (`attention_tiles.cuh`) deal rows to lanes.
#pragma unroll
        for (u32 step = 0; step < 4; step++) {
            const u32 row = lane / 16 * 8 + lane % 8, piece = 2 * step + lane / 8 % 2;
            key_at[step] = row * ROW_BYTES + (piece ^ row % 8) * 16;
        }
#pragma unroll
        for (u32 i = 0; i < N / 2; i++) {
            const u32 row = lane % 16, piece = warp * DIMS % STRIP / 8 + 2 * i + lane / 16;
            const u32 strip = warp * DIMS / STRIP;
            value_at[i] = strip * CELLS * BOX_BYTES + KEY_BYTES + row * ROW_BYTES + (piece ^ row % 8) * 16;
        }
        asked = chunks.start;
        ahead = look_up(asked);
        total.reset();
    }

    // A lane's rows.
    DEVICE u32 row_of(u32 half) const { return lane / 4 + 8 * half; }

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
        if (lane != 0) {
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
                load_box(tile + (strip * CELLS + i) * BOX_BYTES, cells, strip * STRIP, row[i], barrier);
            }
        }
    }

    // Rounds the item's rows to bf16, as `mma_bf16` takes them; those that are not there become zeros. All numbers are
    // asked for before one is used, those that are not there in the place of some that are.
    DEVICE void take_queries(const u64 (&offset)[2]) {
        if (args.head_dim % 2 == 0) {
            take_pairs(offset, [](const float* from, u32) { return *reinterpret_cast<const Pair*>(from); });
        } else {
            take_pairs(offset, [](const float* from, u32 left) {
                return Pair{{from[0], left > 1 ? from[1] : 0.0f}};
            });
        }
    }

    // `load` gets an address and the numbers that are there.
    template <typename Load>
    DEVICE void take_pairs(const u64 (&offset)[2], Load load) {
        Pair pairs[STEPS][4] = {};
#pragma unroll
        for (u32 half = 0; half < 2; half++) {
            if (half * 8 >= item.rows) {
                continue;
            }
#pragma unroll
            for (u32 i = 0; i < 2 * STEPS; i++) {
                const u32 dim = 8 * i + lane % 4 * 2;
                const bool is_there = dim < args.head_dim;
                pairs[i / 2][i % 2 * 2 + half] =
                    load(args.q + offset[half] + (is_there ? dim : 0), is_there ? args.head_dim - dim : 1);
            }
        }
#pragma unroll
        for (u32 step = 0; step < STEPS; step++) {
#pragma unroll
            for (u32 i = 0; i < 4; i++) {
                const u32 dim = 16 * step + i / 2 * 8 + lane % 4 * 2;
                const bool is_there = row_of(i % 2) < item.rows && dim < args.head_dim;
                const u32 word = pack_bf16(pairs[step][i].number[0], pairs[step][i].number[1]);
                queries[step][i] = is_there ? word : 0;
            }
        }
    }

    DEVICE void walk() {
        // Of a lane's rows, or the first.
        const u64 offset[2] = {item.offset(args, kv_head, row_of(0) < item.rows ? row_of(0) : 0),
                               item.offset(args, kv_head, row_of(1) < item.rows ? row_of(1) : 0)};
        wait_for_previous();
#pragma unroll
        for (u32 i = 0; i < SLOTS; i++) {
            ask();
        }
        take_queries(offset);
        for (u32 chunk = chunks.start; chunk < chunks.end; chunk++) {
            learned.reset();
            weigh_tile(chunk);
            const u32 first = chunk * TILES_PER_CHUNK;
            const bool is_whole = first >= tiles.start && first + TILES_PER_CHUNK <= tiles.end &&
                                  first * TILE >= all.start && first * TILE + CHUNK <= all.end;
            if (is_whole) {
                add_whole(chunk);
            } else {
                add_rest(chunk);
            }
            // All warps are done with the chunk.
            __syncthreads();
            ask();
            complete(learned.rows);
            if (args.records != nullptr) {
                leave(chunk);
            } else {
                take();
            }
        }
        if (args.records == nullptr) {
            write(offset);
        }
    }

    // Leaves the weights of the warp's tile, and their sums.
    DEVICE void weigh_tile(u32 chunk) {
        const u32 tile = chunk * TILES_PER_CHUNK + warp, start = tile * TILE;
        const bool is_there = has(tile);
        float scores[4][4] = {};
        float most[2] = {LEAST, LEAST};
        if (is_there) {
            wait_for(chunk, warp);
            multiply_keys(scores, tile_of(chunk, warp));
            const bool all_see = start >= all.start && start + TILE <= all.end;
            scale_scores<Bf16>(scores, nullptr, args.factor, all_see ? 0xffffu : seen_bits(lane_seen, start));
            most[0] = largest_score(LEAST, scores, 0);
            most[1] = largest_score(LEAST, scores, 1);
        }
        if (lane % 4 == 0) {
            shelves.largest[warp * ROWS + row_of(0)] = most[0];
            shelves.largest[warp * ROWS + row_of(1)] = most[1];
        }
        __syncthreads();
        if (is_there) {
            Weights weights;
            Pair sums;
#pragma unroll
            for (u32 half = 0; half < 2; half++) {
                float max = LEAST;
#pragma unroll
                for (u32 i = 0; i < WARPS; i++) {
                    max = i <= warp ? fmaxf(max, largest(i, half)) : max;
                }
                sums.number[half] = weigh_row<Bf16>(weights.words, scores, nullptr, max, 0xffffu, half);
            }
#pragma unroll
            for (u32 step = 0; step < CELLS; step++) {
                shelves.weights[(warp * CELLS + step) * WARP + lane] = {
                    {weights.words[2 * step][0], weights.words[2 * step][1], weights.words[2 * step + 1][0],
                     weights.words[2 * step + 1][1]}};
            }
            shelves.sums[warp * WARP + lane] = sums;
        }
    }

    DEVICE void multiply_keys(float (&scores)[4][4], const u8* tile) const {
#pragma unroll
        for (u32 step = 0; step < STEPS; step++) {
            const u8* const box = tile + 16 * step / STRIP * CELLS * BOX_BYTES + key_at[step % 4];
#pragma unroll
            for (u32 cell = 0; cell < CELLS; cell++) {
                u32 words[4];
                load_matrix_x4(words, box + cell * BOX_BYTES);
                const u32 low[2] = {words[0], words[1]}, high[2] = {words[2], words[3]};
                mma_bf16(scores[2 * cell], queries[step], low);
                mma_bf16(scores[2 * cell + 1], queries[step], high);
            }
        }
    }

    DEVICE float largest(u32 index, u32 half) const { return shelves.largest[index * ROWS + row_of(half)]; }

    // Adds the chunk's values up, of the warp's dims: of a chunk that all rows see whole,
    DEVICE void add_whole(u32 chunk) {
        float decay[WARPS][2];
#pragma unroll
        for (u32 i = 0; i < WARPS; i++) {
            find_decay(decay[i], i);
            wait_for(chunk, i);
        }
        __syncthreads();
#pragma unroll
        for (u32 i = 0; i < WARPS; i++) {
            fade(decay[i], i);
#pragma unroll
            for (u32 step = 0; step < CELLS; step++) {
                u32 b[N][2];
                load_values(b, tile_of(chunk, i) + step * BOX_BYTES);
                add(b, weights_of(i, step));
            }
        }
    }

    // and of any other. Its instructions are few, as each context ends with such a chunk: loops stay loops.
    DEVICE void add_rest(u32 chunk) {
        __syncthreads();
#pragma unroll 1
        for (u32 i = 0; i < WARPS; i++) {
            const u32 tile = chunk * TILES_PER_CHUNK + i, start = tile * TILE;
            if (!has(tile)) {
                continue;
            }
            float decay[2];
            find_decay(decay, i);
            fade(decay, i);
            wait_for(chunk, i);
            const bool all_see = start >= all.start && start + TILE <= all.end;
#pragma unroll 1
            for (u32 step = 0; step < CELLS; step++) {
                u32 b[N][2];
                load_values(b, tile_of(chunk, i) + step * BOX_BYTES);
                const Words4 weights = weights_of(i, step);
                if (!all_see) {
                    part_from_garbage<Bf16>(learned, b, weights.word, lane_seen, start + step * CELL, 0);
                }
                add(b, weights);
            }
        }
    }

    // The factors by which the sums before a tile fade; the largest scores become the tile's.
    DEVICE void find_decay(float (&decay)[2], u32 index) {
#pragma unroll
        for (u32 half = 0; half < 2; half++) {
            const float max = fmaxf(learned.rows[half].max, largest(index, half));
            decay[half] = fast_exp2(learned.rows[half].max - max);
            learned.rows[half].max = max;
        }
    }

    DEVICE void fade(const float (&decay)[2], u32 index) {
        const Pair sums = shelves.sums[index * WARP + lane];
        learned.rows[0].sum = fmaf(learned.rows[0].sum, decay[0], sums.number[0]);
        learned.rows[1].sum = fmaf(learned.rows[1].sum, decay[1], sums.number[1]);
        learned.fade(decay);
    }

    DEVICE Words4 weights_of(u32 index, u32 step) const {
        return shelves.weights[(index * CELLS + step) * WARP + lane];
    }

    DEVICE void load_values(u32 (&b)[N][2], const u8* box) const {
#pragma unroll
        for (u32 i = 0; i < N; i += 2) {
            u32 four[4];
            load_matrix_x4_transposed(four, box + value_at[i / 2]);
            b[i][0] = four[0];
            b[i][1] = four[1];
            b[i + 1][0] = four[2];
            b[i + 1][1] = four[3];
        }
    }

    DEVICE void add(const u32 (&b)[N][2], const Words4& weights) {
#pragma unroll
        for (u32 i = 0; i < N; i++) {
            mma_bf16(learned.values[i], weights.word, b[i]);
        }
    }

    // Leaves a chunk for `attention_merge`.
    DEVICE void leave(u32 chunk) const {
        const Records records(args, blockIdx.x, kv_head, ROWS, DIM);
        const u32 index = chunk - chunks_of(seen).start;
#pragma unroll
        for (u32 half = 0; half < 2; half++) {
            const u32 row = row_of(half);
            if (row >= item.rows) {
                continue;
            }
            float* values = records.values(index, row) + warp * DIMS + lane % 4 * 2;
#pragma unroll
            for (u32 i = 0; i < N; i++) {
                *reinterpret_cast<Pair*>(values + 8 * i) = {{learned.values[i][2 * half], learned.values[i][2 * half + 1]}};
            }
            if (warp == 0 && lane % 4 == 0) {
                *reinterpret_cast<Pair*>(records.state(index, row)) = {{learned.rows[half].max, learned.rows[half].sum}};
            }
        }
    }

    // Merges the chunk into what is known.
    DEVICE void take() {
#pragma unroll
        for (u32 half = 0; half < 2; half++) {
            const Decay decay = merge(total.rows[half], learned.rows[half]);
#pragma unroll
            for (u32 i = 0; i < N; i++) {
#pragma unroll
                for (u32 j = 2 * half; j < 2 * half + 2; j++) {
                    total.values[i][j] = merge_value(total.values[i][j], learned.values[i][j], decay);
                }
            }
        }
    }

    DEVICE void write(const u64 (&offset)[2]) const {
#pragma unroll
        for (u32 half = 0; half < 2; half++) {
            if (row_of(half) >= item.rows) {
                continue;
            }
            const float inverse = 1.0f / total.rows[half].sum;
            float* out = args.out + offset[half];
#pragma unroll
            for (u32 i = 0; i < 2 * N; i++) {
                const u32 dim = warp * DIMS + i / 2 * 8 + lane % 4 * 2 + i % 2;
                if (dim < args.head_dim) {
                    out[dim] = mean(total.values[i / 2][2 * half + i % 2], inverse);
                }
            }
        }
    }
};

// Lists of a step are there before its first kernel: what they say is looked up while the kernel before may run.
template <u32 DIM, u32 SLOTS>
DEVICE void attend(const Matrix& cells, const Arguments& args, u8* shared) {
    const Shelves<DIM, SLOTS> shelves(shared);
    shelves.set_up();
    const Item item = find_item(args, ROWS);
    if (item.rows == 0) {
        wait_for_previous();
        return;
    }
    const Range seen = item.seen_by_any(0, item.rows);
    const Range chunks = part_of(chunks_of(seen), blockIdx.z, gridDim.z);
    if (chunks.start >= chunks.end) {
        wait_for_previous();
        return;
    }
    const u32 seen_end = (seen.end + TILE - 1) / TILE;
    const u32 start = chunks.start * TILES_PER_CHUNK, end = chunks.end * TILES_PER_CHUNK;
    const Range tiles = {seen.start / TILE > start ? seen.start / TILE : start, seen_end < end ? seen_end : end};
    Team<DIM, SLOTS> team(cells, args, item, seen, tiles, chunks, shelves);
    __syncthreads();
    team.walk();
}

}  // namespace

#define ATTENTION_FEW(name, dim, slots)                                                                     \
    KERNEL MOST_THREADS(THREADS) name(PARAMETER(Matrix) cells, ATTENTION_PARAMETERS) {                      \
        let_next_begin();                                                                                   \
        SHARED(shared);                                                                                     \
        attend<dim, slots>(cells, ATTENTION_ARGUMENTS, shared);                                             \
    }                                                                                                       \
    EXPORT(name)

ATTENTION_FEW(attention_hopper_few_64, 64, 1);
ATTENTION_FEW(attention_hopper_few_128, 128, 1);
