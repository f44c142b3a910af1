//! Batch invariance of all operators together: one decoder layer, run alone, in crowds, in chunks.
//!
//! The layer is written here from the public operators. Each test feeds it the same sequences in
//! another arrangement and expects the same bits for every token of every sequence.

use std::ops::Range;

use maitre_tensor::{
    Attention, Backend, BlockTables, Buffer, CpuPath, InputFormat, KvFormat, LayerCache,
    LinearInput, NO_SLOT, PackedWeight, RopeStore, Span, WeightFormat,
};
use proptest::prelude::*;

use crate::numbers::{bits, buffer, decoded, gated, noise, unwritten, weight};

const HIDDEN: usize = 40;
const INTER: usize = 52;
const HEADS: usize = 4;
const KV_HEADS: usize = 2;
const DIM: usize = 24;
const VOCAB: usize = 30;
const MAX_POSITIONS: usize = 160;
const QKV: usize = (HEADS + 2 * KV_HEADS) * DIM;

/// One decoder layer with an embedding before and an output matrix after it.
struct Layer {
    embedding: PackedWeight,
    norm: Buffer,
    head_norm: Buffer,
    qkv: PackedWeight,
    qkv_bias: Buffer,
    output: PackedWeight,
    gate_up: PackedWeight,
    down: PackedWeight,
    cos: Buffer,
    sin: Buffer,
    window: Option<usize>,
}

/// Some tokens of one sequence: `(sequence, positions)`.
type Chunk = (usize, Range<usize>);

impl Layer {
    fn new(dtype: WeightFormat, window: Option<usize>) -> Self {
        let angles = noise(20, MAX_POSITIONS * DIM / 2);
        let table =
            |f: fn(f32) -> f32| buffer(&angles.iter().map(|a| f(a * 3.0)).collect::<Vec<_>>());
        Self {
            embedding: weight(10, VOCAB, HIDDEN, dtype).0,
            norm: buffer(&noise(11, HIDDEN)),
            head_norm: buffer(&noise(12, DIM)),
            qkv: weight(13, QKV, HIDDEN, dtype).0,
            qkv_bias: buffer(&noise(14, QKV)),
            output: weight(15, HIDDEN, HEADS * DIM, dtype).0,
            gate_up: gated(16, INTER, HIDDEN, dtype),
            down: weight(17, HIDDEN, INTER, dtype).0,
            cos: table(f32::cos),
            sin: table(f32::sin),
            window,
        }
    }

    /// One step; a pad token runs at the end of each batch. Returns each token's output row.
    fn step(&self, backend: &Backend, pool: &mut Pool, chunks: &[Chunk]) -> Vec<Vec<u32>> {
        let batch = pool.batch(chunks);
        let rows = batch.tokens.len();
        let [mut residual, mut delta] = [(); 2].map(|()| unwritten(rows * HIDDEN));
        let form = self.qkv.format().input();
        let input = |form, width| LinearInput::new(form, width, rows).unwrap();
        let mut normed = input(form, HIDDEN);
        let mut for_output = input(form, HEADS * DIM);
        let mut result = input(InputFormat::F32, HIDDEN);
        let mut qkv = unwritten(rows * QKV);
        let [mut q, mut attended] = [(); 2].map(|()| unwritten(rows * HEADS * DIM));
        let mut gated = unwritten(rows * INTER);
        let mut activated = input(form, INTER);
        attended.f32s_mut().unwrap().fill(0.0);
        let run = || {
            backend.embed(&self.embedding, &batch.tokens, &mut residual)?;
            backend.rms_norm(&residual, &self.norm, 1e-6, &mut normed, rows)?;
            backend.linear(&normed, &self.qkv, Some(&self.qkv_bias), &mut qkv, 0..rows)?;
            backend.rope_and_store(RopeStore {
                qkv: &qkv,
                q_norm: Some(&self.head_norm),
                k_norm: Some(&self.head_norm),
                eps: 1e-6,
                cos: &self.cos,
                sin: &self.sin,
                q_factors: None,
                positions: &batch.positions,
                slots: &batch.slots,
                heads: HEADS,
                kv_heads: KV_HEADS,
                head_dim: DIM,
                rotary_dim: DIM,
                q_out: &mut q,
                cache: &mut pool.cache,
            })?;
            backend.paged_attention(Attention {
                q: &q,
                cache: &pool.cache,
                spans: &batch.spans,
                tables: &batch.tables,
                heads: HEADS,
                kv_heads: KV_HEADS,
                head_dim: DIM,
                scale: 0.2,
                score_bound: None,
                window: self.window,
                out: &mut attended,
            })?;
            backend.encode(&attended, &mut for_output, rows)?;
            backend.linear(&for_output, &self.output, None, &mut delta, 0..rows)?;
            backend.add_rms_norm(&mut residual, &delta, &self.norm, 1e-6, &mut normed, rows)?;
            let outs = (&mut gated, &mut activated);
            backend.linear_gated_encoded(&normed, &self.gate_up, None, outs, 0..rows)?;
            backend.linear(&activated, &self.down, None, &mut delta, 0..rows)?;
            backend.add_rms_norm(&mut residual, &delta, &self.norm, 1e-6, &mut result, rows)
        };
        backend.step(run).unwrap();
        decoded(&result, rows)
            .chunks_exact(HIDDEN)
            .map(bits)
            .collect()
    }
}

