//! Models on a GPU's kernels, run by the emulator: the same answers as on the processor, the same bits in
//! every crowd, recorded or not, and nothing lost when a kernel fails.

use crate::greedy::cases;
use crate::support::{
    Host, Part, all_logits, batch, bits, bundled, fixture, forward, greedy, in_dtype, prefill,
    test_data, whole_cache,
};
use maitre_model::{
    CacheMove, CacheMoves, Draw, LoadOptions, Model, ModelSource, Runner, RunnerConfig,
};
use maitre_tensor::{Backend, DeviceName, GpuOptions, KvFormat, WeightFormat};

/// Enough to see that attention reads what was stored; the emulator takes its time.
const GREEDY_TOKENS: usize = 12;

fn tokens(seed: usize, len: usize) -> Vec<u32> {
    (0..len)
        .map(|index| ((seed + index * index * 7 + index) % 60) as u32)
        .collect()
}

#[test]
fn greedy_tokens_are_those_of_the_processor() {
    let golden = include_bytes!("../../../maitre-bundled/tests/golden_greedy.json");
    let source = bundled(&maitre_bundled::TARGET);
    let Some(host) = Host::on_gpu(&source, &in_dtype(WeightFormat::F32)) else {
        return;
    };
    for case in cases(golden).iter().take(2) {
        let len = case.expected.len().min(GREEDY_TOKENS);
        let found = greedy(&mut host.runner(), &case.prompt, 100, len, &[]);
        assert_eq!(found, case.expected[..len]);
    }
}

#[test]
fn greedy_tokens_of_the_shared_models_are_the_golden_ones() {
    let Some(data) = test_data() else { return };
    for name in ["stories260k-hf", "tinystories-656k-bf16"] {
        let directory = data.join("models").join(name);
        let golden = std::fs::read(directory.join("golden_greedy.json")).unwrap();
        let source = ModelSource::Directory(directory);
        let Some(host) = Host::on_gpu(&source, &in_dtype(WeightFormat::F32)) else {
            return;
        };
        for case in &cases(&golden) {
            let len = case.expected.len().min(4 * GREEDY_TOKENS);
            let found = greedy(&mut host.runner(), &case.prompt, 100, len, &[]);
            assert_eq!(found, case.expected[..len], "{name}");
        }
    }
}

/// Logits in f32 differ by rounding alone; in bf16 by that of activations, which both backends round at the same
/// places; integers are widened on a GPU where the processor narrows activations.
#[test]
fn logits_are_close_to_the_processors() {
    for (name, options, tolerance) in [
        ("llama-f32-llama3-bias-v4", LoadOptions::default(), 1e-4),
        ("mistral-f32-window", LoadOptions::default(), 1e-4),
        ("qwen3-f32-tied", LoadOptions::default(), 1e-4),
        ("qwen3-bf16-untied-bias-v4", LoadOptions::default(), 0.05),
        ("qwen2-f32-windows-v4", LoadOptions::default(), 1e-4),
        ("gemma3-f32-linear", LoadOptions::default(), 1e-4),
        ("gemma3-bf16-v4", LoadOptions::default(), 0.05),
        ("phi3-f32-longrope", LoadOptions::default(), 1e-4),
        ("olmo3-f32-yarn", LoadOptions::default(), 1e-4),
        ("granite-f32-tied", LoadOptions::default(), 1e-4),
        ("olmo2-f32", LoadOptions::default(), 1e-4),
        ("gemma-f32-tied", LoadOptions::default(), 1e-4),
        ("seed-oss-f32-bias", LoadOptions::default(), 1e-4),
        ("ministral-f32-windows", LoadOptions::default(), 1e-4),
        ("glm4-f32-partial", LoadOptions::default(), 1e-4),
        ("smollm3-f32-windows", LoadOptions::default(), 1e-4),
        ("exaone4-f32-windows", LoadOptions::default(), 1e-4),
        ("hunyuan-f32-alpha", LoadOptions::default(), 1e-4),
        ("llama-f32-dynamic", LoadOptions::default(), 1e-4),
        ("cohere2-f32-windows", LoadOptions::default(), 1e-4),
        ("cohere2-bf16-bias-v4", LoadOptions::default(), 0.05),
        ("starcoder2-f32-window", LoadOptions::default(), 1e-4),
        ("gpt2-f32-inner", LoadOptions::default(), 1e-4),
        ("gpt2-bf16-v4", LoadOptions::default(), 0.05),
        ("ministral3-f32-yarn", LoadOptions::default(), 1e-4),
        ("qwen3-f32-tied", in_dtype(WeightFormat::INT8), 0.1),
        ("qwen3-f32-tied", in_dtype(WeightFormat::INT4), 0.3),
    ] {
        let source = ModelSource::Directory(fixture(name));
        let Some(gpu) = Host::on_gpu(&source, &options) else {
            return;
        };
        let cpu = Host::new(&source, &options, 1);
        let tokens = tokens(3, 21);
        let expected = prefill(&mut cpu.runner(), &tokens, 100);
        let found = prefill(&mut gpu.runner(), &tokens, 8);
        let most = expected
            .iter()
            .flatten()
            .fold(0.0_f32, |most, it| most.max(it.abs()));
        let errors = expected.iter().flatten().zip(found.iter().flatten());
        let worst = errors.fold(0.0_f32, |worst, (a, b)| worst.max((a - b).abs()));
        assert!(worst <= tolerance * most, "{name}: {worst} of {most}");
    }
}

