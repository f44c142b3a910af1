// Kernels by name, and what a launch has to look like.
#include <cstdio>
#include <map>
#include <string>

#include "block.h"
#include "emulator.h"

namespace emulator {
namespace {

// Filled before `main`, in the order of translation units, hence made when first asked for.
std::map<std::string, Kernel>& kernels() {
    static std::map<std::string, Kernel> kernels;
    return kernels;
}

const Kernel* find(const char* name) {
    const auto found = kernels().find(name);
    return found == kernels().end() ? nullptr : &found->second;
}

}  // namespace

void add_kernel(const char* name, const Kernel& kernel) { kernels().emplace(name, kernel); }

}  // namespace emulator

using emulator::Kernel;
using emulator::Machine;
using emulator::WARP;

extern "C" int emulator_launch(const char* kernel, const uint32_t grid[3], uint32_t threads, uint32_t shared_bytes,
                               void* const* args, uint32_t num_args, char* message, size_t message_len) {
    const Kernel* const found = emulator::find(kernel);
    if (found == nullptr) {
        std::snprintf(message, message_len, "there is no kernel %s", kernel);
        return 1;
    }
    if (num_args != found->num_params) {
        std::snprintf(message, message_len, "kernel %s takes %u arguments, but was given %u", kernel,
                      found->num_params, num_args);
        return 1;
    }
    if (threads == 0 || threads % WARP != 0 || threads > emulator::MAX_THREADS) {
        std::snprintf(message, message_len,
                      "kernel %s: blocks have 32 to %u threads, a multiple of 32, but %u were asked for", kernel,
                      emulator::MAX_THREADS, threads);
        return 1;
    }
    if (shared_bytes > emulator::MAX_SHARED_BYTES) {
        std::snprintf(message, message_len, "kernel %s: a block has at most %u bytes of shared memory, but %u were "
                      "asked for", kernel, emulator::MAX_SHARED_BYTES, shared_bytes);
        return 1;
    }
    if (grid[0] == 0 || grid[0] > 0x7fffffffu || grid[1] == 0 || grid[1] > 0xffffu || grid[2] == 0 ||
        grid[2] > 0xffffu) {
        std::snprintf(message, message_len,
                      "kernel %s: a grid of (%u, %u, %u) blocks; at least 1 of each and at most (2147483647, 65535, "
                      "65535) can be launched",
                      kernel, grid[0], grid[1], grid[2]);
        return 1;
    }
    Machine& machine = Machine::get();
    if (machine.run(kernel, *found, args, {grid[0], grid[1], grid[2]}, threads, shared_bytes)) {
        return 0;
    }
    std::snprintf(message, message_len, "%s", machine.message());
    return 1;
}

extern "C" const char* emulator_signature(const char* kernel) {
    const Kernel* const found = emulator::find(kernel);
    return found == nullptr ? nullptr : found->signature;
}

extern "C" void emulator_seed(uint64_t seed) { Machine::get().seed(seed); }
