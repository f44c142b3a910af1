// Chooses a token for each row of logits, so that a token crosses to the host instead of a row.
//
//   logits     [rows][vocab] f32, of which the first `choosable` of each row count
//   requests   [rows][REQUEST_WORDS] u32: mode, top_k, temperature, top_p, min_p, seed (low, high word),
//              position (low, high word)
//   chosen     [rows][3] u32: outcome, token, bits of its log-probability
//
// A block takes one row. Nothing is sorted: truncation asks for the least logit that is kept, and finds it
// eleven bits at a time. Logits become integers of the same order (`key_of`); a histogram of their topmost
// bits tells in which bin the running weight, from the largest down, reaches its target; the next histogram
// is that of this bin. `top_k` counts 1 for each token, `top_p` its probability in fixed point.
//
// All sums are of integers and every choice among equals has a rule, so no result depends on the order in
// which threads come, or on how many there are.
//
// Cost: a row is read 2 times where the largest logit wins, 3 times where one is drawn; 3 more for `top_k`,
// 3 more for `top_p` (4 where several tokens have the last logit it keeps). A read is 4 · choosable bytes and
// 10 to 40 operations a token. Predicted: a row is one multiprocessor's work, 4,096 tokens for each latency of
// the L2 cache, where the logits still are; that makes 10 to 20 µs a read for 151,936 tokens, 20 to 40 µs for the
// largest logit and up to 0.2 ms for a draw with `top_k` and `top_p`, and twice that for 256 rows on 132
// multiprocessors. Histograms of logits that alternate between a few bins take longer: their additions queue.
#include "device.cuh"

#include <cmath>

namespace {

constexpr u32 REQUEST_WORDS = 9;

// What is asked of a row.
constexpr u32 SKIP = 0;
constexpr u32 LARGEST = 1;

// What came of it.
constexpr u32 CHOSEN = 0;
constexpr u32 NON_FINITE = 1;
constexpr u32 NOTHING_POSSIBLE = 2;
constexpr u32 SKIPPED = 3;

constexpr u32 BINS = 2048;
constexpr u32 SEGMENTS = 32;
// Memory that all threads of the block share: first a histogram, or one value of up to 16 bytes per thread of
// at most 1,024; behind it the sums of a histogram's segments.
constexpr u32 SEGMENTS_AT = BINS * 8;

// What the fixed-point weight 1 is: 2^43, so that 2^20 of them fit 64 bits.
constexpr float WEIGHT_UNIT = 8796093022208.0f;

// No noise is above 33 · ln 2 = 22.87385.
constexpr double MAX_NOISE = 22.874;

DEVICE float infinity() { return __uint_as_float(0x7f800000u); }

// An integer that orders as the logit does; the same for 0 and -0.
DEVICE u32 key_of(float logit) {
    const u32 bits = __float_as_uint(logit + 0.0f);
    return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

DEVICE float logit_of(u32 key) {
    return __uint_as_float((key & 0x80000000u) != 0 ? key & 0x7fffffffu : ~key);
}

// e^x for x <= 0 in fixed point. The exponential is that of the processor (`portable/exp.rs`: Cody and Waite's
// reduction, Cephes' polynomial), operation by operation, so its bits are the same.
DEVICE u64 weight_of(float x) {
    const float smallest = -87.3f;
    const float magic = 12582912.0f;
    const float clamped = x < smallest ? smallest : x;
    const float shifted = clamped * 1.44269504f + magic;
    const float n = shifted - magic;
    const float r = clamped - n * 0.693359375f - n * -2.12194440e-4f;
    const float polynomial =
        ((((1.9875691e-4f * r + 1.3981999e-3f) * r + 8.333452e-3f) * r + 4.1665796e-2f) * r + 1.6666665e-1f) * r +
        0.5f;
    const float power = __uint_as_float((__float_as_uint(shifted) << 23) + (127u << 23));
    const float result = (polynomial * (r * r) + r + 1.0f) * power;
    return x < smallest ? 0 : static_cast<u64>(result * WEIGHT_UNIT);
}

// Four logits of a row, from `token` on or every `apart`-th from there; -inf for those that are not there.
// `together` says that they are four in succession, all there, at a multiple of 16 bytes.
DEVICE Floats4 load_four(const float* row, u32 token, u32 apart, u32 count, bool together) {
    if (together) {
        return *reinterpret_cast<const Floats4*>(row + token);
    }
    Floats4 logits;
#pragma unroll
    for (u32 i = 0; i < 4; i++) {
        const u32 at = token + i * apart;
        logits.number[i] = at < count ? row[at] : -infinity();
    }
    return logits;
}

DEVICE bool is_aligned(const float* row) { return reinterpret_cast<u64>(row) % sizeof(Floats4) == 0; }

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

// Joins a value of each thread into one, which every thread gets; blocks are powers of two of threads.
template <typename Value>
DEVICE Value joined(Value value, unsigned char* shared) {
    Value* values = reinterpret_cast<Value*>(shared);
    // Others may still read what was here.
    __syncthreads();
    values[threadIdx.x] = value;
    __syncthreads();
    for (u32 half = blockDim.x / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) {
            values[threadIdx.x].join(values[threadIdx.x + half]);
        }
        __syncthreads();
    }
    return values[0];
}

// The token with the largest score, the lowest id among equals.
template <typename Score>
struct Best {
    Score score;
    u32 token;

