//! Operators allocate nothing once the memory that the compute team reuses has grown.
#![allow(unsafe_code, clippy::unwrap_used, missing_docs)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use maitre_tensor::{
    Attention, Backend, BlockTables, Buffer, CpuPath, DType, KvFormat, LayerCache, LinearInput,
    RopeStore, Span, WeightFormat, WeightView,
};

/// The system's allocator, counting.
struct Counting;

thread_local! {
    /// Allocations of this thread; the test's own thread is the one that computes.
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call is passed on unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
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

/// Query heads, key heads, head size, rows.
const HEADS: usize = 4;
const KV_HEADS: usize = 2;
const DIM: usize = 32;
const ROWS: usize = 70;
const WIDTH: usize = HEADS * DIM;
const QKV: usize = (HEADS + 2 * KV_HEADS) * DIM;

#[test]
fn a_step_allocates_nothing() {
    for path in CpuPath::available() {
        let backend = Backend::with_path(1, path).unwrap();
        let formats = ["f32", "f16", "bf16", "int8", "int8-g32", "int4"];
        for format in formats.map(|name| name.parse().unwrap()) {
            assert_eq!(allocations(&backend, format), 0, "{path}, {format}");
        }
    }
}

/// Allocations of five steps after a first one.
fn allocations(backend: &Backend, format: WeightFormat) -> usize {
    let zeros = |len| Buffer::zeros(DType::F32, len).unwrap();
    let bytes = vec![0; QKV * WIDTH * 4];
    let view = WeightView {
        dtype: DType::F32,
        rows: QKV,
        cols: WIDTH,
        bytes: &bytes,
    };
    let weight = backend.pack(&[view], format).unwrap();
    let input = |cols| LinearInput::new(format.input(), cols, ROWS).unwrap();
    let mut normed = input(WIDTH);
    let (tokens, norm, table) = ([0; ROWS], zeros(WIDTH), zeros(ROWS * DIM / 2));
    let positions: Vec<u32> = (0..ROWS as u32).collect();
    let spans = [Span {
        first_token: 0,
        num_tokens: ROWS,
        context_len: ROWS,
    }];
    let tables = BlockTables {
        tables: vec![vec![0]],
        block_size: ROWS,
    };
    let mut cache = LayerCache::new(ROWS, KV_HEADS, DIM, KvFormat::Bf16).unwrap();
    let [mut x, mut y, mut q] = [(); 3].map(|()| zeros(ROWS * WIDTH));
    let gated = backend.pack_gated(view, view, format).unwrap();
    let (mut qkv, mut half) = (zeros(ROWS * QKV), zeros(ROWS * QKV));
    let mut step = || {
        backend.step(|| {
            backend.embed(&weight, &tokens, &mut x)?;
            backend.rms_norm(&x, &norm, 1e-6, &mut normed, ROWS)?;
            backend.linear(&normed, &weight, None, &mut qkv, 0..ROWS)?;
            backend.rope_and_store(RopeStore {
                qkv: &qkv,
                q_norm: None,
                k_norm: None,
                eps: 1e-6,
                cos: &table,
                sin: &table,
                positions: &positions,
                slots: &positions,
                heads: HEADS,
                kv_heads: KV_HEADS,
                head_dim: DIM,
                q_out: &mut q,
                cache: &mut cache,
            })?;
            backend.paged_attention(Attention {
                q: &q,
                cache: &cache,
                spans: &spans,
                tables: &tables,
                heads: HEADS,
                kv_heads: KV_HEADS,
                head_dim: DIM,
                scale: 1.0,
                window: None,
                out: &mut y,
            })?;
            backend.linear_silu_mul(&normed, &gated, None, &mut half, 0..ROWS)?;
            backend.encode(&y, &mut normed, ROWS)?;
            backend.gather_rows(&x, WIDTH, &tokens, &mut y)?;
            backend.add_rms_norm(&mut x, &y, &norm, 1e-6, &mut normed, ROWS)
        })
    };
    step().unwrap();
    let before = ALLOCATIONS.get();
    (0..5).for_each(|_| step().unwrap());
    ALLOCATIONS.get() - before
}
