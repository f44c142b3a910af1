// The matrix product over integers for up to 16 token rows: out[m, n] = x[m, k] · w[n, k]^T, as linear_tile.cuh
// defines it, with k split over the warps of a block.
//
//            k ->
//         +-----------------+     A block computes all tokens of 16 or 32 rows of w (gated: of gates and what
//         | 0| 1|..| 7| 0| 1|     they gate). Its warps take k in turn: spans of 128 numbers of int4, of int8
//      w  |  |  |  |  |  |  |     parts of 256. Of each the warp multiplies whole groups (parts), whose sums
//         |  |  |  |  |  |  |     begin at zero and go to slots in shared memory. When the slots are full or k
//         +-----------------+     is at its end, threads fold them, an output each, in the order of k.
//           \  \      /
//      slots [group][token][row]  -> fold -> out
//
// The sums of groups are what depends on a chain of multiplications, and here none is longer than its group. So an
// output has the bits that any other tile gives it: the same chunks in the same order within a group, and the
// groups folded in the same order.
//
// Weights are the first operand of `mma_bf16`, which has 16 rows, and tokens the second, which has 8: a product has
// the same bits either way. Each warp brings its own weights, `STAGES - 1` spans ahead, into shared memory that no
// other warp reads, so that warps wait for each other only where slots are folded. Scales of int4 come with the
// first span, those of a whole stretch of k (`SCALE_WORDS`): their sectors hold more of k than a span. A warp has its
// tokens' numbers from the first or second-level cache, in registers.
//
// Grid: x = rows of w / rows of a block, rounded up; dynamic shared memory as `Split` says. Cost: w once, x once per
// block, from the second-level cache: therefore the blocks of 32 rows for many rows of w and more than one token.
//
//   block    warps  shared bytes int8 / int4 (k = 4096, groups of 64)  blocks a multiprocessor
//   8 x 16   8      75,776 / 57,600                                    3
//   16 x 16  8      86,016 / 78,080                                    2
//   8 x 32   4      74,752 / 59,904                                    3
//   16 x 32  4      83,968 / 78,336                                    2
//
// n = 4096 is 256 blocks, about two for each of 132 multiprocessors. 8 warps of 3 stages each, or 4 of twice as
// much, have 24 KiB of int4 or 48 of int8 under way per block, where 16 KiB a multiprocessor are enough for 3 TB/s
// at 700 ns a read. By its machine code a warp issues some 190 instructions per 2048 weights of int4 and 250 of int8,
// at n = k = 4096 1.6 and 2.1 us at one instruction a cycle, beside readings of 3.1 and 5.6 us.
//
// Measured on an H100, m = 1, in microseconds; before are tiles of 16 x 32 and 16 x 64, without a split:
//
//   n x k                 int8: before  now   reading    int4: before  now   reading
//   4096 x 4096                 11.7    8.7     5.6            17.9    6.6     3.1
//   gated 12288 x 4096          40.0   36.4    33.4            35.8   25.6    18.8
//   4096 x 12288                29.4   21.8    16.7            49.3   16.4     9.4
//   151936 x 4096              229    202     206             179    132     116
#include "linear_tile.cuh"

namespace {

// Numbers of k that a stage holds.
constexpr u32 SPAN_CHUNKS = 4;

// How warps split k, and how a lane reads a span of weights from shared memory.
struct SplitInt4 {
    using Weights = Int4Weights;
    // Spans that a warp takes at a time.
    static constexpr u32 UNIT = 1;
    // A lane's words of a span of a row.
    static constexpr u32 WORDS = 4;

    // Where in 8 rows this lane reads, and what it finds there: numbers 8t to 8t + 7 of each chunk of row g.
    DEVICE static u32 place_of_lane() {
        const u32 lane = threadIdx.x % WARP;
        return place<SPAN_CHUNKS * Weights::WINDOW, Weights::WINDOW>(lane % 8, lane / 8);
    }

    DEVICE static void load(const u8* rows, u32 at, u32 (&words)[WORDS]) { load_matrix_x4(words, rows + at); }

    DEVICE static void unpack(const u32 (&words)[WORDS], u32 chunk, u32 origin, u32 (&pairs)[4]) {
#pragma unroll
        for (u32 i = 0; i < 4; i++) {
            pairs[i] = int4_pair(words[chunk], i, origin);
        }
    }
};

struct SplitInt8 {
    using Weights = Int8Weights;
    static constexpr u32 UNIT = PART_CHUNKS / SPAN_CHUNKS;
    static constexpr u32 WORDS = 8;

