//! A sequence computes the same bits wherever its blocks have been in the meantime.

use std::sync::Arc;

use crate::support::{Part, all_logits, batch, bits, fixture};
use maitre_model::{
    CacheMove, CacheMoves, LoadOptions, Model, ModelError, ModelSource, Runner, RunnerConfig,
};
use maitre_tensor::{Backend, KvFormat};

const NUM_BLOCKS: u32 = 24;
const HOST_BLOCKS: u32 = 9;
/// Tokens before and after the moves; the last block is partly full in between.
const BEFORE: usize = 38;
const AFTER: usize = 7;

fn tokens() -> Vec<u32> {
    (0..BEFORE + AFTER)
        .map(|index| 3 + (index * index) as u32 % 60)
        .collect()
}

struct Case {
    model: Arc<Model>,
    backend: Backend,
    block_size: usize,
}

impl Case {
    /// One for each type of cache, with blocks read in place and gathered ones.
    fn each(check: impl Fn(&Self)) {
        for kv_dtype in [KvFormat::F32, KvFormat::Bf16, KvFormat::Int8] {
            let options = LoadOptions {
                kv_dtype: Some(kv_dtype),
                ..LoadOptions::default()
            };
            let source = ModelSource::Directory(fixture("llama-f32-sharded"));
            for (threads, block_size) in [(1, 16), (3, 16), (2, 5), (2, 32)] {
                let backend = Backend::cpu(threads).unwrap();
                let model = Arc::new(Model::load(&source, &options, &backend).unwrap());
                check(&Self {
                    model,
                    backend,
                    block_size,
                });
            }
        }
    }

    fn runner(&self) -> Runner {
        let config = RunnerConfig {
            num_host_blocks: HOST_BLOCKS,
            ..RunnerConfig::new(NUM_BLOCKS, self.block_size as u32, BEFORE, 1)
        };
        Runner::new(self.model.clone(), self.backend.clone(), config).unwrap()
    }

    /// Blocks that the whole sequence takes.
    fn blocks(&self) -> u32 {
        (BEFORE + AFTER).div_ceil(self.block_size) as u32
    }

    /// The logits of some tokens, the first of which is at position `start`.
    fn run(&self, runner: &mut Runner, table: &[u32], start: usize, tokens: &[u32]) -> Vec<u32> {
        let part = Part {
            tokens,
            start,
            table,
        };
        runner.forward(&batch(&[part], self.block_size)).unwrap();
        bits(&all_logits(runner, tokens.len()).concat())
    }

    fn before(&self, runner: &mut Runner, table: &[u32]) {
        self.run(runner, table, 0, &tokens()[..BEFORE]);
    }

    fn after(&self, runner: &mut Runner, table: &[u32]) -> Vec<u32> {
        self.run(runner, table, BEFORE, &tokens()[BEFORE..])
    }

    /// The logits after, of a sequence whose blocks stay where they are.
    fn expected(&self) -> Vec<u32> {
        let (mut runner, table) = (self.runner(), self.table(0));
        self.before(&mut runner, &table);
        self.after(&mut runner, &table)
    }

    fn table(&self, first: u32) -> Vec<u32> {
        (first..first + self.blocks()).collect()
    }

    /// Has another sequence use blocks.
    fn overwrite(&self, runner: &mut Runner, table: &[u32]) {
        let others: Vec<u32> = (0..BEFORE as u32).map(|index| 5 + index % 40).collect();
        self.run(runner, table, 0, &others);
    }
}

/// Moves of one table's blocks to those of another, from the last to the first.
fn moves(from: &[u32], to: &[u32]) -> Vec<CacheMove> {
    let pairs = from.iter().zip(to).rev();
    pairs.map(|(&from, &to)| CacheMove { from, to }).collect()
}

#[test]
fn copied_blocks_continue_as_the_original() {
    Case::each(|case| {
        let (mut runner, [one, two]) = (case.runner(), [0, 11].map(|first| case.table(first)));
        case.before(&mut runner, &one);
        let copies = moves(&one, &two);
        let moves = CacheMoves {
            copies: &copies,
            ..CacheMoves::default()
        };
        runner.move_blocks(&moves).unwrap();
        assert_eq!(case.after(&mut runner, &one), case.expected());
        case.overwrite(&mut runner, &one);
        assert_eq!(case.after(&mut runner, &two), case.expected());
    });
}

