//! Copies of blocks against plain lists of what each slot holds.

use maitre_tensor::{Backend, BlockCopy, KvFormat, LayerCache, TensorError};
use proptest::prelude::*;

use crate::numbers::{bits, noise};

const HEADS: usize = 3;
const DIM: usize = 10;

/// The bits of key and value of each head, by slot.
type Slots = Vec<Vec<u32>>;

/// A cache of random numbers, no two slots alike; some are not finite.
fn cache(seed: u64, slots: usize, format: KvFormat) -> LayerCache {
    let mut cache = LayerCache::new(slots, HEADS, DIM, format).unwrap();
    for (slot, head) in (0..cache.slots()).flat_map(|s| (0..HEADS).map(move |h| (s, h))) {
        let mut numbers = noise(seed + (slot * HEADS + head) as u64, 2 * DIM);
        if slot % 7 == 3 {
            numbers[4] = f32::NAN;
            numbers[DIM] = f32::INFINITY;
        }
        let (key, value) = numbers.split_at(DIM);
        cache.write(slot, head, key, value).unwrap();
    }
    cache
}

fn contents(cache: &LayerCache) -> Slots {
    let slot = |slot| {
        let head = |head| {
            let (key, value) = cache.read(slot, head).unwrap();
            bits(&[key, value].concat())
        };
        (0..HEADS).flat_map(head).collect()
    };
    (0..cache.slots()).map(slot).collect()
}

/// What copies one after the other make of slots.
fn copied(source: Option<&Slots>, mut target: Slots, size: usize, copies: &[BlockCopy]) -> Slots {
    for copy in copies {
        for position in 0..copy.positions {
            let [from, to] = [copy.from, copy.to].map(|block| block as usize * size + position);
            target[to] = source.unwrap_or(&target)[from].clone();
        }
    }
    target
}

const BLOCKS: u32 = 7;

fn any_copies() -> impl Strategy<Value = (usize, Vec<BlockCopy>)> {
    let copy = |size: usize| {
        let positions = prop_oneof![Just(size), 0..=size];
        (0..BLOCKS, 0..BLOCKS, positions).prop_map(|(from, to, positions)| BlockCopy {
            from,
            to,
            positions,
        })
    };
    prop::sample::select(vec![1, 5, 16, 24, 48])
        .prop_flat_map(move |size| (Just(size), prop::collection::vec(copy(size), 0..10)))
}

fn any_format() -> impl Strategy<Value = KvFormat> {
    prop::sample::select(vec![KvFormat::F32, KvFormat::Bf16, KvFormat::Int8])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn copies_within_a_cache_happen_in_order(
        (size, copies) in any_copies(),
        format in any_format(),
        threads in 1_usize..4,
    ) {
        let mut cache = cache(0, BLOCKS as usize * size, format);
        let expected = copied(None, contents(&cache), size, &copies);
        Backend::cpu(threads).unwrap().copy_blocks(&mut cache, size, &copies).unwrap();
        prop_assert!(contents(&cache) == expected);
    }

    #[test]
    fn copies_between_caches_happen_in_order(
        (size, copies) in any_copies(),
        format in any_format(),
        threads in 1_usize..4,
        more in 0_usize..40,
    ) {
        let source = cache(0, BLOCKS as usize * size + more, format);
        let mut target = cache(1 << 20, BLOCKS as usize * size, format);
        let before = contents(&source);
        let expected = copied(Some(&before), contents(&target), size, &copies);
        let backend = Backend::cpu(threads).unwrap();
        backend.copy_blocks_from(&source, &mut target, size, &copies).unwrap();
        prop_assert!(contents(&target) == expected);
        prop_assert!(contents(&source) == before);
    }
}

#[test]
fn what_does_not_exist_is_refused_and_nothing_is_copied() {
    let backend = Backend::cpu(2).unwrap();
    let good = BlockCopy {
        from: 0,
        to: 1,
        positions: 5,
    };
    let refused = |size: usize, bad: BlockCopy, expected: [&str; 2]| {
        // The target is one block larger than the source.
        let [source, mut target] = [32, 48].map(|slots| cache(0, slots, KvFormat::Bf16));
        let before = contents(&target);
        let copies = [good, bad];
        let message = |result: Result<(), TensorError>| result.unwrap_err().to_string();
        let between = backend.copy_blocks_from(&source, &mut target, size, &copies);
        assert_eq!(
            message(between),
            format!("copy_blocks_from: {}", expected[0])
        );
        let within = backend.copy_blocks(&mut target, size, &copies);
        assert_eq!(message(within), format!("copy_blocks: {}", expected[1]));
        assert_eq!(contents(&target), before);
    };
    refused(
        16,
        BlockCopy { from: 3, ..good },
        [
            "`copies.from`[1] is 3, but must be below 2",
            "`copies.from`[1] is 3, but must be below 3",
        ],
    );
    refused(
        16,
        BlockCopy { to: 3, ..good },
        ["`copies.to`[1] is 3, but must be below 3"; 2],
    );
    refused(
        16,
        BlockCopy {
            positions: 17,
            ..good
        },
        ["`copies.positions` must be at most `block_size` (16), but is 17"; 2],
    );
    refused(0, good, ["`block_size` must be above 0, but is 0"; 2]);
}

#[test]
fn caches_of_other_shapes_are_refused() {
    let backend = Backend::cpu(1).unwrap();
    let source = LayerCache::new(16, 2, 8, KvFormat::Bf16).unwrap();
    for (heads, dim, format, shape) in [
        (3, 8, KvFormat::Bf16, "3 heads of 8 bf16 elements"),
        (2, 6, KvFormat::Bf16, "2 heads of 6 bf16 elements"),
        (2, 8, KvFormat::Int8, "2 heads of 8 int8 elements"),
    ] {
        let mut target = LayerCache::new(16, heads, dim, format).unwrap();
        let result = backend.copy_blocks_from(&source, &mut target, 16, &[]);
        assert_eq!(
            result.unwrap_err().to_string(),
            format!(
                "copy_blocks_from: `source` must be {shape}, but is 2 heads of 8 bf16 elements"
            )
        );
    }
}