    DEVICE static u32 place_of_lane() {
        const u32 row = threadIdx.x % WARP / 4, t = threadIdx.x % 4;
        return place<SPAN_CHUNKS * Weights::WINDOW, Weights::WINDOW>(row, t / 2) + t % 2 * 8;
    }

    // A row turns its chunks by an exclusive or.
    DEVICE static void load(const u8* rows, u32 at, u32 (&words)[WORDS]) {
#pragma unroll
        for (u32 chunk = 0; chunk < SPAN_CHUNKS; chunk++) {
            const Words2 pair = *reinterpret_cast<const Words2*>(rows + (at ^ chunk * Weights::WINDOW));
            words[chunk * 2] = pair.word[0];
            words[chunk * 2 + 1] = pair.word[1];
        }
    }

    DEVICE static void unpack(const u32 (&words)[WORDS], u32 chunk, u32, u32 (&pairs)[4]) {
#pragma unroll
        for (u32 i = 0; i < 4; i++) {
            pairs[i] = int8_pair(words[chunk * 2 + i / 2], i % 2);
        }
    }
};

// The extents of a block, and where its parts lie in shared memory: stages, slots, scales.
template <typename How, u32 MOST_TOKENS, u32 W_ROWS, u32 IN_BLOCK, u32 SUMS>
struct Split {
    using W = typename How::Weights;
    static constexpr u32 TOKENS = MOST_TOKENS;
    static constexpr u32 ROWS = W_ROWS;
    static constexpr u32 WARPS = IN_BLOCK;
    static constexpr u32 THREADS = WARPS * WARP;
    static constexpr u32 STAGES = 4;
    // Groups whose sums shared memory holds.
    static constexpr u32 SLOTS = SUMS;
    // Tiles of 16 rows of w and of 8 tokens.
    static constexpr u32 MT = ROWS / 16;
    static constexpr u32 NT = TOKENS / 8;
    static constexpr u32 PITCH = SPAN_CHUNKS * W::WINDOW;
    static constexpr u32 STAGE = ROWS * PITCH;
    // 16-byte pieces that each lane copies of a stage.
    static constexpr u32 PIECES = STAGE / (WARP * 16);
    // Floats between tokens: lanes that store sums of 4 pairs of tokens and 8 rows meet 32 banks.
    static constexpr u32 SLOT_PITCH = ROWS + 4;
    static constexpr u32 SLOT = TOKENS * SLOT_PITCH;
    static constexpr u32 SLOTS_AT = WARPS * STAGES * STAGE;
    static constexpr u32 SCALES_AT = SLOTS_AT + SLOTS * SLOT * 4;
    // Outputs of a thread.
    static constexpr u32 OUTPUTS = (ROWS * TOKENS + THREADS - 1) / THREADS;
};

// Words of int4 scales of a row that shared memory holds at most.
constexpr u32 SCALE_WORDS = 192;

// Words between the scales of two rows in shared memory: an odd number of 16-byte pieces, so that lanes that read
// 8 rows meet different banks.
DEVICE u32 scale_pitch(u32 words) { return (words / 4 | 1) * 4; }

// Copies the scales of a stretch of k from word `first` on.
template <typename T>
DEVICE void fetch_scales(const Operands& o, u32* scales, u32 first, u32 words, u32 pitch) {
    constexpr u32 THREADS_OF_ROW = T::THREADS / T::ROWS;
    const u32 row = threadIdx.x / THREADS_OF_ROW;
    bool valid;
    const u32 feature = weight_row<T::ROWS>(o, blockIdx.x, row, valid);
    const u32* from = static_cast<const u32*>(o.scales) + (static_cast<u64>(feature) * o.scale_stride + first);
#pragma unroll 1
    for (u32 word = threadIdx.x % THREADS_OF_ROW * 4; word < words; word += THREADS_OF_ROW * 4) {
        copy_async_16(scales + row * pitch + word, from + word, valid);
    }
}

// What a lane copies of the weights: piece `at[i]` of each span, and as many beyond as spans have passed.
template <typename T>
struct Source {
    static constexpr u32 ROW_PIECES = T::PITCH / 16;
    u32 at[T::PIECES];
    // Pieces of a row from this lane's first on.
    u32 left;
    // Where in shared memory the first one of stage 0 goes. The others go to rows that are turned alike.
    u32 to;

