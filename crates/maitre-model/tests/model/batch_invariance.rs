//! A row's logits depend on its sequence's tokens alone, bit for bit.
//!
//! Sequences are run alone, whole, on one thread; then together, cut at random, on shuffled blocks
//! of another size, on one to three threads, with logits asked for in other tiles.

use crate::support::{
    Host, Part, all_logits, batch, bits, fixture, forward, prefill, runner, sized_runner,
    whole_cache,
};
use maitre_model::{LOGITS_TILE, LoadFormat, LoadOptions, ModelSource, Runner, RunnerConfig};
use maitre_tensor::KvFormat;
use proptest::prelude::*;

const SEQUENCES: usize = 3;
const LONGEST: usize = 60;

/// One way to run the sequences together.
#[derive(Debug, Clone)]
struct Schedule {
    lengths: [usize; SEQUENCES],
    /// How many tokens of each sequence each step takes.
    steps: Vec<[usize; SEQUENCES]>,
    /// Which sequence comes first in the batch.
    rotation: usize,
    block_size: usize,
    /// A permutation of the cache's blocks.
    blocks: Vec<u32>,
    threads: usize,
    tile: usize,
}

const NUM_BLOCKS: u32 = 64;

fn schedule() -> impl Strategy<Value = Schedule> {
    let blocks: Vec<u32> = (0..NUM_BLOCKS).collect();
    (
        prop::array::uniform3(1..=LONGEST),
        prop::collection::vec(prop::array::uniform3(0..25usize), 0..12),
        0..SEQUENCES,
        prop::sample::select(vec![4, 7, 16]),
        Just(blocks).prop_shuffle(),
        1..=3usize,
        1..=LOGITS_TILE,
    )
        .prop_map(
            |(lengths, steps, rotation, block_size, blocks, threads, tile)| Schedule {
                lengths,
                steps,
                rotation,
                block_size,
                blocks,
                threads,
                tile,
            },
        )
}

fn tokens(sequence: usize, len: usize) -> Vec<u32> {
    let seed = 17 * sequence + 5;
    (0..len)
        .map(|index| ((seed + index * index * 7) % 64) as u32)
        .collect()
}

/// The logits of every row of every sequence, run as the schedule says.
fn run(runner: &mut Runner, schedule: &Schedule) -> Vec<Vec<Vec<f32>>> {
    let sequences: Vec<_> = (0..SEQUENCES)
        .map(|sequence| tokens(sequence, schedule.lengths[sequence]))
        .collect();
    let tables: Vec<_> = schedule
        .blocks
        .chunks(NUM_BLOCKS as usize / SEQUENCES)
        .collect();
    let mut computed = [0; SEQUENCES];
    let mut logits = vec![Vec::new(); SEQUENCES];
    // Whatever the steps leave over is taken at once at the end.
    for step in schedule.steps.iter().chain([&[LONGEST; SEQUENCES]]) {
        let order = (0..SEQUENCES).map(|index| (index + schedule.rotation) % SEQUENCES);
        let taken: Vec<(usize, usize)> = order
            .map(|sequence| {
                let left = sequences[sequence].len() - computed[sequence];
                (sequence, left.min(step[sequence]))
            })
            .filter(|(_, count)| *count > 0)
            .collect();
        if taken.is_empty() {
            continue;
        }
        let parts: Vec<_> = taken
            .iter()
            .map(|&(sequence, count)| Part {
                tokens: &sequences[sequence][computed[sequence]..computed[sequence] + count],
                start: computed[sequence],
                table: tables[sequence],
            })
            .collect();
        let batch = batch(&parts, schedule.block_size);
        forward(runner, &batch);
        let mut rows = tiled_logits(runner, batch.output_rows.len(), schedule.tile).into_iter();
        for (sequence, count) in taken {
            logits[sequence].extend(rows.by_ref().take(count));
            computed[sequence] += count;
        }
    }
    logits
}

fn tiled_logits(runner: &mut Runner, rows: usize, tile: usize) -> Vec<Vec<f32>> {
    let vocab = runner.limits().vocab_size;
    let mut all = Vec::new();
    for start in (0..rows).step_by(tile) {
        let logits = runner.logits(start..rows.min(start + tile)).unwrap().values;
        all.extend(logits.chunks_exact(vocab).map(<[f32]>::to_vec));
    }
    all
}

