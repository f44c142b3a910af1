//! Attention over the paged cache.

mod hopper;
mod reserve;

use std::sync::Mutex;

use maitre_tensor::{
    Attention, Backend, BlockCopy, BlockTables, Buffer, DType, KvFormat, KvGroup, LayerCache,
    RecordedSteps, Span, StepLists, StepShape, TensorError,
};
use proptest::prelude::*;

use crate::{backends, generations, random, read};

const FORMATS: [KvFormat; 3] = [KvFormat::F32, KvFormat::Bf16, KvFormat::Int8];

/// Sequences of `(name, positions before, tokens now)`, and what surrounds them. What a sequence holds depends on
/// its name.
#[derive(Debug, Clone)]
struct Case {
    /// Key heads, queries per key head, elements.
    shape: (usize, usize, usize),
    format: KvFormat,
    block_size: usize,
    window: Option<usize>,
    sequences: Vec<(usize, usize, usize)>,
    /// What slots hold that were never written.
    garbage: f32,
    /// A position of each sequence whose value is not a number.
    bad: Option<usize>,
}

/// A case in the memory of a backend.
struct Batch {
    q: Buffer,
    cache: LayerCache,
    spans: Vec<Span>,
    group: KvGroup,
}

impl Case {
    fn new(
        shape: (usize, usize, usize),
        format: KvFormat,
        sequences: &[(usize, usize, usize)],
    ) -> Self {
        Self {
            shape,
            format,
            block_size: 16,
            window: None,
            sequences: sequences.to_vec(),
            garbage: f32::NAN,
            bad: None,
        }
    }

    /// The most that numbers may differ from the processor's, where values are in (-1, 1). A query of bf16 is
    /// 2^-9 off at most, and with it scores of up to 4; an int8 cache meets queries of 15 bits there.
    fn tolerance(&self) -> f32 {
        match self.format {
            KvFormat::F32 => 2e-6,
            KvFormat::Bf16 => 4e-3,
            KvFormat::Int8 => 1e-2,
        }
    }

    /// Blocks of the sequences alternate; those wholly behind the window have impossible numbers.
    fn on(&self, backend: &Backend) -> Batch {
        let (kv_heads, group, dim) = self.shape;
        let count = self.sequences.len();
        let blocks =
            |&(_, before, now): &(usize, usize, usize)| (before + now).div_ceil(self.block_size);
        let most = self.sequences.iter().map(blocks).max().unwrap_or(0);
        let slots = most * count * self.block_size;
        let mut cache = backend
            .host_cache(slots, kv_heads, dim, self.format)
            .unwrap();
        let garbage = vec![self.garbage; dim];
        for (slot, head) in (0..cache.slots()).flat_map(|s| (0..kv_heads).map(move |h| (s, h))) {
            cache.write(slot, head, &garbage, &garbage).unwrap();
        }
        let (mut spans, mut tables, mut q) = (Vec::new(), Vec::new(), Vec::new());
        let mut first_blocks = Vec::new();
        for (s, &(name, before, now)) in self.sequences.iter().enumerate() {
            let first_seen = (before + 1).saturating_sub(self.window.unwrap_or(usize::MAX));
            let seen = first_seen..before + now;
            for (p, head) in seen.flat_map(|p| (0..kv_heads).map(move |h| (p, h))) {
                let seed = ((name + 1) * 10_000 + p) * kv_heads + head;
                let (key, mut value) = (random(seed as u64, dim), random(!seed as u64, dim));
                if self.bad == Some(p) {
                    (value[0], value[dim - 1]) = (f32::NAN, f32::NEG_INFINITY);
                }
                let slot =
                    (p / self.block_size * count + s) * self.block_size + p % self.block_size;
                cache.write(slot, head, &key, &value).unwrap();
            }
            let table = (0..most).map(|block| (block * count + s) as u32);
            let mut table: Vec<u32> = table.collect();
            // Blocks behind the window are impossible ones, or left out.
            let behind = first_seen / self.block_size;
            let left_out = if s % 2 == 0 { behind } else { behind / 2 };
            table[..behind].fill(u32::MAX);
            tables.push(table.split_off(left_out));
            first_blocks.push(left_out as u32);
            spans.push(Span {
                first_token: q.len() / (kv_heads * group * dim),
                num_tokens: now,
                context_len: before + now,
            });
            for p in before..before + now {
                q.extend(random(
                    (1 << 40) + (name * 10_000 + p) as u64,
                    kv_heads * group * dim,
                ));
            }
        }
        Batch {
            q: backend.vector(&q).unwrap(),
            cache: moved(backend, cache),
            spans,
            group: KvGroup {
                tables: BlockTables {
                    tables,
                    first_blocks,
                    block_size: self.block_size,
                },
                slots: Vec::new(),
            },
        }
    }

