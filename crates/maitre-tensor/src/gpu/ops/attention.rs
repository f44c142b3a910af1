//! Attention over the paged cache: how it is cut into blocks of threads.
//!
//! ```text
//! item    up to 16, 64, 128 (or for f32 4) rows of a span, a row being a token and one of the query heads that
//!         share a key head
//! grid    items x key heads x parts of the contexts
//! ```
//!
//! Spans of few rows have a launch of their own, with one warp per block, and those of more, with four that share what
//! they load. On Hopper, if the cache is bf16 in blocks of a multiple of 16, four warps share each chunk of a span of
//! few rows, and spans of more than 64 rows have a third launch, with two warpgroups. Where that leaves multiprocessors
//! without work, contexts are cut too, at the fixed boundaries of chunks, and a second kernel merges what the chunks
//! left behind. No result depends on it.

mod kernel;

use kernel::Kernel;

use super::norms::no_bound;
use super::{Device, at, bytes, bytes_mut};
use crate::gpu::device::DeviceTurn;
use crate::gpu::{Arg, DeviceBytes, GpuInfo, Grid};
use crate::operators::PagedAttention;
use crate::{Attention, KvFormat, LargestAttention, Span, TensorError};

/// Positions per chunk, as in `cuda/attention.cuh`.
const CHUNK: usize = 128;

/// Spans of more rows are shared by the warps of wide blocks. Narrow ones load a span's keys and values once
/// for each 16 rows.
const MOST_NARROW_ROWS: usize = 32;

/// Spans of more rows are for Hopper's kernel, where there is one: both of its warpgroups have some.
const MOST_WIDE_ROWS: usize = 64;

/// Blocks per multiprocessor of the kernels that have more stages.
const MOST_DEEP_BLOCKS: usize = 2;

/// Bytes that the chunks of cut contexts may leave behind: one sequence of 128 Ki positions and 8 key heads of
/// 128 elements takes half. Steps that would leave more do not cut contexts.
const MOST_RECORDED: usize = 128 << 20;

/// Chunks of a context that is short: 8,192 positions.
const SHORT: usize = 64;

/// Threads of the kernel that merges.
const MERGE_THREADS: usize = 128;

impl PagedAttention for Device {
    fn paged_attention(&self, args: Attention<'_>, _rows: usize) -> Result<(), TensorError> {
        if let Some(limit) = args.score_bound {
            return Err(no_bound("paged_attention", limit));
        }
        check_cells("paged_attention", args.cache.size_in_bytes())?;
        let (q, cache) = (bytes(args.q)?, args.cache.memory().checked()?);
        let out = bytes_mut(args.out)?;
        let kernels = self.attention_kernels(args.cache.format(), args.head_dim)?;
        let kernels = kernels.within(args.tables.block_size);

        let mut turn = self.turn();
        let context_bound = turn.context_bound(args.spans);
        let step = Step {
            group: args.heads / args.kv_heads,
            kv_heads: args.kv_heads,
            context_bound,
            window: args.window.unwrap_or(usize::MAX),
        };
        let launches: Vec<_> = classes(kernels, step.group, args.spans)
            .map(|class| class.plan(&step, args.spans, self.info()))
            .filter(|launch| launch.items > 0)
            .collect();
        if launches.is_empty() {
            return Ok(());
        }
        let recorded = launches.iter().map(|launch| launch.recorded).max();
        turn.reserve_scratch(recorded.unwrap_or(0))?;
        let lists = turn.spans(args.spans, args.tables)?;
        let shared = Shared {
            padded_dim: args.cache.padded_dim(),
            cache_bytes: args.cache.size_in_bytes(),
            factor: args.scale * std::f32::consts::LOG2_E,
            window: step.window.min(u32::MAX as usize),
            q,
            cache,
            lists,
            heads: args.heads,
            kv_heads: args.kv_heads,
            head_dim: args.head_dim,
            block_size: args.tables.block_size,
            num_spans: args.spans.len(),
        };
        let mut launches = launches.iter();
        launches.try_for_each(|launch| launch.queue(&turn, &shared, out))
    }
}

/// That kernels can count the bytes of a layer's keys and values, which they do in pieces of 16 and 32 bits.
pub(crate) fn check_cells(operator: &'static str, bytes: usize) -> Result<(), TensorError> {
    if u32::try_from(bytes / 16).is_ok() {
        return Ok(());
    }
    let expected = "less than 64 GiB per layer: use a smaller KV cache (--kv-cache-bytes), or keys and values of fewer \
                    bits (--kv-dtype)";
    Err(TensorError::Argument {
        operator,
        argument: "cache",
        expected: expected.to_owned(),
        actual: bytes.to_string(),
    })
}

