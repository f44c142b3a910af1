// What all ways of choosing a token share: logits as integers, weights in fixed point, requests and noise.
#pragma once

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

// A histogram of 64-bit sums: words of the lower halves, then of the higher ones.
DEVICE void add(u32* sums, u32 bin, u64 amount) {
    const u32 low = static_cast<u32>(amount);
    const u32 before = atomicAdd(&sums[bin], low);
    const u32 high = static_cast<u32>(amount >> 32) + (before + low < before ? 1 : 0);
    if (high != 0) {
        atomicAdd(&sums[BINS + bin], high);
    }
}

DEVICE u64 sum_of(const u32* sums, u32 bin) {
    return static_cast<u64>(sums[BINS + bin]) << 32 | sums[bin];
}

// A sum over all threads.
struct Sum {
    u64 value;

    DEVICE void join(const Sum& other) { value += other.value; }
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

// The least logit that `min_p` keeps, as a key.
DEVICE u32 min_p_floor(const Request& request, float max) {
    // p >= min_p · p_max says (logit - max) / temperature >= ln(min_p); ln 0 is -inf.
    const double reach = log(static_cast<double>(request.min_p)) * static_cast<double>(request.temperature);
    return key_of(static_cast<float>(static_cast<double>(max) + reach));
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

// What decides which of the tokens that are left wins.
struct Draw {
    Request request;
    // The largest logit.
    Best<float> mode;
    float scale;
    double exact_scale;
    // No token with a lesser logit can win.
    float least;

    // The score of a token from its 32 random bits.
    DEVICE double score(float logit, u32 bits) const {
        const double scaled = (static_cast<double>(logit) - static_cast<double>(mode.score)) * exact_scale;
        return scaled + static_cast<double>(gumbel(bits));
    }

    DEVICE u32 bits(u32 token) const {
        u32 words[4];
        philox(request, token / 4, words);
        const u32 part = token % 4;
        return part == 0 ? words[0] : part == 1 ? words[1] : part == 2 ? words[2] : words[3];
    }
};

// No token with a lesser logit scores as much.
DEVICE float least_for(const Draw& draw, double score) {
    const double reach = (score - MAX_NOISE) * static_cast<double>(draw.request.temperature);
    return static_cast<float>(static_cast<double>(draw.mode.score) + reach);
}

// The draw of a row; `best` becomes the most probable token, which is always kept, and its score rules out most
// others.
DEVICE Draw draw_of(const Request& request, Best<float> mode, Best<double>& best) {
    Draw draw = {request, mode, 1.0f / request.temperature, 1.0 / static_cast<double>(request.temperature), 0.0f};
    best = {static_cast<double>(gumbel(draw.bits(mode.token))), mode.token};
    draw.least = least_for(draw, best.score);
    return draw;
}

// A bit for each of four tokens that may win, as far as `keeps(token, logit)`.
template <typename Keeps>
DEVICE u32 possible_of(const Draw& draw, u32 token, const Floats4& four, Keeps keeps) {
    u32 possible = 0;
#pragma unroll
    for (u32 i = 0; i < 4; i++) {
        possible |= four.number[i] >= draw.least && keeps(token + i, four.number[i]) ? 1u << i : 0;
    }
    return possible;
}

// Joins into `best` what the `possible` of a thread's four tokens from `token` on, a multiple of four, score.
DEVICE void draw_four(const Draw& draw, u32 token, const Floats4& four, u32 possible, Best<double>& best) {
    const float(&logits)[4] = four.number;
    u32 words[4];
    philox(draw.request, token / 4, words);
    const float reached = static_cast<float>(best.score);
#pragma unroll
    for (u32 i = 0; i < 4; i++) {
        // From -ln u >= 1 - u, noise is at most -ln(1 - u), and the leading ones of its bits bound 1 - u from
        // below by a power of two. The slack is above all rounding; what it lets pass is then computed.
        const float bound = (logits[i] - draw.mode.score) * draw.scale +
                            static_cast<float>(__clz(static_cast<i32>(~words[i])) + 1) * 0.69314718f + 1e-3f;
        possible &= bound < reached ? ~(1u << i) : ~0u;
    }
    // Few come here, and the logarithms are long: they are compiled once, not four times.
    while (possible != 0) {
        const u32 i = 31 - static_cast<u32>(__clz(static_cast<i32>(possible)));
        possible ^= 1u << i;
        const u32 bits = i == 0 ? words[0] : i == 1 ? words[1] : i == 2 ? words[2] : words[3];
        const float logit = i == 0 ? logits[0] : i == 1 ? logits[1] : i == 2 ? logits[2] : logits[3];
        best.join({draw.score(logit, bits), token + i});
    }
}

}  // namespace
