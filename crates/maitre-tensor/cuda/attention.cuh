// What the attention kernels agree on: which positions a row sees, and in which order its sums over them are
// added up.
//
//   positions   0 .. 31 | 32 .. 63 | 64 .. 95 | 96 .. 127 | 128 ..        tiles of 32
//               [         chunk 0: one running softmax         ][ chunk 1 ...
//
// Tiles and chunks start at absolute multiples of 32 and 128 positions. Within a chunk the tiles are merged
// in order into one running softmax (FlashAttention-2, arXiv 2307.08691, section 3.1), which starts afresh at
// each chunk; the chunks' results are merged in order by `merge` alone, whichever block computed them. A tile
// or a chunk of which a row sees nothing leaves that row's numbers as they are. So the bits of a row depend on
// its query and on the keys and values that it sees, not on the rows, blocks or launches around it.
#pragma once

#include "device.cuh"

namespace {

constexpr u32 TILE = 32;
constexpr u32 CHUNK = 128;
constexpr u32 TILES_PER_CHUNK = CHUNK / TILE;
// Slots in a cell of the cache.
constexpr u32 CELL = 16;
// Where the largest score starts: finite, so that scores of negative infinity weigh zero rather than NaN.
constexpr float LEAST = -3.402823466e38f;

// The kernels' arguments, the same for all of them.
struct Arguments {
    const float* q;      // [rows, heads * head_dim]
    const u8* cache;     // [slots / 16][kv_heads] cells
    const u32* spans;    // [spans][4]: first_token, num_tokens, context_len, table_offset
    const u32* tables;   // block numbers; that of a span's block b is at table_offset + b, counted modulo 2^32
    float* out;          // [rows, heads * head_dim]
    float* records;      // what chunks leave behind (`Records`), or null: each block walks all chunks
    u32 most_chunks;     // chunks per item that `records` has space for
    u32 num_spans;
    u32 per_span;        // items per span of a launch for all spans, or 0
    u32 above_rows;      // spans of more rows than these
    u32 most_rows;       // and of at most these are served
    u32 heads;
    u32 kv_heads;
    u32 head_dim;
    u32 padded_dim;      // head_dim rounded up to 16, as in the cache
    u32 block_size;
    u32 window;          // positions that a row sees at most
    float factor;        // of scores: the softmax scale times log2(e)
};

struct Range {
    u32 start;
    u32 end;
};

// Some rows of a span for one key head: row r is token r / group of the span and head r % group of those that
// share the key head. A block of threads works on one item.
struct Item {
    u32 first;    // the first row
    u32 rows;     // rows from there on; none if the launch is larger than need be
    u32 group;    // query heads per key head
    u32 token;    // token row of the span's first token
    u32 before;   // positions before it
    u32 window;
    u32 table;    // offset of the span's block table: where its block 0 is or would be

    // Which positions a row, counted from the item's first, sees: the last up to its token's own.
    DEVICE Range seen_by(u32 row) const {
        const u32 end = before + (first + row) / group + 1;
        return {end > window ? end - window : 0, end};
    }

    // Positions that any row of `start .. end` sees, of which there is one at least.
    DEVICE Range seen_by_any(u32 start, u32 end) const {
        return {seen_by(start).start, seen_by(end - 1).end};
    }

    // Positions that every row of `start .. end` sees; there may be none.
    DEVICE Range seen_by_all(u32 start, u32 end) const {
        return {seen_by(end - 1).start, seen_by(start).end};
    }

