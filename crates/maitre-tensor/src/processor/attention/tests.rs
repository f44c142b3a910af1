//! Each instruction-set path against the portable one, and its bits against other arrangements.

use super::*;
use crate::cache::{KvFormat, LayerCache};
use crate::{Backend, CpuPath};
use crate::{BlockTables, Buffer, DType, Span, portable};
use proptest::prelude::*;

/// Sequences of `(positions before, tokens now)`, and what surrounds them.
#[derive(Debug, Clone)]
struct Case {
    /// Key heads, queries per key head, elements.
    shape: (usize, usize, usize),
    format: KvFormat,
    block_size: usize,
    window: Option<usize>,
    sequences: Vec<(usize, usize)>,
    /// What slots hold that were never written.
    garbage: f32,
    /// Factor of all numbers.
    size: f32,
}

/// Numbers in (-1, 1) that look random (splitmix64).
fn noise(seed: usize, len: usize) -> Vec<f32> {
    (0..len as u64)
        .map(|i| {
            let mut z = ((seed as u64) << 24 | i).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((z ^ (z >> 31)) >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
        })
        .collect()
}

fn paths() -> Vec<&'static Kernels> {
    CpuPath::available()
        .filter_map(|path| path.require().ok())
        .collect()
}

impl Case {
    /// The outputs of all tokens, by sequence and position. What lies behind the window of a
    /// sequence's first token was never written, and blocks wholly there have impossible numbers.
    fn run(&self, kernels: &'static Kernels, threads: usize) -> Vec<f32> {
        let (kv_heads, group, dim) = self.shape;
        let (heads, sequences) = (kv_heads * group, self.sequences.len());
        let blocks = |&(before, now): &(usize, usize)| (before + now).div_ceil(self.block_size);
        let most = self.sequences.iter().map(blocks).max().unwrap_or(0);
        // Blocks of the sequences alternate.
        let table = |s: usize| (0..most).map(move |block| (block * sequences + s) as u32);
        let mut tables: Vec<Vec<u32>> = (0..sequences).map(|s| table(s).collect()).collect();
        let slots = most * sequences * self.block_size;
        let mut cache = LayerCache::new(slots, kv_heads, dim, self.format).unwrap();
        for (slot, head) in (0..cache.slots()).flat_map(|s| (0..kv_heads).map(move |h| (s, h))) {
            let garbage = vec![self.garbage; dim];
            cache.write(slot, head, &garbage, &garbage).unwrap();
        }
        let (mut spans, mut first_blocks, mut q) = (Vec::new(), Vec::new(), Vec::new());
        for (s, &(before, now)) in self.sequences.iter().enumerate() {
            let first_seen = (before + 1).saturating_sub(self.window.unwrap_or(usize::MAX));
            let seen = first_seen..before + now;
            for (p, head) in seen.flat_map(|p| (0..kv_heads).map(move |h| (p, h))) {
                let numbers = self.numbers(1 + (s * 10_000 + p) * kv_heads + head, 2 * dim);
                let block = tables[s][p / self.block_size] as usize;
                let slot = block * self.block_size + p % self.block_size;
                cache
                    .write(slot, head, &numbers[..dim], &numbers[dim..])
                    .unwrap();
            }
            // Blocks behind the window are impossible ones, or left out.
            let behind = first_seen / self.block_size;
            let left_out = if s % 2 == 0 { behind } else { behind / 2 };
            tables[s][..behind].fill(u32::MAX);
            tables[s].drain(..left_out);
            first_blocks.push(left_out as u32);
            let first_token = q.len() / (heads * dim);
            for p in before..before + now {
                q.extend(self.numbers((1 << 30) + s * 10_000 + p, heads * dim));
            }
            let (num_tokens, context_len) = (now, before + now);
            spans.push(Span {
                first_token,
                num_tokens,
                context_len,
            });
        }
        let mut out = Buffer::from_f32s(&vec![7.0; q.len()]).unwrap();
        let tables = BlockTables {
            first_blocks,
            tables,
            block_size: self.block_size,
        };
        Backend::with_kernels(threads, kernels, None)
            .unwrap()
            .paged_attention(Attention {
                q: &Buffer::from_f32s(&q).unwrap(),
                cache: &cache,
                spans: &spans,
                tables: &tables,
                heads,
                kv_heads,
                head_dim: dim,
                scale: 2.0 / (dim as f32).sqrt(),
                score_bound: None,
                window: self.window,
                out: &mut out,
            })
            .unwrap();
        out.f32s().unwrap().to_vec()
    }