#[test]
fn blocks_come_back_from_the_host_as_they_went() {
    Case::each(|case| {
        let (mut runner, [one, two]) = (case.runner(), [1, 13].map(|first| case.table(first)));
        let host: Vec<u32> = (0..HOST_BLOCKS).rev().take(one.len()).collect();
        case.before(&mut runner, &one);
        let (out, back) = (moves(&one, &host), moves(&host, &two));
        let go = CacheMoves {
            swap_out: &out,
            ..CacheMoves::default()
        };
        runner.move_blocks(&go).unwrap();
        case.overwrite(&mut runner, &one);
        case.overwrite(&mut runner, &two);
        let come = CacheMoves {
            swap_in: &back,
            ..CacheMoves::default()
        };
        runner.move_blocks(&come).unwrap();
        assert_eq!(case.after(&mut runner, &two), case.expected());
    });
}

#[test]
fn one_call_moves_out_then_in_then_copies() {
    Case::each(|case| {
        let (mut runner, [one, two]) = (case.runner(), [0, 12].map(|first| case.table(first)));
        let host = case.table(0);
        case.before(&mut runner, &one);
        // Out, back to other blocks, and from there to the first ones again, but one further.
        let shifted: Vec<u32> = one.iter().map(|block| block + 1).collect();
        let (out, back, copies) = (
            moves(&one, &host),
            moves(&host, &two),
            moves(&two, &shifted),
        );
        let all = CacheMoves {
            swap_out: &out,
            swap_in: &back,
            copies: &copies,
        };
        runner.move_blocks(&all).unwrap();
        assert_eq!(case.after(&mut runner, &shifted), case.expected());
    });
}

#[test]
fn impossible_moves_are_named_and_move_nothing() {
    Case::each(|case| {
        let (mut runner, table) = (case.runner(), case.table(0));
        case.before(&mut runner, &table);
        // Good moves come first, and would spoil the sequence.
        let good = CacheMove { from: 20, to: 0 };
        let step = |from, to| [good, CacheMove { from, to }];
        let [none, good]: [&[CacheMove]; 2] = [&[], &[good]];
        let lists = |swap_out, swap_in, copies| CacheMoves {
            swap_out,
            swap_in,
            copies,
        };
        let [far, near] = [step(NUM_BLOCKS, 0), step(0, NUM_BLOCKS)];
        let [to_host, from_host] = [
            step(0, HOST_BLOCKS),
            [CacheMove {
                from: HOST_BLOCKS,
                to: 0,
            }; 2],
        ];
        for (moves, expected) in [
            (
                lists(&far, none, good),
                "`from` of swap_out[1] is block 24, but the device pool has 24",
            ),
            (
                lists(&to_host, none, good),
                "`to` of swap_out[1] is block 9, but the host pool has 9",
            ),
            (
                lists(good, &from_host, none),
                "`from` of swap_in[0] is block 9, but the host pool has 9",
            ),
            (
                lists(none, &near[1..], good),
                "`to` of swap_in[0] is block 24, but the device pool has 24",
            ),
            (
                lists(none, none, &far),
                "`from` of copies[1] is block 24, but the device pool has 24",
            ),
            (
                lists(none, none, &near),
                "`to` of copies[1] is block 24, but the device pool has 24",
            ),
        ] {
            let error = runner.move_blocks(&moves).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
        assert_eq!(case.after(&mut runner, &table), case.expected());
    });
}

#[test]
fn without_a_host_pool_nothing_can_move_there() {
    let source = ModelSource::Directory(fixture("llama-f32-sharded"));
    let backend = Backend::cpu(1).unwrap();
    let model = Arc::new(Model::load(&source, &LoadOptions::default(), &backend).unwrap());
    let mut runner = Runner::new(model, backend, RunnerConfig::new(4, 16, 8, 1)).unwrap();
    assert_eq!(
        (runner.host_kv_bytes(), runner.limits().num_host_blocks),
        (0, 0)
    );
    let (swap_in, copies) = (
        [CacheMove { from: 0, to: 0 }; 2],
        [CacheMove { from: 0, to: 1 }],
    );
    let moves = CacheMoves {
        swap_in: &swap_in,
        copies: &copies,
        ..CacheMoves::default()
    };
    let error = runner.move_blocks(&moves).unwrap_err();
    assert!(matches!(error, ModelError::NoHostPool { count: 2 }));
    let moves = CacheMoves {
        copies: &copies,
        ..CacheMoves::default()
    };
    runner.move_blocks(&moves).unwrap();
    runner.move_blocks(&CacheMoves::default()).unwrap();
}

#[test]
fn the_host_pool_is_as_large_as_it_says() {
    Case::each(|case| {
        let runner = case.runner();
        let token = case
            .model
            .config()
            .kv_bytes_per_token(case.model.kv_dtype());
        // A cache has whole groups of 16 slots.
        let slots = (HOST_BLOCKS as usize * case.block_size).next_multiple_of(16);
        assert_eq!(runner.host_kv_bytes(), slots * token as usize);
    });
}
