// Attention of many rows over a cache of bf16 on Hopper: the sums of `attention.cu`, bit for bit, by its copy engine
// and warpgroup multiplications (`hopper.cuh`).
//
// A block works on 128 rows of a span that share a key head, 64 per warpgroup, and on one tile after the other
// (`attention_boxes.cuh`). While all rows of a warpgroup see whole tiles, with S the scores of one and P its weights:
//
//   tensor cores    S(i+1)    P(i) · values
//   the warps                 P(i+1) of S(i+1)    fade the sums for tile i+1
//
// and what one warpgroup leaves idle the other uses. What some rows do not see is masked, and its values are looked at
// one by one (`part_from_garbage`); those are multiplied as in `attention.cu`. Both instructions add up alike (checked
// on an H100).
//
// Blocks of the cache have a multiple of 16 positions. Grid: items by key heads by parts, as in `attention.cu`.
//
// Cost of a tile per warpgroup, dim 128: 256 cycles of the tensor cores and about 310 instructions per warp: 60 to start
// multiplications, 135 for the softmax, 50 to fade what was summed before, 55 to merge chunks; 16 KiB from the
// second-level cache for both warpgroups. Two warps share each of a multiprocessor's four schedulers, so that 620
// cycles a tile of both are the least.
//
// Measured on an H100, 32/8 heads of 128, in microseconds, beside `attention.cu`: 186 for 361 (a prompt of 2048, 185
// TFLOP/s), 125 for 285 (512 rows at 4096, 293), 732 for 1,682 (2048 at 6144, 329). 60 to 75 were predicted for the
// first: what the rest of it is spent on is not known.
#include "attention_boxes.cuh"
#include "attention_softmax.cuh"
#include "attention_tiles.cuh"
#include "hopper.cuh"

namespace {

// What a warp of a warpgroup does; `first` is its first row of the item.
template <u32 DIM>
struct Walker {
    static constexpr u32 STRIPS = DIM / STRIP;
    static constexpr u32 STEPS = DIM / 16;

    const Work<DIM>& work;
    u32 first;
    u32 queries[STEPS][4];
    // Of the chunk that goes on, and of those before it.
    Learned<DIM> learned;
    Learned<DIM> total;

    DEVICE explicit Walker(const Work<DIM>& work) : work(work) {
        first = threadIdx.x / WARP * WARP_ROWS;
        take_queries();
        learned.reset();
        total.reset();
    }

    // The rows `from .. from + count` that are there.
    DEVICE Range rows_of(u32 from, u32 count) const {
        const u32 rows = work.item.rows;
        return {from < rows ? from : rows, from + count < rows ? from + count : rows};
    }

    // Positions that any of those rows sees, and that all see.
    DEVICE Range any_sees(Range rows) const {
        return rows.start < rows.end ? work.item.seen_by_any(rows.start, rows.end) : Range{0, 0};
    }
    DEVICE Range all_see(Range rows) const {
        return rows.start < rows.end ? work.item.seen_by_all(rows.start, rows.end) : Range{0, 0};
    }

    DEVICE Range group_rows() const { return rows_of(first / GROUP_ROWS * GROUP_ROWS, GROUP_ROWS); }

    // Rounds the warp's queries to bf16, four numbers a lane at a time. Rows that are not there become zeros.
    DEVICE void take_queries() {
        constexpr u32 LANES = DIM / 4;
        constexpr u32 AT_ONCE = WARP / LANES;
        constexpr u32 ROW = Shelves<DIM>::QUERY;
        const Arguments& args = work.args;
        const u32 lane = threadIdx.x % WARP, rows = work.item.rows;
        const u32 col = lane % LANES * 4;
        u8* memory = work.shelves.queries(threadIdx.x / WARP);
        u64 offset = 0;
        if (lane < WARP_ROWS && first + lane < rows) {
            offset = work.item.offset(args, work.kv_head, first + lane);
        }
#pragma unroll 8
        for (u32 i = 0; i < WARP_ROWS; i += AT_ONCE) {
            const u32 row = i + lane / LANES;
            const u64 high = __shfl_sync(ALL_LANES, static_cast<u32>(offset >> 32), row);
            const float* from = args.q + (high << 32 | __shfl_sync(ALL_LANES, static_cast<u32>(offset), row));
            Floats4 numbers = {};
            if (first + row < rows && args.head_dim % 4 != 0) {
#pragma unroll
                for (u32 j = 0; j < 4; j++) {
                    numbers.number[j] = col + j < args.head_dim ? from[col + j] : 0.0f;
                }
            } else if (first + row < rows && col < args.head_dim) {
                numbers = *reinterpret_cast<const Floats4*>(from + col);
            }
            *reinterpret_cast<Words2*>(memory + row * ROW + 2 * col) = {
                pack_bf16(numbers.number[0], numbers.number[1]), pack_bf16(numbers.number[2], numbers.number[3])};
        }
        __syncwarp();
#pragma unroll
        for (u32 step = 0; step < STEPS; step++) {
            Bf16::query(queries[step], memory, ROW, step);
        }
    }

