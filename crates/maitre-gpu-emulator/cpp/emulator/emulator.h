// The emulator as the rest of the world sees it: compiled kernels by name, and memory for them.
//
// It runs kernels to find out whether they are right, not to be fast. What it reports as an error is what a
// GPU would answer with wrong numbers or a hang: warps that part before a warp-wide operation, threads that
// never reach a barrier, misaligned copies, writes past an allocation or past shared memory.
//
// It cannot see: blocks that wait for each other (they run one after the other: such a kernel hangs), reads
// past an allocation (they find NaN there), accesses of one word by two threads between the same two barriers
// where their order happens not to matter under the seeds that were tried.
//
// A multiplication of Hopper's is taken for one operation of its warpgroup: a thread that waited for it knows that all
// four warps have asked for it, and that it is done for them.
//
// Every call may come from any thread, several at once; calls for one heap come one at a time.
#pragma once

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// Runs `kernel` to its end: `grid` blocks of `threads` threads with `shared_bytes` of shared memory each.
// `args[i]` points to the value of its parameter i. 0: it ran. Otherwise a message, cut at `message_len`
// bytes with its final zero, says what went wrong; what the kernel should have written is then unspecified.
int emulator_launch(const char* kernel, const uint32_t grid[3], uint32_t threads, uint32_t shared_bytes,
                    void* const* args, uint32_t num_args, char* message, size_t message_len);

// A letter for each parameter of a kernel: p a pointer, u uint32_t, i int32_t, f float, ? any other.
// Null if there is no such kernel.
const char* emulator_signature(const char* kernel);

// Sets the order in which this thread's launches from now on run what no synchronisation orders: threads,
// blocks, the landing of copies. 0, as in the beginning: that of the environment's MAITRE_EMULATOR_SEED, or 1.
void emulator_seed(uint64_t seed);

// Memory with guard zones.
struct emulator_heap;
struct emulator_heap* emulator_heap_new(void);
void emulator_heap_drop(struct emulator_heap* heap);

// `bytes` zero bytes at a multiple of 256; null when there is no memory left.
void* emulator_allocate(struct emulator_heap* heap, size_t bytes);

// 0: given back. 1: `start` is no live allocation of this heap.
int emulator_free(struct emulator_heap* heap, void* start);

// Whether the bytes lie within one live allocation (its end counts, if `bytes` is 0).
int emulator_holds(const struct emulator_heap* heap, const void* start, size_t bytes);

// 0: nothing was written outside of allocations. Otherwise a message says where; it is said once.
int emulator_check(struct emulator_heap* heap, char* message, size_t message_len);

#ifdef __cplusplus
}
#endif