struct Batch {
    tokens: Vec<u32>,
    positions: Vec<u32>,
    slots: Vec<u32>,
    spans: Vec<Span>,
    tables: BlockTables,
}

/// Cache and block tables of a few sequences.
struct Pool {
    cache: LayerCache,
    block_size: usize,
    tables: Vec<Vec<u32>>,
}

impl Pool {
    fn new(sequences: usize, block_size: usize, format: KvFormat) -> Self {
        let blocks = MAX_POSITIONS.div_ceil(block_size);
        let slots = sequences * blocks * block_size;
        // Blocks of the sequences alternate.
        let table = |sequence| (0..blocks).map(move |block| (block * sequences + sequence) as u32);
        Self {
            cache: LayerCache::new(slots, KV_HEADS, DIM, format).unwrap(),
            block_size,
            tables: (0..sequences)
                .map(|sequence| table(sequence).collect())
                .collect(),
        }
    }

    fn batch(&self, chunks: &[Chunk]) -> Batch {
        let mut batch = Batch {
            tokens: Vec::new(),
            positions: Vec::new(),
            slots: Vec::new(),
            spans: Vec::new(),
            tables: BlockTables {
                first_blocks: Vec::new(),
                tables: chunks
                    .iter()
                    .map(|(sequence, _)| self.tables[*sequence].clone())
                    .collect(),
                block_size: self.block_size,
            },
        };
        for (sequence, positions) in chunks {
            batch.spans.push(Span {
                first_token: batch.tokens.len(),
                num_tokens: positions.len(),
                context_len: positions.end,
            });
            for position in positions.clone() {
                let block = self.tables[*sequence][position / self.block_size] as usize;
                batch
                    .tokens
                    .push(((sequence * 31 + position * 7) % VOCAB) as u32);
                batch.positions.push(position as u32);
                batch
                    .slots
                    .push((block * self.block_size + position % self.block_size) as u32);
            }
        }
        batch.tokens.push(0);
        batch.positions.push(0);
        batch.slots.push(NO_SLOT);
        batch
    }
}

/// How a run is arranged.
struct Arrangement {
    threads: usize,
    block_size: usize,
    window: Option<usize>,
    steps: Vec<Vec<Chunk>>,
}

/// The bits of every token's output, by sequence and position.
fn outputs(
    path: CpuPath,
    dtypes: (WeightFormat, KvFormat),
    lengths: &[usize],
    run: &Arrangement,
) -> Vec<Vec<Vec<u32>>> {
    let layer = Layer::new(dtypes.0, run.window);
    let backend = Backend::with_path(run.threads, path).unwrap();
    let mut pool = Pool::new(lengths.len(), run.block_size, dtypes.1);
    let mut outputs = vec![Vec::new(); lengths.len()];
    for chunks in &run.steps {
        let mut rows = layer.step(&backend, &mut pool, chunks).into_iter();
        for (sequence, positions) in chunks {
            outputs[*sequence].extend(rows.by_ref().take(positions.len()));
        }
    }
    for (output, length) in outputs.iter().zip(lengths) {
        assert_eq!(output.len(), *length);
    }
    outputs
}

/// Every sequence by itself, whole, on one thread.
fn alone_and_whole(lengths: &[usize], window: Option<usize>) -> Arrangement {
    Arrangement {
        threads: 1,
        block_size: 16,
        window,
        steps: lengths
            .iter()
            .enumerate()
            .map(|(i, length)| vec![(i, 0..*length)])
            .collect(),
    }
}