    DEVICE void wait_for(u32 tile) const {
        barrier_wait(work.shelves.full + work.stage_of(tile), (tile - work.tiles.start) / STAGES % 2);
    }

    DEVICE void release(u32 tile) const {
        __syncwarp();
        if (threadIdx.x % WARP == 0) {
            barrier_arrive(work.shelves.empty + work.stage_of(tile));
        }
    }

    // Describes a stage. The compiler is to know that it is the same in all lanes.
    DEVICE u64 stage_operand(u32 tile) const {
        const u64 keys = operand(work.shelves.keys(work.stage_of(tile)));
        return keys >> 32 << 32 | __shfl_sync(ALL_LANES, static_cast<u32>(keys), 0);
    }

    // The operand that lies so many bytes, a multiple of 1,024, behind. A step is 32 bytes of a row.
    DEVICE static u64 behind(u64 operand, u32 bytes) { return next_operand(operand, bytes / 32); }

    // Starts to multiply queries and the keys of a stage.
    DEVICE void start_scores(float (&scores)[4][4], u64 stage) const {
        auto& sums = reinterpret_cast<float(&)[TILE / 2]>(scores);
        multiply_begin();
#pragma unroll
        for (u32 step = 0; step < STEPS; step++) {
            const u64 strip = behind(stage, 16 * step / STRIP * TILE_BYTES);
            multiply_held_async<TILE>(sums, queries[step], next_operand(strip, step % (STRIP / 16)), step > 0);
        }
        multiply_commit();
    }

    // Starts to add the values of a stage, by their weights. Without `keep` the sums begin here.
    DEVICE void start_values(const u32 (&weights)[2][4], u64 stage, bool keep) {
        multiply_begin();
#pragma unroll
        for (u32 step = 0; step < 2; step++) {
#pragma unroll
            for (u32 strip = 0; strip < STRIPS; strip++) {
                auto& sums = reinterpret_cast<float(&)[STRIP / 2]>(learned.values[strip * (STRIP / 8)]);
                const u64 rows = behind(stage, (STRIPS + strip) * TILE_BYTES + step * CELL_BYTES);
                multiply_rows_async<STRIP>(sums, weights[step], rows, step > 0 || keep);
            }
        }
        multiply_commit();
    }

    DEVICE static void pin_scores(float (&scores)[4][4]) { pinned(reinterpret_cast<float(&)[TILE / 2]>(scores)); }
    DEVICE void pin_values() { pinned(reinterpret_cast<float(&)[DIM / 2]>(learned.values)); }

    DEVICE static void deal(u32 (&a)[2][4], const Weights& weights) {
#pragma unroll
        for (u32 i = 0; i < 8; i++) {
            a[i / 4][i % 4] = weights.words[i / 2][i % 2];
        }
    }

    // Tiles that all rows of the warpgroup see whole. While multiplications run at once, nothing else may write their
    // sums or what they read, nor do any run from one round to the next: the compiler would have them wait for each
    // other. So there are two sets of weights that take turns.
    DEVICE void walk(Range tiles) {
        u32 weights[2][4], others[2][4];
        Softmax before[2];
        float decay[2];
        u64 stage = stage_operand(tiles.start);
        {
            float scores[4][4];
            wait_for(tiles.start);
            start_scores(scores, stage);
            multiply_wait<0>();
            pin_scores(scores);
            weigh_next(weights, decay, before, scores, tiles.start);
        }
        u32 tile = tiles.start;
        for (; tile + 2 < tiles.end; tile += 2) {
            step(tile, stage, weights, others, decay, before);
            step(tile + 1, stage, others, weights, decay, before);
        }
        if (tile + 1 < tiles.end) {
            step(tile, stage, weights, others, decay, before);
            last_step(tile + 1, stage, others, decay, before);
        } else {
            last_step(tile, stage, weights, decay, before);
        }
    }

    // Adds the values of a tile that was weighed, and weighs the next; `stage` becomes its.
    DEVICE void step(u32 tile, u64& stage, const u32 (&weights)[2][4], u32 (&next)[2][4], float (&decay)[2],
                     Softmax (&before)[2]) {
        float scores[4][4];
        const u64 next_stage = stage_operand(tile + 1);
        fade_or_finish(tile, decay, before);
        wait_for(tile + 1);
        pin_values();
        start_scores(scores, next_stage);
        start_values(weights, stage, tile % TILES_PER_CHUNK != 0);
        multiply_wait<1>();
        pin_scores(scores);
        weigh_next(next, decay, before, scores, tile + 1);
        computed(reinterpret_cast<const u32(&)[8]>(next));
        multiply_wait<0>();
        pin_values();
        release(tile);
        stage = next_stage;
    }