    fn numbers(&self, seed: usize, len: usize) -> Vec<f32> {
        noise(seed, len)
            .iter()
            .map(|number| number * self.size)
            .collect()
    }
}

fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|number| number.to_bits()).collect()
}

/// None, or any from narrower than a tile to wider than the contexts.
fn any_window() -> impl Strategy<Value = Option<usize>> {
    prop_oneof![
        Just(None),
        prop_oneof![1_usize..8, 8_usize..80, 80_usize..300].prop_map(Some)
    ]
}

fn any_case() -> impl Strategy<Value = Case> {
    (
        (
            1_usize..3,
            prop::sample::select(vec![1, 2, 4, 7, 8, 40]),
            prop::sample::select(vec![1, 8, 64, 80, 128, 256]),
        ),
        prop::sample::select(vec![KvFormat::F32, KvFormat::Bf16, KvFormat::Int8]),
        prop::sample::select(vec![1, 4, 16, 32]),
        any_window(),
        prop::collection::vec((0_usize..200, 1_usize..40), 1..4),
        prop::sample::select(vec![0.0, f32::NAN, f32::INFINITY]),
        prop::sample::select(vec![1.0, 1e-33, 1e-39]),
    )
        .prop_map(
            |(shape, format, block_size, window, sequences, garbage, size)| Case {
                shape,
                format,
                block_size,
                window,
                sequences,
                garbage,
                size,
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn paths_agree(case in any_case()) {
        let expected = case.run(&portable::KERNELS, 1);
        let (relative, flushed) = match case.format {
            KvFormat::F32 => (1e-5, 0.0),
            // A weight may round either way where the exponentials differ in the last bit, and dot
            // products take each subnormal number for zero.
            KvFormat::Bf16 => (4e-3, f32::MIN_POSITIVE * 256.0),
            // Scales too small to have an inverse are zero.
            KvFormat::Int8 => (1e-4, f32::MIN_POSITIVE * 128.0),
        };
        let tolerance = case.size * relative + flushed;
        for kernels in paths() {
            for (actual, expected) in case.run(kernels, 2).iter().zip(&expected) {
                let close = (actual - expected).abs() <= tolerance;
                prop_assert!(close, "{}: {actual}, portably {expected}", kernels.name);
            }
        }
    }

    #[test]
    fn garbage_threads_and_blocks_change_no_bit(case in any_case()) {
        for kernels in paths() {
            let expected = bits(&case.run(kernels, 1));
            for (block_size, threads, garbage) in [(1, 2, f32::NAN), (16, 3, -1.0), (48, 4, f32::INFINITY)] {
                let other = Case { block_size, garbage, ..case.clone() };
                prop_assert!(bits(&other.run(kernels, threads)) == expected, "{}", kernels.name);
            }
        }
    }

    #[test]
    fn chunks_change_no_bit(case in any_case(), cut in 0_usize..40) {
        // The tokens from `cut` on are computed with less in the cache than all of them need.
        let later = |&(before, now): &(usize, usize)| (before + cut.min(now), now - cut.min(now));
        let rest = Case { sequences: case.sequences.iter().map(later).collect(), ..case.clone() };
        let row = case.shape.0 * case.shape.1 * case.shape.2;
        for kernels in paths() {
            let mut whole = case.run(kernels, 2).into_iter();
            let mut expected = Vec::new();
            for (&(_, now), (_, later)) in case.sequences.iter().zip(&rest.sequences) {
                let rows: Vec<f32> = whole.by_ref().take(now * row).collect();
                expected.extend_from_slice(&rows[(now - later) * row..]);
            }
            prop_assert!(bits(&rest.run(kernels, 3)) == bits(&expected), "{}", kernels.name);
        }
    }

    #[test]
    fn a_window_of_the_whole_context_changes_no_bit(case in any_case(), more in 0_usize..1_000) {
        let longest = case.sequences.iter().map(|(before, now)| before + now).max().unwrap_or(0);
        for kernels in paths() {
            let [none, wide] = [None, Some(longest + more)]
                .map(|window| bits(&Case { window, ..case.clone() }.run(kernels, 2)));
            prop_assert!(none == wide, "{}", kernels.name);
        }
    }
}

#[test]
fn split_contexts_chunks_and_crowds_change_no_bit() {
    let formats = [KvFormat::F32, KvFormat::Bf16, KvFormat::Int8];
    let windows = [None, Some(600), Some(1_030), Some(47)];
    for (format, window) in formats.into_iter().flat_map(|f| windows.map(|w| (f, w))) {
        let case = |sequences: &[(usize, usize)]| Case {
            shape: (1, 2, 24),
            format,
            block_size: 16,
            window,
            sequences: sequences.to_vec(),
            garbage: f32::NAN,
            size: 1.0,
        };
        for kernels in paths() {
            let row = 2 * 24;
            // One thread never splits; eight do, with one key head and few rows.
            let whole = bits(&case(&[(1_000, 300)]).run(kernels, 1));
            for (before, now) in [(1_299, 1), (1_297, 3), (1_270, 30), (1_020, 280)] {
                let part = case(&[(before, now)]);
                for threads in [1, 2, 8] {
                    let rows = bits(&part.run(kernels, threads));
                    assert!(
                        rows == whole[(before - 1_000) * row..],
                        "{} {format}, window {window:?}",
                        kernels.name
                    );
                }
                let crowd = case(&[(before, now), (600, 2), (0, 70)]);
                let rows = bits(&crowd.run(kernels, 3));
                assert!(rows[..now * row] == whole[(before - 1_000) * row..]);
            }
        }
    }
}

#[test]
fn what_is_not_finite_stays_with_those_that_see_it() {
    let formats = [KvFormat::F32, KvFormat::Bf16, KvFormat::Int8];
    // With the last of them some tokens see all of a tile but its first position, which is bad.
    let windows = [
        (None, 70),
        (Some(1), 70),
        (Some(9), 71),
        (Some(20), 70),
        (Some(66), 64),
    ];
    for (format, (window, bad)) in formats.into_iter().flat_map(|f| windows.map(|w| (f, w))) {
        for kernels in paths() {
            let (dim, tokens) = (32, 150);
            let mut cache = LayerCache::new(160, 1, dim, format).unwrap();
            for p in 0..tokens {
                let mut numbers = noise(p, 2 * dim);
                if p == bad {
                    (numbers[3], numbers[dim + 5]) = (f32::INFINITY, f32::NAN);
                }
                cache.write(p, 0, &numbers[..dim], &numbers[dim..]).unwrap();
            }
            let mut out = Buffer::zeros(DType::F32, tokens * dim).unwrap();
            let (num_tokens, context_len) = (tokens, tokens);
            Backend::with_kernels(2, kernels, None)
                .unwrap()
                .paged_attention(Attention {
                    q: &Buffer::from_f32s(&noise(1_000, tokens * dim)).unwrap(),
                    cache: &cache,
                    spans: &[Span {
                        first_token: 0,
                        num_tokens,
                        context_len,
                    }],
                    tables: &BlockTables {
                        first_blocks: Vec::new(),
                        tables: vec![(0..10).collect()],
                        block_size: 16,
                    },
                    heads: 1,
                    kv_heads: 1,
                    head_dim: dim,
                    scale: 1.0,
                    score_bound: None,
                    window,
                    out: &mut out,
                })
                .unwrap();
            for (token, row) in out.f32s().unwrap().chunks_exact(dim).enumerate() {
                let finite = row.iter().all(|number| number.is_finite());
                let sees = token >= bad && window.is_none_or(|window| token - bad < window);
                assert_eq!(
                    finite, !sees,
                    "{} {format} token {token}, window {window:?}",
                    kernels.name
                );
            }
        }
    }
}
