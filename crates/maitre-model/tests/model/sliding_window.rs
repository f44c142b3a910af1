//! A model with a sliding window needs no more of its cache than the window.

use crate::support::{Host, Part, all_logits, batch, bits, fixture, prefill, sized_runner};
use maitre_model::{LoadOptions, ModelSource, RunnerConfig};
use maitre_tensor::KvFormat;

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
            assert_eq!(runner.limits().sliding_window, Some(WINDOW));
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
                runner.forward(&batch(&[part], BLOCK_SIZE)).unwrap();
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
        "the block table of span 0 names block 4294967295 of 12"
    );
}