    // Where a row's numbers start in `q` and `out`.
    DEVICE u64 offset(const Arguments& args, u32 kv_head, u32 row) const {
        const u32 token_row = token + (first + row) / group;
        const u32 head = kv_head * group + (first + row) % group;
        return (static_cast<u64>(token_row) * args.heads + head) * args.head_dim;
    }
};

// Item `size · part ..` of `size` rows of a span.
DEVICE Item item_of(const Arguments& args, u32 index, u32 part, u32 size) {
    Item item{};
    if (index < args.num_spans) {
        const u32* span = args.spans + 4 * static_cast<u64>(index);
        item.group = args.heads / args.kv_heads;
        item.first = part * size;
        const u32 rows = span[1] * item.group;
        const u32 left = rows > item.first ? rows - item.first : 0;
        item.rows = left < size ? left : size;
        item.token = span[0];
        item.before = span[2] - span[1];
        item.window = args.window;
        item.table = span[3];
    }
    return item;
}

// The block's item, of at most `size` rows. Where spans differ, it is found by counting those before it, a
// span per lane. So the host need not write a list of items for each step, and a recorded launch serves
// all spans. The last item comes first: of a prompt it sees the most, and blocks that are
// started last should end soon.
DEVICE Item find_item(const Arguments& args, u32 size) {
    const u32 index = gridDim.x - 1 - blockIdx.x;
    if (args.per_span != 0) {
        return item_of(args, index / args.per_span, index % args.per_span, size);
    }
    const u32 lane = threadIdx.x % WARP;
    u32 before = 0;
    for (u32 base = 0; base < args.num_spans; base += WARP) {
        u32 items = 0;
        if (base + lane < args.num_spans) {
            const u32 rows = args.spans[4 * static_cast<u64>(base + lane) + 1] * (args.heads / args.kv_heads);
            items = rows > args.above_rows && rows <= args.most_rows ? (rows + size - 1) / size : 0;
        }
        u32 end = items;
        for (u32 step = 1; step < WARP; step *= 2) {
            const u32 earlier = __shfl_sync(ALL_LANES, end, (lane - step) % WARP);
            end += lane >= step ? earlier : 0;
        }
        const u32 behind = __ballot_sync(ALL_LANES, before + end > index);
        if (behind != 0) {
            const u32 found = __popc((behind & (0 - behind)) - 1);
            const u32 start = __shfl_sync(ALL_LANES, before + end - items, found);
            return item_of(args, base + found, index - start, size);
        }
        before += __shfl_sync(ALL_LANES, end, WARP - 1);
    }
    return Item{};
}

// The chunks that hold `positions`.
DEVICE Range chunks_of(Range positions) {
    return {positions.start / CHUNK, (positions.end + CHUNK - 1) / CHUNK};
}

// Part `part` of `parts` of the chunks: all parts but the last have as many.
DEVICE Range part_of(Range chunks, u32 part, u32 parts) {
    const u32 each = (chunks.end - chunks.start + parts - 1) / parts;
    const u32 start = chunks.start + part * each;
    const u32 end = start + each;
    return {start < chunks.end ? start : chunks.end, end < chunks.end ? end : chunks.end};
}

// What the chunks of split contexts leave behind, in f32; items count as blocks do, chunks from the item's first:
//
//   [items][kv_heads][most_chunks] of { values [rows][dim] | largest score, sum [rows][2] }
struct Records {
    float* base;
    u32 rows;
    u32 dim;

    DEVICE Records(const Arguments& args, u32 block, u32 kv_head, u32 rows, u32 dim)
        : base(args.records), rows(rows), dim(dim) {
        const u64 index = (static_cast<u64>(block) * args.kv_heads + kv_head) * args.most_chunks;
        base += index * size();
    }

    DEVICE u32 size() const { return rows * (dim + 2); }

    DEVICE float* values(u32 chunk, u32 row) const {
        return base + static_cast<u64>(chunk) * size() + row * dim;
    }

    DEVICE float* state(u32 chunk, u32 row) const {
        return base + static_cast<u64>(chunk) * size() + rows * dim + 2 * row;
    }
};

// What a row has learned: the largest score, and the sum of 2^(score - largest).
struct Softmax {
    float max;
    float sum;
};

constexpr Softmax NOTHING_SEEN = {LEAST, 0.0f};

// Factors of values that were summed relative to an earlier largest score, and to the chunk's own.
struct Decay {
    float before;
    float here;
};

// Adds what is known of the next chunk. The first chunk, merged into NOTHING_SEEN and zeros, stays as it is.
DEVICE Decay merge(Softmax& total, const Softmax& chunk) {
    const float max = fmaxf(total.max, chunk.max);
    const Decay decay = {fast_exp2(total.max - max), fast_exp2(chunk.max - max)};
    total = {max, fmaf(chunk.sum, decay.here, total.sum * decay.before)};
    return decay;
}

DEVICE float merge_value(float total, float chunk, const Decay& decay) {
    return fmaf(chunk, decay.here, total * decay.before);
}

// The weighted mean. Zeros are positive, and all NaNs are the same.
DEVICE float mean(float value, float inverse) {
    const float result = value * inverse + 0.0f;
    return result == result ? result : __uint_as_float(0x7fc00000u);
}

// The slot of a position of an item's span.
DEVICE u32 slot_of(const Arguments& args, const Item& item, u32 position) {
    const u32 block = args.tables[static_cast<u32>(item.table + position / args.block_size)];
    return block * args.block_size + position % args.block_size;
}

}  // namespace

// Parameters of every attention kernel, and the struct made of them.
#define ATTENTION_PARAMETERS                                                                                \
    const float *q, const u8 *cache, const u32 *spans, const u32 *tables, float *out, float *records,       \
        u32 most_chunks, u32 num_spans, u32 per_span, u32 above_rows, u32 most_rows, u32 heads,             \
        u32 kv_heads, u32 head_dim, u32 padded_dim, u32 block_size, u32 window, float factor
#define ATTENTION_ARGUMENTS                                                                                 \
    Arguments {                                                                                             \
        q, cache, spans, tables, out, records, most_chunks, num_spans, per_span, above_rows, most_rows,     \
            heads, kv_heads, head_dim, padded_dim, block_size, window, factor                               \
    }
