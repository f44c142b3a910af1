//! A model with a sliding window needs no more of its cache than the window.

use crate::support::{Host, Part, all_logits, batch, bits, fixture, prefill, sized_runner};
use maitre_model::{
    Batch, BlockTables, KvGroup, LoadOptions, Model, ModelSource, Reads, Runner, RunnerConfig,
};
use maitre_tensor::KvFormat;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

const WINDOW: usize = 24;
const BLOCK_SIZE: usize = 4;
/// Blocks of which a sequence holds the last ones: far fewer than its context takes.
const RING: usize = 12;
/// The most tokens per step for which the window and the new tokens fit the ring.
const CHUNK: usize = 17;

fn source() -> ModelSource {
    ModelSource::Directory(fixture("mistral-f32-window"))
}

fn tokens() -> Vec<u32> {
    (0..150).map(|index| 3 + (index * index) % 64).collect()
}

#[test]
fn blocks_behind_the_window_may_be_given_back() {
    for kv_dtype in [KvFormat::F32, KvFormat::Bf16, KvFormat::Int8] {
        let options = LoadOptions {
            kv_dtype: Some(kv_dtype),
            ..LoadOptions::default()
        };
        let tokens = tokens();
        let whole = Host::new(&source(), &options, 1);
        let expected = prefill(&mut whole.runner(), &tokens, usize::MAX);
        for chunk in [1, 6, CHUNK] {
            let config = RunnerConfig::new(RING as u32, BLOCK_SIZE as u32, CHUNK, 1);
            let mut runner = sized_runner(&source(), &options, 2, config);
            assert_eq!(runner.limits().groups, [Reads::Window(WINDOW)]);
            let mut found = Vec::new();
            for (index, now) in tokens.chunks(chunk).enumerate() {
                let start = index * chunk;
                let first_held = (start + 1).saturating_sub(WINDOW) / BLOCK_SIZE;
                let blocks = (start + now.len()).div_ceil(BLOCK_SIZE);
                let table: Vec<u32> = (0..blocks)
                    .map(|block| match block < first_held {
                        true => u32::MAX,
                        false => (block % RING) as u32,
                    })
                    .collect();
                let part = Part {
                    tokens: now,
                    start,
                    table: &table,
                };
                let mut batch = batch(&[part], BLOCK_SIZE);
                // By turns, blocks behind the window are left out.
                if index % 2 == 1 {
                    let tables = &mut batch.groups[0].tables;
                    tables.tables[0].drain(..first_held);
                    tables.first_blocks = vec![first_held as u32];
                }
                runner.forward(&batch).unwrap();
                found.extend(all_logits(&mut runner, now.len()));
            }
            assert_eq!(
                bits(&found.concat()),
                bits(&expected.concat()),
                "{kv_dtype}, chunks of {chunk}"
            );
        }
    }
}

#[test]
fn a_block_within_the_window_must_exist() {
    let config = RunnerConfig::new(RING as u32, BLOCK_SIZE as u32, CHUNK, 1);
    let mut runner = sized_runner(&source(), &LoadOptions::default(), 1, config);
    // Position 40 sees 17..=40: the first position of block 4 is behind the window, its second not.
    let mut table: Vec<u32> = (0..11).collect();
    table[..5].fill(u32::MAX);
    let part = Part {
        tokens: &[5],
        start: 40,
        table: &table,
    };
    let batch = batch(&[part], BLOCK_SIZE);
    assert_eq!(
        runner.forward(&batch).unwrap_err().to_string(),
        "the block table of span 0 in KV group 0 names block 4294967295 of 12"
    );
}

/// The tables of one sequence, one per KV group, over a pool of pages that all groups share: what leads behind a window is
/// given back, and the page that was given back first is taken next.
struct Tables {
    free: VecDeque<u32>,
    groups: Vec<(Option<usize>, BTreeMap<usize, u32>)>,
}

impl Tables {
    fn new(runner: &Runner) -> Self {
        let groups = runner.limits().groups.iter();
        Self {
            free: (0..runner.limits().num_blocks as u32).collect(),
            groups: groups
                .map(|reads| (reads.window(), BTreeMap::new()))
                .collect(),
        }
    }

    /// A batch of the tokens from `start` on.
    fn batch(&mut self, tokens: &[u32], start: usize) -> Batch {
        let end = start + tokens.len();
        let part = Part {
            tokens,
            start,
            table: &Vec::from_iter(0..end.div_ceil(BLOCK_SIZE) as u32),
        };
        let mut batch = batch(&[part], BLOCK_SIZE);
        batch.groups.clear();
        for (window, pages) in &mut self.groups {
            let first = (start + 1).saturating_sub(window.unwrap_or(usize::MAX)) / BLOCK_SIZE;
            let kept = pages.split_off(&first);
            let gone = std::mem::replace(pages, kept);
            self.free.extend(gone.into_values());
            for block in first..end.div_ceil(BLOCK_SIZE) {
                let free = &mut self.free;
                pages
                    .entry(block)
                    .or_insert_with(|| free.pop_front().unwrap());
            }
            let slot = |position: usize| {
                pages[&(position / BLOCK_SIZE)] as usize * BLOCK_SIZE + position % BLOCK_SIZE
            };
            batch.groups.push(KvGroup {
                tables: BlockTables {
                    tables: vec![pages.values().copied().collect()],
                    first_blocks: vec![first as u32],
                    block_size: BLOCK_SIZE,
                },
                slots: (start..end).map(|position| slot(position) as u32).collect(),
            });
        }
        batch
    }
}

/// Layers with windows and layers without, in models of several families.
#[test]
fn groups_share_a_pool_that_holds_no_more_than_they_read() {
    for name in [
        "gemma3-f32-linear",
        "qwen2-f32-windows-v4",
        "olmo3-f32-yarn",
    ] {
        let source = ModelSource::Directory(fixture(name));
        let whole = Host::new(&source, &LoadOptions::default(), 1);
        let layout = whole.model().kv_layout().clone();
        let windows: Vec<_> = layout
            .groups
            .iter()
            .filter_map(|it| it.reads.window())
            .collect();
        let full = layout.groups.len() - windows.len();
        assert!(full > 0 && !windows.is_empty(), "{name}: {layout:?}");
        let tokens = &tokens()[..120];
        let expected = prefill(&mut whole.runner(), tokens, usize::MAX);
        for chunk in [1, 7, CHUNK] {
            let of_window = |window: &usize| (window + chunk).div_ceil(BLOCK_SIZE) + 1;
            let pages = full * tokens.len().div_ceil(BLOCK_SIZE)
                + windows.iter().map(of_window).sum::<usize>();
            let config = RunnerConfig::new(pages as u32, BLOCK_SIZE as u32, CHUNK, 1);
            let model =
                Arc::new(Model::load(&source, &LoadOptions::default(), whole.backend()).unwrap());
            let mut runner = Runner::new(model, whole.backend().clone(), config).unwrap();
            let mut tables = Tables::new(&runner);
            let mut found = Vec::new();
            for (index, now) in tokens.chunks(chunk).enumerate() {
                runner.forward(&tables.batch(now, index * chunk)).unwrap();
                found.extend(all_logits(&mut runner, now.len()));
            }
            assert_eq!(
                bits(&found.concat()),
                bits(&expected.concat()),
                "{name}, chunks of {chunk}"
            );
        }
    }
}