    fn run(&self, backend: &Backend) -> Vec<f32> {
        let batch = self.on(backend);
        let mut out = backend.zeros(DType::F32, batch.q.len()).unwrap();
        self.attend(backend, &batch, &mut out).unwrap();
        read(backend, &out)
    }

    fn attend(
        &self,
        backend: &Backend,
        batch: &Batch,
        out: &mut Buffer,
    ) -> Result<(), TensorError> {
        let (kv_heads, group, head_dim) = self.shape;
        backend.paged_attention(Attention {
            q: &batch.q,
            cache: &batch.cache,
            spans: &batch.spans,
            tables: &batch.group.tables,
            heads: kv_heads * group,
            kv_heads,
            head_dim,
            scale: 2.0 / (head_dim as f32).sqrt(),
            score_bound: None,
            window: self.window,
            out,
        })
    }
}

/// The same cache where the backend computes.
fn moved(backend: &Backend, cache: LayerCache) -> LayerCache {
    let (slots, kv_heads) = (cache.slots(), cache.kv_heads());
    let mut target = backend
        .cache(slots, kv_heads, cache.head_dim(), cache.format())
        .unwrap();
    let copies: Vec<_> = (0..slots as u32 / 16)
        .map(|block| BlockCopy {
            from: block,
            to: block,
            positions: 16,
        })
        .collect();
    backend
        .copy_blocks_from(&cache, &mut target, 16, &copies)
        .unwrap();
    target
}

fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|number| number.to_bits()).collect()
}

