// A choice that reads few logits of a row, from what `sample_scan` found out about its blocks.
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
// too: one row in some hundred thousand.
//
// Time: a row with a nucleus of some hundred tokens is read once in all, by `sample_scan`. What is left are steps
// that depend on each other, 0.5 to 2 µs each: some 12 µs, for all rows of a step together. A flat row, of whose
// blocks each has a token in the nucleus, is read three times. The second read, of exact weights, is 45 operations a
// token, 60 µs for 256 rows of 151,936 tokens; the third is 15, and 35 more for each token that may win (noise).
#pragma once

#include "sampling_blocks.cuh"

namespace {

// So many times the temperature below the largest logit a token weighs nothing and cannot win: the fixed point
// ends at 29.8, and noise from -3.2 to 22.9 spans 26.1.
constexpr float NATS = 31.0f;

// Tokens within so many temperatures of the largest logit are drawn first.
constexpr float LIKELY_NATS = 4.0f;

// Above the error of tails: 31 · 2^-24 for each rounding of a logit's distance, its scale and their product, on
// both sides, and that of sums.
constexpr u32 TAIL_ERROR_BITS = 15;

constexpr u32 UNDECIDED = 0xffffffffu;

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
    const auto count_four = [&](u32, const Floats4& four, bool is_there) {
#pragma unroll
        for (u32 i = 0; i < 4; i++) {
            if (is_there && bins.has(four.number[i])) {
                add(sums, static_cast<u32>(bins.position(four.number[i])), 1);
            }
        }
    };
    each_wanted<true>(row, shared, [&](float peak) { return bins.has(peak); }, count_four);
    const Place last = reaching(shared, wanted, wanted).at[0];
    if (last.bin >= BINS) {
        floor = lowest > floor ? lowest : floor;
        return near.bin >= BINS;
    }
    const float begin = static_cast<float>(last.bin);
    const float end = begin + 1.0f;
    each_wanted<true>(row, shared, [&](float peak) { return bins.position(peak) < end; },
                      [&](u32 token, const Floats4& four, bool is_there) {
#pragma unroll
                          for (u32 i = 0; i < 4; i++) {
                              const float position = bins.position(four.number[i]);
                              if (is_there && position >= begin && position < end) {
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
    each_wanted<true>(row, shared, is_read, [&](u32, const Floats4& four, bool is_there) {
        if (!is_there) {
            return;
        }
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
    Queue queue = queue_of(shared);
    const float begin = static_cast<float>(places.at[0].bin);
    const float end = static_cast<float>(places.at[1].bin + 1);
    each_wanted<false>(
        row, shared, [&](float peak) { return key_of(peak) >= floor && bins.position(peak) < end; },
        [&](u32 token, const Floats4& four, bool is_there) {
            const u32 possible = possible_of(draw, token, four, [&](u32, float logit) {
                return is_there && key_of(logit) >= floor && bins.position(logit) < begin;
            });
            queue.put(row, draw, token, possible, best);
#pragma unroll
            for (u32 i = 0; i < 4; i++) {
                const float position = bins.position(four.number[i]);
                if (is_there && position >= begin && position < end && key_of(four.number[i]) >= floor) {
                    list.put(token + i, four.number[i]);
                }
            }
        });
    queue.finish(row, draw, best);
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
    Draw draw = draw_of(request, mode, best);
    if (request.top_p < 1.0f) {
        return draw_from_nucleus(row, draw, best, floor, total, shared);
    }
    // First the blocks with likely tokens, whose best score rules out many others: it is above that of the most
    // probable token by the logarithm of how many there are.
    const float likely = mode.score - LIKELY_NATS * request.temperature;
    Queue queue = queue_of(shared);
    for (u32 part = 0; part < 2; part++) {
        each_wanted<false>(
            row, shared,
            [&](float peak) {
                return (peak >= likely) == (part == 0) && peak >= draw.least && key_of(peak) >= floor;
            },
            [&](u32 token, const Floats4& four, bool is_there) {
                const u32 possible = possible_of(
                    draw, token, four, [&](u32, float logit) { return is_there && key_of(logit) >= floor; });
                queue.put(row, draw, token, possible, best);
            });
        queue.finish(row, draw, best);
        best = joined(best, shared);
        draw.least = least_for(draw, best.score);
    }
    return best.token;
}

}  // namespace