    DEVICE Source(const Operands& o, u32 stages) {
        const u32 lane = threadIdx.x % WARP, w_pieces = o.w_bytes / 16, piece = lane % ROW_PIECES;
        left = piece < w_pieces ? w_pieces - piece : 0;
        keep(left);
        to = stages + place<T::PITCH, T::W::WINDOW>(lane / ROW_PIECES, piece);
        keep(to);
#pragma unroll
        for (u32 i = 0; i < T::PIECES; i++) {
            bool valid;
            const u32 row = weight_row<T::ROWS>(o, blockIdx.x, (i * WARP + lane) / ROW_PIECES, valid);
            // For a row that is not there the first one, whose outputs are not written. Pieces of 16 bytes are
            // counted in 32 bits: enough for 64 GiB.
            at[i] = (valid ? row : 0) * w_pieces + piece;
            keep(at[i]);
        }
    }

    DEVICE void fetch(const Operands& o, u8* shared, u32 stage, u32 span) const {
        const Words4* w = reinterpret_cast<const Words4*>(o.w);
        const u32 passed = span * ROW_PIECES;
#pragma unroll
        for (u32 i = 0; i < T::PIECES; i++) {
            copy_async_16(shared + (to + stage * T::STAGE) + i * (WARP * 16), w + (at[i] + passed), passed < left);
        }
    }
};

// The numbers that a lane multiplies: 8t to 8t + 7 of each chunk, of tokens g and g + 8; for a token that is not
// there those of the first one, whose sums are not stored.
template <typename T>
struct Tokens {
    static constexpr u32 SPAN_PIECES = SPAN_CHUNKS * 4;
    // Of 8 numbers: the lane's first piece of each token.
    u32 at[T::NT];

    DEVICE explicit Tokens(const Operands& o) {
        const u32 g = threadIdx.x % WARP / 4, t = threadIdx.x % 4;
#pragma unroll
        for (u32 i = 0; i < T::NT; i++) {
            const u32 token = i * 8 + g;
            at[i] = (token < o.m ? token : 0) * (o.x_stride / 8) + t;
            keep(at[i]);
        }
    }

