// What every kernel file builds on: the words in which kernels are written, and the few instructions that
// have no name in C++.
//
// The same files are compiled twice: by nvcc for GPUs, and by a C++ compiler for the emulator, which runs
// them on the processor (`emulator/device.h` of `maitre-gpu-emulator` then says what the words mean). So kernels keep to these rules:
//
//   KERNEL name(...) { ... }     a kernel; EXPORT(name) behind it makes it known to the emulator
//   SHARED(bytes);               the block's dynamic shared memory, an array of bytes; there is no other kind
//   take_turn();                 the first thing that a kernel does, see below
//   KERNEL MOST_THREADS(n) name: blocks of at most n threads. Without it a compiler may give a thread more
//                                registers than a large block has space for, and the launch fails.
//   threadIdx.x, blockIdx.{x,y,z}, blockDim.x, gridDim.{x,y,z}: blocks of threads have one dimension,
//                                a multiple of 32 threads
//   __syncthreads, __syncwarp, __shfl_sync, __shfl_xor_sync, __ballot_sync, atomicAdd (on u32), __popc, __clz,
//   __umulhi, __byte_perm, __float_as_uint, __uint_as_float, fmaf, fmaxf, fminf, sqrtf, expf, exp2f, logf, log2f
//   and what is declared below. Every thread of a warp takes part in what has `sync` in its name, in `mma_*`,
//   `load_matrix_*`: never call them where threads of one warp may have parted.
//
// Contraction of `a * b + c` is off in both compilers: what is to be fused says `fmaf`. So the bits of a row
// do not depend on the kernel that a compiler made of one and the same expression.
#pragma once

#include <cstdint>

using u8 = std::uint8_t;
using u16 = std::uint16_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;
using i8 = std::int8_t;
using i32 = std::int32_t;

constexpr u32 WARP = 32;
constexpr u32 ALL_LANES = 0xffffffffu;
// The slot of a token that is not written.
constexpr u32 NO_SLOT = 0xffffffffu;

#ifdef MAITRE_EMULATOR
#include <emulator/device.h>
#else

#define KERNEL extern "C" __global__ void
#define EXPORT(name) static_assert(true, "")
#define SHARED(name) extern __shared__ __align__(16) unsigned char name[]
#define DEVICE __device__ __forceinline__
#define MOST_THREADS(threads) __launch_bounds__(threads)

// Two numbers rounded to bf16, to nearest with ties to even: `low` in the lower half of the word.
DEVICE u32 pack_bf16(float low, float high) {
    u32 word;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
    return word;
}

// (bits & mask) | set. Compilers make two instructions of it where two of the words are constants.
DEVICE u32 select_bits(u32 bits, u32 mask, u32 set) {
    u32 word;
    asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(word) : "r"(bits), "r"(mask), "r"(set));
    return word;
}

// a · b + c of two pairs of bf16. Kernels ask for it only where the result is exact.
DEVICE u32 fma_bf16x2(u32 a, u32 b, u32 c) {
    u32 word;
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(word) : "r"(a), "r"(b), "r"(c));
    return word;
}

