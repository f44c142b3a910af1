// A choice by reading the whole row again and again, whatever its logits are.
//
// Nothing is sorted: truncation asks for the least logit that is kept, and finds it eleven bits at a time. Logits
// become integers of the same order (`key_of`); a histogram of their topmost bits tells in which bin the running
// weight, from the largest down, reaches its target; the next histogram is that of this bin. `top_k` counts 1 for
// each token, `top_p` its probability in fixed point.
//
// Cost: 3 reads of the row for `top_k`, 4 for `top_p` (5 where several tokens have the last logit it keeps), one for
// the draw. `sampling_bins.cuh` chooses with fewer; this is for rows on which that gives up.
#pragma once

#include "sampling.cuh"

namespace {

constexpr u32 SEGMENTS = 32;
// Memory that all threads of the block share: first a histogram, or one value of up to 16 bytes per thread of
// at most 1,024; behind it the sums of a histogram's segments.
constexpr u32 SEGMENTS_AT = BINS * 8;

// Calls `use(token, logit)` for the thread's share of a row, whichever that is. Four logits are asked for before
// one is used: a block is alone on its multiprocessor, and 1,024 threads then have 16 KB under way.
template <typename Use>
DEVICE void each_token(const float* row, u32 count, Use use) {
    const u32 trip = 4 * blockDim.x;
    for (u32 first = 0; first < count; first += trip) {
        const bool together = is_aligned(row) && first + trip <= count;
        const u32 apart = together ? 1 : blockDim.x;
        const u32 token = first + threadIdx.x * (together ? 4 : 1);
        const Floats4 logits = load_four(row, token, apart, count, together);
#pragma unroll
        for (u32 i = 0; i < 4; i++) {
            if (token + i * apart < count) {
                use(token + i * apart, logits.number[i]);
            }
        }
    }
}

// The weight of a token that truncation counts. Those below `floor` and those lighter than `least` are
// nothing.
struct Weight {
    bool is_count;
    float max;
    float scale;
    u32 floor;
    u64 least;

    DEVICE u64 of(float logit, u32 key) const {
        if (is_count) {
            return 1;
        }
        const u64 weight = key < floor ? 0 : weight_of((logit - max) * scale);
        return weight < least ? 0 : weight;
    }
};

// What a thread adds to one bin in succession. Where logits are flat, most fall into one bin, and threads would
// queue for it with every token.
struct Run {
    u32* sums;
    u32 bin;
    u64 amount;

    DEVICE void put(u32 next, u64 more) {
        if (next != bin) {
            finish();
            bin = next;
        }
        amount += more;
    }

    DEVICE void finish() {
        if (amount != 0) {
            add(sums, bin, amount);
        }
        amount = 0;
    }
};

// The key at which the weight of the tokens, from the largest key down, reaches a target.
struct Crossing {
    u32 key;
    // What of the target is missing without the tokens of this key.
    u64 missing;
    // What these weigh together.
    u64 held;
};

// Goes down the first `bins` of a histogram, leaves `found` in the bin that reaches what is missing.
DEVICE u32 descend(const u32* sums, u64* segments, u32 bins, Crossing& found) {
    const u32 per_segment = bins / SEGMENTS;
    if (threadIdx.x < SEGMENTS) {
        u64 sum = 0;
        for (u32 i = 0; i < per_segment; i++) {
            // Each lane begins elsewhere, as all the segments' first bins share a bank of memory.
            sum += sum_of(sums, threadIdx.x * per_segment + (i + threadIdx.x) % per_segment);
        }
        segments[threadIdx.x] = sum;
    }
    __syncthreads();
    u32 segment = SEGMENTS - 1;
    while (segment > 0 && segments[segment] < found.missing) {
        found.missing -= segments[segment];
        segment--;
    }
    u32 bin = segment * per_segment + per_segment - 1;
    while (bin > segment * per_segment && sum_of(sums, bin) < found.missing) {
        found.missing -= sum_of(sums, bin);
        bin--;
    }
    found.held = sum_of(sums, bin);
    return bin;
}

// Where the tokens' weight reaches `target`, which is at least 1 and at most all of it.
DEVICE Crossing crossing(const float* row, u32 count, const Weight& weight, u64 target, unsigned char* shared) {
    u32* sums = reinterpret_cast<u32*>(shared);
    u64* segments = reinterpret_cast<u64*>(shared + SEGMENTS_AT);
    Crossing found = {0, target, 0};
    // Bits of the key that are known.
    u32 known = 0;
    while (known < 32) {
        const u32 bits = known < 22 ? 11 : 10;
        const u32 bins = 1u << bits;
        const u32 shift = 32 - known - bits;
        __syncthreads();
        for (u32 word = threadIdx.x; word < 2 * BINS; word += blockDim.x) {
            sums[word] = 0;
        }
        __syncthreads();
        Run run = {sums, 0, 0};
        each_token(row, count, [&](u32, float logit) {
            const u32 key = key_of(logit);
            if (known == 0 || key >> (32 - known) == found.key) {
                const u64 amount = weight.of(logit, key);
                if (amount != 0) {
                    run.put((key >> shift) % bins, amount);
                }
            }
        });
        run.finish();
        __syncthreads();
        found.key = found.key << bits | descend(sums, segments, bins, found);
        known += bits;
    }
    return found;
}

// The token that is the `wanted`-th of those with a key, counting from one in the order of ids.
DEVICE u32 nth_equal(const float* row, u32 count, u32 key, u64 wanted, unsigned char* shared) {
    u32* equals = reinterpret_cast<u32*>(shared);
    const u32 share = (count + blockDim.x - 1) / blockDim.x;
    const u32 first = threadIdx.x * share;
    u32 mine = 0;
    for (u32 token = first; token < first + share && token < count; token++) {
        mine += key_of(row[token]) == key ? 1 : 0;
    }
    __syncthreads();
    equals[threadIdx.x] = mine;
    __syncthreads();
    u64 before = 0;
    u32 owner = 0;
    while (owner + 1 < blockDim.x && before + equals[owner] < wanted) {
        before += equals[owner];
        owner++;
    }
    u32 token = owner * share;
    while (token + 1 < count) {
        before += key_of(row[token]) == key ? 1 : 0;
        if (before == wanted) {
            break;
        }
        token++;
    }
    return token;
}

// What truncation keeps: the tokens with a greater key, and of those with this one the ids up to some.
struct Cut {
    u32 key;
    u32 last_equal;

