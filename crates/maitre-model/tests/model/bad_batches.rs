//! A malformed batch is refused with what is wrong and where, and computes nothing.

use crate::support::{Part, all_logits, batch, bits, fixture, sized_runner};
use maitre_model::{Batch, LoadOptions, ModelError, ModelSource, Runner, RunnerConfig};
use maitre_tensor::NO_SLOT;

/// 8 blocks of 4 tokens, steps of 10 tokens, 2 spans, 6 output rows.
fn small_runner() -> Runner {
    let source = ModelSource::Directory(fixture("qwen3-f32-tied"));
    let mut config = RunnerConfig::new(8, 4, 10, 2);
    config.max_output_rows_per_step = 6;
    sized_runner(&source, &LoadOptions::default(), 1, config)
}

/// Two spans: positions 0..3 of one sequence, 0..2 of another.
fn good() -> Batch {
    let (first, second) = ([5, 6, 7], [8, 9]);
    let parts = [
        Part {
            tokens: &first,
            start: 0,
            table: &[3],
        },
        Part {
            tokens: &second,
            start: 0,
            table: &[5, 1],
        },
    ];
    batch(&parts, 4)
}

#[test]
fn each_mistake_is_named() {
    type Breakage = fn(&mut Batch);
    let table: &[(&str, Breakage)] = &[
        ("the batch has 0 tokens; expected 1", |b| b.tokens.clear()),
        (
            "the batch has 11 tokens, the runner was sized for 10",
            |b| {
                b.tokens.resize(11, 1);
            },
        ),
        (
            "the batch has 7 output rows, the runner was sized for 6",
            |b| {
                b.output_rows = vec![0; 7];
            },
        ),
        ("the batch has 3 spans, the runner was sized for 2", |b| {
            b.spans.push(b.spans[0]);
        }),
        (
            "token 71 at row 1 is not below the vocabulary size 71",
            |b| b.tokens[1] = 71,
        ),
        ("output 2 asks for row 5 of 5", |b| b.output_rows[2] = 5),
        ("the batch has 4 positions; expected 5", |b| {
            b.positions.pop();
        }),
        ("the batch has 4 slots; expected 5", |b| {
            b.groups[0].slots.pop();
        }),
        ("the batch has 1 block tables; expected 2", |b| {
            b.groups[0].tables.tables.pop();
        }),
        ("the batch has 16 tokens per block; expected 4", |b| {
            b.groups[0].tables.block_size = 16;
        }),
        ("the batch has 0 KV groups; expected 1", |b| {
            b.groups.clear()
        }),
        ("the batch has 2 KV groups; expected 1", |b| {
            b.groups.push(b.groups[0].clone())
        }),
        (
            "span 1 begins at row 2; the spans before it end at row 3",
            |b| {
                b.spans[1].first_token = 2;
            },
        ),
        ("span 1 has no tokens", |b| b.spans[1].num_tokens = 0),
        ("the batch has 4 tokens in its spans; expected 5", |b| {
            b.spans[1].num_tokens = 1;
            b.spans[1].context_len = 1;
        }),
        ("the batch has 6 tokens in its spans; expected 5", |b| {
            b.spans[1].num_tokens = 3;
            b.spans[1].context_len = 3;
        }),
        (
            "span 0 with 3 tokens has context length 2; expected 3..=32",
            |b| {
                b.spans[0].context_len = 2;
            },
        ),
        (
            "span 0 with 3 tokens has context length 33; expected 3..=32",
            |b| {
                b.spans[0].context_len = 33;
            },
        ),
        ("row 4 has position 2; its span implies 1", |b| {
            b.positions[4] = 2
        }),
        ("row 0 has position 0; its span implies 1", |b| {
            b.spans[0].context_len = 4
        }),
        (
            "the block table of span 0 in KV group 0 has 0 blocks; its context needs 1",
            |b| {
                b.groups[0].tables.tables[0].clear();
            },
        ),
        (
            "the block table of span 1 in KV group 0 names block 8 of 8",
            |b| {
                b.groups[0].tables.tables[1][1] = 8;
            },
        ),
        (
            "the block table of span 1 in KV group 0 begins with block 1; its tokens see block 0",
            |b| b.groups[0].tables.first_blocks = vec![0, 1],
        ),
        ("the batch has 1 first blocks; expected 2", |b| {
            b.groups[0].tables.first_blocks = vec![0];
        }),
        (
            "row 3 writes slot 12 in KV group 0; its block table implies 20",
            |b| {
                b.groups[0].slots[3] = 12;
            },
        ),
    ];
    let mut runner = small_runner();
    for (message, breakage) in table {
        let mut broken = good();
        breakage(&mut broken);
        let error = runner.forward(&broken).unwrap_err();
        assert_eq!(error.to_string(), *message);
        assert!(runner.logits(0..1).is_err(), "no logits after: {message}");
        runner.forward(&good()).unwrap();
    }
}

#[test]
fn logits_are_only_those_of_the_last_step() {
    let mut runner = small_runner();
    assert!(matches!(
        runner.logits(0..1),
        Err(ModelError::LogitsRange { available: 0, .. })
    ));
    runner.forward(&good()).unwrap();
    assert_eq!(runner.logits(0..5).unwrap().values.len(), 5 * 71);
    assert_eq!(runner.logits(2..2).unwrap().values.len(), 0);
    assert!(runner.logits(4..6).is_err());
    assert!(runner.logits(0..33).is_err());
}

#[test]
fn a_token_without_slot_is_computed_but_not_written() {
    let mut runner = small_runner();
    runner.forward(&good()).unwrap();
    let expected = all_logits(&mut runner, 5);
    // The last token of the second span is known to the cache now; a later pass need not write.
    let mut again = good();
    again.groups[0].slots[4] = NO_SLOT;
    runner.forward(&again).unwrap();
    let found = all_logits(&mut runner, 5);
    assert_eq!(bits(&found.concat()), bits(&expected.concat()));
}

#[test]
fn a_runner_of_no_size_is_refused() {
    let source = ModelSource::Directory(fixture("qwen3-f32-tied"));
    let backend = maitre_tensor::Backend::cpu(1).unwrap();
    let model = maitre_model::Model::load(&source, &LoadOptions::default(), &backend).unwrap();
    let model = std::sync::Arc::new(model);
    let good = RunnerConfig::new(8, 4, 10, 2);
    let table = [
        (
            "num_blocks",
            RunnerConfig {
                num_blocks: 0,
                ..good
            },
        ),
        (
            "block_size",
            RunnerConfig {
                block_size: 0,
                ..good
            },
        ),
        (
            "max_batched_tokens",
            RunnerConfig {
                max_batched_tokens: 0,
                ..good
            },
        ),
        (
            "max_seqs",
            RunnerConfig {
                max_seqs: 0,
                ..good
            },
        ),
        (
            "max_output_rows_per_step",
            RunnerConfig {
                max_output_rows_per_step: 0,
                ..good
            },
        ),
        (
            "num_blocks",
            RunnerConfig {
                num_blocks: 1 << 30,
                ..good
            },
        ),
        (
            "num_host_blocks",
            RunnerConfig {
                num_host_blocks: 1 << 30,
                ..good
            },
        ),
    ];
    for (field, config) in table {
        match Runner::new(model.clone(), backend.clone(), config) {
            Err(ModelError::RunnerLimit { name, .. }) => assert_eq!(name, field),
            other => panic!("{field}: {other:?}"),
        }
    }
}