// d += a · b: [16, 16] times [16, 8] of bf16, sums in f32. In PTX's words for lane l, with g = l / 4
// and t = l % 4 (PTX ISA, "Matrix Fragments for mma.m16n8k16"):
//   a[0] = A[g][2t, 2t+1]      a[1] = A[g+8][2t, 2t+1]   a[2] = A[g][2t+8, 2t+9]   a[3] = A[g+8][2t+8, 2t+9]
//   b[0] = B[2t, 2t+1][g]      b[1] = B[2t+8, 2t+9][g]
//   d[0] = D[g][2t]            d[1] = D[g][2t+1]         d[2] = D[g+8][2t]         d[3] = D[g+8][2t+1]
DEVICE void mma_bf16(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Four 8 x 8 matrices of 16-bit numbers from shared memory. Lane l names row l % 8 of matrix l / 8, 16 bytes
// at a multiple of 16; it gets, of each matrix m, the two numbers [l / 4][2 (l % 4)] and the next in words[m].
DEVICE void load_matrix_x4(u32 (&words)[4], const void* row) {
    const u32 address = static_cast<u32>(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
                 : "r"(address)
                 : "memory");
}

// The same, each matrix transposed: the lane gets [2 (l % 4)][l / 4] and the number below.
DEVICE void load_matrix_x4_transposed(u32 (&words)[4], const void* row) {
    const u32 address = static_cast<u32>(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
                 : "r"(address)
                 : "memory");
}

// Starts to copy 16 bytes, aligned to 16, from global to shared memory; zeros if not `valid`, and then
// `from` is not read. Done when `copy_wait` says so, and seen by other threads after a `__syncthreads`.
DEVICE void copy_async_16(void* to, const void* from, bool valid) {
    const u32 address = static_cast<u32>(__cvta_generic_to_shared(to));
    const u32 bytes = valid ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 :
                 : "r"(address), "l"(from), "r"(bytes)
                 : "memory");
}

// What this thread has started since the last commit is one group.
DEVICE void copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until at most the newest `Pending` groups of this thread are still under way.
template <int Pending>
DEVICE void copy_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(Pending) : "memory");
}

// Kernels are launched before the one before them has ended, as soon as all of its blocks have said `let_next_begin`
// or have ended, so that a launch costs less and what depends on no kernel (weights) can be read early
// (CUDA programming guide, "Programmatic Dependent Launch"). Here a block waits until that kernel has ended.
DEVICE void wait_for_previous() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

DEVICE void let_next_begin() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// Makes a compiler keep a number in a register that it would make anew in each round of a loop.
DEVICE void keep(u32& word) { asm volatile("" : "+r"(word)); }

// 2^x with the GPU's own approximation: 2 units in the last place.
DEVICE float fast_exp2(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// 1 / x with the GPU's own approximation: 1 unit in the last place.
DEVICE float fast_reciprocal(float x) {
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

#endif

// Lets the kernel behind this one be launched, and waits for the one before. All that earlier kernels wrote can be
// read from here on, and what they read can be overwritten.
DEVICE void take_turn() {
    let_next_begin();
    wait_for_previous();
}

// Four numbers that one instruction loads or stores, and two words; addresses are multiples of their size.
struct alignas(16) Floats4 {
    float number[4];
};

struct alignas(8) Words2 {
    u32 word[2];
};

DEVICE float bf16_low(u32 word) { return __uint_as_float(word << 16); }
DEVICE float bf16_high(u32 word) { return __uint_as_float(word & 0xffff0000u); }
DEVICE float widen_bf16(u16 bits) { return __uint_as_float(static_cast<u32>(bits) << 16); }
DEVICE u16 round_bf16(float value) { return static_cast<u16>(pack_bf16(value, 0.0f)); }

// The sum over a warp, the same bits in every lane: a tree whose shape is always the same.
DEVICE float warp_sum(float value) {
    for (u32 step = WARP / 2; step > 0; step /= 2) {
        value = value + __shfl_xor_sync(ALL_LANES, value, step);
    }
    return value;
}

DEVICE float warp_max(float value) {
    for (u32 step = WARP / 2; step > 0; step /= 2) {
        value = fmaxf(value, __shfl_xor_sync(ALL_LANES, value, step));
    }
    return value;
}

// The sum over a block, in every thread. `scratch` has space for a float per warp; it may be used again after
// the next `__syncthreads`.
DEVICE float block_sum(float value, float* scratch) {
    value = warp_sum(value);
    const u32 warps = blockDim.x / WARP;
    if (threadIdx.x % WARP == 0) {
        scratch[threadIdx.x / WARP] = value;
    }
    __syncthreads();
    float sum = 0.0f;
    for (u32 warp = 0; warp < warps; warp++) {
        sum = sum + scratch[warp];
    }
    return sum;
}