    DEVICE void last_step(u32 tile, u64 stage, const u32 (&weights)[2][4], const float (&decay)[2],
                          Softmax (&before)[2]) {
        fade_or_finish(tile, decay, before);
        pin_values();
        start_values(weights, stage, tile % TILES_PER_CHUNK != 0);
        multiply_wait<0>();
        pin_values();
        release(tile);
    }

    // Weighs a tile; `before` becomes what was known before it.
    DEVICE void weigh_next(u32 (&a)[2][4], float (&decay)[2], Softmax (&before)[2], float (&scores)[4][4], u32 tile) {
        before[0] = learned.rows[0];
        before[1] = learned.rows[1];
        if (tile % TILES_PER_CHUNK == 0) {
            learned.rows[0] = NOTHING_SEEN;
            learned.rows[1] = NOTHING_SEEN;
        }
        const Weights weights = weigh<Bf16>(learned.rows, scores, nullptr, work.args.factor, 0xffffu);
        deal(a, weights);
        decay[0] = weights.decay[0];
        decay[1] = weights.decay[1];
    }

    // Prepares the sums of values for a tile.
    DEVICE void fade_or_finish(u32 tile, const float (&decay)[2], Softmax (&before)[2]) {
        if (tile % TILES_PER_CHUNK == 0) {
            finish(tile, before);
        } else {
            learned.fade(decay);
        }
    }

    // A tile that some rows do not see, or not whole.
    DEVICE void look(u32 tile) {
        const u32 start = tile * TILE;
        if (tile % TILES_PER_CHUNK == 0) {
            finish(tile, learned.rows);
            learned.reset();
        }
        wait_for(tile);
        if (meets(any_sees(group_rows()), start)) {
            float scores[4][4];
            start_scores(scores, stage_operand(tile));
            multiply_wait<0>();
            pin_scores(scores);
            if (meets(any_sees(rows_of(first, WARP_ROWS)), start)) {
                look_at(scores, start, work.shelves.values(work.stage_of(tile)));
            }
        }
        release(tile);
    }

    DEVICE static bool meets(Range positions, u32 tile_start) {
        return tile_start < positions.end && tile_start + TILE > positions.start;
    }

    DEVICE void look_at(float (&scores)[4][4], u32 start, const u8* values) {
        const Range rows = rows_of(first, WARP_ROWS), all = all_see(rows);
        Range lane_seen[2];
#pragma unroll
        for (u32 half = 0; half < 2; half++) {
            const u32 row = first + threadIdx.x % WARP / 4 + 8 * half;
            lane_seen[half] = row < rows.end ? work.item.seen_by(row) : Range{0, 0};
        }
        const bool all_see = start >= all.start && start + TILE <= all.end;
        const u32 bits = all_see ? 0xffffu : seen_bits(lane_seen, start);
        const Weights weights = weigh<Bf16>(learned.rows, scores, nullptr, work.args.factor, bits);
        learned.fade(weights.decay);
        u32 a[2][4];
        deal(a, weights);
#pragma unroll
        for (u32 step = 0; step < 2; step++) {
#pragma unroll
            for (u32 block = 0; block < DIM / 32; block++) {
                u32 b[4][2];
                take_values(b, values + step * CELL_BYTES + block / 2 * TILE_BYTES, block % 2);
                if (!all_see) {
                    part_from_garbage<Bf16>(learned, b, a[step], lane_seen, start + 16 * step, block);
                }
#pragma unroll
                for (u32 i = 0; i < 4; i++) {
                    mma_bf16(learned.values[4 * block + i], a[step], b[i]);
                }
            }
        }
    }

    // Half a strip of sixteen values, as `mma_bf16` takes them.
    DEVICE static void take_values(u32 (&b)[4][2], const u8* values, u32 half) {
        const u32 lane = threadIdx.x % WARP, row = lane % 16;
#pragma unroll
        for (u32 i = 0; i < 4; i += 2) {
            u32 words[4];
            const u32 piece = 4 * half + i + lane / 16;
            load_matrix_x4_transposed(words, values + row * ROW_BYTES + (piece ^ row % 8) * 16);
            b[i][0] = words[0];
            b[i][1] = words[1];
            b[i + 1][0] = words[2];
            b[i + 1][1] = words[3];
        }
    }

