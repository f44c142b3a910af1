//! `paged_attention` against double precision on ragged batches of odd shapes.

use maitre_tensor::{Attention, Backend, BlockTables, CpuPath, DType, KvFormat, LayerCache, Span};
use proptest::prelude::*;

use crate::numbers::{assert_close, backends, bits, buffer, noise, rounded, unwritten};

/// A batch: how many positions each sequence has had, and how many tokens it has now.
#[derive(Debug, Clone)]
struct Case {
    heads: usize,
    kv_heads: usize,
    dim: usize,
    block_size: usize,
    /// (positions before, tokens now)
    sequences: Vec<(usize, usize)>,
    format: KvFormat,
    window: Option<usize>,
    bound: Option<f32>,
}

impl Case {
    fn rows(&self) -> usize {
        self.sequences.iter().map(|(_, tokens)| tokens).sum()
    }

    fn spans(&self) -> Vec<Span> {
        let mut first_token = 0;
        self.sequences
            .iter()
            .map(|&(before, num_tokens)| {
                let span = Span {
                    first_token,
                    num_tokens,
                    context_len: before + num_tokens,
                };
                first_token += num_tokens;
                span
            })
            .collect()
    }

    /// Blocks dealt out from the end, so that neighbours in a sequence are not neighbours in memory.
    fn tables(&self) -> BlockTables {
        let needs: Vec<usize> = self
            .sequences
            .iter()
            .map(|(before, tokens)| (before + tokens).div_ceil(self.block_size))
            .collect();
        let mut free: Vec<u32> = (0..needs.iter().sum::<usize>() as u32).collect();
        let tables = needs
            .iter()
            .map(|need| {
                (0..*need)
                    .map(|i| free.remove(i * 7 % free.len()))
                    .collect()
            })
            .collect();
        BlockTables {
            first_blocks: Vec::new(),
            tables,
            block_size: self.block_size,
        }
    }

    /// Slot of a sequence's position.
    fn slot(&self, tables: &BlockTables, sequence: usize, position: usize) -> usize {
        let block = tables.tables[sequence][position / self.block_size] as usize;
        block * self.block_size + position % self.block_size
    }

    /// The first position that the token at a position sees.
    fn first_seen(&self, position: usize) -> usize {
        (position + 1).saturating_sub(self.window.unwrap_or(usize::MAX))
    }

    /// The tables with impossible numbers for blocks behind the window, or without these blocks, by turns.
    fn tables_given(&self) -> BlockTables {
        let mut tables = self.tables();
        let sequences = tables.tables.iter_mut().zip(&self.sequences);
        for (index, (table, (before, _))) in sequences.enumerate() {
            let behind = self.first_seen(*before) / self.block_size;
            let left_out = if index % 2 == 0 { behind } else { behind / 2 };
            table[..behind].fill(u32::MAX);
            table.drain(..left_out);
            tables.first_blocks.push(left_out as u32);
        }
        tables
    }

    fn cache(&self, tables: &BlockTables) -> LayerCache {
        let slots = tables.tables.iter().flatten().count() * self.block_size;
        let mut cache = LayerCache::new(slots, self.kv_heads, self.dim, self.format).unwrap();
        // What was never written is NaN: reading it shows.
        let garbage = vec![f32::NAN; self.dim];
        for slot in 0..cache.slots() {
            for head in 0..self.kv_heads {
                cache.write(slot, head, &garbage, &garbage).unwrap();
            }
        }
        for (sequence, (before, tokens)) in self.sequences.iter().enumerate() {
            // What is behind the window of the first token is garbage too.
            for position in self.first_seen(*before)..before + tokens {
                let slot = self.slot(tables, sequence, position);
                for head in 0..self.kv_heads {
                    let seed = 1 + ((sequence * 10_000 + position) * self.kv_heads + head) as u64;
                    let numbers = noise(seed, 2 * self.dim);
                    let (key, value) = numbers.split_at(self.dim);
                    cache.write(slot, head, key, value).unwrap();
                }
            }
        }
        cache
    }

    fn run(&self, threads: usize) -> Vec<f32> {
        self.run_on(&Backend::cpu(threads).unwrap())
    }