/// Steps that advance each unfinished sequence by the chunk sizes given in turn; zero skips one.
fn interleaved(lengths: &[usize], sizes: &[usize]) -> Vec<Vec<Chunk>> {
    let mut done = vec![0; lengths.len()];
    let mut sizes = sizes.iter().copied().cycle();
    let mut steps = Vec::new();
    while done != lengths {
        let mut step = Vec::new();
        for (sequence, length) in lengths.iter().enumerate() {
            let size = sizes.next().unwrap().min(length - done[sequence]);
            if size > 0 {
                step.push((sequence, done[sequence]..done[sequence] + size));
                done[sequence] += size;
            }
        }
        steps.push(step);
    }
    steps
}

/// Formats of weights and cache.
const DTYPES: [(WeightFormat, KvFormat); 7] = [
    (WeightFormat::F32, KvFormat::F32),
    (WeightFormat::Bf16, KvFormat::Bf16),
    (WeightFormat::F16, KvFormat::Int8),
    (WeightFormat::Bf16, KvFormat::F32),
    (WeightFormat::INT8, KvFormat::Bf16),
    (
        WeightFormat::Int8 {
            activation_group: Some(32),
        },
        KvFormat::Int8,
    ),
    (WeightFormat::Int4 { group: 32 }, KvFormat::F32),
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn arrangement_changes_no_bit(
        lengths in proptest::collection::vec(1_usize..MAX_POSITIONS, 1..5),
        // The last size is never zero, so that every arrangement comes to an end.
        sizes in proptest::collection::vec(0_usize..60, 0..6),
        last in 1_usize..9,
        threads in 1_usize..4,
        block_size in prop_oneof![Just(1_usize), Just(5), Just(16)],
        window in prop_oneof![Just(None), (1_usize..100).prop_map(Some)],
        dtypes in proptest::sample::select(&DTYPES[..]),
    ) {
        let sizes = [sizes, vec![last; lengths.len()]].concat();
        let steps = interleaved(&lengths, &sizes);
        let run = Arrangement { threads, block_size, window, steps };
        for path in CpuPath::available() {
            let expected = outputs(path, dtypes, &lengths, &alone_and_whole(&lengths, window));
            prop_assert!(outputs(path, dtypes, &lengths, &run) == expected);
        }
    }
}

#[test]
fn token_by_token_equals_whole() {
    let lengths = [130, 64, 1];
    for (path, dtypes) in CpuPath::available().flat_map(|path| DTYPES.map(|d| (path, d))) {
        let window = Some(40).filter(|_| dtypes.1 != KvFormat::F32);
        let expected = outputs(path, dtypes, &lengths, &alone_and_whole(&lengths, window));
        for (threads, block_size) in [(1, 1), (2, 5), (3, 16)] {
            let run = Arrangement {
                threads,
                block_size,
                window,
                steps: interleaved(&lengths, &[1]),
            };
            assert!(outputs(path, dtypes, &lengths, &run) == expected);
        }
    }
}

/// A member that the system has descheduled holds a tile while the others work on.
#[test]
fn more_threads_than_cores_change_no_bit() {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let lengths = [130, 64, 1];
    for path in CpuPath::available() {
        for dtypes in [DTYPES[1], DTYPES[5]] {
            let expected = outputs(path, dtypes, &lengths, &alone_and_whole(&lengths, None));
            let run = Arrangement {
                threads: 4 * cores + 3,
                block_size: 16,
                window: None,
                steps: interleaved(&lengths, &[7, 1, 16]),
            };
            assert!(outputs(path, dtypes, &lengths, &run) == expected, "{path}");
        }
    }
}

#[test]
fn formats_differ_by_their_rounding_only() {
    let lengths = [70, 3];
    let run = |path, dtypes| {
        let rows = outputs(path, dtypes, &lengths, &alone_and_whole(&lengths, None))
            .concat()
            .concat();
        rows.into_iter().map(f32::from_bits).collect::<Vec<_>>()
    };
    let exact = run(CpuPath::Portable, DTYPES[0]);
    let largest = exact
        .iter()
        .fold(0.0_f32, |most, value| most.max(value.abs()));
    let tolerances = [1e-5, 5e-2, 2e-2, 5e-2, 1e-1, 1e-1, 5e-1];
    for path in CpuPath::available() {
        for (dtypes, tolerance) in DTYPES.into_iter().zip(tolerances) {
            for (value, exact) in run(path, dtypes).iter().zip(&exact) {
                let error = (value - exact).abs();
                assert!(
                    error <= tolerance * largest,
                    "{path}, {dtypes:?}: {value}, exactly {exact}, largest {largest}"
                );
            }
        }
    }
}
