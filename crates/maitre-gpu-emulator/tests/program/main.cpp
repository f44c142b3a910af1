// Launches a kernel under several seeds, and prints a line for each: the numbers that it left, or what was wrong.
//
//   KERNEL BLOCKS THREADS SHARED_BYTES NUMBERS SEEDS [U32]
#include <emulator/emulator.h>

#include <cstdio>
#include <cstdlib>

int main(int argc, char** argv) {
    if (argc < 7) {
        return 2;
    }
    const auto number = [&](int at) { return static_cast<uint32_t>(std::strtoul(argv[at], nullptr, 10)); };
    const uint32_t grid[3] = {number(2), 1, 1};
    const uint32_t numbers = number(5);
    std::printf("%s\n", emulator_signature(argv[1]) == nullptr ? "none" : emulator_signature(argv[1]));
    for (uint32_t seed = 1; seed <= number(6); seed++) {
        emulator_heap* const heap = emulator_heap_new();
        uint32_t* out = static_cast<uint32_t*>(emulator_allocate(heap, numbers * sizeof(uint32_t)));
        uint32_t last = argc > 7 ? number(7) : 0;
        void* const args[] = {&out, &last};
        char message[1024] = "";
        emulator_seed(seed);
        if (emulator_launch(argv[1], grid, number(3), number(4), args, argc > 7 ? 2 : 1, message, sizeof message) != 0 ||
            emulator_check(heap, message, sizeof message) != 0) {
            std::printf("%s\n", message);
        } else {
            for (uint32_t i = 0; i < numbers; i++) {
                std::printf("%s%u", i == 0 ? "" : " ", out[i]);
            }
            std::printf("\n");
        }
        if (emulator_free(heap, out) != 0 || emulator_free(heap, out) == 0) {
            return 1;
        }
        emulator_heap_drop(heap);
    }
    return 0;
}