    fn run_on(&self, backend: &Backend) -> Vec<f32> {
        let width = self.heads * self.dim;
        let mut out = unwritten(self.rows() * width);
        backend
            .paged_attention(Attention {
                q: &buffer(&self.queries()),
                cache: &self.cache(&self.tables()),
                spans: &self.spans(),
                tables: &self.tables_given(),
                heads: self.heads,
                kv_heads: self.kv_heads,
                head_dim: self.dim,
                scale: 3.0,
                score_bound: self.bound,
                window: self.window,
                out: &mut out,
            })
            .unwrap();
        out.f32s().unwrap().to_vec()
    }

    /// With a bf16 cache numbers that bf16 holds: some paths round queries to it, others do not.
    fn queries(&self) -> Vec<f32> {
        let q = noise(0, self.rows() * self.heads * self.dim);
        match self.format {
            KvFormat::Bf16 => rounded(&q, DType::Bf16),
            KvFormat::F32 | KvFormat::Int8 => q,
        }
    }

    /// Attention in double precision over the numbers that are in the cache.
    fn expected(&self) -> Vec<f64> {
        let (dim, group) = (self.dim, self.heads / self.kv_heads);
        let q = match self.format {
            KvFormat::Int8 => self.queries().chunks(dim).flat_map(fixed_point).collect(),
            KvFormat::F32 | KvFormat::Bf16 => self.queries(),
        };
        let tables = self.tables();
        let cache = self.cache(&tables);
        let mut out = Vec::new();
        for (sequence, span) in self.spans().iter().enumerate() {
            let cached: Vec<Vec<_>> = (0..self.kv_heads)
                .map(|head| {
                    let slot = |position| self.slot(&tables, sequence, position);
                    let read = |position| cache.read(slot(position), head).unwrap();
                    (0..span.context_len).map(read).collect()
                })
                .collect();
            for token in 0..span.num_tokens {
                let position = span.context_len - span.num_tokens + token;
                let seen = self.first_seen(position)..position + 1;
                for head in 0..self.heads {
                    let row = (span.first_token + token) * self.heads + head;
                    out.extend(attended(
                        &q[row * dim..][..dim],
                        &cached[head / group][seen.clone()],
                        self.bound,
                    ));
                }
            }
        }
        out
    }

    /// What rounding weights may cost, relative to values in (-1, 1): half a step of 2^-8, or half
    /// of a 32,767th of the largest weight for each of 64 positions.
    fn tolerance(&self) -> f64 {
        match self.format {
            KvFormat::F32 => 1e-5,
            KvFormat::Bf16 => 4e-3,
            KvFormat::Int8 => 1e-3,
        }
    }
}

/// The fixed-point numbers that a query is rounded to for an int8 cache.
fn fixed_point(query: &[f32]) -> Vec<f32> {
    let most = query
        .iter()
        .fold(0.0_f32, |most, number| most.max(number.abs()));
    let unit = most / 16_256.0;
    let round = |number: &f32| (number / unit).round_ties_even() * unit;
    query.iter().map(round).collect()
}

/// What a query makes of keys and values.
fn attended(q: &[f32], cached: &[(Vec<f32>, Vec<f32>)], bound: Option<f32>) -> Vec<f64> {
    let dot = |key: &Vec<f32>| -> f64 {
        let products = q
            .iter()
            .zip(key)
            .map(|(q, k)| f64::from(*q) * f64::from(*k));
        products.sum()
    };
    let bounded = |score: f64| match bound.map(f64::from) {
        None => score,
        Some(bound) => bound * (score / bound).tanh(),
    };
    let scores = cached.iter().map(|(key, _)| bounded(3.0 * dot(key)));
    let scores: Vec<f64> = scores.collect();
    let most = scores.iter().copied().fold(f64::MIN, f64::max);
    let weights: Vec<f64> = scores.iter().map(|score| (score - most).exp()).collect();
    let total: f64 = weights.iter().sum();
    let mean = |i: usize| -> f64 {
        let weighted = weights.iter().zip(cached);
        weighted
            .map(|(weight, (_, value))| weight * f64::from(value[i]))
            .sum::<f64>()
            / total
    };
    (0..q.len()).map(mean).collect()
}

