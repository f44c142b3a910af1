//! The kernels of `cuda/attention*.cu` and what their blocks need.

use crate::gpu::{BoxedMatrix, GpuInfo};
use crate::{KvFormat, TensorError};

use super::CHUNK;

/// Positions per tile.
const TILE: usize = 32;

/// Tiles that a block holds in shared memory, and that one of a `_deep` kernel does.
const STAGES: usize = 2;
const DEEP_STAGES: usize = 4;

/// What kernels have in common.
const ANY: Kernel = Kernel {
    name: "",
    rows: 0,
    threads: 0,
    shared_bytes: 0,
    dim: 0,
    deep: None,
    blocks_per_multiprocessor: 4,
    fewest_parts: [2; 2],
    box_rows: None,
    begins_early: false,
};

/// One kernel of `cuda/attention*.cu`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kernel {
    pub(super) name: &'static str,
    /// Rows per item.
    pub(super) rows: usize,
    pub(super) threads: usize,
    pub(super) shared_bytes: usize,
    /// Numbers of a row in what a chunk leaves behind.
    pub(super) dim: usize,
    /// The same kernel with more stages, and its shared memory: for launches of few blocks, whose time is that of the
    /// reads that follow one another.
    pub(super) deep: Option<(&'static str, usize)>,
    /// Blocks per multiprocessor that contexts are cut for: what hides the latency of memory.
    pub(super) blocks_per_multiprocessor: usize,
    /// Fewest parts that are worth their records, of short contexts and of long ones.
    pub(super) fewest_parts: [usize; 2],
    /// Rows of the boxes in which it takes the cache, as a matrix before all other arguments; or it takes no boxes.
    pub(super) box_rows: Option<usize>,
    /// Whether a launch of few blocks is to begin while the one before it runs.
    pub(super) begins_early: bool,
}

/// Positions of a cell, and numbers of a row of a box.
const CELL: usize = 16;
const STRIP: usize = 64;

impl Kernel {
    /// Bytes that the chunks of cut contexts leave behind, as `cuda/attention.cuh` lays them out.
    pub(super) fn recorded_bytes(&self, blocks: usize, chunks: usize) -> usize {
        let record = self.rows * (self.dim + 2) * size_of::<f32>();
        blocks.saturating_mul(chunks).saturating_mul(record)
    }

    /// Hopper's kernel for spans of many rows, for these heads; blocks of the cache must be cells or several.
    pub(super) fn hopper(format: KvFormat, head_dim: usize, info: &GpuInfo) -> Option<Self> {
        const STAGES: usize = 8;
        const ALIGNED: usize = 1024;
        const ROWS: usize = 128;
        const BARRIERS: usize = STAGES * 16;
        let (name, dim) = match head_dim {
            33..=64 => ("attention_hopper_64", 64),
            97..=128 => ("attention_hopper_128", 128),
            _ => return None,
        };
        let stages = STAGES * TILE * 2 * 2 * dim;
        let queries = ROWS * (2 * dim + 16);
        let kernel = Self {
            name,
            rows: ROWS,
            threads: 3 * 128,
            shared_bytes: ALIGNED + stages + queries + BARRIERS,
            dim,
            blocks_per_multiprocessor: 1,
            fewest_parts: [3; 2],
            box_rows: Some(CELL),
            ..ANY
        };
        let fits = kernel.shared_bytes <= info.shared_bytes_per_block as usize;
        (format == KvFormat::Bf16 && fits).then_some(kernel)
    }

    /// Hopper's kernel for spans of few rows, for these heads; blocks of the cache must be cells or several.
    pub(super) fn few_hopper(format: KvFormat, head_dim: usize, info: &GpuInfo) -> Option<Self> {
        const ALIGNED: usize = 1024;
        const ROWS: usize = 16;
        const WARPS: usize = CHUNK / TILE;
        const WARP: usize = 32;
        let (name, dim, slots) = match head_dim {
            33..=64 => ("attention_hopper_few_64", 64, 2),
            97..=128 => ("attention_hopper_few_128", 128, 1),
            _ => return None,
        };
        let chunks = slots * CHUNK * 2 * 2 * dim;
        // Words of weights and sums, for each lane; largest scores; barriers.
        let exchanged = WARPS * (WARP * (8 + 2) + ROWS) * size_of::<f32>();
        let kernel = Self {
            name,
            rows: ROWS,
            threads: WARPS * WARP,
            shared_bytes: ALIGNED + chunks + exchanged + slots * WARPS * 8,
            dim,
            blocks_per_multiprocessor: 3,
            box_rows: Some(2 * CELL),
            begins_early: true,
            // A block alone walks 37 GB/s of an H100's 3,000. Where 80 of them fill it, parts cost their records and a
            // second launch, and gain only where one context is much longer than the others.
            fewest_parts: [5, 3],
            ..ANY
        };
        let fits = kernel.shared_bytes <= info.shared_bytes_per_block as usize;
        (format == KvFormat::Bf16 && fits).then_some(kernel)
    }

