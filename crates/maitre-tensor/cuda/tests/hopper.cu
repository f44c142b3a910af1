// Kernels that try the words of `hopper.cuh`, right and wrong. `src/gpu/emulator/tests/hopper.rs` launches them.
#include "../hopper.cuh"

namespace {

constexpr u32 BOX_ROW = 128;

// Shared memory from the first multiple of 1,024 on.
DEVICE u8* aligned(u8* shared) { return reinterpret_cast<u8*>((reinterpret_cast<u64>(shared) + 1023) / 1024 * 1024); }

DEVICE void set_up(Barrier* barrier, u32 arrivals) {
    if (threadIdx.x == 0) {
        barrier_init(barrier, arrivals);
        barriers_are_set();
    }
    __syncthreads();
}

}  // namespace

// Does all but wait for the kernel before; all threads, or one of them.
KERNEL test_no_turn(u32* out, u32 thread) {
    if (threadIdx.x != thread) {
        take_turn();
    }
    out[threadIdx.x] = 1;
}
EXPORT(test_no_turn);

// One block, 1,024 bytes: threads wait for a barrier of one arrival, in one of these ways.
//   0  thread 0 arrives                              3  the barrier lies at no multiple of 8
//   1  no thread arrives                             4  the barrier lies beyond shared memory
//   2  one arrives while bytes are still to come, and another
KERNEL test_barrier(u32* out, u32 way) {
    take_turn();
    SHARED(shared);
    const u32 at = way == 3 ? 4 : way == 4 ? 1024 : 0;
    Barrier* const barrier = reinterpret_cast<Barrier*>(shared + at);
    set_up(barrier, 1);
    if (threadIdx.x == 0 && way == 0) {
        barrier_arrive(barrier);
    }
    if (threadIdx.x == 0 && way == 2) {
        barrier_expect(barrier, 16);
        barrier_arrive(barrier);
    }
    barrier_wait(barrier, 0);
    out[threadIdx.x] = 1;
}
EXPORT(test_barrier);

// One block: the box at (col, row) of a matrix, as it lies, `shift` bytes from a multiple of 1,024. `out` has all of
// its words, read after a wait for them or without one.
KERNEL test_box(PARAMETER(Matrix) matrix, u32* out, u32 rows, u32 col, u32 row, u32 shift, u32 with_wait) {
    take_turn();
    SHARED(shared);
    u8* const box = aligned(shared) + shift;
    Barrier* const barrier = reinterpret_cast<Barrier*>(shared);
    // The first bytes are a barrier's, unless they are the box's.
    u8* const to = shift == 0 ? box + 1024 : box;
    set_up(barrier, 1);
    if (threadIdx.x == 0) {
        barrier_expect(barrier, rows * BOX_ROW);
        load_box(to, matrix, col, row, barrier);
    }
    __syncthreads();
    if (with_wait != 0) {
        barrier_wait(barrier, 0);
    }
    for (u32 i = threadIdx.x; i < rows * BOX_ROW / 4; i += blockDim.x) {
        out[i] = reinterpret_cast<const u32*>(to)[i];
    }
}
EXPORT(test_box);

// A warpgroup: out[64, 8] = a[64, 64] · b[8, 64]^T. The stage of b is loaded again, with the rows behind, in one of
// these ways.
//   0  when the product was waited for               2  as 0, but sums are written before the wait
//   1  before                                        3  one warp takes no part
KERNEL test_multiply(PARAMETER(Matrix) a, PARAMETER(Matrix) b, float* out, u32 way) {
    take_turn();
    SHARED(shared);
    Barrier* const barrier = reinterpret_cast<Barrier*>(shared);
    u8* const first = aligned(shared) + 1024;
    u8* const second = first + 64 * BOX_ROW;
    set_up(barrier, 1);
    if (threadIdx.x == 0) {
        barrier_expect(barrier, 72 * BOX_ROW);
        load_box(first, a, 0, 0, barrier);
        load_box(second, b, 0, 0, barrier);
    }
    barrier_wait(barrier, 0);
    float sums[4] = {};
    float early[4];
    if (way == 3 && threadIdx.x >= 3 * WARP) {
        return;
    }
    pinned(sums);
    multiply_begin();
    for (u32 part = 0; part < 4; part++) {
        multiply_async<8>(sums, next_operand(operand(first), part), next_operand(operand(second), part));
    }
    multiply_commit();
    for (u32 i = 0; i < 4; i++) {
        early[i] = sums[i];
    }
    if (way != 1) {
        multiply_wait<0>();
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        barrier_expect(barrier, 8 * BOX_ROW);
        load_box(second, b, 0, 8, barrier);
    }
    barrier_wait(barrier, 1);
    multiply_wait<0>();
    pinned(sums);
    const u32 row = threadIdx.x / WARP * 16 + threadIdx.x % WARP / 4, t = threadIdx.x % 4;
    for (u32 i = 0; i < 4; i++) {
        out[(row + i / 2 * 8) * 8 + t * 2 + i % 2] = way == 2 ? early[i] : sums[i];
    }
}
EXPORT(test_multiply);
