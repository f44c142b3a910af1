//! A model that several ranks share, each a thread: the answers of one rank, and the same bits in every crowd.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use maitre_model::{LoadOptions, Model, ModelSource, Runner, RunnerConfig, Shard};
use maitre_tensor::{Backend, ThreadRanks};

use crate::support::{
    Host, Part, all_logits, batch, bits, fixture, for_all_groups, forward, greedy, options_of,
    prefill,
};

/// Families whose heads and MLPs two ranks can share, each with something of its own.
const SHARED: [&str; 4] = [
    "llama-f32-sharded",
    "mistral-f32-window",
    "qwen2-f32-windows-v4",
    "gemma3-bf16-v4",
];

fn tokens(seed: u32, len: u32) -> Vec<u32> {
    (0..len)
        .map(|index| (seed + index * index * 7) % 64)
        .collect()
}

/// Runs the same on each of two ranks, and returns what they have in common.
fn on_two_ranks<T: PartialEq + Send>(
    name: &str,
    config: RunnerConfig,
    work: impl Fn(&mut Runner) -> T + Sync,
) -> T {
    let source = ModelSource::Directory(fixture(name));
    let group = ThreadRanks::group(2, Duration::from_secs(20));
    let [first, second] = thread::scope(|scope| {
        let ranks: Vec<_> = group.into_iter().enumerate().collect();
        let work = &work;
        let source = &source;
        let threads: Vec<_> = ranks
            .into_iter()
            .map(|(rank, communicator)| {
                scope.spawn(move || {
                    let backend = Backend::cpu(1).unwrap();
                    let options = LoadOptions {
                        shard: Shard::new(rank, 2).unwrap(),
                        ..options_of(name)
                    };
                    let model = Arc::new(Model::load(source, &options, &backend).unwrap());
                    let communicator = Box::new(communicator);
                    let config = for_all_groups(&model, config);
                    work(&mut Runner::of_rank(model, backend, config, communicator).unwrap())
                })
            })
            .collect();
        let done: Vec<T> = threads.into_iter().map(|it| it.join().unwrap()).collect();
        <[T; 2]>::try_from(done).ok().unwrap()
    });
    assert!(first == second, "{name}: ranks have the same answers");
    first
}

fn alone() -> RunnerConfig {
    RunnerConfig::new(32, 16, 512, 1)
}

#[test]
fn two_ranks_answer_as_one() {
    for name in SHARED {
        let source = ModelSource::Directory(fixture(name));
        let one = Host::new(&source, &options_of(name), 1);
        let prompt = tokens(3, 45);
        let expected = prefill(&mut one.runner(), &prompt, 512).concat();
        let found = on_two_ranks(name, alone(), |runner| prefill(runner, &prompt, 512)).concat();
        let most = expected.iter().fold(0_f32, |most, it| most.max(it.abs()));
        let errors = expected.iter().zip(&found);
        let worst = errors.fold(0_f32, |worst, (a, b)| worst.max((a - b).abs())) / most;
        println!("{name}: {worst:.1e}");
        // Sums of two parts round otherwise; in 16 bits what they lead to is rounded to other neighbours.
        let bound = if name.contains("f32") { 1e-5 } else { 2e-2 };
        assert!(worst <= bound, "{name}: {worst}");
        if name.contains("f32") {
            let prompt = &prompt[..30];
            let expected = greedy(&mut one.runner(), prompt, 512, 24, &[]);
            let found = on_two_ranks(name, alone(), |runner| greedy(runner, prompt, 9, 24, &[]));
            assert_eq!(found, expected, "{name}");
        }
    }
}

#[test]
fn bits_depend_on_the_number_of_ranks_alone() {
    let texts = [tokens(1, 40), tokens(2, 23)];
    for name in SHARED {
        let apart: Vec<Vec<Vec<f32>>> = texts
            .iter()
            .map(|text| on_two_ranks(name, alone(), |runner| prefill(runner, text, 512)))
            .collect();
        let config = RunnerConfig::new(32, 16, 512, 2);
        let together = on_two_ranks(name, config, |runner| {
            let tables: [Vec<u32>; 2] = [(0..3).rev().collect(), (7..9).collect()];
            let mut rows = vec![Vec::new(); 2];
            for (first, last) in [(0, 11), (11, 23), (23, 40)] {
                let parts: Vec<(usize, Part<'_>)> = texts
                    .iter()
                    .zip(&tables)
                    .enumerate()
                    .filter(|(_, (text, _))| first < text.len())
                    .map(|(at, (text, table))| {
                        let part = Part {
                            tokens: &text[first..last.min(text.len())],
                            start: first,
                            table,
                        };
                        (at, part)
                    })
                    .collect();
                let batch = batch(&parts.iter().map(|it| it.1.clone()).collect::<Vec<_>>(), 16);
                forward(runner, &batch);
                let mut logits = all_logits(runner, batch.output_rows.len()).into_iter();
                for (at, part) in &parts {
                    rows[*at].extend(logits.by_ref().take(part.tokens.len()));
                }
            }
            rows
        });
        for (apart, together) in apart.iter().zip(&together) {
            assert_eq!(bits(&apart.concat()), bits(&together.concat()), "{name}");
        }
    }
}

#[test]
fn what_cannot_be_shared_is_refused_by_name() {
    let backend = Backend::cpu(1).unwrap();
    let load = |name: &str, rank, of| {
        let options = LoadOptions {
            shard: Shard::new(rank, of).unwrap(),
            ..LoadOptions::default()
        };
        Model::load(&ModelSource::Directory(fixture(name)), &options, &backend)
    };
    for (name, of, part) in [
        ("phi3-f32-longrope", 2, "num_key_value_heads is 1"),
        ("llama-f32-sharded", 3, "num_attention_heads is 4"),
        ("olmo3-bf16-yarn-v4", 5, "norms of whole rows is 30"),
    ] {
        let message = load(name, 0, of).unwrap_err().to_string();
        assert!(message.contains(part), "{name}: {message}");
    }
    let share = Arc::new(load("llama-f32-sharded", 1, 2).unwrap());
    let refused = Runner::new(share, backend.clone(), alone()).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "runner setting ranks = 1; expected 2, as many as share the model"
    );
}
