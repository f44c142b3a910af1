// Kernels that try the words of `device.cuh`, right and wrong. `src/gpu/emulator/tests` launches them.
#include "../device.cuh"

// Any grid: which thread it is, counted from 1 over all blocks.
KERNEL test_indices(u32* out) {
    take_turn();
    const u32 block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
    out[block * blockDim.x + threadIdx.x] = block * blockDim.x + threadIdx.x + 1;
}
EXPORT(test_indices);

// One warp: out[0..5][lane].
KERNEL test_warp(u32* out, i32 offset) {
    take_turn();
    const u32 lane = threadIdx.x;
    out[lane] = __shfl_sync(ALL_LANES, lane * 3, lane + 5);
    out[WARP + lane] = static_cast<u32>(__shfl_xor_sync(ALL_LANES, static_cast<i32>(lane) + offset, 9));
    out[2 * WARP + lane] = __float_as_uint(__shfl_sync(ALL_LANES, static_cast<float>(lane) * 0.5f, 7));
    out[3 * WARP + lane] = __float_as_uint(warp_sum(static_cast<float>(lane)));
    out[4 * WARP + lane] = __ballot_sync(ALL_LANES, lane % 3 == 0);
    __syncwarp();
}
EXPORT(test_warp);

// One thread of one warp: numbers that the caller knows.
KERNEL test_words(u32* out, float x, u32 y) {
    take_turn();
    if (threadIdx.x == 0) {
        out[0] = static_cast<u32>(__popc(y));
        out[1] = static_cast<u32>(__clz(y));
        out[2] = static_cast<u32>(__clz(0));
        out[3] = __umulhi(y, y);
        out[4] = pack_bf16(x, -x);
        out[5] = __float_as_uint(bf16_low(out[4]));
        out[6] = __float_as_uint(fast_exp2(x));
        out[7] = __float_as_uint(fast_exp2(-127.0f));
        out[8] = pack_bf16(__uint_as_float(0x3f808000u), __uint_as_float(0x3f818000u));
        out[9] = pack_bf16(__uint_as_float(0xff800001u), __uint_as_float(0x7f7fffffu));
        out[10] = __byte_perm(0x33221100u, 0x77665544u, 0x7025u);
        out[11] = fma_bf16x2(pack_bf16(x, 2.0f), pack_bf16(4.0f, x), pack_bf16(-x, 64.0f));
    }
}
EXPORT(test_words);

// Any grid: counts the threads whose number has each remainder.
KERNEL test_atomics(u32* counts, u32 remainders) { take_turn(); atomicAdd(&counts[threadIdx.x % remainders], 1); }
EXPORT(test_atomics);

// One block: the sum of its numbers, from each thread.
KERNEL test_block_sum(const float* x, float* out) {
    take_turn();
    SHARED(shared);
    out[threadIdx.x] = block_sum(x[threadIdx.x], reinterpret_cast<float*>(shared));
}
EXPORT(test_block_sum);

