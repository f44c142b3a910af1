// What CUDA's words, and those that `device.cuh` of `maitre-tensor` adds to them, mean on the processor. Kernels are
// compiled with this in place of what nvcc knows by itself.
//
// Words in which all threads of a warp or a block take part know the line they stand in (`Site`), so that
// an error can name it.
#pragma once

#include <math.h>

#include <cstddef>
#include <cstring>
#include <type_traits>
#include <utility>

#include "types.h"

// A matrix of bf16 as `Gpu::launch` describes it: sizes and strides (in bytes, of all but the first dimension) and the
// extents of a box.
struct Matrix {
    const unsigned char* base;
    u64 sizes[4];
    u64 strides[3];
    u32 box[4];
    u32 unused[12];
};
static_assert(sizeof(Matrix) == 128, "as the Rust side writes it");

namespace emulator {

struct Index {
    u32 x, y, z;
};

// A barrier in shared memory; the highest bit of `arrivals` is the parity of the phase that goes on.
struct alignas(8) Barrier {
    u16 arrivals;
    u16 pending;
    i32 bytes;
};

struct BoxAt {
    u32 at[4];
};

struct Site {
    const char* file;
    int line;
};

// The block's shared memory.
unsigned char* shared();

void barrier(Site site);
void warp_barrier(u32 mask, Site site);
// What lane `from` of the warp gave as `value`.
u32 shuffle(const char* operation, u32 mask, u32 value, u32 from, Site site);
u32 ballot(u32 mask, bool vote, Site site);
void multiply_accumulate(float* d, const u32* a, const u32* b, Site site);
void load_matrices(u32* words, const void* row, bool transposed, Site site);
void copy_start(void* to, const void* from, bool valid, Site site);
void copy_commit();
void copy_wait(int pending);
void barrier_init(Barrier* barrier, u32 arrivals, Site site);
void barrier_arrive(Barrier* barrier, u32 bytes, Site site);
void barrier_wait(Barrier* barrier, u32 parity, Site site);
void load_box(void* to, const Matrix* matrix, const BoxAt& at, Barrier* barrier, Site site);
void multiply_async(float* sums, u64 a, u64 b, u32 columns, Site site);
void multiply_held_async(float* sums, const u32* a, u64 b, u32 columns, bool keep, bool rows, Site site);
void multiply_commit();
void multiply_wait(int pending, Site site);
void wait_for_previous();

// A kernel without its parameter types.
struct Kernel {
    using Function = void (*)();
    Function function;
    void (*call)(Function function, void* const* args);
    const char* signature;
    u32 num_params;
};

void add_kernel(const char* name, const Kernel& kernel);

template <typename Param>
constexpr char letter() {
    return std::is_pointer_v<Param>        ? 'p'
           : std::is_same_v<Param, u32>   ? 'u'
           : std::is_same_v<Param, i32>   ? 'i'
           : std::is_same_v<Param, float> ? 'f'
           : std::is_same_v<Param, Matrix> ? 'm'
                                          : '?';
}

template <typename... Params>
struct Signature {
    static constexpr char letters[] = {letter<Params>()..., '\0'};
};

template <typename... Params, std::size_t... Index>
void unpack(void (*function)(Params...), [[maybe_unused]] void* const* args, std::index_sequence<Index...>) {
    function(*static_cast<Params*>(args[Index])...);
}

template <typename... Params>
void call(Kernel::Function function, void* const* args) {
    unpack(reinterpret_cast<void (*)(Params...)>(function), args, std::index_sequence_for<Params...>{});
}

// Makes a kernel known before `main` begins.
struct Registered {
    template <typename... Params>
    Registered(const char* name, void (*function)(Params...)) {
        add_kernel(name, Kernel{reinterpret_cast<Kernel::Function>(function), call<Params...>,
                                Signature<Params...>::letters, sizeof...(Params)});
    }
};

}  // namespace emulator

// As the default of a parameter: the line of the call. (With a type before it, GCC takes the line of the
// declaration.)
#define HERE \
    { __builtin_FILE(), __builtin_LINE() }

#define KERNEL extern "C" void
#define EXPORT(name) static const emulator::Registered registered_##name(#name, name)
#define SHARED(name) unsigned char* const name = emulator::shared()
#define DEVICE inline __attribute__((always_inline))
#define MOST_THREADS(threads)

// Of the thread that runs; set whenever another begins or goes on.
extern __thread emulator::Index threadIdx, blockIdx, blockDim, gridDim;

