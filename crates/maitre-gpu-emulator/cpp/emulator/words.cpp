// The words that need more than one thread, or more than one moment.
#include "block.h"

namespace emulator {
namespace {

struct Shuffled {
    u32 value;
    u32 from;
    u32 result;
};

void combine_shuffle(void* const* lanes) {
    for (u32 lane = 0; lane < WARP; lane++) {
        Shuffled& mine = *static_cast<Shuffled*>(lanes[lane]);
        mine.result = static_cast<const Shuffled*>(lanes[mine.from])->value;
    }
}

struct Vote {
    bool vote;
    u32 result;
};

void combine_ballot(void* const* lanes) {
    u32 votes = 0;
    for (u32 lane = 0; lane < WARP; lane++) {
        votes |= static_cast<u32>(static_cast<const Vote*>(lanes[lane])->vote) << lane;
    }
    for (u32 lane = 0; lane < WARP; lane++) {
        static_cast<Vote*>(lanes[lane])->result = votes;
    }
}

void combine_nothing(void* const*) {}

struct Fragments {
    float* d;
    const u32* a;
    const u32* b;
};

// D[16, 8] += A[16, 16] · B[16, 8], as `device.cuh` deals them to lanes. Each sum begins with D and adds
// products in the order of k, rounding to f32 after every one (a product of two bf16 is exact). GPUs add
// several at a time and cut off bits: their last bits differ.
void combine_mma(void* const* lanes) {
    float a[16][16], b[16][8], d[16][8];
    const auto put = [](float* row, u32 col, u32 word) {
        row[col] = bf16_low(word);
        row[col + 1] = bf16_high(word);
    };
    for (u32 lane = 0; lane < WARP; lane++) {
        const Fragments& own = *static_cast<const Fragments*>(lanes[lane]);
        const u32 g = lane / 4, t = lane % 4;
        put(a[g], 2 * t, own.a[0]);
        put(a[g + 8], 2 * t, own.a[1]);
        put(a[g], 2 * t + 8, own.a[2]);
        put(a[g + 8], 2 * t + 8, own.a[3]);
        for (u32 half = 0; half < 2; half++) {
            b[2 * t + 8 * half][g] = bf16_low(own.b[half]);
            b[2 * t + 8 * half + 1][g] = bf16_high(own.b[half]);
            d[g + 8 * half][2 * t] = own.d[2 * half];
            d[g + 8 * half][2 * t + 1] = own.d[2 * half + 1];
        }
    }
    for (u32 row = 0; row < 16; row++) {
        for (u32 k = 0; k < 16; k++) {
            for (u32 col = 0; col < 8; col++) {
                d[row][col] += a[row][k] * b[k][col];
            }
        }
    }
    for (u32 lane = 0; lane < WARP; lane++) {
        const Fragments& own = *static_cast<const Fragments*>(lanes[lane]);
        const u32 g = lane / 4, t = lane % 4;
        for (u32 half = 0; half < 2; half++) {
            own.d[2 * half] = d[g + 8 * half][2 * t];
            own.d[2 * half + 1] = d[g + 8 * half][2 * t + 1];
        }
    }
}

struct Rows {
    u32* words;
    const u16* row;
};

template <bool Transposed>
void combine_load(void* const* lanes) {
    const auto number = [lanes](u32 matrix, u32 row, u32 col) {
        return static_cast<u32>(static_cast<const Rows*>(lanes[8 * matrix + row])->row[col]);
    };
    for (u32 lane = 0; lane < WARP; lane++) {
        const u32 g = lane / 4, t = lane % 4;
        u32* const words = static_cast<const Rows*>(lanes[lane])->words;
        for (u32 matrix = 0; matrix < 4; matrix++) {
            words[matrix] = Transposed ? number(matrix, 2 * t, g) | number(matrix, 2 * t + 1, g) << 16
                                       : number(matrix, g, 2 * t) | number(matrix, g, 2 * t + 1) << 16;
        }
    }
}

bool is_aligned(const void* address) { return reinterpret_cast<std::uintptr_t>(address) % 16 == 0; }

void land(const Copy& copy) {
    if (copy.valid) {
        std::memcpy(copy.to, copy.from, 16);
    } else {
        std::memset(copy.to, 0, 16);
    }
}

}  // namespace

unsigned char* shared() { return Machine::get().shared(); }

void barrier(Site site) { Machine::get().barrier(site); }

void warp_barrier(u32 mask, Site site) {
    Machine::get().meet("__syncwarp", mask, site, nullptr, combine_nothing);
}

u32 shuffle(const char* operation, u32 mask, u32 value, u32 from, Site site) {
    Shuffled mine{value, from, 0};
    Machine::get().meet(operation, mask, site, &mine, combine_shuffle);
    return mine.result;
}

u32 ballot(u32 mask, bool vote, Site site) {
    Vote mine{vote, 0};
    Machine::get().meet("__ballot_sync", mask, site, &mine, combine_ballot);
    return mine.result;
}

void multiply_accumulate(float* d, const u32* a, const u32* b, Site site) {
    Fragments mine{d, a, b};
    Machine::get().meet("mma_bf16", ALL_LANES, site, &mine, combine_mma);
}

void load_matrices(u32* words, const void* row, bool transposed, Site site) {
    Machine& machine = Machine::get();
    const char* const operation = transposed ? "load_matrix_x4_transposed" : "load_matrix_x4";
    if (!is_aligned(row) || !machine.in_shared(row, 16)) {
        machine.fail("%s at %s:%d needs 16 bytes of shared memory at a multiple of 16, but was given byte %lld",
                     operation, site.file, site.line,
                     static_cast<long long>(static_cast<const unsigned char*>(row) - machine.shared()));
    }
    Rows mine{words, static_cast<const u16*>(row)};
    machine.meet(operation, ALL_LANES, site, &mine, transposed ? combine_load<true> : combine_load<false>);
}

// A GPU may be done with a copy at once or only when it has to: here the seed decides for every one. So a
// kernel that forgets to wait reads what was there before, and one that copies over what others still read
// changes it under their hands.
void copy_start(void* to, const void* from, bool valid, Site site) {
    Machine& machine = Machine::get();
    if (!is_aligned(to) || !machine.in_shared(to, 16)) {
        machine.fail("copy_async_16 at %s:%d writes 16 bytes of shared memory at a multiple of 16, but was given "
                     "byte %lld",
                     site.file, site.line,
                     static_cast<long long>(static_cast<unsigned char*>(to) - machine.shared()));
    }
    if (valid && (!is_aligned(from) || from == nullptr)) {
        machine.fail("copy_async_16 at %s:%d reads from %p, which is no multiple of 16", site.file, site.line, from);
    }
    Thread& thread = machine.thread();
    const Copy copy{static_cast<unsigned char*>(to), static_cast<const unsigned char*>(from), valid, thread.commits};
    if (machine.random(2) == 0) {
        land(copy);
    } else {
        thread.copies.push_back(copy);
    }
}

void copy_commit() { Machine::get().thread().commits++; }

void copy_wait(int pending) {
    Thread& thread = Machine::get().thread();
    std::size_t landed = 0;
    while (landed < thread.copies.size() &&
           thread.copies[landed].group + static_cast<u32>(pending) < thread.commits) {
        land(thread.copies[landed]);
        landed++;
    }
    thread.copies.erase(thread.copies.begin(), thread.copies.begin() + static_cast<std::ptrdiff_t>(landed));
}

}  // namespace emulator
