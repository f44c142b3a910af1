// What follows a product that a vendor's library has computed, and the peaks of logits.
#include "linear_weights.cuh"

// out[row, col] += bias[col] in rows of `n` numbers. Grid: a thread per number, 256 a block.
// Reads and writes 4 bytes a number.
KERNEL add_bias(float* out, const float* bias, u32 n, u32 rows) {
    take_turn();
    const u64 at = static_cast<u64>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (at < static_cast<u64>(rows) * n) {
        out[at] = out[at] + bias[at % n];
    }
}
EXPORT(add_bias);

// out[row, col] = activation(gate) · up, where a row of `both` is n gates and n features that they gate; `bias`
// [2n] is added to both first. Grid: a thread per output, 256 a block. Reads 8 bytes an output, writes 4.
KERNEL gate_mul_halves(const float* both, const float* bias, float* out, u32 n, u32 rows, u32 kind) {
    take_turn();
    const u64 at = static_cast<u64>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (at < static_cast<u64>(rows) * n) {
        const u64 row = at / n;
        const u32 col = static_cast<u32>(at % n);
        float gate = both[row * 2 * n + col];
        float up = both[row * 2 * n + n + col];
        if (bias != nullptr) {
            gate = gate + bias[col];
            up = up + bias[n + col];
        }
        out[at] = gate_mul(kind, gate, up);
    }
}
EXPORT(gate_mul_halves);

// peaks[row, b] = the largest of logits[row, 64b .. 64b + 63]; NaN if one of them is NaN or +inf: those alone
// are not below +inf. Grid: a warp per peak, 8 a block. Reads 4 bytes a logit, mostly from the second-level
// cache, where the product has just left them.
KERNEL logit_peaks(const float* logits, float* peaks, u32 n, u32 rows) {
    take_turn();
    constexpr u32 BLOCK = 64;
    const u32 blocks = (n + BLOCK - 1) / BLOCK;
    const u64 peak = static_cast<u64>(blockIdx.x) * (blockDim.x / WARP) + threadIdx.x / WARP;
    if (peak >= static_cast<u64>(rows) * blocks) {
        return;
    }
    const float infinity = __uint_as_float(0x7f800000u);
    const float* row = logits + peak / blocks * n;
    const u32 first = static_cast<u32>(peak % blocks) * BLOCK + threadIdx.x % WARP;
    float most = -infinity;
    bool sound = true;
    for (u32 col = first; col < first + BLOCK; col += WARP) {
        const float logit = col < n ? row[col] : -infinity;
        most = logit > most ? logit : most;
        sound = sound && logit < infinity;
    }
    most = warp_max(most);
    const bool all_sound = __ballot_sync(ALL_LANES, sound) == ALL_LANES;
    if (threadIdx.x % WARP == 0) {
        peaks[peak] = all_sound ? most : __uint_as_float(0x7fc00000u);
    }
}
EXPORT(logit_peaks);
