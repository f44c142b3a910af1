// Memory whose surroundings are watched.
//
//   | guard: 256 bytes of NaN | allocation, zeroed, at a multiple of 256 | guard: 256 bytes of NaN |
//
// A kernel that writes past an allocation changes a guard, and one that reads there finds NaN.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <new>

#include "emulator.h"
#include "poison.h"

namespace {

constexpr size_t GUARD = 256;

struct Allocation {
    size_t bytes;
    // What the system gave.
    void* memory;
};

}  // namespace

struct emulator_heap {
    std::map<unsigned char*, Allocation> live;
};

extern "C" emulator_heap* emulator_heap_new(void) { return new (std::nothrow) emulator_heap; }

extern "C" void emulator_heap_drop(emulator_heap* heap) {
    for (const auto& [start, allocation] : heap->live) {
        std::free(allocation.memory);
    }
    delete heap;
}

extern "C" void* emulator_allocate(emulator_heap* heap, size_t bytes) {
    if (bytes > SIZE_MAX - 3 * GUARD) {
        return nullptr;
    }
    // Large allocations come zeroed from the system, and cost nothing where they are never touched.
    void* const memory = std::calloc(bytes + 3 * GUARD, 1);
    if (memory == nullptr) {
        return nullptr;
    }
    const auto first = reinterpret_cast<uintptr_t>(memory) + GUARD;
    auto* const start = reinterpret_cast<unsigned char*>((first + GUARD - 1) / GUARD * GUARD);
    emulator::fill_with_poison(start - GUARD, GUARD);
    emulator::fill_with_poison(start + bytes, GUARD);
    heap->live.emplace(start, Allocation{bytes, memory});
    return start;
}

extern "C" int emulator_free(emulator_heap* heap, void* start) {
    const auto found = heap->live.find(static_cast<unsigned char*>(start));
    if (found == heap->live.end()) {
        return 1;
    }
    std::free(found->second.memory);
    heap->live.erase(found);
    return 0;
}

extern "C" int emulator_holds(const emulator_heap* heap, const void* start, size_t bytes) {
    auto* const byte = static_cast<unsigned char*>(const_cast<void*>(start));
    auto after = heap->live.upper_bound(byte);
    if (after == heap->live.begin()) {
        return 0;
    }
    const auto& [first, allocation] = *--after;
    const size_t offset = static_cast<size_t>(byte - first);
    return offset <= allocation.bytes && bytes <= allocation.bytes - offset;
}

extern "C" int emulator_check(emulator_heap* heap, char* message, size_t message_len) {
    int found = 0;
    for (const auto& [start, allocation] : heap->live) {
        const size_t bytes = allocation.bytes;
        const size_t before = emulator::first_change(start - GUARD, GUARD);
        const size_t behind = emulator::first_change(start + bytes, GUARD);
        if (before == GUARD && behind == GUARD) {
            continue;
        }
        const long long at = before < GUARD ? static_cast<long long>(before) - static_cast<long long>(GUARD)
                                            : static_cast<long long>(bytes + behind);
        std::snprintf(message, message_len, "a kernel wrote near byte %lld of an allocation of %zu bytes", at, bytes);
        emulator::fill_with_poison(start - GUARD, GUARD);
        emulator::fill_with_poison(start + bytes, GUARD);
        found = 1;
    }
    return found;
}
