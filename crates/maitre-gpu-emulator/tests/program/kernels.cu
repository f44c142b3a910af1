// Kernels in CUDA's own words, right and wrong.
#include <emulator/device.h>

// Any grid: which thread it is, counted from 1 over all blocks.
KERNEL count_threads(u32* out) {
    wait_for_previous();
    const u32 thread = blockIdx.x * blockDim.x + threadIdx.x;
    out[thread] = thread + 1;
}
EXPORT(count_threads);

// One block of at most 64 threads, 4 bytes a thread: the numbers of its threads, turned by one; without the barrier
// they may be anything.
KERNEL turn(u32* out, u32 with_barrier) {
    wait_for_previous();
    SHARED(shared);
    u32* const scratch = reinterpret_cast<u32*>(shared);
    scratch[threadIdx.x] = threadIdx.x;
    if (with_barrier != 0) {
        __syncthreads();
    }
    out[threadIdx.x] = scratch[(threadIdx.x + 1) % blockDim.x];
}
EXPORT(turn);

// One warp: each lane's neighbour; lanes from `from` on leave before.
KERNEL swap_neighbours(u32* out, u32 from) {
    wait_for_previous();
    if (threadIdx.x >= from) {
        return;
    }
    out[threadIdx.x] = __shfl_xor_sync(0xffffffffu, threadIdx.x, 1);
}
EXPORT(swap_neighbours);

// Blocks whose threads from `from` on never come to the barrier.
KERNEL meet(u32* out, u32 from) {
    wait_for_previous();
    if (threadIdx.x < from) {
        __syncthreads();
    }
    out[threadIdx.x] = 1;
}
EXPORT(meet);

// Writes one number, wherever that is.
KERNEL write(u32* out, u32 at) {
    wait_for_previous();
    if (threadIdx.x == 0) {
        out[at] = 7;
    }
}
EXPORT(write);

// Does not wait for the kernel before it.
KERNEL hurry(u32* out) { out[threadIdx.x] = 1; }
EXPORT(hurry);