// One warp: d[16, 8] += a[16, 16] · b[8, 16]^T, fragments dealt by hand.
KERNEL test_mma(const u32* a, const u32* b, float* d) {
    take_turn();
    const u32 g = threadIdx.x / 4, t = threadIdx.x % 4;
    const u32 rows[4] = {a[g * 8 + t], a[(g + 8) * 8 + t], a[g * 8 + t + 4], a[(g + 8) * 8 + t + 4]};
    const u32 cols[2] = {b[g * 8 + t], b[g * 8 + t + 4]};
    float sums[4] = {d[g * 8 + 2 * t], d[g * 8 + 2 * t + 1], d[(g + 8) * 8 + 2 * t], d[(g + 8) * 8 + 2 * t + 1]};
    mma_bf16(sums, rows, cols);
    for (u32 i = 0; i < 4; i++) {
        d[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = sums[i];
    }
}
EXPORT(test_mma);

// One warp, 512 bytes: the words of four 8 x 8 matrices of u16 whose number [m][row][col] is 64 m + 8 row + col;
// straight, then transposed. `shift` bytes from where they should be.
KERNEL test_load_matrix(u32* out, u32 shift) {
    take_turn();
    SHARED(shared);
    u16* const numbers = reinterpret_cast<u16*>(shared);
    for (u32 i = threadIdx.x; i < 256; i += WARP) {
        numbers[i] = static_cast<u16>(i);
    }
    __syncthreads();
    u32 words[4];
    load_matrix_x4(words, shared + threadIdx.x * 16 + shift);
    for (u32 m = 0; m < 4; m++) {
        out[m * WARP + threadIdx.x] = words[m];
    }
    load_matrix_x4_transposed(words, shared + threadIdx.x * 16 + shift);
    for (u32 m = 0; m < 4; m++) {
        out[(4 + m) * WARP + threadIdx.x] = words[m];
    }
}
EXPORT(test_load_matrix);

// One block, 32 bytes a thread: copies `from` in two groups, or zeros if not `valid`, waits for all but
// `pending` of them (not at all for 2), and writes what it then finds. `shift` numbers beside where it should.
KERNEL test_copy(const float* from, float* out, u32 pending, u32 valid, u32 shift) {
    take_turn();
    SHARED(shared);
    const u32 half = blockDim.x * 16;
    for (u32 group = 0; group < 2; group++) {
        copy_async_16(shared + group * half + threadIdx.x * 16, from + group * half / 4 + threadIdx.x * 4 + shift,
                      valid != 0);
        copy_commit();
    }
    if (pending == 0) {
        copy_wait<0>();
    } else if (pending == 1) {
        copy_wait<1>();
    }
    __syncthreads();
    for (u32 i = threadIdx.x; i < blockDim.x * 8; i += blockDim.x) {
        out[i] = reinterpret_cast<const float*>(shared)[i];
    }
}
EXPORT(test_copy);

// One block, 4 bytes a thread: out is x turned by `step`; without the barrier it may be anything.
KERNEL test_turn(const u32* x, u32* out, u32 step, u32 with_barrier) {
    take_turn();
    SHARED(shared);
    u32* const scratch = reinterpret_cast<u32*>(shared);
    scratch[threadIdx.x] = x[threadIdx.x];
    if (with_barrier != 0) {
        __syncthreads();
    }
    out[threadIdx.x] = scratch[(threadIdx.x + step) % blockDim.x];
}
EXPORT(test_turn);

// Two blocks of two warps, of which block 1 goes wrong in one of these ways.
//   0  a lane leaves before the others shuffle       1  lanes shuffle in two different lines
//   2  a warp leaves before the others' barrier      3  half of a warp waits for the other half at a barrier
//   4  a shuffle that does not name all lanes
KERNEL test_wrong(float* out, u32 way) {
    take_turn();
    const u32 thread = threadIdx.x;
    float value = 1.0f;
    if (blockIdx.x == 1) {
        if (way == 0 && thread == 40) {
            return;
        }
        if (way == 1 && thread % 2 == 0) {
            value = __shfl_xor_sync(ALL_LANES, value, 1);
        }
        if (way == 2 && thread >= WARP) {
            return;
        }
        if (way == 3 && thread < 16) {
            __syncthreads();
        }
        if (way == 4) {
            value = __shfl_xor_sync(0xffffu, value, 1);
        }
    }
    value = __shfl_xor_sync(ALL_LANES, value, 2);
    __syncthreads();
    out[blockIdx.x * blockDim.x + thread] = value;
}
EXPORT(test_wrong);

// Writes number `at` of an array in memory, and of the block's shared memory.
KERNEL test_write(u32* out, u32 at, u32 shared_at) {
    take_turn();
    SHARED(shared);
    if (threadIdx.x == 0) {
        out[at] = 7;
        reinterpret_cast<u32*>(shared)[shared_at] = 7;
    }
}
EXPORT(test_write);

// All types of parameters there are.
KERNEL test_types(double* out, u32 a, i32 b, float c, const u8* none) {
    take_turn();
    if (threadIdx.x == 0) {
        out[0] = none == nullptr ? static_cast<double>(a) + static_cast<double>(b) + static_cast<double>(c) : 0.0;
    }
}
EXPORT(test_types);
