//! What requests share: prefixes, prompts of parallel answers, blocks on the way through the host tier. Every
//! answer is compared with that of an engine that shares nothing.

use maitre_engine::{CacheEvent, GenerateRequest};

use crate::toy::{Answer, Fault, Setup, answer, answers, idle, tokens_request};

fn prompt(salt: u32, len: u32) -> Vec<u32> {
    (0..len).map(|i| 100 + i * 7 + salt * (i / 20)).collect()
}

async fn unshared(request: &GenerateRequest) -> Vec<Answer> {
    let (engine, _gate) = Setup {
        prefix_cache: false,
        ..Setup::default()
    }
    .start();
    answers(engine.generate(request.clone()).await.unwrap())
        .await
        .unwrap()
}

#[tokio::test]
async fn a_second_request_computes_only_what_is_new() {
    let (engine, gate) = Setup::default().start();
    let first = tokens_request(&prompt(0, 41), 3);
    let cold = answer(engine.generate(first.clone()).await.unwrap())
        .await
        .unwrap();
    let before = gate.computed();
    let warm = answer(engine.generate(first.clone()).await.unwrap())
        .await
        .unwrap();
    assert_eq!(cold.token_ids, warm.token_ids);
    // Blocks of four: ten are full of prompt; the one token left is computed, and two more.
    assert_eq!(
        (
            cold.end.usage.cached_prompt_tokens,
            warm.end.usage.cached_prompt_tokens
        ),
        (0, 40)
    );
    assert_eq!(gate.computed() - before, 3);

    let other = tokens_request(&prompt(1, 41), 3);
    let found = answer(engine.generate(other.clone()).await.unwrap())
        .await
        .unwrap();
    assert_eq!(
        found.end.usage.cached_prompt_tokens, 20,
        "alike up to there"
    );
    assert_eq!(
        vec![found.token_ids.clone()],
        tokens(&unshared(&other).await)
    );
    let load = engine.load();
    assert_eq!((load.prefix_queries, load.prefix_hits), (123, 60));
}

/// A prompt whose every block is there: its last token is computed again for its logits, and writes nothing.
#[tokio::test]
async fn a_whole_prompt_that_is_there_is_not_written_again() {
    let (engine, gate) = Setup::default().start();
    let request = tokens_request(&prompt(0, 40), 5);
    let cold = answer(engine.generate(request.clone()).await.unwrap())
        .await
        .unwrap();
    let before = gate.computed();
    let warm = answer(engine.generate(request.clone()).await.unwrap())
        .await
        .unwrap();
    assert_eq!(warm.end.usage.cached_prompt_tokens, 39);
    assert_eq!(gate.computed() - before, 5);
    assert_eq!(cold.token_ids, warm.token_ids);
}

#[tokio::test]
async fn nothing_is_shared_across_tenants_and_salts_or_past_a_bypass() {
    let (engine, _gate) = Setup::default().start();
    let with = |tenant: &str, salt: &str, bypass| {
        let mut request = tokens_request(&prompt(0, 30), 2);
        request.service.tenant = tenant.into();
        request.cache.salt = salt.into();
        request.cache.bypass = bypass;
        request
    };
    let cases = [
        (with("", "", true), 0),
        (with("", "", false), 0),
        (with("", "", false), 28),
        (with("", "", true), 0),
        (with("a", "", false), 0),
        (with("", "a", false), 0),
        (with("a", "", false), 28),
    ];
    for (index, (request, cached)) in cases.into_iter().enumerate() {
        let found = answer(engine.generate(request).await.unwrap())
            .await
            .unwrap();
        assert_eq!(found.end.usage.cached_prompt_tokens, cached, "case {index}");
    }
}

#[tokio::test]
async fn prompt_logprobs_compute_the_whole_prompt() {
    let (engine, _gate) = Setup::default().start();
    let mut request = tokens_request(&prompt(0, 30), 2);
    for _ in 0..2 {
        request.output.prompt_logprobs = Some(1);
        let found = answer(engine.generate(request.clone()).await.unwrap())
            .await
            .unwrap();
        assert_eq!(found.end.usage.cached_prompt_tokens, 0);
    }
}

