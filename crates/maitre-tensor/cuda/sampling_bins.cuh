// A choice that reads few logits of a row, from what `sample_scan` found out about its blocks.
//
//   strip    512 tokens, which a warp reads at once: lane l has tokens 128 r + 4 l and the next three, r = 0 to 3
//   block    64 tokens: lanes 0 to 15 or 16 to 31 of one r
//   peak     the largest logit of a block
//   mass     the sum of e^(logit - m) over a strip, whose largest logit is m; by the GPU's own exponential
//   tail     the same over a block, with logits divided by the temperature
//
// All blocks with a token above some logit are known by their peaks, and only they are read. Tokens fall into
// bins by their distance from the largest logit; equal logits share a bin, and a larger logit is in no later bin,
// however distances are rounded. One read makes a histogram of weights, whose running sum tells the bin in which
// `top_k` or `top_p` cuts; the next read draws among the tokens of the bins before, and puts those of the cut bin
// on a short list, where each is compared with each.
//
// How far down a histogram has to reach is only estimated: if the cut is not in it, or the list overflows, the
// choice is left to `sampling_exact.cuh`. `top_p` needs the weight of all tokens; those that are read are weighed
// exactly, the others' tails are known to 2^-15. So the cut is known to lie between two tokens, in most rows the
// same. A winner above the upper of them is the winner wherever the cut is. If it is below, the choice is undecided
// too: about one row in a million.
//
// Time: a row with a nucleus of some hundred tokens is read once in all, by `sample_scan`. What is left are steps
// that depend on each other, 0.5 to 2 µs each: some 12 µs, for all rows of a step together. A flat row, of whose
// blocks each has a token in the nucleus, is read three times. The second read, of exact weights, is 45 operations a
// token, 60 µs for 256 rows of 151,936 tokens, the third is 40 (noise).
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
// 512 threads; blocks to be read; sums of warps; what `reaching` finds; counters.
constexpr u32 LIST_AT = BINS * 8;
constexpr u32 WANTED_AT = LIST_AT + LIST * 8;
constexpr u32 TOTALS_AT = WANTED_AT + WANTED * 2;
constexpr u32 FOUND_AT = TOTALS_AT + 32 * 8;
constexpr u32 COUNTERS_AT = FOUND_AT + 4 * 8;

// So many times the temperature below the largest logit a token weighs nothing and cannot win: the fixed point
// ends at 29.8, and noise from -3.2 to 22.9 spans 26.1.
constexpr float NATS = 31.0f;

// Above all rounding of distances.
constexpr float WIDER = 1.00001f;

// Above the error of tails: 31 · 2^-24 for each rounding of a logit's distance, its scale and their product, on
// both sides, and that of sums.
constexpr u32 TAIL_ERROR_BITS = 15;

constexpr u32 UNDECIDED = 0xffffffffu;

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

// Four logits from each of four tokens on, as far as a bit of `present` says so; zeros for the others. All are asked for before one is used.
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