DEVICE u32 __float_as_uint(float value) {
    u32 bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

DEVICE float __uint_as_float(u32 bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

DEVICE int __popc(u32 bits) { return __builtin_popcount(bits); }
DEVICE int __clz(u32 bits) { return bits == 0 ? 32 : __builtin_clz(bits); }
DEVICE u32 __umulhi(u32 a, u32 b) { return static_cast<u32>(static_cast<u64>(a) * b >> 32); }
// The four bytes that the half bytes of `selector` name, the lowest first: 0 to 3 of `low`, 4 to 7 of `high`.
DEVICE u32 __byte_perm(u32 low, u32 high, u32 selector) {
    const u64 bytes = static_cast<u64>(high) << 32 | low;
    u32 word = 0;
    for (u32 i = 0; i < 4; i++) {
        word |= static_cast<u32>(bytes >> (selector >> 4 * i & 7u) * 8 & 0xffu) << 8 * i;
    }
    return word;
}
DEVICE u32 atomicAdd(u32* word, u32 value) { return __atomic_fetch_add(word, value, __ATOMIC_RELAXED); }

DEVICE void __syncthreads(emulator::Site site = HERE) { emulator::barrier(site); }
DEVICE void __syncwarp(u32 mask = emulator::ALL_LANES, emulator::Site site = HERE) { emulator::warp_barrier(mask, site); }

DEVICE u32 __shfl_sync(u32 mask, u32 value, u32 lane, emulator::Site site = HERE) {
    return emulator::shuffle("__shfl_sync", mask, value, lane % emulator::WARP, site);
}
DEVICE i32 __shfl_sync(u32 mask, i32 value, u32 lane, emulator::Site site = HERE) {
    return static_cast<i32>(__shfl_sync(mask, static_cast<u32>(value), lane, site));
}
DEVICE float __shfl_sync(u32 mask, float value, u32 lane, emulator::Site site = HERE) {
    return __uint_as_float(__shfl_sync(mask, __float_as_uint(value), lane, site));
}

DEVICE u32 __shfl_xor_sync(u32 mask, u32 value, u32 flipped, emulator::Site site = HERE) {
    return emulator::shuffle("__shfl_xor_sync", mask, value, (threadIdx.x ^ flipped) % emulator::WARP, site);
}
DEVICE i32 __shfl_xor_sync(u32 mask, i32 value, u32 flipped, emulator::Site site = HERE) {
    return static_cast<i32>(__shfl_xor_sync(mask, static_cast<u32>(value), flipped, site));
}
DEVICE float __shfl_xor_sync(u32 mask, float value, u32 flipped, emulator::Site site = HERE) {
    return __uint_as_float(__shfl_xor_sync(mask, __float_as_uint(value), flipped, site));
}

DEVICE u32 __ballot_sync(u32 mask, bool vote, emulator::Site site = HERE) {
    return emulator::ballot(mask, vote, site);
}

namespace emulator {

// Rounds to bf16, to nearest with ties to even; NaN becomes the one that GPUs make.
DEVICE u32 bf16_bits(float value) {
    const u32 bits = __float_as_uint(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) {
        return 0x7fffu;
    }
    return (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
}

// The two numbers of a word.
DEVICE float bf16_low(u32 word) { return __uint_as_float(word << 16); }
DEVICE float bf16_high(u32 word) { return __uint_as_float(word & 0xffff0000u); }

}  // namespace emulator

DEVICE u32 pack_bf16(float low, float high) {
    return emulator::bf16_bits(low) | emulator::bf16_bits(high) << 16;
}

DEVICE u32 select_bits(u32 bits, u32 mask, u32 set) { return (bits & mask) | set; }

// Rounds to f32 on the way: the bits of a GPU where nothing needs to be rounded.
DEVICE u32 fma_bf16x2(u32 a, u32 b, u32 c) {
    using emulator::bf16_high, emulator::bf16_low;
    return pack_bf16(fmaf(bf16_low(a), bf16_low(b), bf16_low(c)),
                     fmaf(bf16_high(a), bf16_high(b), bf16_high(c)));
}

DEVICE void mma_bf16(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2], emulator::Site site = HERE) {
    emulator::multiply_accumulate(d, a, b, site);
}

DEVICE void load_matrix_x4(u32 (&words)[4], const void* row, emulator::Site site = HERE) {
    emulator::load_matrices(words, row, false, site);
}

DEVICE void load_matrix_x4_transposed(u32 (&words)[4], const void* row, emulator::Site site = HERE) {
    emulator::load_matrices(words, row, true, site);
}

DEVICE void copy_async_16(void* to, const void* from, bool valid, emulator::Site site = HERE) {
    emulator::copy_start(to, from, valid, site);
}

DEVICE void copy_commit() { emulator::copy_commit(); }

template <int Pending>
DEVICE void copy_wait() {
    emulator::copy_wait(Pending);
}

DEVICE float fast_reciprocal(float x) {
    const float y = 1.0f / x;
    return fabsf(y) < 0x1p-126f ? copysignf(0.0f, y) : y;
}

// Kernels run one after the other here, but one that does not say this would not be safe on a GPU.
DEVICE void wait_for_previous() { emulator::wait_for_previous(); }
DEVICE void let_next_begin() {}

DEVICE void keep(u32&) {}

// Numbers too small for a normal f32 are zero, as on a GPU.
DEVICE float fast_exp2(float x) {
    const float y = exp2f(x);
    return y < 0x1p-126f ? 0.0f : y;
}