    // Keeps what was learned in the chunk before `tile`, if the block has seen any of it.
    DEVICE void finish(u32 tile, Softmax (&rows)[2]) {
        if (tile == work.tiles.start) {
            return;
        }
        complete(rows);
        if (work.args.records != nullptr) {
            leave((tile - 1) / TILES_PER_CHUNK, rows);
            return;
        }
#pragma unroll
        for (u32 half = 0; half < 2; half++) {
            const Decay decay = merge(total.rows[half], rows[half]);
#pragma unroll
            for (u32 i = 0; i < DIM / 8; i++) {
#pragma unroll
                for (u32 j = 2 * half; j < 2 * half + 2; j++) {
                    total.values[i][j] = merge_value(total.values[i][j], learned.values[i][j], decay);
                }
            }
        }
    }

    // Leaves a chunk for `attention_merge`.
    DEVICE void leave(u32 chunk, const Softmax (&rows)[2]) const {
        const Records records(work.args, blockIdx.x, work.kv_head, ITEM_ROWS, DIM);
        const u32 index = chunk - chunks_of(work.seen).start;
        const u32 lane = threadIdx.x % WARP;
#pragma unroll
        for (u32 half = 0; half < 2; half++) {
            const u32 row = first + lane / 4 + 8 * half;
            if (row >= work.item.rows) {
                continue;
            }
            float* values = records.values(index, row) + lane % 4 * 2;
#pragma unroll
            for (u32 i = 0; i < DIM / 8; i++) {
                values[8 * i] = learned.values[i][2 * half];
                values[8 * i + 1] = learned.values[i][2 * half + 1];
            }
            if (lane % 4 == 0) {
                records.state(index, row)[0] = rows[half].max;
                records.state(index, row)[1] = rows[half].sum;
            }
        }
    }

    DEVICE void write() const {
        const Arguments& args = work.args;
        const u32 lane = threadIdx.x % WARP;
#pragma unroll
        for (u32 half = 0; half < 2; half++) {
            const u32 row = first + lane / 4 + 8 * half;
            if (row >= work.item.rows) {
                continue;
            }
            const float inverse = 1.0f / total.rows[half].sum;
            float* out = args.out + work.item.offset(args, work.kv_head, row);
#pragma unroll
            for (u32 i = 0; i < DIM / 4; i++) {
                const u32 dim = i / 2 * 8 + lane % 4 * 2 + i % 2;
                if (dim < args.head_dim) {
                    out[dim] = mean(total.values[i / 2][2 * half + i % 2], inverse);
                }
            }
        }
    }

    DEVICE void attend() {
        const Range& tiles = work.tiles;
        const Range all = all_see(group_rows());
        const u32 end = all.end / TILE < tiles.end ? all.end / TILE : tiles.end;
        u32 tile = tiles.start;
        while (tile < tiles.end) {
            if (tile * TILE >= all.start && tile < end) {
                walk({tile, end});
                tile = end;
            } else {
                look(tile);
                tile++;
            }
        }
        finish(tiles.end, learned.rows);
        if (work.args.records == nullptr) {
            write();
        }
    }
};

template <u32 DIM>
DEVICE void attend(const Matrix& cells, const Arguments& args, u8* shared) {
    const Shelves<DIM> shelves(shared);
    shelves.set_up();
    const Item item = find_item(args, ITEM_ROWS);
    if (item.rows == 0) {
        return;
    }
    const Range seen = item.seen_by_any(0, item.rows);
    const Range part = part_of(chunks_of(seen), blockIdx.z, gridDim.z);
    if (part.start >= part.end) {
        return;
    }
    const u32 seen_end = (seen.end + TILE - 1) / TILE;
    const u32 part_start = part.start * TILES_PER_CHUNK, part_end = part.end * TILES_PER_CHUNK;
    // The compiler is to know that they are the same in all lanes.
    const Range tiles = {
        __shfl_sync(ALL_LANES, seen.start / TILE > part_start ? seen.start / TILE : part_start, 0),
        __shfl_sync(ALL_LANES, seen_end < part_end ? seen_end : part_end, 0),
    };
    const Work<DIM> work{cells, args, item, blockIdx.y, seen, tiles, shelves};
    if (threadIdx.x / WARPGROUP == GROUPS) {
        give_registers<24>();
        if (threadIdx.x % WARPGROUP < WARP) {
            work.bring();
        }
        return;
    }
    take_registers<240>();
    Walker<DIM> walker(work);
    walker.attend();
}

}  // namespace

#ifdef MAITRE_EMULATOR
#define ONE_BLOCK
#else
#define ONE_BLOCK __launch_bounds__(THREADS, 1)
#endif

#define ATTENTION_HOPPER(name, dim)                                                                         \
    KERNEL ONE_BLOCK name(PARAMETER(Matrix) cells, ATTENTION_PARAMETERS) {                                  \
        take_turn();                                                                                        \
        SHARED(shared);                                                                                     \
        attend<dim>(cells, ATTENTION_ARGUMENTS, shared);                                                    \
    }                                                                                                       \
    EXPORT(name)

ATTENTION_HOPPER(attention_hopper_64, 64);
ATTENTION_HOPPER(attention_hopper_128, 128);
