//! Copies of blocks on the GPU, and between it and the host, against plain lists of what each slot holds.

use maitre_tensor::{Backend, BlockCopy, KvFormat, LayerCache};
use proptest::prelude::*;

use crate::{backends, random};

const HEADS: usize = 2;
const DIM: usize = 10;
const BLOCKS: u32 = 6;

/// The bits of key and value of each head, by slot.
type Slots = Vec<Vec<u32>>;

/// Fills a cache with numbers of which no two slots have the same.
fn fill(mut cache: LayerCache, seed: u64) -> LayerCache {
    for (slot, head) in (0..cache.slots()).flat_map(|s| (0..HEADS).map(move |h| (s, h))) {
        let numbers = random(seed + (slot * HEADS + head) as u64, 2 * DIM);
        let (key, value) = numbers.split_at(DIM);
        cache.write(slot, head, key, value).unwrap();
    }
    cache
}

fn contents(cache: &LayerCache) -> Slots {
    let slot = |slot| {
        let head = |head| {
            let (key, value) = cache.read(slot, head).unwrap();
            [key, value].concat().into_iter().map(f32::to_bits)
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
        .prop_flat_map(move |size| (Just(size), prop::collection::vec(copy(size), 0..8)))
}

fn any_format() -> impl Strategy<Value = KvFormat> {
    prop::sample::select(vec![KvFormat::F32, KvFormat::Bf16, KvFormat::Int8])
}

/// Where a cache is made.
type Make = fn(&Backend, usize, KvFormat) -> LayerCache;

fn on_gpu(backend: &Backend, slots: usize, format: KvFormat) -> LayerCache {
    backend.cache(slots, HEADS, DIM, format).unwrap()
}

fn on_host(backend: &Backend, slots: usize, format: KvFormat) -> LayerCache {
    backend.host_cache(slots, HEADS, DIM, format).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn copies_within_a_cache_happen_in_order((size, copies) in any_copies(), format in any_format()) {
        let Some((_, gpu)) = backends() else { return Ok(()) };
        let mut cache = fill(on_gpu(&gpu, BLOCKS as usize * size, format), 0);
        let expected = copied(None, contents(&cache), size, &copies);
        gpu.copy_blocks(&mut cache, size, &copies).unwrap();
        prop_assert!(contents(&cache) == expected);
    }

    #[test]
    fn copies_between_caches_happen_in_order(
        (size, copies) in any_copies(),
        format in any_format(),
        makes in prop::sample::select(vec![
            [on_gpu as Make, on_gpu as Make],
            [on_gpu, on_host],
            [on_host, on_gpu],
            [on_host, on_host],
        ]),
        more in 0_usize..40,
    ) {
        let Some((_, gpu)) = backends() else { return Ok(()) };
        let slots = BLOCKS as usize * size;
        let source = fill(makes[0](&gpu, slots + more, format), 0);
        let mut target = fill(makes[1](&gpu, slots, format), 1 << 20);
        let before = contents(&source);
        let expected = copied(Some(&before), contents(&target), size, &copies);
        gpu.copy_blocks_from(&source, &mut target, size, &copies).unwrap();
        prop_assert!(contents(&target) == expected);
        prop_assert!(contents(&source) == before);
    }
}

#[test]
fn numbers_written_to_a_gpus_cache_are_those_of_the_processors() {
    let Some((cpu, gpu)) = backends() else { return };
    for format in [KvFormat::F32, KvFormat::Bf16, KvFormat::Int8] {
        let [expected, actual] = [&cpu, &gpu].map(|backend| fill(on_gpu(backend, 40, format), 3));
        assert_eq!(contents(&expected), contents(&actual), "{format}");
        assert_eq!(actual.slots(), 48);
        assert!(actual.read(48, 0).is_none() && actual.read(0, HEADS).is_none());
    }
}

#[test]
fn what_does_not_exist_is_refused_and_nothing_is_copied() {
    let Some((cpu, gpu)) = backends() else { return };
    let good = BlockCopy {
        from: 0,
        to: 1,
        positions: 5,
    };
    for (size, bad) in [
        (16, BlockCopy { from: 3, ..good }),
        (16, BlockCopy { to: 3, ..good }),
        (
            16,
            BlockCopy {
                positions: 17,
                ..good
            },
        ),
        (0, good),
    ] {
        let messages = [&cpu, &gpu].map(|backend| {
            let source = fill(on_gpu(backend, 32, KvFormat::Bf16), 0);
            let mut target = fill(on_gpu(backend, 48, KvFormat::Bf16), 9);
            let before = contents(&target);
            let copies = [good, bad];
            let between = backend.copy_blocks_from(&source, &mut target, size, &copies);
            let within = backend.copy_blocks(&mut target, size, &copies);
            assert_eq!(contents(&target), before);
            [between, within].map(|result| result.unwrap_err().to_string())
        });
        assert_eq!(messages[0], messages[1]);
    }
}

#[test]
fn caches_of_another_kind_are_refused() {
    let Some((cpu, gpu)) = backends() else { return };
    let source = on_gpu(&gpu, 16, KvFormat::Bf16);
    let others = [
        on_gpu(&gpu, 16, KvFormat::Int8),
        on_gpu(&cpu, 16, KvFormat::Bf16),
        gpu.cache(16, HEADS + 1, DIM, KvFormat::Bf16).unwrap(),
    ];
    for mut target in others {
        let refused = gpu.copy_blocks_from(&source, &mut target, 16, &[]);
        let message = refused.unwrap_err().to_string();
        assert!(
            message.starts_with("copy_blocks_from: `source`"),
            "{message}"
        );
    }
}

#[test]
fn the_processor_leaves_a_gpus_caches_alone() {
    let Some((cpu, gpu)) = backends() else { return };
    for make in [on_gpu as Make, on_host] {
        let source = make(&gpu, 16, KvFormat::F32);
        let mut target = make(&gpu, 16, KvFormat::F32);
        let between = cpu.copy_blocks_from(&source, &mut target, 16, &[]);
        let within = cpu.copy_blocks(&mut target, 16, &[]);
        for (result, argument) in [(between, "target"), (within, "cache")] {
            let message = result.unwrap_err().to_string();
            let expected =
                format!("`{argument}` must be a cache of the backend that runs the operator");
            assert!(message.contains(&expected), "{message}");
        }
    }
}