impl Device {
    /// Bytes of scratch memory that no step within `largest` needs more of.
    pub(super) fn most_recorded(&self, largest: &LargestAttention) -> usize {
        let Ok(kernels) = self.attention_kernels(largest.format, largest.head_dim) else {
            return 0;
        };
        let group = largest.heads.div_ceil(largest.kv_heads.max(1));
        let chunks = largest.context_len.div_ceil(CHUNK);
        let recorded = kernels.all().map(|kernel| {
            // As in `Class::plan`: `alike` spans have at most twice the items there are rows for, and contexts
            // are not cut unless each block becomes two.
            let items = 2 * largest.rows * group.div_ceil(kernel.rows);
            let blocks = items.saturating_mul(largest.kv_heads);
            let blocks = blocks.min(wanted_blocks(&kernel, self.info()) / 2);
            kernel.recorded_bytes(blocks, chunks)
        });
        recorded.max().unwrap_or(0).min(MOST_RECORDED)
    }
}

/// Blocks that fill the device.
fn wanted_blocks(kernel: &Kernel, info: &GpuInfo) -> usize {
    info.multiprocessors as usize * kernel.blocks_per_multiprocessor
}

/// The kernels for spans of few rows and of more, and Hopper's for those of few and of many where there are such.
#[derive(Debug, Clone, Copy)]
struct Kernels {
    narrow: Kernel,
    wide: Kernel,
    few_hopper: Option<Kernel>,
    hopper: Option<Kernel>,
}

impl Kernels {
    fn all(self) -> impl Iterator<Item = Kernel> {
        let hopper = self.few_hopper.into_iter().chain(self.hopper);
        [self.narrow, self.wide].into_iter().chain(hopper)
    }

    /// Those that take blocks of so many positions; Hopper's for few rows instead of the other.
    fn within(self, block_size: usize) -> Self {
        if !kernel::are_cells(block_size) {
            return Self {
                hopper: None,
                ..self
            };
        }
        Self {
            narrow: self.few_hopper.unwrap_or(self.narrow),
            ..self
        }
    }
}

impl Device {
    fn attention_kernels(&self, format: KvFormat, head_dim: usize) -> Result<Kernels, TensorError> {
        let [narrow, wide] = Kernel::of(format, head_dim, self.info())?;
        let [few_hopper, hopper] = if self.has_hopper_kernels() {
            [Kernel::few_hopper, Kernel::hopper].map(|of| of(format, head_dim, self.info()))
        } else {
            [None; 2]
        };
        Ok(Kernels {
            narrow,
            wide,
            few_hopper,
            hopper,
        })
    }
}

/// What is to be computed, as far as plans depend on it.
struct Step {
    group: usize,
    kv_heads: usize,
    context_bound: usize,
    window: usize,
}

/// The spans that one kernel serves.
struct Class {
    kernel: Kernel,
    /// Spans of more rows,
    above_rows: usize,
    /// and of at most these.
    most_rows: usize,
}

/// The classes of spans, each with its kernel.
fn classes(kernels: Kernels, group: usize, spans: &[Span]) -> impl Iterator<Item = Class> {
    const ALL: usize = u32::MAX as usize;
    let Kernels {
        narrow,
        wide,
        hopper,
        ..
    } = kernels;
    let any_wide = spans
        .iter()
        .any(|it| it.num_tokens * group > MOST_NARROW_ROWS);
    let most_narrow = if any_wide && narrow != wide {
        MOST_NARROW_ROWS
    } else {
        ALL
    };
    let most_wide = match hopper {
        Some(_) if any_wide => MOST_WIDE_ROWS,
        _ => ALL,
    };
    let classes = [
        (narrow, 0, most_narrow),
        (wide, most_narrow, most_wide),
        (hopper.unwrap_or(wide), most_wide, ALL),
    ];
    let classes = classes.into_iter().filter(|(_, above, most)| above < most);
    classes.map(|(kernel, above_rows, most_rows)| Class {
        kernel,
        above_rows,
        most_rows,
    })
}

