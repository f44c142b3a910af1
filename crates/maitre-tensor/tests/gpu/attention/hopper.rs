//! Attention by the kernels of `cuda/attention_hopper.cu` and `cuda/attention_few_hopper.cu`: they have the bits of the
//! others.

use maitre_tensor::KvFormat;
use proptest::prelude::*;

use super::{Case, bits};
use crate::generations;

/// Sequences of at most so many positions before `now` tokens, in caches that Hopper's kernels take: blocks of 16, 32,
/// ... positions. `groups` are query heads a key head.
fn any_case(
    (groups, dims): (&'static [usize], &'static [usize]),
    most_before: usize,
    (now, most_rows): (usize, usize),
    most_sequences: usize,
) -> impl Strategy<Value = Case> {
    let shape = (
        1_usize..3,
        prop::sample::select(groups),
        prop::sample::select(dims),
    );
    let window = prop_oneof![
        Just(None),
        (1_usize..40).prop_map(Some),
        (90_usize..400).prop_map(Some)
    ];
    let before = prop_oneof![0_usize..70, 100..most_before];
    let sequences = prop::collection::vec((before, 0..now), 1..most_sequences);
    (
        (shape, window, sequences),
        prop::sample::select(vec![16, 32, 48]),
        prop::sample::select(vec![0.0, f32::NAN, f32::INFINITY]),
        prop::option::of(0..most_before),
    )
        .prop_map(
            move |((shape, window, sequences), block_size, garbage, bad)| {
                let most = (most_rows / shape.1).max(1);
                let named = sequences.into_iter().enumerate();
                let named: Vec<_> = named
                    .map(|(name, (before, now))| (name, before, now.min(most)))
                    .collect();
                Case {
                    block_size,
                    window,
                    garbage,
                    bad,
                    ..Case::new(shape, KvFormat::Bf16, &named)
                }
            },
        )
}

/// Spans of many rows.
fn any_case_of_many_rows() -> impl Strategy<Value = Case> {
    any_case(
        (&[1, 2, 4, 8], &[33, 64, 104, 128]),
        600,
        (150, usize::MAX),
        4,
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn kernels_for_many_rows_have_the_bits_of_the_others(case in any_case_of_many_rows()) {
        let gpus = generations(true);
        let [gpu, others] = &gpus[..] else { return Ok(()) };
        let all = bits(&case.run(gpu));
        prop_assert!(all == bits(&case.run(others)));
        let by_others = Case { block_size: 8, garbage: 1.0, ..case.clone() };
        prop_assert!(all == bits(&by_others.run(gpu)));
        // The last rows of the first sequence by narrow blocks, alone.
        let (kv_heads, group, dim) = case.shape;
        let (name, before, now) = case.sequences[0];
        let few = now.min(32 / group);
        let alone = Case { sequences: vec![(name, before + now - few, few)], ..case.clone() };
        let row = kv_heads * group * dim;
        prop_assert!(bits(&alone.run(gpu)) == all[(now - few) * row..now * row]);
    }
}

/// By a block that walks all of a context, by blocks that share it, in a crowd: always the same bits.
#[test]
fn many_rows_alone_and_in_a_crowd_have_the_same_bits() {
    let gpus = generations(true);
    let [gpu, others] = &gpus[..] else { return };
    for (dim, window) in [(64, None), (128, Some(700)), (128, None)] {
        let case = |sequences: &[(usize, usize, usize)]| Case {
            window,
            ..Case::new((1, 4, dim), KvFormat::Bf16, sequences)
        };
        let alone = bits(&case(&[(0, 1_000, 40)]).run(gpu));
        let crowd: Vec<_> = (0..5)
            .map(|name| (name, 1_000 - 90 * name, 40 + 17 * name))
            .collect();
        for gpu in [gpu, others] {
            let crowd = bits(&case(&crowd).run(gpu));
            assert!(crowd[..40 * 4 * dim] == alone, "{dim} {window:?}");
        }
        let by_others = Case {
            block_size: 24,
            ..case(&[(0, 1_000, 40)])
        };
        assert!(bits(&by_others.run(gpu)) == alone, "{dim} {window:?}");
    }
}

/// Spans of few rows, also of several items.
fn any_case_of_few_rows() -> impl Strategy<Value = Case> {
    any_case((&[1, 4, 16], &[33, 48, 64, 97, 112, 128]), 900, (5, 32), 5)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn kernels_for_few_rows_have_the_bits_of_the_others(case in any_case_of_few_rows()) {
        let gpus = generations(true);
        let [gpu, others] = &gpus[..] else { return Ok(()) };
        let all = bits(&case.run(gpu));
        prop_assert!(all == bits(&case.run(others)));
        let by_others = Case { block_size: 8, garbage: 1.0, ..case.clone() };
        prop_assert!(all == bits(&by_others.run(gpu)));
        // The first sequence alone, and in a crowd so large that no context is cut.
        let (kv_heads, group, dim) = case.shape;
        let alone = Case { sequences: case.sequences[..1].to_vec(), ..case.clone() };
        let row = kv_heads * group * dim;
        let first = &all[..case.sequences[0].2 * row];
        prop_assert!(bits(&alone.run(gpu)) == first);
        let mut crowd = case.clone();
        crowd.sequences.extend((10..50).map(|name| (name, name % 7, 1)));
        prop_assert!(bits(&crowd.run(gpu))[..all.len()] == all);
    }
}

/// A chunk per block, several per block, more chunks than are looked up at once, all by one block.
#[test]
fn few_rows_alone_and_in_a_crowd_have_the_same_bits() {
    let gpus = generations(true);
    let [gpu, others] = &gpus[..] else { return };
    for (shape, window) in [
        ((1, 4, 64), None),
        ((2, 4, 128), Some(1_100)),
        ((1, 8, 128), None),
    ] {
        let case = |sequences: &[(usize, usize, usize)]| Case {
            window,
            ..Case::new(shape, KvFormat::Bf16, sequences)
        };
        let row = shape.0 * shape.1 * shape.2;
        let alone = bits(&case(&[(0, 2_600, 2)]).run(gpu));
        for others_there in [1, 7, 40] {
            let mut crowd = vec![(0, 2_600, 2)];
            crowd.extend((0..others_there).map(|name| (1 + name, name % 9 * 20, 1)));
            for gpu in [gpu, others] {
                let crowd = bits(&case(&crowd).run(gpu));
                assert!(crowd[..2 * row] == alone, "{shape:?} {window:?}");
            }
        }
        // As the last rows of a span of many.
        let many = bits(&case(&[(0, 2_502, 100)]).run(gpu));
        assert!(many[98 * row..] == alone, "{shape:?} {window:?}");
    }
}