    DEVICE bool keeps(u32 token, u32 other) const { return other > key || (other == key && token <= last_equal); }
};

// The least logit that `min_p` and `top_k` keep, as a key.
DEVICE u32 floor_of(const float* row, u32 count, const Request& request, float max, unsigned char* shared) {
    const u32 floor = min_p_floor(request, max);
    if (request.top_k == 0 || request.top_k >= count) {
        return floor;
    }
    const Weight one = {true, 0.0f, 0.0f, 0, 0};
    const u32 kth = crossing(row, count, one, request.top_k, shared).key;
    return kth > floor ? kth : floor;
}

// What `top_p` keeps of the tokens with a key of at least `floor`, which weigh `total`.
DEVICE Cut nucleus(const float* row, u32 count, const Request& request, float max, u32 floor, u64 total,
                   unsigned char* shared) {
    const u64 wanted = static_cast<u64>(ceil(static_cast<double>(total) * static_cast<double>(request.top_p)));
    const u64 at_most = wanted < total ? wanted : total;
    const u64 target = at_most > 0 ? at_most : 1;
    const float scale = 1.0f / request.temperature;
    // All tokens that are lighter together weigh less than what lies beyond the target.
    const Weight weight = {false, max, scale, floor, (total - target) / count};
    const Crossing found = crossing(row, count, weight, target, shared);
    const u64 each = weight_of((logit_of(found.key) - max) * scale);
    if (each == 0) {
        return {floor, 0xffffffffu};
    }
    const u64 needed = (found.missing + each - 1) / each;
    if (needed * each >= found.held) {
        return {found.key, 0xffffffffu};
    }
    return {found.key, nth_equal(row, count, found.key, needed, shared)};
}

// The token of a row. `mode` is its largest logit.
DEVICE u32 choose_by_keys(const float* row, u32 count, const Request& request, Best<float> mode,
                          unsigned char* shared) {
    const u32 floor = floor_of(row, count, request, mode.score, shared);
    Cut cut = {floor, 0xffffffffu};
    if (request.top_p < 1.0f) {
        const float scale = 1.0f / request.temperature;
        Sum kept = {0};
        each_token(row, count, [&](u32, float logit) {
            kept.value += key_of(logit) >= floor ? weight_of((logit - mode.score) * scale) : 0;
        });
        cut = nucleus(row, count, request, mode.score, floor, joined(kept, shared).value, shared);
    }
    Best<double> best;
    const Draw draw = draw_of(request, mode, best);
    const auto keeps = [&](u32 token, float logit) { return cut.keeps(token, key_of(logit)); };
    for (u32 token = 4 * threadIdx.x; token < count; token += 4 * blockDim.x) {
        const bool together = is_aligned(row) && token + 4 <= count;
        const Floats4 four = load_four(row, token, 1, count, together);
        const u32 possible = possible_of(draw, token, four, keeps);
        if (possible != 0) {
            draw_four(draw, token, four, possible, best);
        }
    }
    return joined(best, shared).token;
}

}  // namespace
