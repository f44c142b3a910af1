//! The whole engine on the bundled model: golden answers, batch invariance on a real network, and
//! a full house.

use crate::toy::{Answer, answer, idle};
use maitre_engine::{Engine, EngineBuilder, GenerateRequest, Input, ModelSource, WeightFormat};
use serde::Deserialize;

/// Greedy continuations by an independent implementation (transformers, f32).
#[derive(Deserialize)]
struct Golden {
    prompt: String,
    prompt_ids: Vec<u32>,
    greedy_ids: Vec<u32>,
}

fn goldens() -> Vec<Golden> {
    serde_json::from_str(include_str!(
        "../../../maitre-bundled/tests/golden_greedy.json"
    ))
    .unwrap()
}

fn builder() -> EngineBuilder {
    let model = &maitre_bundled::TARGET;
    Engine::builder(ModelSource::Memory {
        name: model.name,
        files: model.files,
    })
}

fn greedy(golden: &Golden) -> GenerateRequest {
    let mut request = GenerateRequest::new(Input::Text(golden.prompt.clone()));
    request.sampling.temperature = Some(0.0);
    request.stopping.max_tokens = Some(64);
    request.output.logprobs = Some(1);
    request
}

fn seeded(golden: &Golden, seed: u64) -> GenerateRequest {
    let mut request = greedy(golden);
    request.sampling.temperature = Some(0.8);
    request.sampling.top_p = Some(0.95);
    request.sampling.repetition_penalty = Some(1.05);
    request.sampling.frequency_penalty = Some(0.2);
    request.sampling.seed = Some(seed);
    request
}

async fn crowd(engine: &Engine, requests: Vec<GenerateRequest>) -> Vec<Answer> {
    let mut tasks = Vec::new();
    for request in requests {
        let engine = engine.clone();
        let task = async move {
            answer(engine.generate(request).await.unwrap())
                .await
                .unwrap()
        };
        tasks.push(tokio::spawn(task));
    }
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(task.await.unwrap());
    }
    answers
}

#[tokio::test]
async fn golden_answers_through_the_whole_engine() {
    let engine = builder()
        .dtype(Some(WeightFormat::F32))
        .max_seqs(8)
        .max_batched_tokens(48)
        .build()
        .unwrap();
    let goldens = goldens();
    for golden in &goldens {
        assert_eq!(
            engine.tokenizer().encode(&golden.prompt).unwrap(),
            golden.prompt_ids
        );
    }
    let answers = crowd(&engine, goldens.iter().map(greedy).collect()).await;
    for (found, golden) in answers.iter().zip(&goldens) {
        assert_eq!(
            found.token_ids, golden.greedy_ids,
            "after {:?}",
            golden.prompt
        );
        let expected = engine.tokenizer().decode(&golden.greedy_ids, true).unwrap();
        assert_eq!(found.text, expected);
    }
    idle(&engine).await;
}

#[tokio::test]
async fn answers_are_the_same_bits_in_any_company_on_any_number_of_threads() {
    let goldens = goldens();
    let requests: Vec<GenerateRequest> = goldens
        .iter()
        .enumerate()
        .map(|(of, golden)| {
            if of % 2 == 0 {
                greedy(golden)
            } else {
                seeded(golden, of as u64)
            }
        })
        .collect();
    let single = builder().threads(Some(1)).build().unwrap();
    let mut expected = Vec::new();
    for request in &requests {
        expected.push(
            answer(single.generate(request.clone()).await.unwrap())
                .await
                .unwrap(),
        );
    }
    // Small chunks and a pool so small that sequences are preempted, on two threads where there are.
    let threads = std::thread::available_parallelism().map_or(1, |cores| cores.get().min(2));
    let crowded = builder()
        .threads(Some(threads))
        .max_seqs(12)
        .max_batched_tokens(29)
        .block_size(3)
        .max_model_len(Some(256))
        .kv_cache_bytes(Some(single.info().memory.kv_per_token * 3 * 100))
        .build()
        .unwrap();
    let found = crowd(&crowded, requests).await;
    assert!(
        crowded.load().preemptions > 0,
        "the pool was meant to be too small"
    );
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found.token_ids, expected.token_ids);
        assert_eq!(found.logprobs, expected.logprobs);
        assert_eq!(found.text, expected.text);
    }
    idle(&crowded).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_guests_all_get_the_right_text() {
    let goldens = goldens();
    let engine = builder().dtype(Some(WeightFormat::F32)).build().unwrap();
    let expected: Vec<String> = goldens
        .iter()
        .map(|golden| engine.tokenizer().decode(&golden.greedy_ids, true).unwrap())
        .collect();
    let requests = (0..200)
        .map(|guest| greedy(&goldens[guest % goldens.len()]))
        .collect();
    for (guest, found) in crowd(&engine, requests).await.iter().enumerate() {
        assert_eq!(found.text, expected[guest % goldens.len()], "guest {guest}");
    }
    idle(&engine).await;
}