    DEVICE void load(const Operands& o, u32 span, Words4 (&x)[T::NT][SPAN_CHUNKS]) const {
        const u32 passed = span * SPAN_PIECES, pieces = o.x_stride / 8;
        if (passed + SPAN_PIECES <= pieces) {
#pragma unroll
            for (u32 i = 0; i < T::NT; i++) {
                const Words4* from = reinterpret_cast<const Words4*>(o.x) + (at[i] + passed);
#pragma unroll
                for (u32 chunk = 0; chunk < SPAN_CHUNKS; chunk++) {
                    x[i][chunk] = from[chunk * 4];
                }
            }
            return;
        }
        const u32 left = pieces - passed, t = threadIdx.x % 4;
#pragma unroll
        for (u32 i = 0; i < T::NT; i++) {
            const Words4* from = reinterpret_cast<const Words4*>(o.x) + (at[i] + passed);
#pragma unroll
            for (u32 chunk = 0; chunk < SPAN_CHUNKS; chunk++) {
                x[i][chunk] = chunk * 4 + t < left ? from[chunk * 4] : Words4{};
            }
        }
    }
};

// Multiplies a chunk of the span in `words` and `x` into `sums`.
template <typename How, typename T>
DEVICE void multiply_split_chunk(const u32 (&words)[T::MT * 2][How::WORDS], const Words4 (&x)[T::NT][SPAN_CHUNKS],
                                 u32 chunk, const u32 (&origins)[T::MT * 2], float (&sums)[T::MT][T::NT][4]) {
#pragma unroll
    for (u32 i = 0; i < T::MT; i++) {
        u32 upper[4], lower[4];
        How::unpack(words[i * 2], chunk, origins[i * 2], upper);
        How::unpack(words[i * 2 + 1], chunk, origins[i * 2 + 1], lower);
#pragma unroll
        for (u32 half = 0; half < 4; half += 2) {
            const u32 a[4] = {upper[half], lower[half], upper[half + 1], lower[half + 1]};
#pragma unroll
            for (u32 j = 0; j < T::NT; j++) {
                const u32 b[2] = {x[j][chunk].word[half], x[j][chunk].word[half + 1]};
                mma_bf16(sums[i][j], a, b);
            }
        }
    }
}

// Stores what a group has come to: lane (g, t) has rows g and g + 8, tokens 2t and 2t + 1 of each 16 x 8 tile.
// `slot` is where it has its first.
template <typename T>
DEVICE void store_sums(u32 m, float* slot, const float (&sums)[T::MT][T::NT][4]) {
    const u32 t = threadIdx.x % 4;
#pragma unroll
    for (u32 j = 0; j < T::NT; j++) {
#pragma unroll
        for (u32 part = 0; part < 2; part++) {
            if (j * 8 + t * 2 + part < m) {
#pragma unroll
                for (u32 i = 0; i < T::MT; i++) {
                    slot[(j * 8 + part) * T::SLOT_PITCH + i * 16] = sums[i][j][part];
                    slot[(j * 8 + part) * T::SLOT_PITCH + i * 16 + 8] = sums[i][j][2 + part];
                }
            }
        }
    }
}

// Adds the sums of `count` groups to the outputs of this thread, in order. `scales`: those of the first group.
template <typename T>
DEVICE void fold(const Operands& o, const float* slots, const u32* scales, u32 pitch, u32 count,
                 float (&totals)[T::OUTPUTS]) {
#pragma unroll
    for (u32 i = 0; i < T::OUTPUTS; i++) {
        const u32 row = (i * T::THREADS + threadIdx.x) % T::ROWS, token = (i * T::THREADS + threadIdx.x) / T::ROWS;
        // Of few tokens there are sums for so many only, of 8 a thread may have none.
        if (token < o.m) {
            const float* sum = slots + token * T::SLOT_PITCH + row;
#pragma unroll 16
            for (u32 slot = 0; slot < count; slot++) {
                if constexpr (T::W::GROUPED) {
                    totals[i] = fmaf(int4_scale(scales[row * pitch + slot]), sum[slot * T::SLOT], totals[i]);
                } else {
                    totals[i] = totals[i] + sum[slot * T::SLOT];
                }
            }
        }
    }
}

template <typename T>
DEVICE void write_split(const Operands& o, const float (&totals)[T::OUTPUTS]) {
#pragma unroll
    for (u32 i = 0; i < T::OUTPUTS; i++) {
        const u32 row = (i * T::THREADS + threadIdx.x) % T::ROWS, token = (i * T::THREADS + threadIdx.x) / T::ROWS;
        bool valid;
        const u32 feature = weight_row<T::ROWS>(o, blockIdx.x, row, valid);
        const float value = valid ? finished<typename T::W>(o, totals[i], feature) : 0.0f;
        // What a gate gates stands 8 rows below it.
        const float gated = __shfl_xor_sync(ALL_LANES, value, 8);
        if (valid && token < o.m) {
            float* out = o.out + static_cast<u64>(token) * o.n;
            if (!o.gated) {
                out[feature] = value;
            } else if (row % 16 < 8) {
                out[feature] = gate_mul(o.gated, value, gated);
            }
        }
    }
}

// `GROUP`: chunks per int4 group, or per int8 part.
template <typename How, typename T, u32 GROUP>
DEVICE void multiply_split(const Operands& o, u8* shared) {
    using W = typename T::W;
    constexpr u32 UNIT_CHUNKS = How::UNIT * SPAN_CHUNKS;
    constexpr u32 UNIT_GROUPS = UNIT_CHUNKS / GROUP;
    constexpr u32 ROUND_SLOTS = T::WARPS * UNIT_GROUPS;
    // With space for two rounds one half of the slots is folded while warps store to the other.
    constexpr u32 HALVES = T::SLOTS < 2 * ROUND_SLOTS ? 1 : 2;
    constexpr u32 PIECE_ROUNDS = T::SLOTS / HALVES / ROUND_SLOTS;
    static_assert(PIECE_ROUNDS > 0, "slots for what the warps multiply in one round");
    const u32 warp = threadIdx.x / WARP, g = threadIdx.x % WARP / 4, t = threadIdx.x % 4;
    const u32 stages = warp * (T::STAGES * T::STAGE);
    float* const slots = reinterpret_cast<float*>(shared + T::SLOTS_AT);
    u32* const scales = reinterpret_cast<u32*>(shared + T::SCALES_AT);
    const u32 spans = (o.w_bytes + T::PITCH - 1) / T::PITCH;
    // Spans whose scales shared memory holds.
    const u32 stretch = W::GROUPED ? SCALE_WORDS * GROUP / SPAN_CHUNKS : spans;
    const u32 pitch = scale_pitch(o.scale_stride < SCALE_WORDS ? o.scale_stride : SCALE_WORDS);
    const Source<T> source(o, stages);
    float totals[T::OUTPUTS] = {};
    for (u32 first = 0; first < spans; first += stretch) {
        const u32 end = spans - first < stretch ? spans : first + stretch;
        const u32 units = (end - first + How::UNIT - 1) / How::UNIT;
        const u32 rounds = (units + T::WARPS - 1) / T::WARPS;
        const auto fetch = [&](u32 step) {
            const u32 span = first + (step / How::UNIT * T::WARPS + warp) * How::UNIT + step % How::UNIT;
            if (span < end) {
                source.fetch(o, shared, step % T::STAGES, span);
            }
        };
        fetch(0);
        if constexpr (W::GROUPED) {
            const u32 word = first * SPAN_CHUNKS / GROUP, left = o.scale_stride - word;
            fetch_scales<T>(o, scales, word, left < SCALE_WORDS ? left : SCALE_WORDS, pitch);
        }
        copy_commit();
        for (u32 step = 1; step + 1 < T::STAGES; step++) {
            fetch(step);
            copy_commit();
        }
        const Tokens<T> tokens(o);
        // Where the lane reads stage 0, and where in the slots and scales its first are.
        u32 words_at = stages + How::place_of_lane();
        u32 own = warp * (UNIT_GROUPS * T::SLOT) + t * 2 * T::SLOT_PITCH + g;
        u32 own_scales = g * pitch;
        keep(words_at);
        keep(own);
        keep(own_scales);
        // Weights and scales depend on no other kernel. What follows reads x.
        wait_for_previous();
        if constexpr (W::GROUPED) {
            // What all threads have copied together with their first span are the scales.
            copy_wait<T::STAGES - 2>();
            __syncthreads();
        }
        for (u32 round = 0; round < rounds; round++) {
            const u32 unit = round * T::WARPS + warp;
            float* const slot = slots + (own + round % (HALVES * PIECE_ROUNDS) * (ROUND_SLOTS * T::SLOT));
            float sums[T::MT][T::NT][4];
            u32 origins[T::MT * 2] = {};
#pragma unroll
            for (u32 part = 0; part < How::UNIT; part++) {
                const u32 step = round * How::UNIT + part, span = first + unit * How::UNIT + part;
                const bool is_there = span < end;
                Words4 x[T::NT][SPAN_CHUNKS];
                if (is_there) {
                    tokens.load(o, span, x);
                }
                copy_wait<T::STAGES - 2>();
                // The span has come, and no lane reads what the next copies overwrite.
                __syncwarp();
                fetch(step + T::STAGES - 1);
                copy_commit();
                if (!is_there) {
                    continue;
                }
                u32 words[T::MT * 2][How::WORDS];
#pragma unroll
                for (u32 i = 0; i < T::MT * 2; i++) {
                    How::load(shared + i * 8 * T::PITCH, words_at + step % T::STAGES * T::STAGE, words[i]);
                }
#pragma unroll
                for (u32 chunk = 0; chunk < SPAN_CHUNKS; chunk++) {
                    const u32 passed = part * SPAN_CHUNKS + chunk;
                    if (passed % GROUP == 0) {
#pragma unroll
                        for (u32 i = 0; i < T::MT * T::NT * 4; i++) {
                            sums[i / 4 / T::NT][i / 4 % T::NT][i % 4] = 0.0f;
                        }
                        if constexpr (W::GROUPED) {
                            const u32 group = unit * UNIT_GROUPS + passed / GROUP;
#pragma unroll
                            for (u32 i = 0; i < T::MT * 2; i++) {
                                origins[i] = int4_origin(scales[own_scales + i * 8 * pitch + group]);
                            }
                        }
                    }
                    multiply_split_chunk<How, T>(words, x, chunk, origins, sums);
                    if (GROUP < UNIT_CHUNKS && (passed + 1) % GROUP == 0) {
                        store_sums<T>(o.m, slot + passed / GROUP * T::SLOT, sums);
                    }
                }
            }
            if (GROUP == UNIT_CHUNKS && unit < units) {
                store_sums<T>(o.m, slot, sums);
            }
            if ((round + 1) % PIECE_ROUNDS == 0 || round + 1 == rounds) {
                const u32 passed = round / PIECE_ROUNDS * PIECE_ROUNDS * T::WARPS;
                const u32 left = units - passed;
                const u32 count = left < PIECE_ROUNDS * T::WARPS ? left : PIECE_ROUNDS * T::WARPS;
                const u32 half = round / PIECE_ROUNDS % HALVES * PIECE_ROUNDS;
                __syncthreads();
                fold<T>(o, slots + half * (ROUND_SLOTS * T::SLOT), scales + passed * UNIT_GROUPS, pitch,
                        count * UNIT_GROUPS, totals);
                if (HALVES == 1) {
                    __syncthreads();
                }
            }
        }
        if (end < spans) {
            __syncthreads();
        }
    }
    wait_for_previous();
    write_split<T>(o, totals);
}

template <typename How, typename T>
DEVICE void multiply_split_of(const Operands& o, u8* shared) {
    if constexpr (!T::W::GROUPED) {
        multiply_split<How, T, PART_CHUNKS>(o, shared);
    } else if (o.group_shift == 0) {
        multiply_split<How, T, 1>(o, shared);
    } else if (o.group_shift == 1) {
        multiply_split<How, T, 2>(o, shared);
    } else {
        multiply_split<How, T, 4>(o, shared);
    }
}

using Int4Split8x16 = Split<SplitInt4, 8, 16, 8, 32>;
using Int4Split16x16 = Split<SplitInt4, 16, 16, 8, 32>;
using Int4Split8x32 = Split<SplitInt4, 8, 32, 4, 16>;
using Int4Split16x32 = Split<SplitInt4, 16, 32, 4, 16>;
using Int8Split8x16 = Split<SplitInt8, 8, 16, 8, 16>;
using Int8Split16x16 = Split<SplitInt8, 16, 16, 8, 16>;
using Int8Split8x32 = Split<SplitInt8, 8, 32, 4, 8>;
using Int8Split16x32 = Split<SplitInt8, 16, 32, 4, 8>;

}  // namespace