/// What no kernel of a GPU computes is refused before weights are read.
#[test]
fn bounds_of_scores_and_logits_are_refused_at_the_start() {
    let source = ModelSource::Directory(fixture("gemma2-f32-windows"));
    let opened = Backend::open(DeviceName::Emulator, 1, GpuOptions::default());
    let Ok(backend) = opened else { return };
    let refused = Model::load(&source, &LoadOptions::default(), &backend);
    let message = refused.unwrap_err().to_string();
    assert!(message.contains("bounds of scores or logits"), "{message}");
    assert!(message.contains("the processor"), "{message}");
}

/// One decode step of every sequence, whose tokens so far are known.
fn decode(runner: &mut Runner, sequences: &[(&[u32], &[u32])]) -> Vec<Vec<f32>> {
    let parts: Vec<Part<'_>> = sequences
        .iter()
        .map(|(tokens, table)| Part {
            tokens: &tokens[tokens.len() - 1..],
            start: tokens.len() - 1,
            table,
        })
        .collect();
    forward(runner, &batch(&parts, 16));
    all_logits(runner, sequences.len())
}

/// Alone and whole; together, decoding, some of it recorded: the same bits.
#[test]
fn bits_do_not_depend_on_the_crowd_nor_on_recording() {
    const QWEN3: &str = "qwen3-bf16-untied-bias-v4";
    for (name, kv_dtype) in [
        (QWEN3, KvFormat::F32),
        (QWEN3, KvFormat::Bf16),
        (QWEN3, KvFormat::Int8),
        ("gemma3-bf16-v4", KvFormat::Bf16),
        ("olmo3-bf16-yarn-v4", KvFormat::F32),
        ("phi3-f32-longrope", KvFormat::Bf16),
        ("cohere2-bf16-bias-v4", KvFormat::Bf16),
        ("gpt2-bf16-v4", KvFormat::F32),
        ("ministral3-f32-yarn", KvFormat::F32),
    ] {
        let source = ModelSource::Directory(fixture(name));
        let options = LoadOptions {
            kv_dtype: Some(kv_dtype),
            ..LoadOptions::default()
        };
        let Some(host) = Host::on_gpu(&source, &options) else {
            return;
        };
        let lengths = [37, 20, 25];
        let texts: Vec<Vec<u32>> = (0..3).map(|at| tokens(at, lengths[at])).collect();
        let alone: Vec<_> = texts
            .iter()
            .map(|text| prefill(&mut host.runner(), text, 100))
            .collect();
        let mut runner = host.runner();
        let blocks = whole_cache(&runner);
        let tables: Vec<&[u32]> = blocks.chunks(8).take(3).collect();
        let steps = 5;
        let parts: Vec<Part<'_>> = (0..3)
            .map(|at| Part {
                tokens: &texts[at][..lengths[at] - steps],
                start: 0,
                table: tables[at],
            })
            .collect();
        forward(&mut runner, &batch(&parts, 16));
        for step in (0..steps).rev() {
            let known: Vec<(&[u32], &[u32])> = (0..3)
                .map(|at| (&texts[at][..lengths[at] - step], tables[at]))
                .collect();
            let together = decode(&mut runner, &known);
            for at in 0..3 {
                let expected = &alone[at][lengths[at] - step - 1];
                assert_eq!(
                    bits(expected),
                    bits(&together[at]),
                    "{name}, {kv_dtype}, {at}"
                );
            }
        }
        assert_eq!(runner.recorded_steps(), 1);
    }
}

