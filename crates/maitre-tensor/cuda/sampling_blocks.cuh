// What is known of a row's blocks of 64 logits, and reads of those of them that matter.
//
//   strip    512 tokens, which a warp reads at once: lane l has tokens 128 r + 4 l and the next three, r = 0 to 3
//   block    64 tokens: lanes 0 to 15 or 16 to 31 of one r
//   peak     the largest logit of a block
//   mass     the sum of e^(logit - m) over a strip, whose largest logit is m; by the GPU's own exponential
//   tail     the same over a block, with logits divided by the temperature
#pragma once

#include "sampling.cuh"

namespace {

constexpr u32 STRIP = 512;
constexpr u32 STRIP_BLOCKS = 8;
constexpr u32 BLOCK = STRIP / STRIP_BLOCKS;

// Tokens that a list has space for.
constexpr u32 LIST = 1024;

// Blocks that are listed at once to be read.
constexpr u32 WANTED = 4096;

// Shared memory: a histogram or values to join; token ids and logits of the list or values to join, of at most
// 512 threads; blocks to be read; sums of warps; what `reaching` finds; counters; queues of warps.
constexpr u32 LIST_AT = BINS * 8;
constexpr u32 WANTED_AT = LIST_AT + LIST * 8;
constexpr u32 TOTALS_AT = WANTED_AT + WANTED * 2;
constexpr u32 FOUND_AT = TOTALS_AT + 32 * 8;
constexpr u32 COUNTERS_AT = FOUND_AT + 4 * 8;
constexpr u32 QUEUES_AT = COUNTERS_AT + 32;

// Above all rounding of distances.
constexpr float WIDER = 1.00001f;

struct Row {
    const float* logits;
    const float* peaks;
    const float* tails;
    const float* masses;
    u32 count;
    u32 strips;

    // The largest logit of a strip.
    DEVICE float strip_max(u32 strip) const {
        float max = -infinity();
        for (u32 i = 0; i < STRIP_BLOCKS; i++) {
            max = fmaxf(max, peaks[strip * STRIP_BLOCKS + i]);
        }
        return max;
    }
};

DEVICE bool has_top_k(const Request& request, u32 count) { return request.top_k != 0 && request.top_k < count; }

// Whether all tokens count for `top_p`, so that tails are needed.
DEVICE bool needs_tails(const Request& request, u32 count) {
    return request.mode != LARGEST && request.top_p < 1.0f && request.min_p == 0.0f && !has_top_k(request, count);
}

struct Counters {
    u32 wanted;
    u32 listed;
    u32 is_doubtful;
    u32 key;
};

DEVICE Counters* counters_of(unsigned char* shared) { return reinterpret_cast<Counters*>(shared + COUNTERS_AT); }

// What lies within some distance of the largest logit, cut into bins.
struct Bins {
    float max;
    float per_unit;

