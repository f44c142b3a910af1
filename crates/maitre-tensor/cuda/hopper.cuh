// What Hopper has beside the words of `device.cuh` (compute capability 9.0, compiled for 9.0a): barriers in shared
// memory that count bytes, a copy engine that brings boxes of matrices there, and multiplications of 64 rows that
// read both operands there and run while the warps go on.
//
//   load_box(to, matrix, at, barrier)   starts to copy the box at `at`; its bytes are counted by the barrier
//   load_passing_box(..)                the same for what is read once
//   multiply_async<N>(d, a, b)          starts d[64, N] += a[64, 16] · b[N, 16]^T, for the four warps of a warpgroup
//   multiply_held_async<N>(d, a, b, c)  starts d[64, N] = c · d + a[64, 16] · b[N, 16]^T, `a` in registers as `mma_bf16`
//                                       takes it, c 0 or 1
//   multiply_rows_async<N>(d, a, b, c)  the same with b[16, N]: 16 rows of a box, of up to 64 numbers
//
// Until a multiplication was waited for, nothing may read or write its `d`, nor write its `a`: sums are to be `pinned`
// before `multiply_begin` and after the wait.
//
// Rows of a box have 128 bytes, 64 numbers of bf16. The copy engine turns each row's eight pieces of 16 bytes
// (exclusive or with the number of the row), so that eight rows read side by side meet all banks; multiplications
// know it. Boxes lie at multiples of 1024 bytes.
#pragma once

#include "device.cuh"

#ifdef MAITRE_EMULATOR

#define PARAMETER(type) const type

using Barrier = emulator::Barrier;

DEVICE void barrier_init(Barrier* barrier, u32 arrivals, emulator::Site site = HERE) {
    emulator::barrier_init(barrier, arrivals, site);
}
DEVICE void barriers_are_set() {}
DEVICE void barrier_arrive(Barrier* barrier, emulator::Site site = HERE) {
    emulator::barrier_arrive(barrier, 0, site);
}
DEVICE void barrier_expect(Barrier* barrier, u32 bytes, emulator::Site site = HERE) {
    emulator::barrier_arrive(barrier, bytes, site);
}
DEVICE void barrier_wait(Barrier* barrier, u32 parity, emulator::Site site = HERE) {
    emulator::barrier_wait(barrier, parity, site);
}
DEVICE void load_box(void* to, const Matrix& matrix, u32 col, u32 row, Barrier* barrier,
                     emulator::Site site = HERE) {
    emulator::load_box(to, &matrix, {{col, row, 0, 0}}, barrier, site);
}
DEVICE void load_paired_box(void* to, const Matrix& matrix, u32 col, u32 row, Barrier* barrier,
                            emulator::Site site = HERE) {
    emulator::load_box(to, &matrix, {{col, 0, 0, row / 8}}, barrier, site);
}
DEVICE void load_passing_box(void* to, const Matrix& matrix, u32 col, u32 row, Barrier* barrier,
                             emulator::Site site = HERE) {
    emulator::load_box(to, &matrix, {{col, row, 0, 0}}, barrier, site);
}
DEVICE u64 operand(const void* rows) { return reinterpret_cast<u64>(rows); }
DEVICE u64 next_operand(u64 operand, u32 step) { return operand + step * 32; }
DEVICE u64 further_operand(u64 operand, u32 rows) { return operand + rows * 128; }
template <u32 N>
DEVICE void multiply_async(float (&d)[N / 2], u64 a, u64 b, emulator::Site site = HERE) {
    emulator::multiply_async(d, a, b, N, site);
}
template <u32 N>
DEVICE void multiply_held_async(float (&d)[N / 2], const u32 (&a)[4], u64 b, u32 keep, emulator::Site site = HERE) {
    emulator::multiply_held_async(d, a, b, N, keep != 0, false, site);
}
template <u32 N>
DEVICE void multiply_rows_async(float (&d)[N / 2], const u32 (&a)[4], u64 b, u32 keep, emulator::Site site = HERE) {
    emulator::multiply_held_async(d, a, b, N, keep != 0, true, site);
}
template <u32 Count>
DEVICE void pinned(float (&)[Count]) {}
template <u32 Count>
DEVICE void computed(const u32 (&)[Count]) {}
DEVICE void multiply_begin() {}
DEVICE void multiply_commit() { emulator::multiply_commit(); }
template <int Pending>
DEVICE void multiply_wait(emulator::Site site = HERE) {
    emulator::multiply_wait(Pending, site);
}
template <u32 N>
DEVICE void take_registers() {}
template <u32 N>
DEVICE void give_registers() {}

#else

#define PARAMETER(type) const __grid_constant__ type

// A matrix as the driver describes it to the copy engine.
struct alignas(128) Matrix {
    u64 opaque[16];
};

using Barrier = u64;

DEVICE u32 shared_address(const void* at) { return static_cast<u32>(__cvta_generic_to_shared(at)); }

