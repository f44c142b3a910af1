// Attention of few rows, as decoding has them, over a cache of bf16 on Hopper: the sums of `attention.cu`, bit for bit,
// with tiles that the copy engine brings (`hopper.cuh`) and a chunk that four warps share.
//
// A block works on 16 rows of a span that share a key head, chunk by chunk. Each warp
//
//   1. multiplies queries and the keys of one of the chunk's four tiles,      each row's largest score -> shared memory
//   2. makes weights of them, relative to the running largest score,          weights, their sums      -> shared memory
//   3. adds up a quarter of the dims of the values of all four tiles, in order,
//
// so that no sum is in another order, and a chunk takes about a third of the time that it takes a warp alone.
//
// Tiles come as `attention_few_tiles.cuh` says: those of the chunk that takes the place of another when all warps are
// done with that one. Grid: items by key heads by parts, as in `attention.cu`.
//
// Cost of a chunk, dim 128, by the machine code: 64 KiB, and per warp some 650 instructions: 190 for scores, 110 for
// weights, 170 for values, 50 to merge, 130 to ask for the next chunk and to wait. `attention.cu` has about 1,150 per
// tile, and 400 per chunk to merge, all in one warp. At 3.0 TB/s a chunk is due every 2.8 us on each of an H100's 132
// multiprocessors; that of three blocks of 72 KB two are under way while one computes.
#include "attention_few_tiles.cuh"
#include "attention_softmax.cuh"
#include "attention_tiles.cuh"
#include "hopper.cuh"

namespace {

// What a warp does. Numbers are the same in its lanes unless they are said to be a lane's.
template <u32 DIM, u32 SLOTS>
struct Team : Chunks<DIM, SLOTS> {
    static constexpr u32 STEPS = DIM / 16;
    // Dims of values that a warp adds up, and matrices of eight of them.
    static constexpr u32 DIMS = DIM / WARPS;
    static constexpr u32 N = DIMS / 8;
    static_assert(N % 2 == 0 && STRIP % DIMS == 0, "two matrices come at a time, from one strip");

    using Work = Chunks<DIM, SLOTS>;
    using Work::args;
    using Work::ask;
    using Work::chunks;
    using Work::has;
    using Work::item;
    using Work::kv_head;
    using Work::seen;
    using Work::shelves;
    using Work::tile_of;
    using Work::tiles;
    using Work::wait_for;
    using Work::warp;

    Range all;             // positions that every row sees
    u32 lane;
    u32 key_at[4];         // a lane's: where in a box it reads keys, by the step within a strip
    u32 value_at[N / 2];   // and values, from the tile on
    Range lane_seen[2];    // by a lane's two rows
    u32 queries[STEPS][4];
    // Of the chunk that goes on, and of those before it.
    Learned<DIMS> learned;
    Learned<DIMS> total;

    DEVICE explicit Team(const Work& work) : Work(work) {
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
        total.reset();
    }

    // A lane's rows.
    DEVICE u32 row_of(u32 half) const { return lane / 4 + 8 * half; }

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
                const float(&sums)[4] = learned.values[i];
                *reinterpret_cast<Pair*>(values + 8 * i) = {{sums[2 * half], sums[2 * half + 1]}};
            }
            if (warp == 0 && lane % 4 == 0) {
                const Softmax& known = learned.rows[half];
                *reinterpret_cast<Pair*>(records.state(index, row)) = {{known.max, known.sum}};
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
    Team<DIM, SLOTS> team(Chunks<DIM, SLOTS>(cells, args, item, seen, chunks, shelves));
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

ATTENTION_FEW(attention_hopper_few_64, 64, 2);
ATTENTION_FEW(attention_hopper_few_128, 128, 1);
