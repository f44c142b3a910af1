// What memory without a value holds, and memory that no kernel may write.
//
// Every word is NaN, read as an f32 or as two bf16, and far outside of any array, read as an index. Words
// differ from place to place: a NaN that was read in one place and written to another is noticed there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace emulator {

// For the word that begins at `address`.
inline std::uint32_t poison(const unsigned char* address) {
    const auto place = static_cast<std::uint32_t>(reinterpret_cast<std::uintptr_t>(address));
    const std::uint32_t mixed = place * 0x9e3779b1u >> 16;
    return 0x7fc07fc0u | (mixed & 0x3fu) << 16 | (mixed >> 6 & 0x3fu);
}

inline void fill_with_poison(unsigned char* start, std::size_t bytes) {
    for (std::size_t done = 0; done < bytes; done += 4) {
        const std::uint32_t word = poison(start + done);
        std::memcpy(start + done, &word, bytes - done < 4 ? bytes - done : 4);
    }
}

// The first byte that is not as `fill_with_poison` left it; `bytes` if there is none.
inline std::size_t first_change(const unsigned char* start, std::size_t bytes) {
    for (std::size_t done = 0; done < bytes; done += 4) {
        const std::uint32_t word = poison(start + done);
        const std::size_t len = bytes - done < 4 ? bytes - done : 4;
        if (std::memcmp(start + done, &word, len) != 0) {
            return done;
        }
    }
    return bytes;
}

}  // namespace emulator
