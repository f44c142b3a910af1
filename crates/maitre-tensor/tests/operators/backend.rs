//! The backend as a whole: sharing between threads, steps, the heartbeat.

use std::thread;

use maitre_tensor::{
    Backend, CpuPath, InputFormat, KvFormat, LargestStep, LayerCache, LinearInput, WeightFormat,
};

use crate::numbers::{bits, linear, noise, unwritten, weight};

#[test]
fn zero_threads_are_refused() {
    let message = Backend::cpu(0).unwrap_err().to_string();
    assert_eq!(
        message,
        "a CPU backend was asked to run on 0 threads; it needs at least 1"
    );
}

#[test]
fn it_says_what_it_is() {
    let backend = Backend::with_path(3, CpuPath::Portable).unwrap();
    assert_eq!((backend.threads(), backend.name()), (3, "portable"));
    assert_eq!(
        format!("{backend:?}"),
        "Backend { name: \"portable\", threads: 3 }"
    );
}

#[test]
fn the_heart_beats_once_per_operator() {
    let backend = Backend::cpu(2).unwrap();
    let (w, _) = weight(1, 9, 8, WeightFormat::Bf16);
    let mut out = unwritten(27);
    let x = LinearInput::new(InputFormat::Bf16, 8, 3).unwrap();
    for count in 0..5 {
        assert_eq!(backend.heartbeat().count(), count);
        backend.linear(&x, &w, None, &mut out, 0..3).unwrap();
    }
    let watcher = backend.heartbeat().clone();
    backend.embed(&w, &[1], &mut out).unwrap();
    assert_eq!(watcher.count(), 6);
}

#[test]
fn steps_return_what_they_compute_and_nest() {
    let backend = Backend::cpu(2).unwrap();
    let inner = backend.clone();
    assert_eq!(backend.step(|| inner.step(|| 42)), 42);
}

#[test]
fn several_threads_may_use_one_backend() {
    let backend = Backend::cpu(3).unwrap();
    let (rows, cols, features) = (40, 64, 96);
    let (w, _) = weight(1, features, cols, WeightFormat::Bf16);
    let run = |seed| {
        let x = noise(seed, rows * cols);
        bits(&backend.step(|| linear(&backend, &x, &w, None)))
    };
    let expected: Vec<_> = (0..4).map(&run).collect();
    thread::scope(|scope| {
        for (seed, expected) in expected.iter().enumerate() {
            let run = &run;
            scope.spawn(move || {
                for _ in 0..20 {
                    assert!(run(seed as u64) == *expected);
                }
            });
        }
    });
}

#[test]
fn a_reservation_refuses_impossible_heads_and_blocks() {
    let backend = Backend::cpu(2).unwrap();
    let cache = LayerCache::new(16, 2, 4, KvFormat::Bf16).unwrap();
    let reserve = |heads, block_size| {
        backend.reserve(LargestStep {
            inputs: &[],
            cache: &cache,
            block_size,
            heads,
            rows: 1,
            context_len: 16,
            list_words: 0,
        })
    };
    let grouped = "`heads` must be a multiple of `kv_heads` (2) above 0";
    for (heads, block_size, expected) in [
        (0, 16, format!("reserve: {grouped}, but is 0")),
        (3, 16, format!("reserve: {grouped}, but is 3")),
        (
            4,
            0,
            "reserve: `block_size` must be above 0, but is 0".to_owned(),
        ),
    ] {
        let refused = reserve(heads, block_size).unwrap_err();
        assert_eq!(refused.to_string(), expected);
    }
    reserve(4, 5).unwrap();
}