#[tokio::test]
async fn parallel_answers_compute_their_prompt_once() {
    for len in [40, 41, 43] {
        let mut request = tokens_request(&prompt(0, len), 6);
        request.n = 5;
        request.sampling.temperature = Some(1.0);
        request.sampling.seed = Some(11);
        let expected = unshared(&request).await;
        for prefix_cache in [true, false] {
            let (engine, gate) = Setup {
                prefix_cache,
                ..Setup::default()
            }
            .start();
            // All five are in before the first of them ends: a fork needs its parent.
            gate.shut();
            let generation = engine.generate(request.clone()).await.unwrap();
            gate.open();
            let found = answers(generation).await.unwrap();
            assert_eq!(tokens(&found), tokens(&expected), "prompt of {len}");
            idle(&engine).await;
            // One whole prompt; each other answer computes its last token again; five go on for five.
            assert_eq!(gate.computed() as u32, len + 4 + 5 * 5, "prompt of {len}");
        }
    }
}

#[tokio::test]
async fn a_reset_forgets_and_tells_how_much() {
    let (engine, _gate) = Setup::default().start();
    let mut events = engine.cache_events();
    let request = tokens_request(&prompt(0, 41), 1);
    answer(engine.generate(request.clone()).await.unwrap())
        .await
        .unwrap();
    idle(&engine).await;
    assert_eq!(engine.load().kv_cached_blocks, 10);
    assert_eq!(engine.reset_prefix_cache().await.unwrap(), 10);
    let mut heard = Vec::new();
    while heard.last() != Some(&CacheEvent::Cleared) {
        let batch = events.next().await.unwrap().unwrap();
        heard.extend(batch.events.iter().cloned());
    }
    let stored = heard
        .iter()
        .filter(|event| matches!(event, CacheEvent::Stored { .. }));
    assert_eq!((stored.count(), heard.len()), (10, 11));
    let again = answer(engine.generate(request).await.unwrap())
        .await
        .unwrap();
    assert_eq!(again.end.usage.cached_prompt_tokens, 0);
}

/// A pool of 24 blocks and four conversations of 15: each turn pushes out what the others will ask for.
#[tokio::test]
async fn blocks_come_back_from_the_host_tier_as_they_were() {
    let turn = |of: u32| tokens_request(&prompt(of * 300, 60), 4);
    let mut hits = Vec::new();
    for num_host_blocks in [0, 64] {
        let (engine, _gate) = Setup {
            num_blocks: 24,
            max_model_len: 80,
            num_host_blocks,
            ..Setup::default()
        }
        .start();
        for round in 0..3 {
            for of in 0..4 {
                let found = answer(engine.generate(turn(of)).await.unwrap())
                    .await
                    .unwrap();
                assert_eq!(
                    vec![found.token_ids],
                    tokens(&unshared(&turn(of)).await),
                    "{round}"
                );
            }
        }
        idle(&engine).await;
        hits.push(engine.load().prefix_hits);
    }
    assert!(
        hits[1] > hits[0] + 200,
        "the tier was meant to be asked: {hits:?}"
    );
}

/// When copies fail, the contents of the blocks are unknown: the step's requests fail, and what was cached is gone.
#[tokio::test]
async fn failed_copies_fail_their_step_and_poison_nothing() {
    let (engine, _gate) = Setup {
        fault: Some(Fault::Moves),
        ..Setup::default()
    }
    .start();
    let of = |len| tokens_request(&prompt(0, len), 2);
    answer(engine.generate(of(43)).await.unwrap())
        .await
        .unwrap();
    // The first 42 of these tokens are there, two of them in a block that has to be copied.
    let mut other = of(43);
    let maitre_engine::Input::Tokens(tokens) = &mut other.input else {
        unreachable!()
    };
    tokens[39] = 1;
    let failed = answer(engine.generate(other.clone()).await.unwrap())
        .await
        .unwrap_err();
    assert!(failed.to_string().contains("injected panic"), "{failed}");
    let found = answer(engine.generate(other.clone()).await.unwrap())
        .await
        .unwrap();
    assert_eq!(found.end.usage.cached_prompt_tokens, 0);
    assert_eq!(vec![found.token_ids], self::tokens(&unshared(&other).await));
    idle(&engine).await;
}

fn tokens(answers: &[Answer]) -> Vec<Vec<u32>> {
    answers
        .iter()
        .map(|answer| answer.token_ids.clone())
        .collect()
}