    DEVICE float position(float logit) const { return (max - logit) * per_unit; }
    // Also false for what is infinitely far, or no number.
    DEVICE bool has(float logit) const { return position(logit) < static_cast<float>(BINS); }
};

DEVICE Bins bins_over(float max, float range) {
    return {max, static_cast<float>(BINS) / fmaxf(range, 1e-30f)};
}

// The distance at which a bin ends.
DEVICE float end_of(float range, u32 bin) {
    return static_cast<float>(bin + 1) * (range / static_cast<float>(BINS)) * WIDER;
}

// Four logits from each of four tokens on, as far as a bit of `present` says so; zeros for the others. All are asked
// for before one is used.
DEVICE void load_blocks(Floats4 (&loaded)[4], const Row& row, const u32 (&tokens)[4], u32 present) {
    const bool aligned = is_aligned(row.logits);
    bool is_ragged = false;
#pragma unroll
    for (u32 r = 0; r < 4; r++) {
        const bool is_there = (present >> r & 1u) != 0;
        const bool together = aligned && tokens[r] + 4 <= row.count;
        loaded[r] = {{0.0f, 0.0f, 0.0f, 0.0f}};
        if (is_there && together) {
            loaded[r] = *reinterpret_cast<const Floats4*>(row.logits + tokens[r]);
        }
        is_ragged = is_ragged || (is_there && !together);
    }
    if (is_ragged) {
#pragma unroll
        for (u32 r = 0; r < 4; r++) {
            if ((present >> r & 1u) != 0) {
                loaded[r] = load_four(row.logits, tokens[r], 1, row.count, false);
            }
        }
    }
}

// Calls `use(token, logits, is_there)` for the thread's share, four tokens a time, of all blocks whose peak it `wants`.
// They are listed first and then dealt to warps eight at a time: few blocks are read in one go, however they lie. All
// lanes of a warp call together, also those for which nothing is there. `Unrolled` makes a copy of `use` for each of
// four loads; otherwise they take turns in one.
template <bool Unrolled, typename Wants, typename Use>
DEVICE void each_wanted(const Row& row, unsigned char* shared, Wants wants, Use use) {
    u16* wanted = reinterpret_cast<u16*>(shared + WANTED_AT);
    u32* count = &counters_of(shared)->wanted;
    const u32 lane = threadIdx.x % WARP;
    const u32 first_of_warp = threadIdx.x - lane;
    const u32 blocks = row.strips * STRIP_BLOCKS;
    for (u32 first = 0; first < blocks; first += WANTED) {
        const u32 end = first + WANTED < blocks ? first + WANTED : blocks;
        __syncthreads();
        if (threadIdx.x == 0) {
            *count = 0;
        }
        __syncthreads();
        for (u32 start = first + first_of_warp; start < end; start += blockDim.x) {
            const u32 block = start + lane;
            const bool is_wanted = block < end && wants(row.peaks[block]);
            const u32 mask = __ballot_sync(ALL_LANES, is_wanted);
            u32 at = 0;
            if (lane == 0 && mask != 0) {
                at = atomicAdd(count, static_cast<u32>(__popc(mask)));
            }
            at = __shfl_sync(ALL_LANES, at, 0);
            if (is_wanted) {
                wanted[at + static_cast<u32>(__popc(mask & ((1u << lane) - 1)))] = static_cast<u16>(block - first);
            }
        }
        __syncthreads();
        const u32 listed = *count;
        for (u32 at = first_of_warp / WARP * 8; at < listed; at += blockDim.x / WARP * 8) {
            u32 tokens[4];
            u32 present = 0;
#pragma unroll
            for (u32 r = 0; r < 4; r++) {
                const u32 entry = at + 2 * r + lane / 16;
                present |= entry < listed ? 1u << r : 0;
                tokens[r] = (first + (entry < listed ? wanted[entry] : 0)) * BLOCK + 4 * (lane % 16);
            }
            Floats4 loaded[4];
            load_blocks(loaded, row, tokens, present);
            if (Unrolled) {
#pragma unroll
                for (u32 r = 0; r < 4; r++) {
                    use(tokens[r], loaded[r], (present >> r & 1u) != 0);
                }
            } else {
#pragma unroll 1
                for (u32 r = 0; r < 4; r++) {
                    use(tokens[0], loaded[0], (present >> r & 1u) != 0);
#pragma unroll
                    for (u32 i = 0; i < 3; i++) {
                        loaded[i] = loaded[i + 1];
                        tokens[i] = tokens[i + 1];
                    }
                }
            }
        }
    }
}

DEVICE void clear_histogram(unsigned char* shared) {
    u32* sums = reinterpret_cast<u32*>(shared);
    __syncthreads();
    for (u32 word = threadIdx.x; word < 2 * BINS; word += blockDim.x) {
        sums[word] = 0;
    }
    __syncthreads();
}

DEVICE u64 shuffled(u64 value, u32 lane) {
    const u32 low = __shfl_sync(ALL_LANES, static_cast<u32>(value), lane);
    const u32 high = __shfl_sync(ALL_LANES, static_cast<u32>(value >> 32), lane);
    return static_cast<u64>(high) << 32 | low;
}

// In which bin of a histogram the running sum reaches a target, or BINS, and what the bins before hold.
struct Place {
    u64 bin;
    u64 before;
};

struct Places {
    Place at[2];
};

// The places of two targets, at least 1, in the histogram to which all threads have added.
DEVICE Places reaching(unsigned char* shared, u64 target, u64 other_target) {
    const u32* sums = reinterpret_cast<const u32*>(shared);
    u64* totals = reinterpret_cast<u64*>(shared + TOTALS_AT);
    Place* found = reinterpret_cast<Place*>(shared + FOUND_AT);
    const u32 lane = threadIdx.x % WARP;
    const u32 warp = threadIdx.x / WARP;
    const u32 share = BINS / blockDim.x;
    const u32 first = threadIdx.x * share;
    __syncthreads();
    u64 mine = 0;
    for (u32 i = 0; i < share; i++) {
        mine += sum_of(sums, first + i);
    }
    u64 up_to = mine;
    for (u32 step = 1; step < WARP; step *= 2) {
        const u64 more = shuffled(up_to, (lane + WARP - step) % WARP);
        up_to += lane >= step ? more : 0;
    }
    if (lane == WARP - 1) {
        totals[warp] = up_to;
    }
    if (threadIdx.x < 2) {
        found[threadIdx.x] = {BINS, 0};
    }
    __syncthreads();
    u64 before = up_to - mine;
    for (u32 i = 0; i < warp; i++) {
        before += totals[i];
    }
    const u64 targets[2] = {target, other_target};
#pragma unroll
    for (u32 i = 0; i < 2; i++) {
        if (before < targets[i] && targets[i] <= before + mine) {
            u32 bin = first;
            u64 sum = before;
            while (sum + sum_of(sums, bin) < targets[i]) {
                sum += sum_of(sums, bin);
                bin++;
            }
            found[i] = {bin, sum};
        }
    }
    __syncthreads();
    return {{found[0], found[1]}};
}

// Tokens and their logits, in no order.
struct List {
    u32* tokens;
    float* logits;
    u32* listed;