fn any_case() -> impl Strategy<Value = Case> {
    (
        prop_oneof![Just(1_usize), Just(8), Just(24), Just(48), Just(80)],
        1_usize..4,
        1_usize..4,
        prop_oneof![Just(1_usize), Just(5), Just(16), Just(64), Just(100)],
        proptest::collection::vec((0_usize..150, 0_usize..40), 0..5),
        prop_oneof![
            Just(KvFormat::F32),
            Just(KvFormat::Bf16),
            Just(KvFormat::Int8)
        ],
        prop_oneof![
            Just(None),
            prop_oneof![1_usize..8, 8_usize..80, 80_usize..200].prop_map(Some)
        ],
        prop_oneof![Just(None), Just(Some(0.8)), Just(Some(5.0))],
    )
        .prop_map(
            |(dim, kv_heads, group, block_size, sequences, format, window, bound)| Case {
                heads: kv_heads * group,
                kv_heads,
                dim,
                block_size,
                sequences,
                format,
                window,
                bound,
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn equals_double_precision(case in any_case(), threads in 1_usize..4) {
        for backend in backends(threads) {
            assert_close(&case.run_on(&backend), &case.expected(), case.tolerance());
        }
    }

    #[test]
    fn bounded_scores_equal_double_precision_on_every_path(case in any_case()) {
        let case = Case { bound: Some(1.5), ..case };
        for backend in backends(2) {
            assert_close(&case.run_on(&backend), &case.expected(), case.tolerance());
        }
    }

    #[test]
    fn tiles_change_no_bit_with_a_cache_in_int8(
        case in any_case(),
        dim in prop_oneof![Just(24_usize), Just(128), Just(136), Just(256)],
        threads in 1_usize..4,
    ) {
        let case = Case { format: KvFormat::Int8, dim, ..case };
        let available: Vec<_> = CpuPath::available().collect();
        if !available.contains(&CpuPath::Amx) {
            eprintln!("skipped: no tiles here");
            return Ok(());
        }
        let [tiles, without] = [CpuPath::Amx, CpuPath::Avx512]
            .map(|path| bits(&case.run_on(&Backend::with_path(threads, path).unwrap())));
        prop_assert_eq!(tiles, without);
    }

    #[test]
    fn block_size_and_threads_change_no_bit(case in any_case()) {
        let one = bits(&case.run(1));
        for (block_size, threads) in [(1, 2), (5, 3), (16, 1)] {
            let other = Case { block_size, ..case.clone() };
            prop_assert_eq!(&bits(&other.run(threads)), &one);
        }
    }
}

#[test]
fn long_contexts_cross_many_tiles_and_chunks() {
    let formats = [KvFormat::F32, KvFormat::Bf16, KvFormat::Int8];
    let windows = [None, Some(100), Some(700)];
    for (format, window) in formats.into_iter().flat_map(|f| windows.map(|w| (f, w))) {
        let case = Case {
            heads: 4,
            kv_heads: 2,
            dim: 24,
            block_size: 16,
            // Several beyond a chunk of 512, so that the largest score is now in an earlier chunk,
            // now in a later one.
            sequences: vec![(1_000, 1), (600, 2), (1_300, 1), (63, 1), (64, 1), (0, 130)],
            format,
            window,
            bound: window.map(|_| 2.0),
        };
        for backend in backends(2) {
            assert_close(&case.run_on(&backend), &case.expected(), case.tolerance());
        }
    }
}

#[test]
fn rows_between_spans_are_not_written() {
    let case = Case {
        heads: 2,
        kv_heads: 2,
        dim: 8,
        block_size: 4,
        sequences: vec![(3, 2), (0, 3)],
        format: KvFormat::F32,
        window: None,
        bound: None,
    };
    let tables = case.tables();
    let mut spans = case.spans();
    spans[0].first_token = 1;
    spans[1].first_token = 5;
    let mut out = unwritten(9 * 16);
    Backend::cpu(3)
        .unwrap()
        .paged_attention(Attention {
            q: &buffer(&noise(0, 9 * 16)),
            cache: &case.cache(&tables),
            spans: &spans,
            tables: &tables,
            heads: 2,
            kv_heads: 2,
            head_dim: 8,
            scale: 1.0,
            score_bound: None,
            window: None,
            out: &mut out,
        })
        .unwrap();
    let written: Vec<bool> = out
        .f32s()
        .unwrap()
        .chunks_exact(16)
        .map(|row| row.iter().all(|v| v.is_finite()))
        .collect();
    assert_eq!(
        written,
        [false, true, true, false, false, true, true, true, false]
    );
}