fn check(name: &str, options: &LoadOptions, schedule: &Schedule) {
    let source = ModelSource::Directory(fixture(name));
    let config = RunnerConfig::new(NUM_BLOCKS, schedule.block_size as u32, 256, SEQUENCES);
    let mut crowd = sized_runner(&source, options, schedule.threads, config);
    // What other sequences left in the blocks must not show.
    let others = Schedule {
        lengths: [LONGEST; SEQUENCES],
        blocks: schedule.blocks.iter().rev().copied().collect(),
        ..schedule.clone()
    };
    run(&mut crowd, &others);
    let alone = Host::new(&source, options, 1);
    for (sequence, found) in run(&mut crowd, schedule).iter().enumerate() {
        let tokens = tokens(sequence, schedule.lengths[sequence]);
        let expected = prefill(&mut alone.runner(), &tokens, usize::MAX);
        assert_eq!(found.len(), expected.len());
        for (row, (found, expected)) in found.iter().zip(&expected).enumerate() {
            assert_eq!(
                bits(found),
                bits(expected),
                "{name}, sequence {sequence}, row {row}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn logits_are_those_of_the_sequence_alone(schedule in schedule()) {
        for name in [
            "qwen3-bf16-untied-bias-v4",
            "qwen3-f32-tied",
            "llama-f32-sharded",
            "mistral-f32-window",
            "qwen2-f32-windows-v4",
            "qwen2-bf16-yarn",
            "gemma3-f32-linear",
            "gemma3-bf16-v4",
            "phi3-f32-longrope",
            "phi3-bf16-longrope-short-v4",
            "olmo3-f32-yarn",
            "olmo3-bf16-yarn-v4",
            "granite-f32-tied",
            "granite-bf16-bias-v4",
            "olmo2-f32",
            "olmo2-bf16-bias-v4",
            "gemma-f32-tied",
            "gemma-bf16-v4",
            "seed-oss-f32-bias",
            "seed-oss-bf16-v4",
            "ministral-f32-windows",
            "ministral-bf16-v4",
            "glm-f32-partial",
            "glm-bf16-v4",
            "glm4-f32-partial",
            "glm4-bf16-v4",
            "smollm3-f32-windows",
            "smollm3-bf16-bias-v4",
            "exaone4-f32-windows",
            "exaone4-bf16-v4",
            "hunyuan-f32-alpha",
            "hunyuan-bf16-bias-v4",
            "gemma2-f32-windows",
            "gemma2-bf16-v4",
            "cohere2-f32-windows",
            "cohere2-bf16-bias-v4",
            "starcoder2-f32-window",
            "starcoder2-bf16-v4",
            "gpt2-f32-inner",
            "gpt2-bf16-v4",
            "llama-f32-dynamic",
            "llama-bf16-dynamic-short-v4",
            "ministral3-f32-yarn",
            "ministral3-bf16-window",
            "mistral3-f32-images-v4",
            "mistral3-bf16-ministral3",
            "gemma3-f32-images-v4",
            "gemma3-bf16-images",
        ] {
            check(name, &LoadOptions::default(), &schedule);
        }
        for (dtype, kv_dtype) in [
            ("int8", KvFormat::Int8),
            ("int8-g32", KvFormat::Bf16),
            ("int4-g32", KvFormat::Int8),
        ] {
            let options = LoadOptions {
                dtype: Some(dtype.parse().unwrap()),
                kv_dtype: Some(kv_dtype),
                ..LoadOptions::default()
            };
            check("qwen3-f32-tied", &options, &schedule);
        }
    }
}

#[test]
fn output_rows_do_not_depend_on_each_other() {
    let source = ModelSource::Directory(fixture("qwen3-f32-tied"));
    let mut runner = runner(&source, &LoadOptions::default(), 2);
    let tokens = tokens(0, 40);
    let all = prefill(&mut runner, &tokens, usize::MAX);
    let table = whole_cache(&runner);
    let part = Part {
        tokens: &tokens,
        start: 0,
        table: &table,
    };
    let mut batch = batch(&[part], 16);
    for rows in [vec![39], vec![20, 3, 3, 39], vec![0, 39]] {
        batch.output_rows = rows.clone();
        runner.forward(&batch).unwrap();
        let found = all_logits(&mut runner, rows.len());
        for (found, row) in found.iter().zip(&rows) {
            assert_eq!(
                bits(found),
                bits(&all[*row as usize]),
                "row {row} of {rows:?}"
            );
        }
    }
}

#[test]
fn random_weights_are_the_same_on_any_number_of_threads() {
    let source = ModelSource::Directory(fixture("llama-f16-untied"));
    let with = |seed, threads| {
        let options = LoadOptions {
            load_format: LoadFormat::Random { seed },
            ..LoadOptions::default()
        };
        let mut runner = runner(&source, &options, threads);
        bits(&prefill(&mut runner, &tokens(0, 9), 4).concat())
    };
    let one = with(3, 1);
    assert_eq!(one, with(3, 2));
    assert_ne!(one, with(4, 1));
}
