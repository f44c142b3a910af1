// Chooses a token for each row of logits, so that a token crosses to the host instead of a row.
//
//   logits     [rows][vocab] f32, of which the first `choosable` of each row count
//   requests   [rows][REQUEST_WORDS] u32: mode, top_k, temperature, top_p, min_p, seed (low, high word),
//              position (low, high word)
//   peaks      [rows][8 · strips] f32, of each 64 tokens; -inf for what is not there (`sampling_blocks.cuh`)
//   tails      [rows][8 · strips] f32, of each 64 tokens, where all count for `top_p`
//   masses     [rows][strips] f32, of each 512 tokens; NaN where a logit is NaN or +inf
//   chosen     [rows][3] u32: outcome, token, bits of its log-probability
//
// `sample_scan` reads all logits, as fast as memory gives them: 155 MB for 256 rows of 151,936 tokens, 52 µs at
// 3 TB/s. It needs no row's maximum for that, as every strip's sum refers to its own, and no thread waits for one
// of another warp. What it leaves is 1/30 of the logits. `sample_rows` chooses from that, a block per row; it reads
// logits only of blocks that may hold the token. Both, and what they need from the host and give it, took 84 µs on an
// H100 for such 256 rows (greedy), 121 with top-p 0.9 where few tokens are likely, 339 where logits are flat.
//
// Sums of floats have one order, that of a strip; all others are of integers, and every choice among equals has a
// rule. So no result depends on the order in which threads come, on how many there are, or on other rows.
#include "sampling_bins.cuh"
#include "sampling_exact.cuh"

namespace {

// `first` and `second` of two lanes' values, each joined: a lane keeps the one that its side of `step` names.
template <typename Join>
DEVICE float halved(float first, float second, u32 step, Join join) {
    const bool is_upper = (threadIdx.x & step) != 0;
    const float given = __shfl_xor_sync(ALL_LANES, is_upper ? first : second, step);
    return join(is_upper ? second : first, given);
}

// Joins `values[r]` over each 16 lanes: lanes 4 r to 4 r + 3 of the 16 get the r-th.
template <typename Join>
DEVICE float joined_blocks(const float (&values)[4], Join join) {
    const float low = halved(values[0], values[2], 8, join);
    const float high = halved(values[1], values[3], 8, join);
    float value = halved(low, high, 4, join);
    value = join(value, __shfl_xor_sync(ALL_LANES, value, 2u));
    return join(value, __shfl_xor_sync(ALL_LANES, value, 1u));
}

// Sums of 2^((logit - from) · scale) over each four logits. As a tree, so that a large one is rounded seldom.
DEVICE void sum_each(float (&sums)[4], const Floats4 (&logits)[4], float from, float scale) {
#pragma unroll
    for (u32 r = 0; r < 4; r++) {
        float powers[4];
#pragma unroll
        for (u32 i = 0; i < 4; i++) {
            powers[i] = fast_exp2((logits[r].number[i] - from) * scale);
        }
        sums[r] = (powers[0] + powers[1]) + (powers[2] + powers[3]);
    }
}

}  // namespace

// Grid: ceil(strips / warps of a block), rows.
KERNEL MOST_THREADS(256)
    sample_scan(const float* logits, const u32* requests, float* peaks, float* tails, float* masses, u32 vocab,
                u32 choosable, u32 strips) {
    take_turn();
    const u32 lane = threadIdx.x % WARP;
    const u32 strip = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP;
    const Request request = request_of(requests + static_cast<u64>(blockIdx.y) * REQUEST_WORDS);
    if (strip >= strips || request.mode == SKIP) {
        return;
    }
    const float* row = logits + static_cast<u64>(blockIdx.y) * vocab;
    const u32 start = strip * STRIP + lane * 4;
    Floats4 loaded[4];
    if (is_aligned(row) && (strip + 1) * STRIP <= choosable) {
#pragma unroll
        for (u32 r = 0; r < 4; r++) {
            loaded[r] = *reinterpret_cast<const Floats4*>(row + start + r * 128);
        }
    } else {
#pragma unroll
        for (u32 r = 0; r < 4; r++) {
            loaded[r] = load_four(row, start + r * 128, 1, choosable, false);
        }
    }
    float highest[4];
#pragma unroll
    for (u32 r = 0; r < 4; r++) {
        const float(&four)[4] = loaded[r].number;
        highest[r] = fmaxf(fmaxf(four[0], four[1]), fmaxf(four[2], four[3]));
    }
    const float max = warp_max(fmaxf(fmaxf(highest[0], highest[1]), fmaxf(highest[2], highest[3])));
    // Where nothing is possible, sums are zero; a difference of infinities is no number, and neither is its sum.
    const float from = max == -infinity() ? 0.0f : max;
    const float log2e = 1.44269504f;
    float parts[4];
    sum_each(parts, loaded, from, log2e);
    const float mass = warp_sum((parts[0] + parts[1]) + (parts[2] + parts[3]));
    const auto larger = [](float a, float b) { return fmaxf(a, b); };
    const float peak = joined_blocks(highest, larger);
    // Lane 16 h + 4 r holds block 2 r + h.
    const u64 first = static_cast<u64>(blockIdx.y) * strips + strip;
    const u64 block = first * STRIP_BLOCKS + lane / 4 % 4 * 2 + lane / 16;
    if (lane % 4 == 0) {
        peaks[block] = peak;
    }
    if (lane == 0) {
        masses[first] = mass;
    }
    if (!needs_tails(request, choosable)) {
        return;
    }
    const float scale = 1.0f / request.temperature * log2e;
    sum_each(parts, loaded, from, scale);
    const float tail = joined_blocks(parts, [](float a, float b) { return a + b; });
    if (lane % 4 == 0) {
        tails[block] = tail;
    }
}
EXPORT(sample_scan);

