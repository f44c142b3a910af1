// The words of `hopper.cuh`.
#include "block.h"

namespace emulator {
namespace {

// The pieces of a row of 128 bytes change places with the number of the row, which the address tells.
unsigned char* turned(unsigned char* byte) {
    const auto address = reinterpret_cast<std::uintptr_t>(byte);
    return reinterpret_cast<unsigned char*>(address ^ (address >> 7 & 7u) << 4);
}

// Number `col` of row `row` of rows of 128 bytes at a multiple of 1,024, from 16-number step to step as operands go.
float number(u64 operand, u32 row, u32 col) {
    unsigned char* const byte = reinterpret_cast<unsigned char*>(operand) + row * 128 + col * 2;
    u16 bits;
    std::memcpy(&bits, turned(byte), 2);
    return __uint_as_float(static_cast<u32>(bits) << 16);
}

// What one thread has of the product: sums begin with what is there and add products in the order of k.
void multiply(const Multiplication& it, u32 thread) {
    const u32 row = thread / WARP % 4 * 16 + thread % WARP / 4, t = thread % 4;
    float a[2][16];
    for (u32 k = 0; k < 16; k++) {
        a[0][k] = it.is_held ? it.held[0][k] : number(it.a, row, k);
        a[1][k] = it.is_held ? it.held[1][k] : number(it.a, row + 8, k);
    }
    for (u32 part = 0; part < it.columns / 2; part++) {
        const u32 col = part / 4 * 8 + t * 2 + part % 2;
        float sum = it.keep ? it.sums[part] : 0.0f;
        for (u32 k = 0; k < 16; k++) {
            sum += a[part / 2 % 2][k] * (it.rows ? number(it.b, k, col) : number(it.b, col, k));
        }
        it.sums[part] = sum;
    }
}

// What a lane has of an operand in registers, and the rows that its quad has together.
struct Held {
    const u32* words;
    float rows[2][16];
};

void combine_held(void* const* lanes) {
    for (u32 lane = 0; lane < WARP; lane++) {
        for (u32 k = 0; k < 16; k++) {
            const u32* words = static_cast<Held*>(lanes[lane / 4 * 4 + k % 8 / 2])->words + k / 8 * 2;
            for (u32 half = 0; half < 2; half++) {
                const u32 word = words[half];
                static_cast<Held*>(lanes[lane])->rows[half][k] = k % 2 == 0 ? bf16_low(word) : bf16_high(word);
            }
        }
    }
}

// Done at once, or when it is waited for: the seed decides for every thread and multiplication. Sums that wait for
// earlier products wait behind them.
void start(const Multiplication& it) {
    Machine& machine = Machine::get();
    Thread& thread = machine.thread();
    if (thread.multiplications.empty() && machine.random(2) == 0) {
        multiply(it, threadIdx.x);
    } else {
        thread.multiplications.push_back(it);
    }
}

void check_barrier(Barrier* barrier, const char* operation, Site site) {
    Machine& machine = Machine::get();
    if (reinterpret_cast<std::uintptr_t>(barrier) % 8 != 0 || !machine.in_shared(barrier, sizeof(Barrier))) {
        machine.fail("%s at %s:%d needs a barrier in shared memory at a multiple of 8", operation, site.file,
                     site.line);
    }
}

}  // namespace

u32 land(const Box& box) {
    const Matrix& m = box.matrix;
    unsigned char* to = box.to;
    u32 at[4];
    for (at[3] = 0; at[3] < m.box[3]; at[3]++) {
        for (at[2] = 0; at[2] < m.box[2]; at[2]++) {
            for (at[1] = 0; at[1] < m.box[1]; at[1]++) {
                u64 first = 0;
                bool inside = true;
                for (u32 i = 1; i < 4; i++) {
                    const u64 index = static_cast<u64>(box.at.at[i]) + at[i];
                    inside = inside && index < m.sizes[i];
                    first += index * m.strides[i - 1];
                }
                for (u32 col = 0; col < m.box[0]; col++) {
                    const u64 number = static_cast<u64>(box.at.at[0]) + col;
                    u16 bits = 0;
                    if (inside && number < m.sizes[0]) {
                        std::memcpy(&bits, m.base + first + number * 2, 2);
                    }
                    std::memcpy(turned(to), &bits, 2);
                    to += 2;
                }
            }
        }
    }
    return static_cast<u32>(to - box.to);
}

void barrier_init(Barrier* barrier, u32 arrivals, Site site) {
    check_barrier(barrier, "barrier_init", site);
    *barrier = {static_cast<u16>(arrivals), static_cast<u16>(arrivals), 0};
}

void barrier_arrive(Barrier* barrier, u32 bytes, Site site) {
    check_barrier(barrier, "barrier_arrive", site);
    if (barrier->pending == 0) {
        Machine::get().fail("barrier_arrive at %s:%d is one arrival more than the phase has", site.file, site.line);
    }
    barrier->bytes += static_cast<i32>(bytes);
    barrier->pending--;
    Machine::get().settle(barrier);
}

void barrier_wait(Barrier* barrier, u32 parity, Site site) {
    check_barrier(barrier, "barrier_wait", site);
    Machine::get().wait_on(barrier, parity, site);
}

void load_box(void* to, const Matrix* matrix, const BoxAt& at, Barrier* barrier, Site site) {
    Machine& machine = Machine::get();
    check_barrier(barrier, "load_box", site);
    const u64 bytes = static_cast<u64>(matrix->box[0]) * matrix->box[1] * matrix->box[2] * matrix->box[3] * 2;
    const bool is_aligned = reinterpret_cast<std::uintptr_t>(to) % 1024 == 0;
    if (!is_aligned || matrix->box[0] != 64 || !machine.in_shared(to, bytes)) {
        machine.fail("load_box at %s:%d writes %llu bytes of shared memory, rows of 128 bytes at a multiple of 1024, "
                     "but was given byte %lld",
                     site.file, site.line, static_cast<unsigned long long>(bytes),
                     static_cast<long long>(static_cast<unsigned char*>(to) - machine.shared()));
    }
    machine.start(Box{static_cast<unsigned char*>(to), *matrix, at, barrier});
}

void multiply_async(float* sums, u64 a, u64 b, u32 columns, Site site) {
    Machine& machine = Machine::get();
    const auto rows = [](u64 operand) { return reinterpret_cast<unsigned char*>(operand / 128 * 128); };
    if (!machine.in_shared(rows(a), 64 * 128) || !machine.in_shared(rows(b), columns * 128)) {
        machine.fail("multiply_async at %s:%d reads beyond shared memory", site.file, site.line);
    }
    start({sums, a, b, columns, true, false, false, {}, machine.thread().multiply_commits});
}

void multiply_held_async(float* sums, const u32* a, u64 b, u32 columns, bool keep, bool rows, Site site) {
    Machine& machine = Machine::get();
    const u64 at = rows ? b : b / 128 * 128, size = (rows ? 16 : columns) * 128;
    if (at % 1024 != 0 || (rows && columns > 64) || !machine.in_shared(reinterpret_cast<unsigned char*>(at), size)) {
        machine.fail("a multiplication at %s:%d reads rows of 128 bytes of shared memory at a multiple of 1024",
                     site.file, site.line);
    }
    Held mine{a, {}};
    machine.meet("a multiplication", ALL_LANES, site, &mine, combine_held);
    Multiplication it{sums, 0, b, columns, keep, rows, true, {}, machine.thread().multiply_commits};
    std::memcpy(it.held, mine.rows, sizeof it.held);
    start(it);
}

void multiply_commit() { Machine::get().committed(); }

// A multiplication is one operation of a warpgroup: who has waited for it knows that it is done for all threads.
void multiply_wait(int pending, Site site) {
    Machine& machine = Machine::get();
    const u32 commits = machine.thread().multiply_commits;
    if (commits <= static_cast<u32>(pending)) {
        return;
    }
    const u32 groups = commits - static_cast<u32>(pending);
    machine.wait_on_warpgroup(groups, site);
    machine.for_warpgroup([&](u32 index, Thread& thread) {
        auto& pending_ones = thread.multiplications;
        std::ptrdiff_t done = 0;
        while (done < static_cast<std::ptrdiff_t>(pending_ones.size()) &&
               pending_ones[static_cast<std::size_t>(done)].group < groups) {
            multiply(pending_ones[static_cast<std::size_t>(done)], index);
            done++;
        }
        pending_ones.erase(pending_ones.begin(), pending_ones.begin() + done);
    });
}

void wait_for_previous() { Machine::get().thread().has_waited = true; }

}  // namespace emulator
