//! Invariant 1, through the whole engine: a request's tokens and log-probabilities are the same
//! bits alone and in a crowd, whole and chunked, preempted or not, greedy and seeded. On the toy,
//! whose answers depend on every token read back through the block tables; the bundled model's own
//! turn is in `bundled.rs`.

use crate::toy::{Answer, Setup, answer, idle, tokens_request};
use maitre_engine::GenerateRequest;
use proptest::prelude::*;

fn request(of: u32, seeded: bool) -> GenerateRequest {
    let prompt: Vec<u32> = (0..3 + of * 5 % 41).map(|i| 60 + of * 17 + i).collect();
    let mut request = tokens_request(&prompt, 8 + of * 7 % 25);
    request.output.logprobs = Some(2);
    if seeded {
        request.sampling.temperature = Some(0.9);
        request.sampling.top_p = Some(0.95);
        request.sampling.repetition_penalty = Some(1.1);
        request.sampling.presence_penalty = Some(0.3);
        request.sampling.seed = Some(u64::from(of) + 1);
    }
    request
}

async fn crowd(setup: Setup, requests: u32) -> (Vec<Answer>, u64) {
    let (engine, gate) = setup.start();
    gate.shut();
    let mut generations = Vec::new();
    for of in 0..requests {
        generations.push(engine.generate(request(of, of % 2 == 1)).await.unwrap());
    }
    gate.open();
    let mut answers = Vec::new();
    for generation in generations {
        answers.push(answer(generation).await.unwrap());
    }
    idle(&engine).await;
    (answers, engine.load().preemptions)
}

async fn alone(of: u32) -> Answer {
    let (engine, _gate) = Setup {
        max_batched_tokens: 256,
        ..Setup::default()
    }
    .start();
    answer(engine.generate(request(of, of % 2 == 1)).await.unwrap())
        .await
        .unwrap()
}

fn assert_same(found: &[Answer], expected: &[Answer]) {
    for (of, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert_eq!(
            found.token_ids, expected.token_ids,
            "tokens of request {of}"
        );
        assert_eq!(
            found.logprobs, expected.logprobs,
            "log-probabilities of request {of}"
        );
        assert_eq!(found.text, expected.text, "text of request {of}");
    }
}

#[tokio::test]
async fn preemption_changes_no_answer() {
    let mut expected = Vec::new();
    for of in 0..10 {
        expected.push(alone(of).await);
    }
    // Twenty blocks of four: two or three of these sequences at a time.
    let setup = Setup {
        num_blocks: 20,
        max_model_len: 80,
        ..Setup::default()
    };
    let (found, preemptions) = crowd(setup, 10).await;
    assert!(preemptions > 0, "the pool was meant to be too small");
    assert_same(&found, &expected);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn company_chunks_blocks_and_preemption_change_no_answer(
        max_seqs in 1_usize..12,
        extra_budget in 0_usize..40,
        block_size in 1_usize..9,
        spare_blocks in 0_usize..30,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut expected = Vec::new();
            for of in 0..12 {
                expected.push(alone(of).await);
            }
            let setup = Setup {
                max_model_len: 80,
                max_seqs,
                max_batched_tokens: max_seqs + extra_budget,
                block_size,
                num_blocks: 80_usize.div_ceil(block_size) + spare_blocks,
                ..Setup::default()
            };
            let (found, _) = crowd(setup, 12).await;
            assert_same(&found, &expected);
        });
    }
}