    DEVICE void join(const Best& other) {
        if (other.score > score || (other.score == score && other.token < token)) {
            *this = other;
        }
    }
};

// The largest logit; +inf if any is no number.
DEVICE Best<float> largest(const float* row, u32 count, unsigned char* shared) {
    Best<float> best = {-infinity(), 0xffffffffu};
    each_token(row, count, [&](u32 token, float logit) {
        best.join({logit < infinity() ? logit : infinity(), token});
    });
    return joined(best, shared);
}

struct Masses {
    // Of e^(logit - max) over all tokens.
    u64 all;
    // Of e^((logit - max) / temperature) over the tokens with a key of at least some floor.
    u64 kept;

    DEVICE void join(const Masses& other) {
        all += other.all;
        kept += other.kept;
    }
};

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

// A histogram of 64-bit sums: words of the lower halves, then of the higher ones.
DEVICE void add(u32* sums, u32 bin, u64 amount) {
    const u32 low = static_cast<u32>(amount);
    const u32 before = atomicAdd(&sums[bin], low);
    const u32 high = static_cast<u32>(amount >> 32) + (before + low < before ? 1 : 0);
    if (high != 0) {
        atomicAdd(&sums[BINS + bin], high);
    }
}

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

DEVICE u64 sum_of(const u32* sums, u32 bin) {
    return static_cast<u64>(sums[BINS + bin]) << 32 | sums[bin];
}

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

struct Request {
    u32 mode;
    u32 top_k;
    float temperature;
    float top_p;
    float min_p;
    u32 seed[2];
    u32 position[2];
};

DEVICE Request request_of(const u32* words) {
    return {words[0],
            words[1],
            __uint_as_float(words[2]),
            __uint_as_float(words[3]),
            __uint_as_float(words[4]),
            {words[5], words[6]},
            {words[7], words[8]}};
}

// The least logit that `min_p` and `top_k` keep, as a key.
DEVICE u32 floor_of(const float* row, u32 count, const Request& request, float max, unsigned char* shared) {
    // p >= min_p · p_max says (logit - max) / temperature >= ln(min_p); ln 0 is -inf.
    const double reach = log(static_cast<double>(request.min_p)) * static_cast<double>(request.temperature);
    const u32 floor = key_of(static_cast<float>(static_cast<double>(max) + reach));
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

// Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", section 4.3): enciphers
// the counter [call, position, purpose 0] under the seed. The words are the bits of tokens 4 · call and on.
DEVICE void philox(const Request& request, u32 call, u32 (&words)[4]) {
    words[0] = call;
    words[1] = request.position[0];
    words[2] = request.position[1];
    words[3] = 0;
    u32 key0 = request.seed[0];
    u32 key1 = request.seed[1];
    for (u32 round = 0; round < 10; round++) {
        const u32 low0 = 0xd2511f53u * words[0];
        const u32 low1 = 0xcd9e8d57u * words[2];
        const u32 high0 = __umulhi(0xd2511f53u, words[0]);
        const u32 high1 = __umulhi(0xcd9e8d57u, words[2]);
        words[0] = high1 ^ words[1] ^ key0;
        words[1] = low1;
        words[2] = high0 ^ words[3] ^ key1;
        words[3] = low0;
        key0 += 0x9e3779b9u;
        key1 += 0xbb67ae85u;
    }
}

// A standard Gumbel variable; grows with the bits. In double precision, as u close to 1 needs more than 24 bits.
DEVICE float gumbel(u32 bits) {
    const double u = (static_cast<double>(bits) + 0.5) * 2.3283064365386963e-10;
    return static_cast<float>(-log(-log(u)));
}

// The Gumbel-max trick: the token whose scaled logit plus noise is largest is a draw from the softmax.
DEVICE u32 draw(const float* row, u32 count, const Request& request, Best<float> mode, Cut cut,
                unsigned char* shared) {
    const float scale = 1.0f / request.temperature;
    const double exact_scale = 1.0 / static_cast<double>(request.temperature);
    const double max = static_cast<double>(mode.score);
    u32 words[4];
    philox(request, mode.token / 4, words);
    const u32 part = mode.token % 4;
    const u32 bits = part == 0 ? words[0] : part == 1 ? words[1] : part == 2 ? words[2] : words[3];
    // The most probable token is always kept, and its score rules out most others.
    Best<double> best = {static_cast<double>(gumbel(bits)), mode.token};
    const double reach = (best.score - MAX_NOISE) * static_cast<double>(request.temperature);
    const float least = static_cast<float>(max + reach);
    const u32 calls = (count + 3) / 4;
    for (u32 call = threadIdx.x; call < calls; call += blockDim.x) {
        const bool together = is_aligned(row) && 4 * call + 4 <= count;
        const Floats4 four = load_four(row, 4 * call, 1, count, together);
        const float(&logits)[4] = four.number;
        bool is_possible = false;
        for (u32 i = 0; i < 4; i++) {
            const u32 token = 4 * call + i;
            is_possible = is_possible || (logits[i] >= least && cut.keeps(token, key_of(logits[i])));
        }
        if (!is_possible) {
            continue;
        }
        philox(request, call, words);
        for (u32 i = 0; i < 4; i++) {
            const u32 token = 4 * call + i;
            // From -ln u >= 1 - u, noise is at most -ln(1 - u), and the leading ones of its bits bound 1 - u from
            // below by a power of two. The slack is above all rounding; what it lets pass is then computed.
            const float bound = (logits[i] - mode.score) * scale +
                                static_cast<float>(__clz(static_cast<i32>(~words[i])) + 1) * 0.69314718f + 1e-3f;
            if (bound < static_cast<float>(best.score) || !cut.keeps(token, key_of(logits[i]))) {
                continue;
            }
            const double scaled = (static_cast<double>(logits[i]) - max) * exact_scale;
            best.join({scaled + static_cast<double>(gumbel(words[i])), token});
        }
    }
    return joined(best, shared).token;
}

// Temperature, truncation and the draw, in the order in which `SampleRows` tells them. `all` becomes the mass
// of the row at temperature 1.
DEVICE u32 choose(const float* row, u32 count, const Request& request, Best<float> mode, u64& all,
                  unsigned char* shared) {
    const bool is_draw = request.mode != LARGEST;
    const bool has_nucleus = is_draw && request.top_p < 1.0f;
    const u32 floor = is_draw ? floor_of(row, count, request, mode.score, shared) : 0;
    const float scale = 1.0f / request.temperature;
    Masses masses = {0, 0};
    each_token(row, count, [&](u32, float logit) {
        const float below = logit - mode.score;
        masses.all += weight_of(below);
        if (has_nucleus && key_of(logit) >= floor) {
            masses.kept += weight_of(below * scale);
        }
    });
    masses = joined(masses, shared);
    all = masses.all;
    if (!is_draw) {
        return mode.token;
    }
    Cut cut = {floor, 0xffffffffu};
    if (has_nucleus) {
        cut = nucleus(row, count, request, mode.score, floor, masses.kept, shared);
    }
    return draw(row, count, request, mode, cut, shared);
}

}  // namespace

// Grid: rows. Threads: a power of two, at most 1,024. Shared memory: SEGMENTS_AT + 8 · SEGMENTS bytes.
KERNEL MOST_THREADS(1024)
    sample_rows(const float* logits, const u32* requests, u32* chosen, u32 vocab, u32 choosable) {
    take_turn();
    SHARED(shared);
    const Request request = request_of(requests + static_cast<u64>(blockIdx.x) * REQUEST_WORDS);
    const float* row = logits + static_cast<u64>(blockIdx.x) * vocab;
    u32 outcome = SKIPPED;
    u32 token = 0;
    float logprob = 0.0f;
    if (request.mode != SKIP) {
        const Best<float> mode = largest(row, choosable, shared);
        if (mode.score == infinity()) {
            outcome = NON_FINITE;
        } else if (mode.score == -infinity()) {
            outcome = NOTHING_POSSIBLE;
        } else {
            u64 all = 0;
            outcome = CHOSEN;
            token = choose(row, choosable, request, mode, all, shared);
            const double log_mass = log(static_cast<double>(all) / static_cast<double>(WEIGHT_UNIT));
            const double below = static_cast<double>(row[token]) - static_cast<double>(mode.score);
            logprob = static_cast<float>(below - log_mass);
        }
    }
    if (threadIdx.x == 0) {
        u32* result = chosen + 3 * static_cast<u64>(blockIdx.x);
        result[0] = outcome;
        result[1] = token;
        result[2] = __float_as_uint(logprob);
    }
}
EXPORT(sample_rows);
