//! The last token of a prompt that is in the cache already, computed again without a slot: its
//! logits are those of the run that cached it, and the shared block keeps its bytes.

use std::sync::Arc;

use crate::support::{Part, all_logits, batch, bits, fixture};
use maitre_model::{LoadOptions, Model, ModelSource, Runner, RunnerConfig};
use maitre_tensor::{Backend, CpuPath, KvFormat, NO_SLOT};

/// Runs tokens of a sequence that has the first blocks to itself; without slots they are not cached.
fn run(runner: &mut Runner, start: usize, tokens: &[u32], cached: bool) -> Vec<Vec<u32>> {
    let block_size = runner.limits().block_size;
    let table: Vec<u32> = (0..runner.limits().num_blocks as u32).collect();
    let part = Part {
        tokens,
        start,
        table: &table,
    };
    let mut batch = batch(&[part], block_size);
    if !cached {
        batch.groups[0].slots.fill(NO_SLOT);
    }
    runner.forward(&batch).unwrap();
    let logits = all_logits(runner, tokens.len());
    logits.iter().map(|row| bits(row)).collect()
}

fn check(fixture_name: &str, options: &LoadOptions, path: CpuPath, block_size: u32) {
    let source = ModelSource::Directory(fixture(fixture_name));
    let backend = Backend::with_path(2, path).unwrap();
    let model = Arc::new(Model::load(&source, options, &backend).unwrap());
    let config = RunnerConfig::new(60 / block_size, block_size, 45, 1);
    let runner = || Runner::new(model.clone(), backend.clone(), config).unwrap();
    let tokens: Vec<u32> = (0..45).map(|index| 3 + (index * index) % 60).collect();
    let expected = run(&mut runner(), 0, &tokens, true);

    let mut runner = runner();
    // A prompt that fills its last block, and one that does not.
    for known in [2 * block_size as usize, 39] {
        let last = known - 1;
        run(&mut runner, 0, &tokens[..known], true);
        // If this wrote, another token's key and value would be in the block.
        run(&mut runner, last, &[tokens[last] ^ 1], false);
        for _ in 0..2 {
            let found = run(&mut runner, last, &tokens[last..known], false);
            assert!(
                found[0] == expected[last],
                "{fixture_name}, {path}, {options:?}"
            );
        }
        let found = run(&mut runner, 0, &tokens[..known], false);
        assert!(
            found == expected[..known],
            "{fixture_name}, {path}, {options:?}"
        );
        let found = run(&mut runner, known, &tokens[known..], true);
        assert!(
            found == expected[known..],
            "{fixture_name}, {path}, {options:?}"
        );
    }
}

#[test]
fn logits_are_those_of_the_first_time() {
    for path in CpuPath::available() {
        for kv_dtype in [KvFormat::F32, KvFormat::Bf16, KvFormat::Int8] {
            let options = LoadOptions {
                kv_dtype: Some(kv_dtype),
                ..LoadOptions::default()
            };
            for block_size in [16, 5] {
                for name in ["qwen3-f32-tied", "mistral-f32-window"] {
                    check(name, &options, path, block_size);
                }
            }
        }
    }
}

#[test]
fn quantized_weights_change_nothing_about_it() {
    for dtype in ["bf16", "int8", "int4-g32"] {
        let options = LoadOptions {
            dtype: Some(dtype.parse().unwrap()),
            kv_dtype: Some(KvFormat::Int8),
            ..LoadOptions::default()
        };
        check("qwen3-f32-tied", &options, CpuPath::detect(), 16);
    }
}
