// The products on tensor cores: one kernel per weight format and tile, see linear_tile.cuh.
//
// Grid: x = m / rows, y = outputs / features (gated: / half of them), rounded up; dynamic shared memory as
// `STAGES * STAGE` says. What a launch moves and does: 2·m·n·k operations; w once per row of tiles, x once per
// column of tiles (from the second-level cache all but once), 4·m·n bytes of output.
//
//   tile       threads  depth x stages  shared bytes bf16/int8/int4  for
//   16 x 32    128      128 x 6         73,728 (bf16 alone)          up to 16 rows, few features
//   16 x 64    128      128 x 3         61,440 (bf16 alone)          up to 16 rows, many features
//   64 x 32    128      128 x 4         98,304 / 81,920 / 75,776     up to 64 rows, few features
//   64 x 64    128       64 x 4         65,536 / 49,152 / 45,056     up to some hundred rows
//   128 x 128  256       64 x 3         98,304 / 73,728 / 67,584     as many rows as fill the device
//
// The tiles of bf16 are for GPUs other than Hopper, which has linear_hopper.cu.
//
// Up to 16 rows reading w is the work: 16 x 32 at n = 4096 is 128 blocks, about one for each of an H100's 132
// multiprocessors, each with 5 stages of 8 KiB of w under way, less the one that is waited for. 16 KiB is what a
// multiprocessor's share of 3.0 TB/s asks for at 700 ns a read. The chain of k / 16 dependent multiplications is a
// second floor. For integers it was above the reading (17.9 us for 3.1, int4, n = k = 4096, measured), so
// linear_split.cu multiplies them another way.
//
// From 17 to 64 rows 64 x 32 keeps twice as many multiprocessors busy as 64 x 64 where n is small, and reads
// x twice as often, from the second-level cache. At many rows each warp of 128 x 128 multiplies 64 x 32
// outputs: per chunk 6 KiB from shared memory for 32 multiplications, which at 128 bytes a cycle would keep `mma`
// at about 60 % of what `wgmma` reaches; measured were 36 %.
//
// Measured on an H100 (3.0 TB/s, 790 TFLOP/s of wgmma), which then had no other kernels; k = 4096, bf16, in
// microseconds:
//
//   m       n = 4096   gated n = 12288   bound by
//   1         14.1         68.8          reading w: 79 % and 97 % of the copy rate
//   64        17.5         78.7          reading w; x from the second-level cache
//   256       41.5        186            multiplying, at 26 % and 35 %
//   2048     246         1443            multiplying, at 36 %
#include "linear_tile.cuh"

namespace {

template <typename W>
using Tile16x32 = Tile<W, 16, 32, 128, 5, 1, 4>;
template <typename W>
using Tile16x64 = Tile<W, 16, 64, 128, 2, 1, 4>;
template <typename W>
using Tile64x32 = Tile<W, 64, 32, 128, 3, 2, 2>;
template <typename W>
using Tile64x64 = Tile<W, 64, 64, 64, 3, 2, 2>;
template <typename W>
using Tile128x128 = Tile<W, 128, 128, 64, 2, 2, 4>;

}  // namespace

// How many blocks a multiprocessor is to hold: bounds what registers the compiler may use.
#ifdef MAITRE_EMULATOR
#define AT_LEAST(blocks, tile)
#else
#define AT_LEAST(blocks, tile) __launch_bounds__(tile::THREADS, blocks)
#endif

#define LINEAR(name, weights, tile, blocks)                                                                 \
    KERNEL AT_LEAST(blocks, tile<weights>)                                                                  \
    name(const u16* x, const u8* w, const void* scales, const float* bias, float* out, u32 m, u32 n,        \
         u32 x_stride, u32 w_bytes, u32 scale_stride, u32 group_shift, u32 gated) {                         \
        take_turn();                                                                                        \
        SHARED(shared);                                                                                     \
        const Operands operands{x,        w,       scales,       bias,        out,       m, n,              \
                                x_stride, w_bytes, scale_stride, group_shift, gated};                  \
        multiply_tile<weights, tile<weights>>(operands, shared);                                            \
    }                                                                                                       \
    EXPORT(name)

LINEAR(linear_bf16_16x32, Bf16Weights, Tile16x32, 3);
LINEAR(linear_bf16_16x64, Bf16Weights, Tile16x64, 3);
LINEAR(linear_bf16_64x32, Bf16Weights, Tile64x32, 2);
LINEAR(linear_bf16_64x64, Bf16Weights, Tile64x64, 3);
LINEAR(linear_bf16_128x128, Bf16Weights, Tile128x128, 2);
LINEAR(linear_int8_64x32, Int8Weights, Tile64x32, 2);
LINEAR(linear_int8_64x64, Int8Weights, Tile64x64, 4);
// Sums of parts, and of groups, beside sums: 128 registers would not do.
LINEAR(linear_int8_128x128, Int8Weights, Tile128x128, 1);
LINEAR(linear_int4_64x32, Int4Weights, Tile64x32, 2);
LINEAR(linear_int4_64x64, Int4Weights, Tile64x64, 4);
LINEAR(linear_int4_128x128, Int4Weights, Tile128x128, 1);