// Sets a barrier up for so many arrivals a phase.
DEVICE void barrier_init(Barrier* barrier, u32 arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals) : "memory");
}

// After the last of them, before other threads or the copy engine meet them.
DEVICE void barriers_are_set() {
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

DEVICE void barrier_arrive(Barrier* barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
}

// Arrives, and has the phase wait for so many bytes of the copy engine.
DEVICE void barrier_expect(Barrier* barrier, u32 bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)), "r"(bytes)
                 : "memory");
}

// Waits for the end of the phase of that parity: 0 for the first, 1 for the second, 0 for the third, ...
DEVICE void barrier_wait(Barrier* barrier, u32 parity) {
    asm volatile(
        "{\n"
        ".reg .pred ended;\n"
        "WAIT:\n"
        "mbarrier.try_wait.parity.shared::cta.b64 ended, [%0], %1;\n"
        "@ended bra ENDED;\n"
        "bra WAIT;\n"
        "ENDED:\n"
        "}" ::"r"(shared_address(barrier)),
        "r"(parity)
        : "memory");
}

// Copies the box whose first number is number `col` of row `row`; what lies beyond the matrix is zero.
DEVICE void load_box(void* to, const Matrix& matrix, u32 col, u32 row, Barrier* barrier) {
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], [%2];" ::"r"(
            shared_address(to)),
        "l"(&matrix), "r"(shared_address(barrier)), "r"(col), "r"(row)
        : "memory");
}

// The same for what is read once: it leaves the second-level cache before anything else does.
DEVICE void load_passing_box(void* to, const Matrix& matrix, u32 col, u32 row, Barrier* barrier) {
    constexpr u64 EVICT_FIRST = 0x12f0000000000000u;
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint "
        "[%0], [%1, {%3, %4}], [%2], %5;" ::"r"(shared_address(to)),
        "l"(&matrix), "r"(shared_address(barrier)), "r"(col), "r"(row), "l"(EVICT_FIRST)
        : "memory");
}

// The same of a matrix whose upper half of rows is paired with its lower: 8 rows from `row` on, a multiple of 8, the 8
// that are half of all rows below them, the next 8, and so on.
DEVICE void load_paired_box(void* to, const Matrix& matrix, u32 col, u32 row, Barrier* barrier) {
    asm volatile(
        "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %4, %5}], "
        "[%2];" ::"r"(shared_address(to)),
        "l"(&matrix), "r"(shared_address(barrier)), "r"(col), "r"(0), "r"(row / 8)
        : "memory");
}

// Describes 64 or N rows of 128 bytes, turned as above: the address and 1,024 bytes from eight rows to the next, in
// units of 16, and the pattern (PTX ISA, "Matrix Descriptor").
DEVICE u64 operand(const void* rows) {
    constexpr u64 EIGHT_ROWS = 64ull << 32, TURNED = 1ull << 62, UNUSED = 1ull << 16;
    return (shared_address(rows) & 0x3ffffu) >> 4 | UNUSED | EIGHT_ROWS | TURNED;
}

// The same rows, `step` times 16 numbers further on. The upper half stays as it is, which compilers do not know.
DEVICE u64 next_operand(u64 operand, u32 step) {
    return operand >> 32 << 32 | (static_cast<u32>(operand) + step * 2);
}

// Rows that lie so many further on, a multiple of eight.
DEVICE u64 further_operand(u64 operand, u32 rows) { return next_operand(operand, rows * 4); }

#include "hopper_multiply.cuh"

// Instructions that come before with these registers stay before, those behind it behind it.
template <u32 Count>
DEVICE void pinned(float (&d)[Count]) {
#pragma unroll
    for (u32 i = 0; i < Count; i++) {
        asm volatile("" : "+f"(d[i])::"memory");
    }
}

// These words, whose highest bit is not set, have been computed by now. Compilers would rather wait for
// multiplications first that can run on beside it; an instruction that never sleeps keeps them from it.
template <u32 Count>
DEVICE void computed(const u32 (&words)[Count]) {
    u32 all = 0;
#pragma unroll
    for (u32 i = 0; i < Count; i++) {
        all |= words[i];
    }
    asm volatile(
        "{\n"
        ".reg .pred never;\n"
        "setp.lt.s32 never, %0, 0;\n"
        "@never nanosleep.u32 0;\n"
        "}" ::"r"(all)
        : "memory");
}

// Before the first multiplication after other instructions wrote sums.
DEVICE void multiply_begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }

// What was started since the last commit is one group.
DEVICE void multiply_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

// Waits until at most the newest `Pending` groups still run.
template <int Pending>
DEVICE void multiply_wait() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(Pending) : "memory");
}

// Raises or lowers the registers of each thread of a warpgroup; all four warps take part.
template <u32 N>
DEVICE void take_registers() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N));
}
template <u32 N>
DEVICE void give_registers() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N));
}

#endif