// How many blocks a multiprocessor is to hold: bounds what registers the compiler may use.
#ifdef MAITRE_EMULATOR
#define AT_LEAST(blocks, split)
#else
#define AT_LEAST(blocks, split) __launch_bounds__(split::THREADS, blocks)
#endif

#define LINEAR_SPLIT(name, how, split, blocks)                                                              \
    KERNEL AT_LEAST(blocks, split)                                                                          \
    name(const u16* x, const u8* w, const void* scales, const float* bias, float* out, u32 m, u32 n,        \
         u32 x_stride, u32 w_bytes, u32 scale_stride, u32 group_shift, u32 gated) {                         \
        let_next_begin();                                                                                   \
        SHARED(shared);                                                                                     \
        const Operands operands{x,        w,       scales,       bias,        out,       m, n,              \
                                x_stride, w_bytes, scale_stride, group_shift, gated};                  \
        multiply_split_of<how, split>(operands, shared);                                                    \
    }                                                                                                       \
    EXPORT(name)

LINEAR_SPLIT(linear_int4_split_8x16, SplitInt4, Int4Split8x16, 3);
LINEAR_SPLIT(linear_int4_split_16x16, SplitInt4, Int4Split16x16, 2);
LINEAR_SPLIT(linear_int4_split_8x32, SplitInt4, Int4Split8x32, 3);
LINEAR_SPLIT(linear_int4_split_16x32, SplitInt4, Int4Split16x32, 2);
LINEAR_SPLIT(linear_int8_split_8x16, SplitInt8, Int8Split8x16, 3);
LINEAR_SPLIT(linear_int8_split_16x16, SplitInt8, Int8Split16x16, 2);
LINEAR_SPLIT(linear_int8_split_8x32, SplitInt8, Int8Split8x32, 3);
LINEAR_SPLIT(linear_int8_split_16x32, SplitInt8, Int8Split16x32, 2);
