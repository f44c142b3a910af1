//! Layers that attend in different ways share the pages of one pool: answers are those of an engine that shares nothing
//! and has space for everything.

use maitre_engine::GenerateRequest;
use maitre_scheduler::KvSpec;

use crate::toy::{Answer, Setup, answer, answers, idle, tokens_request};

const MIXED: &[KvSpec] = &[KvSpec::Window(6), KvSpec::Full, KvSpec::Window(11)];

fn prompt(salt: u32, len: u32) -> Vec<u32> {
    (0..len).map(|i| 100 + i * 7 + salt * (i / 20)).collect()
}

async fn alone(kv_groups: &'static [KvSpec], request: &GenerateRequest) -> Vec<Answer> {
    let (engine, _gate) = Setup {
        prefix_cache: false,
        num_blocks: 4096,
        max_model_len: 1024,
        kv_groups,
        ..Setup::default()
    }
    .start();
    answers(engine.generate(request.clone()).await.unwrap())
        .await
        .unwrap()
}

fn tokens(answers: &[Answer]) -> Vec<Vec<u32>> {
    answers.iter().map(|it| it.token_ids.clone()).collect()
}

/// In a pool that holds little more than one of them, with a host tier.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_gets_the_answers_that_each_request_gets_alone() {
    let (engine, _gate) = Setup {
        kv_groups: MIXED,
        max_model_len: 96,
        max_batched_tokens: 8,
        max_seqs: 4,
        num_blocks: 48,
        num_host_blocks: 60,
        ..Setup::default()
    }
    .start();
    let mut running = Vec::new();
    for salt in 0..12 {
        let mut request = tokens_request(&prompt(salt % 4, 30 + salt), 40);
        request.n = 1 + salt % 2;
        let generation = engine.generate(request.clone()).await.unwrap();
        running.push((request, tokio::spawn(answers(generation))));
    }
    for (request, found) in running {
        let found = found.await.unwrap().unwrap();
        assert_eq!(tokens(&found), tokens(&alone(MIXED, &request).await));
    }
    let load = engine.load();
    assert!(load.preemptions > 0 && load.prefix_hits > 0, "{load:?}");
    idle(&engine).await;
}

/// Windowed groups give back what they leave behind; the group under full attention keeps all.
#[tokio::test]
async fn a_long_answer_takes_the_pages_that_are_read() {
    const WINDOWS: &[KvSpec] = &[KvSpec::Window(9), KvSpec::Window(17)];
    for (kv_groups, most) in [(WINDOWS, 4 + 6), (MIXED, 35 + 3 + 4)] {
        let (engine, _gate) = Setup {
            kv_groups,
            max_model_len: 512,
            max_batched_tokens: 4,
            max_seqs: 2,
            num_blocks: 200,
            ..Setup::default()
        }
        .start();
        let request = tokens_request(&prompt(0, 20), 120);
        let mut generation = engine.generate(request.clone()).await.unwrap();
        let (mut held, mut found) = (0, Vec::new());
        while let Some(event) = generation.next().await {
            held = held.max(engine.load().kv_used_blocks);
            if let maitre_engine::Event::Delta(delta) = event.unwrap() {
                found.extend(delta.token_ids);
            }
        }
        assert_eq!(vec![found], tokens(&alone(kv_groups, &request).await));
        assert!(held <= most + kv_groups.len(), "{held} pages held");
        idle(&engine).await;
    }
}

/// A pool that is far smaller than the sequence, if all groups have windows.
#[tokio::test]
async fn an_answer_may_be_longer_than_the_pool() {
    const WINDOWS: &[KvSpec] = &[KvSpec::Window(9), KvSpec::Window(17)];
    let (engine, _gate) = Setup {
        kv_groups: WINDOWS,
        max_model_len: 512,
        max_batched_tokens: 4,
        max_seqs: 2,
        num_blocks: 30,
        ..Setup::default()
    }
    .start();
    let request = tokens_request(&prompt(0, 200), 120);
    let found = answer(engine.generate(request.clone()).await.unwrap())
        .await
        .unwrap();
    let expected = tokens(&alone(WINDOWS, &request).await);
    assert_eq!(vec![found.token_ids], expected);
    let again = answer(engine.generate(request.clone()).await.unwrap())
        .await
        .unwrap();
    assert_eq!(vec![again.token_ids], expected);
    idle(&engine).await;
}
