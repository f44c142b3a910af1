// Names of types and the size of a warp, as kernels and the emulator know them.
#pragma once

#include <cstdint>

using u8 = std::uint8_t;
using u16 = std::uint16_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;
using i8 = std::int8_t;
using i32 = std::int32_t;

namespace emulator {

constexpr u32 WARP = 32;
constexpr u32 ALL_LANES = 0xffffffffu;

}  // namespace emulator
