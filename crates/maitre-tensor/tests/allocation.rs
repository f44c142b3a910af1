//! Operators of a step allocate nothing, on any thread, once memory has been reserved for it.
//!
//! A program of its own, without the test harness, whose main thread would allocate meanwhile.
#![allow(unsafe_code, clippy::unwrap_used, missing_docs)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use maitre_tensor::{
    Activation, Attention, Backend, BlockTables, Buffer, CpuPath, DType, KvFormat, LargestStep,
    LayerCache, LinearInput, PackedWeight, RopeStore, Span, TensorError, WeightFormat, WeightView,
};

/// The system's allocator, counting.
struct Counting;

/// Allocations of all threads.
static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::SeqCst);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(start, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Query heads, key heads, head size, rows, positions.
const HEADS: usize = 4;
const KV_HEADS: usize = 2;
const DIM: usize = 32;
const ROWS: usize = 100;
const SLOTS: usize = 1200;
const WIDTH: usize = HEADS * DIM;
const QKV: usize = (HEADS + 2 * KV_HEADS) * DIM;
/// Features of an input so long that its rows, widened, take more than all else.
const LONG: usize = 2048;
/// Most rows of such an input.
const FEW_ROWS: usize = 12;

/// Token rows and context length of steps, the smallest first: decoding with contexts of one, two
/// and three chunks, which several threads divide, and prompts of which one thread alone makes
/// tiles as large as they get.
const STEPS: [(usize, usize); 9] = [
    (1, 1),
    (1, 600),
    (1, SLOTS),
    (2, SLOTS),
    (7, 7),
    (8, 8),
    (12, 12),
    (ROWS, ROWS),
    (ROWS, 700),
];

fn main() {
    for path in CpuPath::available() {
        for threads in [1, 2, 4] {
            for kv in [KvFormat::F32, KvFormat::Bf16, KvFormat::Int8] {
                for block_size in [16, 5] {
                    check(path, threads, "bf16", kv, block_size);
                }
            }
            for format in ["f32", "f16", "int8", "int8-g32", "int4"] {
                check(path, threads, format, KvFormat::Bf16, 16);
            }
        }
    }
}

/// Takes the smallest step, then counts the allocations of each.
fn check(path: CpuPath, threads: usize, format: &str, kv: KvFormat, block_size: usize) {
    let mut layer = Layer::new(path, threads, format.parse().unwrap(), kv, block_size);
    let steps = STEPS.map(|(rows, context)| Step::new(rows, context, block_size));
    layer.run(&steps[0]).unwrap();
    for (step, (rows, context)) in steps.iter().zip(STEPS) {
        let before = ALLOCATIONS.load(Ordering::SeqCst);
        let result = layer.run(step);
        let allocations = ALLOCATIONS.load(Ordering::SeqCst) - before;
        result.unwrap();
        assert_eq!(
            allocations, 0,
            "{path}, {threads} threads, {format}, {kv} cache in blocks of {block_size}: \
             {rows} rows with context {context}"
        );
    }
}

/// One sequence of which some last rows are computed.
struct Step {
    rows: usize,
    positions: Vec<u32>,
    tokens: Vec<u32>,
    spans: [Span; 1],
    tables: BlockTables,
}

impl Step {
    fn new(rows: usize, context_len: usize, block_size: usize) -> Self {
        let blocks = context_len.div_ceil(block_size) as u32;
        Self {
            rows,
            positions: (context_len - rows..context_len)
                .map(|p| p as u32)
                .collect(),
            tokens: vec![0; rows],
            spans: [Span {
                first_token: 0,
                num_tokens: rows,
                context_len,
            }],
            tables: BlockTables {
                first_blocks: Vec::new(),
                tables: vec![(0..blocks).collect()],
                block_size,
            },
        }
    }
}

/// Every operator once, of a model with one layer.
struct Layer {
    backend: Backend,
    weight: PackedWeight,
    gated: PackedWeight,
    long_weight: PackedWeight,
    norm: Buffer,
    angles: Buffer,
    cache: LayerCache,
    x: Buffer,
    y: Buffer,
    q: Buffer,
    qkv: Buffer,
    half: Buffer,
    activated: LinearInput,
    normed: LinearInput,
    long: LinearInput,
}

impl Layer {
    /// Reserves memory as the engine does.
    fn new(
        path: CpuPath,
        threads: usize,
        format: WeightFormat,
        kv: KvFormat,
        block_size: usize,
    ) -> Self {
        let backend = Backend::with_path(threads, path).unwrap();
        let zeros = |len| Buffer::zeros(DType::F32, len).unwrap();
        let bytes = vec![0; QKV * WIDTH * 4];
        let view = WeightView {
            dtype: DType::F32,
            rows: QKV,
            cols: WIDTH,
            bytes: &bytes,
        };
        let normed = LinearInput::new(format.input(), WIDTH, ROWS).unwrap();
        let activated = LinearInput::new(format.input(), QKV, ROWS).unwrap();
        let long = LinearInput::new(format.input(), LONG, FEW_ROWS).unwrap();
        let long_bytes = vec![0; DIM * LONG * 4];
        let long_view = WeightView {
            rows: DIM,
            cols: LONG,
            bytes: &long_bytes,
            ..view
        };
        let cache = LayerCache::new(SLOTS, KV_HEADS, DIM, kv).unwrap();
        let weight = backend.pack(&[view], format).unwrap();
        let long_weight = backend.pack(&[long_view], format).unwrap();
        let gated = backend
            .pack_gated(view, view, Activation::Silu, format)
            .unwrap();
        backend
            .reserve(LargestStep {
                inputs: &[&normed, &activated, &long],
                cache: &cache,
                block_size,
                heads: HEADS,
                rows: ROWS,
                context_len: SLOTS,
                list_words: 0,
            })
            .unwrap();
        Self {
            backend,
            weight,
            gated,
            long_weight,
            norm: zeros(WIDTH),
            angles: zeros(SLOTS * DIM / 2),
            cache,
            x: zeros(ROWS * WIDTH),
            y: zeros(ROWS * WIDTH),
            q: zeros(ROWS * WIDTH),
            qkv: zeros(ROWS * QKV),
            half: zeros(ROWS * QKV),
            activated,
            normed,
            long,
        }
    }

    fn run(&mut self, step: &Step) -> Result<(), TensorError> {
        let rows = step.rows;
        let (backend, normed) = (&self.backend, &mut self.normed);
        backend.step(|| {
            backend.embed(&self.weight, &step.tokens, &mut self.x)?;
            backend.rms_norm(&self.x, &self.norm, 1e-6, normed, rows)?;
            backend.linear(normed, &self.weight, None, &mut self.qkv, 0..rows)?;
            backend.rope_and_store(RopeStore {
                qkv: &self.qkv,
                q_norm: None,
                k_norm: None,
                eps: 1e-6,
                cos: &self.angles,
                sin: &self.angles,
                q_factors: None,
                positions: &step.positions,
                slots: &step.positions,
                heads: HEADS,
                kv_heads: KV_HEADS,
                head_dim: DIM,
                rotary_dim: DIM,
                q_out: &mut self.q,
                cache: &mut self.cache,
            })?;
            backend.paged_attention(Attention {
                q: &self.q,
                cache: &self.cache,
                spans: &step.spans,
                tables: &step.tables,
                heads: HEADS,
                kv_heads: KV_HEADS,
                head_dim: DIM,
                scale: 1.0,
                score_bound: None,
                window: None,
                out: &mut self.y,
            })?;
            backend.linear_gated(normed, &self.gated, None, &mut self.half, 0..rows)?;
            let activated = (&mut self.half, &mut self.activated);
            backend.linear_gated_encoded(normed, &self.gated, None, activated, 0..rows)?;
            if rows <= FEW_ROWS {
                let (long, out) = (&self.long, &mut self.half);
                backend.linear(long, &self.long_weight, None, out, 0..rows)?;
            }
            backend.encode(&self.y, normed, rows)?;
            backend.gather_rows(&self.x, WIDTH, &step.tokens, &mut self.y)?;
            backend.add_rms_norm(&mut self.x, &self.y, &self.norm, 1e-6, normed, rows)
        })
    }
}