    DEVICE void put(u32 token, float logit) const {
        const u32 at = atomicAdd(listed, 1);
        if (at < LIST) {
            tokens[at] = token;
            logits[at] = logit;
        }
    }

    // Whether an entry comes before another where logits fall and ids rise.
    DEVICE bool precedes(u32 entry, u32 other) const {
        return logits[entry] > logits[other] ||
               (logits[entry] == logits[other] && tokens[entry] < tokens[other]);
    }
};

// An empty list, which threads may use after the next barrier.
DEVICE List new_list(unsigned char* shared) {
    Counters* counters = counters_of(shared);
    __syncthreads();
    if (threadIdx.x == 0) {
        *counters = {0, 0, 0, 0};
    }
    u32* tokens = reinterpret_cast<u32*>(shared + LIST_AT);
    return {tokens, reinterpret_cast<float*>(tokens + LIST), &counters->listed};
}

// Fours of tokens of which some may win, until a warp has one for each lane: noise costs 100 operations for four
// tokens, whether a lane needs it or not.
struct Queue {
    static constexpr u32 SPACE = 2 * WARP;

    // An entry is a token / 4, and above that the bits of those that are possible.
    u32* entries;
    // The same in all lanes, and less than WARP between calls.
    u32 used;

    // All lanes of a warp call it.
    DEVICE void put(const Row& row, const Draw& draw, u32 token, u32 possible, Best<double>& best) {
        const u32 lane = threadIdx.x % WARP;
        const u32 mask = __ballot_sync(ALL_LANES, possible != 0);
        if (mask == 0) {
            return;
        }
        if (possible != 0) {
            entries[used + static_cast<u32>(__popc(mask & ((1u << lane) - 1)))] = token / 4 | possible << 28;
        }
        used += static_cast<u32>(__popc(mask));
        if (used >= WARP) {
            finish(row, draw, best);
        }
    }

    // Draws the first of the entries, one per lane.
    DEVICE void finish(const Row& row, const Draw& draw, Best<double>& best) {
        const u32 lane = threadIdx.x % WARP;
        __syncwarp();
        const u32 entry = lane < used ? entries[lane] : 0;
        const u32 moved = lane + WARP < used ? entries[lane + WARP] : 0;
        __syncwarp();
        entries[lane] = moved;
        used = used > WARP ? used - WARP : 0;
        __syncwarp();
        const u32 token = (entry & 0x0fffffffu) * 4;
        if (entry != 0) {
            const bool together = is_aligned(row.logits) && token + 4 <= row.count;
            draw_four(draw, token, load_four(row.logits, token, 1, row.count, together), entry >> 28, best);
        }
    }
};

DEVICE Queue queue_of(unsigned char* shared) {
    return {reinterpret_cast<u32*>(shared + QUEUES_AT) + threadIdx.x / WARP * Queue::SPACE, 0};
}

}  // namespace