fn any_case() -> impl Strategy<Value = Case> {
    let shape = (
        1_usize..3,
        prop::sample::select(vec![1, 2, 4, 8]),
        prop::sample::select(vec![1, 8, 16, 64, 80, 128]),
    );
    let window = prop_oneof![Just(None), (1_usize..80).prop_map(Some)];
    let sequences = prop::collection::vec((0_usize..90, 0_usize..12), 1..5);
    (
        (shape, window, sequences),
        prop::sample::select(FORMATS.to_vec()),
        prop::sample::select(vec![1, 8, 16, 24, 32]),
        prop::sample::select(vec![0.0, f32::NAN, f32::INFINITY]),
    )
        .prop_map(
            |((shape, window, sequences), format, block_size, garbage)| {
                let named = sequences.into_iter().enumerate();
                let named: Vec<_> = named
                    .map(|(name, (before, now))| (name, before, now))
                    .collect();
                Case {
                    block_size,
                    window,
                    garbage,
                    ..Case::new(shape, format, &named)
                }
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn ragged_batches_agree_with_the_processors(case in any_case()) {
        let all = case.run(&Backend::cpu(1).unwrap());
        for gpu in generations(true) {
            for (expected, actual) in all.iter().zip(case.run(&gpu)) {
                let close = (expected - actual).abs() <= case.tolerance();
                prop_assert!(close, "{actual}, but {expected} on the processor");
            }
        }
    }

    #[test]
    fn blocks_and_garbage_change_no_bit(case in any_case()) {
        let other = Case { block_size: 40 - case.block_size, garbage: -1.0, ..case.clone() };
        for gpu in generations(true) {
            prop_assert!(bits(&case.run(&gpu)) == bits(&other.run(&gpu)));
        }
    }
}

#[test]
fn chunks_crowds_and_split_contexts_change_no_bit() {
    let Some((cpu, gpu)) = backends() else { return };
    for (format, window) in FORMATS
        .into_iter()
        .flat_map(|f| [None, Some(300)].map(|w| (f, w)))
    {
        let shape = (1, 2, 24);
        let case = |sequences: &[(usize, usize, usize)]| Case {
            window,
            ..Case::new(shape, format, sequences)
        };
        let row = shape.1 * shape.2;
        // One long prompt: wide blocks, and few enough that contexts are cut.
        let prompt = case(&[(0, 500, 60)]);
        let whole = prompt.run(&gpu);
        for (expected, actual) in prompt.run(&cpu).iter().zip(&whole) {
            assert!(
                (expected - actual).abs() <= prompt.tolerance(),
                "{format}: {actual}, not {expected}"
            );
        }
        let whole = bits(&whole);
        // Its parts by narrow blocks, alone: a chunk per block.
        for (before, now) in [(500, 3), (511, 1), (512, 2), (559, 1)] {
            let alone = bits(&case(&[(0, before, now)]).run(&gpu));
            assert!(
                alone == whole[(before - 500) * row..][..now * row],
                "{format} {window:?}"
            );
        }
        // Its last tokens in a crowd so large that nothing is cut.
        let mut crowd = vec![(0, 557, 3)];
        crowd.extend((1..40).map(|name| (name, name % 7, 1)));
        let crowd = bits(&case(&crowd).run(&gpu));
        assert!(crowd[..3 * row] == whole[57 * row..], "{format} {window:?}");
        // In the company of another prompt: narrow and wide blocks in one step, found by counting.
        let mixed = bits(&case(&[(1, 4, 2), (2, 0, 70), (0, 530, 30), (3, 9, 1)]).run(&gpu));
        assert!(
            mixed[72 * row..102 * row] == whole[30 * row..],
            "{format} {window:?}"
        );
    }
}

#[test]
fn what_is_not_a_number_stays_with_those_that_see_it() {
    let Some((_, gpu)) = backends() else { return };
    for (format, window) in FORMATS
        .into_iter()
        .flat_map(|f| [None, Some(9)].map(|w| (f, w)))
    {
        let good = Case {
            window,
            ..Case::new((1, 2, 32), format, &[(0, 30, 40)])
        };
        let bad = Case {
            bad: Some(50),
            ..good.clone()
        };
        let (good, bad) = (good.run(&gpu), bad.run(&gpu));
        for (token, (good, bad)) in good.chunks(64).zip(bad.chunks(64)).enumerate() {
            let sees = token >= 20 && window.is_none_or(|window| token < 20 + window);
            for (good, bad) in good.chunks(32).zip(bad.chunks(32)) {
                if !sees {
                    assert_eq!(
                        bits(good),
                        bits(bad),
                        "{format} token {token}, window {window:?}"
                    );
                } else if format == KvFormat::Int8 {
                    // A scale stands for all of a value.
                    assert!(bad.iter().all(|number| number.is_nan()));
                } else {
                    assert!(bad[0].is_nan() && bad[31] == f32::NEG_INFINITY);
                    assert_eq!(
                        bits(&good[1..31]),
                        bits(&bad[1..31]),
                        "{format} token {token}"
                    );
                }
            }
        }
    }
}

#[test]
fn rows_between_spans_are_not_written() {
    let Some((_, gpu)) = backends() else { return };
    for format in FORMATS {
        let case = Case::new((1, 2, 8), format, &[(0, 3, 2), (1, 0, 3), (2, 5, 0)]);
        let mut batch = case.on(&gpu);
        batch.spans[1].first_token = 4;
        batch.spans[2].first_token = 7;
        batch.q = gpu.vector(&random(7, 9 * 16)).unwrap();
        let mut out = gpu.vector(&[7.0; 9 * 16]).unwrap();
        case.attend(&gpu, &batch, &mut out).unwrap();
        let out = read(&gpu, &out);
        let rows = out.chunks(16);
        let written: Vec<bool> = rows.map(|row| row.iter().all(|it| *it != 7.0)).collect();
        assert_eq!(
            written,
            [true, true, false, false, true, true, true, false, false]
        );
        assert!(out[32..64].iter().all(|it| *it == 7.0));
    }
}

#[test]
fn a_recorded_step_serves_other_contexts() {
    let Some((_, gpu)) = backends() else { return };
    for (format, dim) in FORMATS.into_iter().flat_map(|f| [16, 64].map(|d| (f, d))) {
        let shape = StepShape {
            rows: 3,
            context_bound: 1_024,
        };
        let case = |before: [usize; 3]| {
            let sequences = [(0, before[0], 1), (1, before[1], 1), (2, before[2], 1)];
            Case::new((1, 2, dim), format, &sequences)
        };
        // Recorded are the places of the first batch.
        let mut batch = case([800; 3]).on(&gpu);
        let [mut expected, out] = [0, 1].map(|_| gpu.zeros(DType::F32, batch.q.len()).unwrap());
        let out = Mutex::new(out);
        let mut recorded = RecordedSteps::default();
        // Recorded with three chunks, played with seven.
        for before in [
            [400, 9, 300],
            [300, 0, 299],
            [800, 255, 256],
            [20, 700, 512],
        ] {
            for (span, before) in batch.spans.iter_mut().zip(before) {
                span.context_len = before + 1;
            }
            let case = case(before);
            case.attend(&gpu, &batch, &mut expected).unwrap();
            let lists = StepLists {
                spans: &batch.spans,
                groups: std::slice::from_ref(&batch.group),
                ..StepLists::default()
            };
            let step = || case.attend(&gpu, &batch, &mut out.lock().unwrap());
            gpu.step_recorded(shape, lists, &mut recorded, step)
                .unwrap();
            let actual = read(&gpu, &out.lock().unwrap());
            assert_eq!(
                bits(&read(&gpu, &expected)),
                bits(&actual),
                "{format} {dim} {before:?}"
            );
        }
        assert_eq!(recorded.len(), 1, "{:?}", recorded.take_failure());
    }
}

#[test]
fn bad_input_is_refused() {
    let Some((_, gpu)) = backends() else { return };
    let case = Case::new((2, 2, 16), KvFormat::Bf16, &[(0, 20, 2), (1, 3, 1)]);
    type Break = fn(&mut Case, &mut Batch, &Backend);
    let table: [(&str, Break); 12] = [
        ("head_dim", |case, _, _| case.shape.2 = 0),
        ("kv_heads", |case, _, _| case.shape.0 = 0),
        ("heads", |case, _, _| case.shape.1 = 0),
        ("window", |case, _, _| case.window = Some(0)),
        ("cache", |case, _, _| case.shape.0 = 1),
        ("q", |_, batch, gpu| {
            batch.q = gpu.vector(&[0.0; 3 * 64 - 1]).unwrap()
        }),
        ("q", |_, batch, _| {
            batch.q = Buffer::zeros(DType::F32, 3 * 64).unwrap()
        }),
        ("spans", |_, batch, _| batch.spans[1].first_token = 1),
        ("spans", |_, batch, _| batch.spans[1].context_len = 0),
        ("tables", |_, batch, _| batch.spans[0].context_len = 33),
        ("tables", |_, batch, _| batch.group.tables.tables[1][0] = 4),
        ("tables.block_size", |_, batch, _| {
            batch.group.tables.block_size = 0
        }),
    ];
    for (argument, damage) in table {
        let mut case = case.clone();
        let mut batch = case.on(&gpu);
        let mut out = gpu.zeros(DType::F32, batch.q.len()).unwrap();
        damage(&mut case, &mut batch, &gpu);
        let error = case.attend(&gpu, &batch, &mut out).unwrap_err();
        let message = error.to_string();
        assert!(
            message.contains(&format!("`{argument}`")),
            "{argument}: {message}"
        );
        assert!(read(&gpu, &out).iter().all(|it| *it == 0.0), "{argument}");
    }
    let mut out = gpu.zeros(DType::F32, 3 * 64 - 1).unwrap();
    let error = case.attend(&gpu, &case.on(&gpu), &mut out).unwrap_err();
    assert!(error.to_string().contains("`out`"), "{error}");

    let case = Case::new((1, 1, 257), KvFormat::Bf16, &[(0, 0, 1)]);
    let mut out = gpu.zeros(DType::F32, 257).unwrap();
    let error = case.attend(&gpu, &case.on(&gpu), &mut out).unwrap_err();
    assert!(matches!(error, TensorError::NotOnGpu { .. }), "{error}");
    assert!(error.to_string().contains("257"), "{error}");
}