/// What a step is recorded from may fail too; then it runs as it is, and is recorded another time.
#[test]
fn a_kernel_that_fails_fails_its_step_alone() {
    let source = ModelSource::Directory(fixture("qwen3-f32-tied"));
    let Some(host) = Host::on_gpu(&source, &LoadOptions::default()) else {
        return;
    };
    let text = tokens(1, 9);
    let expected = prefill(&mut host.runner(), &text, 100);
    for record_steps in [false, true] {
        let mut runner = host.sized(RunnerConfig {
            record_steps,
            ..RunnerConfig::new(32, 16, 128, 4)
        });
        let table = whole_cache(&runner);
        for len in 1..=text.len() {
            for launches in [0, 3, 11] {
                let part = Part {
                    tokens: &text[len - 1..len],
                    start: len - 1,
                    table: &table,
                };
                let batch = batch(&[part], 16);
                host.backend().fail_launch_after(launches);
                let failed = runner
                    .forward(&batch)
                    .and_then(|()| runner.logits(0..1).map(drop));
                host.backend().fail_launch_after(u64::MAX);
                if !record_steps {
                    assert!(failed.unwrap_err().to_string().contains("made to fail"));
                }
                runner.forward(&batch).unwrap();
                let found = all_logits(&mut runner, 1);
                assert_eq!(
                    bits(&expected[len - 1]),
                    bits(&found[0]),
                    "{len}, {launches}"
                );
            }
        }
        assert_eq!(runner.recorded_steps() > 0, record_steps);
    }
}

#[test]
fn blocks_come_back_from_the_host_as_they_were() {
    let source = ModelSource::Directory(fixture("qwen3-f32-tied"));
    for kv_dtype in [KvFormat::F32, KvFormat::Int8] {
        let options = LoadOptions {
            kv_dtype: Some(kv_dtype),
            ..LoadOptions::default()
        };
        let Some(host) = Host::on_gpu(&source, &options) else {
            return;
        };
        let config = RunnerConfig {
            num_host_blocks: 4,
            ..RunnerConfig::new(16, 16, 64, 2)
        };
        let mut runner = host.sized(config);
        let text = tokens(2, 40);
        let expected = prefill(&mut host.sized(config), &text, 64);
        let part = |table| Part {
            tokens: &text[..39],
            start: 0,
            table,
        };
        runner.forward(&batch(&[part(&[0, 1, 2])], 16)).unwrap();
        let to = |pairs: [(u32, u32); 3]| pairs.map(|(from, to)| CacheMove { from, to });
        let (out, back) = (to([(0, 3), (1, 1), (2, 0)]), to([(3, 9), (1, 4), (0, 0)]));
        let copies = [CacheMove { from: 4, to: 5 }];
        let moves = CacheMoves {
            swap_out: &out,
            ..CacheMoves::default()
        };
        runner.move_blocks(&moves).unwrap();
        // Another sequence overwrites the blocks they were copied from.
        let other = tokens(7, 39);
        let part = Part {
            tokens: &other,
            start: 0,
            table: &[0, 1, 2],
        };
        runner.forward(&batch(&[part], 16)).unwrap();
        let moves = CacheMoves {
            swap_in: &back,
            copies: &copies,
            ..CacheMoves::default()
        };
        runner.move_blocks(&moves).unwrap();
        let found = decode(&mut runner, &[(&text, &[9, 5, 0])]);
        assert_eq!(bits(&expected[39]), bits(&found[0]), "{kv_dtype}");
    }
}

#[test]
fn tokens_are_drawn_where_the_logits_are() {
    let source = ModelSource::Directory(fixture("qwen3-f32-tied"));
    let Some(host) = Host::on_gpu(&source, &LoadOptions::default()) else {
        return;
    };
    let mut runner = host.runner();
    let text = tokens(5, 12);
    let logits = prefill(&mut runner, &text, 100);
    let greedy = Draw {
        temperature: 0.0,
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
        seed: 1,
        position: 0,
    };
    let draws = [Some(greedy), None, Some(greedy)];
    let drawn = runner.draw(4, &draws, logits[0].len()).unwrap().unwrap();
    for (row, drawn) in drawn.iter().enumerate() {
        let expected = draws[row].map(|_| {
            let row = &logits[4 + row];
            let better = |best: usize, at: usize| if row[at] > row[best] { at } else { best };
            (0..row.len()).fold(0, better) as u32
        });
        assert_eq!(drawn.map(|drawn| drawn.token), expected);
    }
}