namespace {

// The block with the largest peak; +inf if any logit is +inf or no number.
DEVICE Best<float> highest_block(const Row& row, unsigned char* shared) {
    Best<float> best = {-infinity(), 0xffffffffu};
    for (u32 block = threadIdx.x; block < row.strips * STRIP_BLOCKS; block += blockDim.x) {
        best.join({row.peaks[block] + 0.0f, block});
    }
    for (u32 strip = threadIdx.x; strip < row.strips; strip += blockDim.x) {
        if (!(row.masses[strip] < infinity())) {
            best.join({infinity(), strip * STRIP_BLOCKS});
        }
    }
    return joined(best, shared);
}

// The first token of a block with this logit; every warp finds it.
DEVICE u32 first_token(const Row& row, u32 block, float logit) {
    const u32 lane = threadIdx.x % WARP;
    u32 token = block * BLOCK;
    for (u32 half = 0; half < 2; half++) {
        const bool is_it = token + lane < row.count && row.logits[token + lane] == logit;
        const u32 mask = __ballot_sync(ALL_LANES, is_it);
        if (mask != 0) {
            // The lowest bit.
            return token + 31 - static_cast<u32>(__clz(static_cast<i32>(mask & (0u - mask))));
        }
        token += WARP;
    }
    return token;
}

struct Masses {
    // Of e^(logit - max) over all tokens, nearly.
    u64 all;
    // Of e^((logit - max) / temperature), where tails are needed.
    u64 scaled;

    DEVICE void join(const Masses& other) {
        all += other.all;
        scaled += other.scaled;
    }
};

DEVICE Masses masses_of(const Row& row, const Request& request, float max, unsigned char* shared) {
    const bool has_tails = needs_tails(request, row.count);
    const float scale = 1.0f / request.temperature;
    Masses masses = {0, 0};
    for (u32 strip = threadIdx.x; strip < row.strips; strip += blockDim.x) {
        const float mass = row.masses[strip];
        if (mass == 0.0f) {
            continue;
        }
        const double below = static_cast<double>(row.strip_max(strip)) - static_cast<double>(max);
        const double weight = static_cast<double>(mass) * exp(below);
        masses.all += static_cast<u64>(weight * static_cast<double>(WEIGHT_UNIT));
        if (has_tails) {
            masses.scaled += unread_of(row, strip, max, scale, [](float) { return false; });
        }
    }
    return joined(masses, shared);
}

}  // namespace

// Grid: rows. Threads: a power of two from 64 to 512. Shared memory: QUEUES_AT + 16 queues of 256 bytes. Registers
// for 1,024 threads make two blocks of 512 fit a multiprocessor, so that 256 rows run at once on 132.
KERNEL MOST_THREADS(1024)
    sample_rows(const float* logits, const u32* requests, const float* peaks, const float* tails,
                const float* masses, u32* chosen, u32 vocab, u32 choosable, u32 strips) {
    take_turn();
    SHARED(shared);
    const u64 index = blockIdx.x;
    const Request request = request_of(requests + index * REQUEST_WORDS);
    const u64 strip = index * strips;
    const Row row = {logits + index * vocab,          peaks + strip * STRIP_BLOCKS,
                     tails + strip * STRIP_BLOCKS, masses + strip,
                     choosable,                       strips};
    u32 outcome = SKIPPED;
    u32 token = 0;
    float logprob = 0.0f;
    if (request.mode != SKIP) {
        const Best<float> block = highest_block(row, shared);
        if (block.score == infinity()) {
            outcome = NON_FINITE;
        } else if (block.score == -infinity()) {
            outcome = NOTHING_POSSIBLE;
        } else {
            const Best<float> mode = {block.score, first_token(row, block.token, block.score)};
            const Masses sums = masses_of(row, request, mode.score, shared);
            outcome = CHOSEN;
            token = mode.token;
            if (request.mode != LARGEST) {
                token = choose_by_bins(row, request, mode, sums.scaled, shared);
                if (token == UNDECIDED) {
                    token = choose_by_keys(row.logits, choosable, request, mode, shared);
                }
            }
            const double log_mass = log(static_cast<double>(sums.all) / static_cast<double>(WEIGHT_UNIT));
            const double below = static_cast<double>(row.logits[token]) - static_cast<double>(mode.score);
            logprob = static_cast<float>(below - log_mass);
        }
    }
    if (threadIdx.x == 0) {
        u32* result = chosen + 3 * index;
        result[0] = outcome;
        result[1] = token;
        result[2] = __float_as_uint(logprob);
    }
}
EXPORT(sample_rows);