    /// The kernels for spans of few rows and of many. The second is the first where there is no other.
    pub(super) fn of(
        format: KvFormat,
        head_dim: usize,
        info: &GpuInfo,
    ) -> Result<[Self; 2], TensorError> {
        let dims = [32, 64, 96, 128, 256];
        let Some(at) = dims.iter().position(|&dim| head_dim <= dim) else {
            return Err(TensorError::NotOnGpu {
                operator: "paged_attention",
                found: format!("a head of {head_dim} elements"),
                instead: "heads of at most 256 elements, or the processor".to_owned(),
            });
        };
        let names = match format {
            KvFormat::F32 => {
                let kernel = Self {
                    name: "attention_f32",
                    rows: 4,
                    threads: 128,
                    shared_bytes: 4 * head_dim * size_of::<f32>(),
                    dim: head_dim,
                    ..ANY
                };
                return Ok([kernel; 2]);
            }
            KvFormat::Bf16 => [
                [
                    "attention_bf16_32_narrow",
                    "attention_bf16_32_wide",
                    "attention_bf16_32_deep",
                ],
                [
                    "attention_bf16_64_narrow",
                    "attention_bf16_64_wide",
                    "attention_bf16_64_deep",
                ],
                [
                    "attention_bf16_96_narrow",
                    "attention_bf16_96_wide",
                    "attention_bf16_96_deep",
                ],
                [
                    "attention_bf16_128_narrow",
                    "attention_bf16_128_wide",
                    "attention_bf16_128_deep",
                ],
                [
                    "attention_bf16_256_narrow",
                    "attention_bf16_256_wide",
                    "attention_bf16_256_deep",
                ],
            ],
            KvFormat::Int8 => [
                ["attention_int8_32_narrow", "attention_int8_32_wide", ""],
                ["attention_int8_64_narrow", "attention_int8_64_wide", ""],
                ["attention_int8_96_narrow", "attention_int8_96_wide", ""],
                ["attention_int8_128_narrow", "attention_int8_128_wide", ""],
                ["attention_int8_256_narrow", "attention_int8_256_wide", ""],
            ],
        };
        let kernel = |wide: usize| {
            let warps = if wide == 1 { 4 } else { 1 };
            Self {
                name: names[at][wide],
                rows: 16 * warps,
                threads: 32 * warps,
                shared_bytes: shared_bytes(format, dims[at], warps, STAGES),
                dim: dims[at],
                begins_early: wide == 0 && format == KvFormat::Bf16,
                deep: (wide == 0 && format == KvFormat::Bf16).then(|| {
                    (
                        names[at][2],
                        shared_bytes(format, dims[at], warps, DEEP_STAGES),
                    )
                }),
                ..ANY
            }
        };
        let [narrow, wide] = [kernel(0), kernel(1)];
        let most = info.shared_bytes_per_block as usize;
        Ok([
            narrow,
            if wide.shared_bytes <= most {
                wide
            } else {
                narrow
            },
        ])
    }
}

/// Whether Hopper's kernels take a cache whose blocks have so many positions.
pub(super) fn are_cells(block_size: usize) -> bool {
    block_size > 0 && block_size.is_multiple_of(CELL)
}

/// A cache of bf16 as a matrix: the rows of all cells, 16 of keys and 16 of values each. A box has so many of them.
pub(super) fn cells(bytes: usize, padded_dim: usize, box_rows: usize) -> BoxedMatrix {
    let row = 2 * padded_dim;
    BoxedMatrix {
        sizes: [padded_dim as u64, (bytes / row) as u64, 1, 1],
        strides: [row as u64, 0, 0],
        boxes: [STRIP as u32, box_rows as u32, 1, 1],
        rank: 2,
    }
}

/// Shared memory of `attention_<format>_<dim>`: stages, what each warp knows, and queries too large for
/// registers.
fn shared_bytes(format: KvFormat, dim: usize, warps: usize, stages: usize) -> usize {
    let (row, scales) = match format {
        KvFormat::Int8 => (dim, 2 * size_of::<f32>()),
        _ => (2 * dim, 0),
    };
    let stage = TILE * (2 * (row + 16) + scales);
    let known = 16 * dim * size_of::<f32>();
    let queries = if dim > 128 { 16 * (2 * dim + 16) } else { 0 };
    stages * stage + warps * (known + queries)
}