// Calls `use(token, logits)` for the thread's share, four tokens a time, of all blocks whose peak it `wants`. They are
// listed first and then dealt to warps eight at a time: few blocks are read in one go, however they lie. `Unrolled`
// makes a copy of `use` for each of four loads; otherwise they take turns in one.
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
                    if ((present >> r & 1u) != 0) {
                        use(tokens[r], loaded[r]);
                    }
                }
            } else {
#pragma unroll 1
                for (; present != 0; present >>= 1) {
                    use(tokens[0], loaded[0]);
#pragma unroll
                    for (u32 r = 0; r < 3; r++) {
                        loaded[r] = loaded[r + 1];
                        tokens[r] = tokens[r + 1];
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

// Raises `floor` to the least logit that `top_k` keeps, or to one below which no token matters. False: undecided.
DEVICE bool raise_to_top_k(const Row& row, const Request& request, float max, unsigned char* shared, u32& floor) {
    u32* sums = reinterpret_cast<u32*>(shared);
    const u64 wanted = request.top_k;
    float range = NATS * request.temperature;
    const u32 lowest = key_of(max - range);
    // There are at least as many tokens as peaks above any logit.
    const Bins coarse = bins_over(max, range);
    clear_histogram(shared);
    for (u32 block = threadIdx.x; block < row.strips * STRIP_BLOCKS; block += blockDim.x) {
        const float peak = row.peaks[block];
        if (coarse.has(peak)) {
            add(sums, static_cast<u32>(coarse.position(peak)), 1);
        }
    }
    const Place near = reaching(shared, wanted, wanted).at[0];
    if (near.bin < BINS) {
        range = end_of(range, static_cast<u32>(near.bin));
    }
    const Bins bins = bins_over(max, range);
    const List list = new_list(shared);
    clear_histogram(shared);
    each_wanted<true>(row, shared, [&](float peak) { return bins.has(peak); }, [&](u32, const Floats4& four) {
#pragma unroll
        for (u32 i = 0; i < 4; i++) {
            if (bins.has(four.number[i])) {
                add(sums, static_cast<u32>(bins.position(four.number[i])), 1);
            }
        }
    });
    const Place last = reaching(shared, wanted, wanted).at[0];
    if (last.bin >= BINS) {
        floor = lowest > floor ? lowest : floor;
        return near.bin >= BINS;
    }
    const float begin = static_cast<float>(last.bin);
    const float end = begin + 1.0f;
    each_wanted<true>(row, shared, [&](float peak) { return bins.position(peak) < end; },
                      [&](u32 token, const Floats4& four) {
#pragma unroll
                          for (u32 i = 0; i < 4; i++) {
                              const float position = bins.position(four.number[i]);
                              if (position >= begin && position < end) {
                                  list.put(token + i, four.number[i]);
                              }
                          }
                      });
    __syncthreads();
    const u32 listed = *list.listed;
    if (listed > LIST) {
        return false;
    }
    Counters* counters = counters_of(shared);
    for (u32 entry = threadIdx.x; entry < listed; entry += blockDim.x) {
        // The wanted-th of all is one entry.
        u64 before = last.before;
        for (u32 other = 0; other < listed; other++) {
            before += list.precedes(other, entry) ? 1 : 0;
        }
        if (before + 1 == wanted) {
            counters->key = key_of(list.logits[entry]);
        }
    }
    __syncthreads();
    floor = counters->key > floor ? counters->key : floor;
    return true;
}

struct Weights {
    // Of the tokens that were read.
    u64 read;
    // Of all others, nearly.
    u64 unread;

    DEVICE void join(const Weights& other) {
        read += other.read;
        unread += other.unread;
    }
};

// The tails of those blocks of a strip whose peak is not wanted, together.
template <typename Wants>
DEVICE u64 unread_of(const Row& row, u32 strip, float max, float scale, Wants wants) {
    float sum = 0.0f;
    for (u32 block = strip * STRIP_BLOCKS; block < (strip + 1) * STRIP_BLOCKS; block++) {
        sum += wants(row.peaks[block]) ? 0.0f : row.tails[block];
    }
    if (sum == 0.0f) {
        return 0;
    }
    const double below = static_cast<double>(row.strip_max(strip)) - static_cast<double>(max);
    const double weight = static_cast<double>(sum) * exp(below * static_cast<double>(scale));
    return static_cast<u64>(weight * static_cast<double>(WEIGHT_UNIT));
}

// What the tokens that `top_p` keeps weigh at least.
DEVICE u64 target_of(u64 total, float top_p) {
    const u64 wanted = static_cast<u64>(ceil(static_cast<double>(total) * static_cast<double>(top_p)));
    const u64 at_most = wanted < total ? wanted : total;
    return at_most > 0 ? at_most : 1;
}

// An estimate of how far below the largest logit `top_p` cuts a row of which all tokens count, which weigh `total`.
DEVICE float nucleus_range(const Row& row, const Request& request, float max, u64 total, unsigned char* shared) {
    u32* sums = reinterpret_cast<u32*>(shared);
    const float scale = 1.0f / request.temperature;
    // All tokens that are lighter than this weigh less together than what `top_p` leaves out.
    const double left_out = (1.0 - static_cast<double>(request.top_p)) * 0.999;
    const double light = left_out * static_cast<double>(total) / static_cast<double>(WEIGHT_UNIT) / row.count;
    const float range = fminf(NATS, static_cast<float>(-log(light))) * request.temperature;
    // Where the peaks alone weigh enough, there is no need to look further down.
    const Bins bins = bins_over(max, range);
    clear_histogram(shared);
    for (u32 block = threadIdx.x; block < row.strips * STRIP_BLOCKS; block += blockDim.x) {
        const float peak = row.peaks[block];
        if (bins.has(peak)) {
            add(sums, static_cast<u32>(bins.position(peak)), weight_of((peak - max) * scale));
        }
    }
    const u64 enough = target_of(total, request.top_p) + (total >> 13);
    const Place place = reaching(shared, enough, enough).at[0];
    return place.bin < BINS ? end_of(range, static_cast<u32>(place.bin)) : range;
}

// Draws among what `top_p` keeps of the tokens with a key of at least `floor`; `total` is nearly the weight of all
// where all count. UNDECIDED if that would need more.
DEVICE u32 draw_from_nucleus(const Row& row, const Draw& draw, Best<double> best, u32 floor, u64 total,
                             unsigned char* shared) {
    u32* sums = reinterpret_cast<u32*>(shared);
    const Request& request = draw.request;
    const float max = draw.mode.score;
    const bool all_count = needs_tails(request, row.count);
    const float range = all_count ? nucleus_range(row, request, max, total, shared)
                                  : fminf(NATS * request.temperature, (max - logit_of(floor)) * WIDER);
    const Bins bins = bins_over(max, range);
    const auto is_read = [&](float peak) { return all_count ? bins.has(peak) : key_of(peak) >= floor; };

    clear_histogram(shared);
    Weights weights = {0, 0};
    each_wanted<true>(row, shared, is_read, [&](u32, const Floats4& four) {
#pragma unroll
        for (u32 i = 0; i < 4; i++) {
            const float logit = four.number[i];
            const u64 weight = weight_of((logit - max) * draw.scale);
            if (key_of(logit) >= floor && weight != 0) {
                weights.read += weight;
                if (bins.has(logit)) {
                    add(sums, static_cast<u32>(bins.position(logit)), weight);
                }
            }
        }
    });
    for (u32 strip = threadIdx.x; all_count && strip < row.strips; strip += blockDim.x) {
        weights.unread += unread_of(row, strip, max, draw.scale, is_read);
    }
    weights = joined(weights, shared + LIST_AT);
    // A token's weight is rounded by at most one unit, and a tail to one.
    const u64 error = all_count ? (weights.unread >> TAIL_ERROR_BITS) + 2 * static_cast<u64>(row.count) : 0;
    const u64 least = weights.read + (weights.unread > error ? weights.unread - error : 0);
    const u64 low_target = target_of(least, request.top_p);
    const u64 high_target = target_of(weights.read + weights.unread + error, request.top_p);
    const Places places = reaching(shared, low_target, high_target);
    if (places.at[1].bin >= BINS) {
        return UNDECIDED;
    }

    const List list = new_list(shared);
    __syncthreads();
    const float begin = static_cast<float>(places.at[0].bin);
    const float end = static_cast<float>(places.at[1].bin + 1);
    each_wanted<false>(
        row, shared, [&](float peak) { return key_of(peak) >= floor && bins.position(peak) < end; },
        [&](u32 token, const Floats4& four) {
            draw_four(
                draw, token, four,
                [&](u32, float logit) { return key_of(logit) >= floor && bins.position(logit) < begin; }, best);
#pragma unroll
            for (u32 i = 0; i < 4; i++) {
                const float position = bins.position(four.number[i]);
                if (position >= begin && position < end && key_of(four.number[i]) >= floor) {
                    list.put(token + i, four.number[i]);
                }
            }
        });
    __syncthreads();
    const u32 listed = *list.listed;
    if (listed > LIST) {
        return UNDECIDED;
    }
    // The histogram is no longer needed.
    u64* each = reinterpret_cast<u64*>(shared);
    for (u32 entry = threadIdx.x; entry < listed; entry += blockDim.x) {
        each[entry] = weight_of((list.logits[entry] - max) * draw.scale);
    }
    __syncthreads();
    u32 doubtful = UNDECIDED;
    for (u32 entry = threadIdx.x; entry < listed; entry += blockDim.x) {
        u64 before = places.at[0].before;
        for (u32 other = 0; other < listed; other++) {
            before += list.precedes(other, entry) ? each[other] : 0;
        }
        // Kept if those before it do not reach the target.
        if (before < high_target && list.logits[entry] >= draw.least) {
            const u32 token = list.tokens[entry];
            best.join({draw.score(list.logits[entry], draw.bits(token)), token});
            // If a later one of the thread's own beats it, it is not the winner.
            if (before >= low_target && best.token == token) {
                doubtful = token;
            }
        }
    }
    const u32 token = joined(best, shared).token;
    Counters* counters = counters_of(shared);
    if (doubtful == token) {
        counters->is_doubtful = 1;
    }
    __syncthreads();
    return counters->is_doubtful != 0 ? UNDECIDED : token;
}

// Temperature, truncation and the draw, in the order in which `SampleRows` tells them. `total` is nearly the weight
// of all tokens, if tails are needed.
DEVICE u32 choose_by_bins(const Row& row, const Request& request, Best<float> mode, u64 total,
                          unsigned char* shared) {
    u32 floor = min_p_floor(request, mode.score);
    if (has_top_k(request, row.count) && !raise_to_top_k(row, request, mode.score, shared, floor)) {
        return UNDECIDED;
    }
    Best<double> best;
    const Draw draw = draw_of(request, mode, best);
    if (request.top_p < 1.0f) {
        return draw_from_nucleus(row, draw, best, floor, total, shared);
    }
    each_wanted<false>(
        row, shared, [&](float peak) { return peak >= draw.least && key_of(peak) >= floor; },
        [&](u32 token, const Floats4& four) {
            draw_four(draw, token, four, [&](u32, float logit) { return key_of(logit) >= floor; }, best);
        });
    return joined(best, shared).token;
}

}  // namespace