impl Class {
    fn plan(self, step: &Step, spans: &[Span], info: &GpuInfo) -> Launch {
        let rows = |span: &Span| span.num_tokens * step.group;
        let mine = |rows: usize| self.above_rows < rows && rows <= self.most_rows;
        let items = |span: &Span| {
            let rows = rows(span);
            if mine(rows) {
                rows.div_ceil(self.kernel.rows)
            } else {
                0
            }
        };
        let (all, most) = spans
            .iter()
            .map(items)
            .fold((0, 0), |(all, most), items| (all + items, most.max(items)));
        // Spans much alike are found without counting.
        let alike = spans.len() * most <= 2 * all
            && spans
                .iter()
                .all(|span| span.num_tokens == 0 || mine(rows(span)));
        let (items, per_span) = if alike {
            (spans.len() * most, most)
        } else {
            (all, 0)
        };
        let chunks = step.most_chunks(spans.iter().filter(|span| mine(rows(span))));
        let blocks = items * step.kv_heads;
        let recorded = self.kernel.recorded_bytes(blocks, chunks);
        let parts = chunks.min(wanted_blocks(&self.kernel, info) / blocks.max(1));
        let [of_short, of_long] = self.kernel.fewest_parts;
        let fewest = if chunks <= SHORT { of_short } else { of_long };
        let parts = if recorded <= MOST_RECORDED && parts >= fewest {
            parts
        } else {
            1
        };
        let most_rows = spans.iter().map(rows).filter(|&rows| mine(rows)).max();
        Launch {
            item_rows: self.kernel.rows.min(most_rows.unwrap_or(0)),
            class: self,
            items,
            per_span,
            chunks,
            parts,
            recorded: if parts > 1 { recorded } else { 0 },
        }
    }
}

impl Step {
    /// The most chunks that the rows of a span see.
    fn most_chunks<'s>(&self, spans: impl Iterator<Item = &'s Span>) -> usize {
        let tokens = spans.map(|span| span.num_tokens).max().unwrap_or(0);
        let all = self.context_bound.div_ceil(CHUNK);
        // Where the window begins within a chunk, one more.
        let seen = self.window.saturating_add(tokens).div_ceil(CHUNK) + 1;
        all.min(seen)
    }
}

/// What the launches of a step share.
struct Shared<'a> {
    q: &'a DeviceBytes,
    cache: &'a DeviceBytes,
    lists: [usize; 2],
    num_spans: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    padded_dim: usize,
    cache_bytes: usize,
    block_size: usize,
    window: usize,
    factor: f32,
}

/// A class of spans and how its work is cut up.
struct Launch {
    class: Class,
    items: usize,
    /// Items per span of a launch that counts all spans, or 0.
    per_span: usize,
    /// The most chunks of an item.
    chunks: usize,
    /// Parts of each context: 1 if it is walked by one block.
    parts: usize,
    /// Bytes that chunks leave behind; none if contexts are not cut.
    recorded: usize,
    /// The most rows of an item.
    item_rows: usize,
}

impl Launch {
    fn queue(
        &self,
        turn: &DeviceTurn<'_>,
        shared: &Shared<'_>,
        out: &mut DeviceBytes,
    ) -> Result<(), TensorError> {
        let kernel = self.class.kernel;
        let is_split = self.parts > 1;
        let mut args = vec![
            at(shared.q),
            at(shared.cache),
            turn.list_arg(shared.lists[0]),
            turn.list_arg(shared.lists[1]),
            at(out),
            if is_split {
                at(turn.scratch())
            } else {
                Arg::Nothing
            },
            Arg::U32(self.chunks),
            Arg::U32(shared.num_spans),
            Arg::U32(self.per_span),
            Arg::U32(self.class.above_rows),
            Arg::U32(self.class.most_rows),
            Arg::U32(shared.heads),
            Arg::U32(shared.kv_heads),
            Arg::U32(shared.head_dim),
            Arg::U32(shared.padded_dim),
            Arg::U32(shared.block_size),
            Arg::U32(shared.window),
            Arg::F32(shared.factor),
        ];
        let info = turn.device().info();
        let blocks = self.items * shared.kv_heads * self.parts;
        let is_few = blocks <= MOST_DEEP_BLOCKS * info.multiprocessors as usize;
        let most_bytes = info.shared_bytes_per_block as usize;
        let deep = kernel
            .deep
            .filter(|(_, bytes)| is_few && *bytes <= most_bytes);
        let (name, shared_bytes) = deep.unwrap_or((kernel.name, kernel.shared_bytes));
        let grid = Grid {
            blocks: [self.items, shared.kv_heads, self.parts],
            threads: kernel.threads,
            shared_bytes,
        };
        let mut with_cells = args.clone();
        if let Some(rows) = kernel.box_rows {
            let cells = kernel::cells(shared.cache_bytes, shared.padded_dim, rows);
            with_cells.insert(0, Arg::Matrix(shared.cache, 0, cells));
        }
        if kernel.begins_early && is_few {
            turn.queue().launch_early(name, grid, &with_cells)?;
        } else {
            turn.queue().launch(name, grid, &with_cells)?;
        }
        if !is_split {
            return Ok(());
        }
        args.extend([Arg::U32(kernel.rows), Arg::U32(kernel.dim)]);
        let grid = Grid {
            blocks: [self.items, shared.kv_heads, self.item_rows],
            ..Grid::of(1, MERGE_THREADS)
        };
        turn.queue().launch_early("attention_merge", grid, &args)
    }
}
