//! The whole engine on the bundled model: golden answers, batch invariance on a real network, and
//! full load.

use crate::toy::{Answer, answer, idle};
use maitre_engine::{
    Engine, EngineBuilder, GenerateRequest, Input, KvFormat, LoadFormat, ModelSource, WeightFormat,
};
use serde::Deserialize;
use std::sync::{Arc, Mutex};

/// Greedy continuations by an independent implementation (transformers, f32).
#[derive(Deserialize)]
pub(crate) struct Golden {
    pub(crate) prompt: String,
    prompt_ids: Vec<u32>,
    pub(crate) greedy_ids: Vec<u32>,
}

pub(crate) fn goldens() -> Vec<Golden> {
    serde_json::from_str(include_str!(
        "../../../maitre-bundled/tests/golden_greedy.json"
    ))
    .unwrap()
}

pub(crate) fn builder() -> EngineBuilder {
    let model = &maitre_bundled::TARGET;
    Engine::builder(ModelSource::Memory {
        name: model.name,
        files: model.files,
    })
}

pub(crate) fn greedy(golden: &Golden) -> GenerateRequest {
    let mut request = GenerateRequest::new(Input::Text(golden.prompt.clone()));
    request.sampling.temperature = Some(0.0);
    request.stopping.max_tokens = Some(64);
    request.output.logprobs = Some(1);
    request
}

pub(crate) fn seeded(golden: &Golden, seed: u64) -> GenerateRequest {
    let mut request = greedy(golden);
    request.sampling.temperature = Some(0.8);
    request.sampling.top_p = Some(0.95);
    request.sampling.repetition_penalty = Some(1.05);
    request.sampling.frequency_penalty = Some(0.2);
    request.sampling.seed = Some(seed);
    request
}

pub(crate) async fn crowd(engine: &Engine, requests: Vec<GenerateRequest>) -> Vec<Answer> {
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

/// Conversations that begin alike, each asked three times over: what a prefix that is kept, merged, copied in
/// part, moved to the host tier and back, or given up to a preemption does to the bits, which is nothing.
#[tokio::test]
async fn shared_prefixes_change_no_bit_in_any_format() {
    let system = "The waiter has the following dishes to offer today: soup of the day, fish with lemon, \
                  potatoes with butter, and for dessert a cake that his grandmother used to make.";
    let conversations: Vec<GenerateRequest> = goldens()
        .iter()
        .enumerate()
        .map(|(of, golden)| {
            let mut request = if of % 2 == 0 {
                greedy(golden)
            } else {
                seeded(golden, of as u64)
            };
            let tail = &golden.prompt;
            request.input = Input::Text(format!("{system}{}{tail}", "ab".repeat(of % 3)));
            request.stopping.max_tokens = Some(24);
            request
        })
        .collect();
    for (dtype, kv_dtype) in [
        (WeightFormat::Bf16, KvFormat::Bf16),
        (WeightFormat::INT8, KvFormat::Int8),
    ] {
        let builder = || builder().dtype(Some(dtype)).kv_dtype(Some(kv_dtype));
        let cold = builder().prefix_cache(false).build().unwrap();
        let per_token = cold.info().memory.kv_per_token;
        let mut expected = Vec::new();
        for request in &conversations {
            expected.push(
                answer(cold.generate(request.clone()).await.unwrap())
                    .await
                    .unwrap(),
            );
        }
        let warm = builder()
            .max_seqs(8)
            .max_batched_tokens(40)
            .block_size(5)
            .max_model_len(Some(160))
            .kv_cache_bytes(Some(per_token * 5 * 60))
            .host_kv_bytes(per_token * 5 * 40)
            .build()
            .unwrap();
        for round in 0..3 {
            let found = crowd(&warm, conversations.clone()).await;
            for (found, expected) in found.iter().zip(&expected) {
                assert_eq!(found.token_ids, expected.token_ids, "round {round}");
                assert_eq!(found.logprobs, expected.logprobs, "round {round}");
            }
        }
        idle(&warm).await;
        let load = warm.load();
        assert!(
            load.prefix_hits > 0 && load.preemptions > 0 && load.kv_host_blocks > 0,
            "nothing was put to the test: {load:?}"
        );
    }
}

/// Mistral's window on a random model: an answer several times as long as the whole pool, the same bits as with
/// space for everything, and prefixes found again by what the window still reads.
#[tokio::test]
async fn blocks_behind_a_window_are_given_back() {
    let config = br#"{"architectures":["MistralForCausalLM"],"model_type":"mistral","hidden_size":64,
        "intermediate_size":96,"num_hidden_layers":2,"num_attention_heads":4,"num_key_value_heads":2,"head_dim":16,
        "vocab_size":300,"max_position_embeddings":2048,"rms_norm_eps":1e-5,"rope_theta":10000.0,
        "sliding_window":32,"hidden_act":"silu","tie_word_embeddings":false,"torch_dtype":"float32"}"#;
    let files: &'static [(&'static str, &'static [u8])] =
        Box::leak(Box::new([("config.json", config as &[u8])]));
    let builder = || {
        Engine::builder(ModelSource::Memory {
            name: "windowed",
            files,
        })
        .load_format(LoadFormat::Random { seed: 5 })
        .block_size(8)
    };
    let request = |len: u32, max_tokens| {
        let mut request =
            GenerateRequest::new(Input::Tokens((0..len).map(|i| i * 7 % 250).collect()));
        request.sampling.temperature = Some(1.0);
        request.sampling.seed = Some(3);
        request.stopping.max_tokens = Some(max_tokens);
        request.stopping.ignore_eos = true;
        request
    };
    let roomy = builder().prefix_cache(false).build().unwrap();
    assert_eq!(roomy.info().scheduling.window(), Some(32));
    let whole = answer(roomy.generate(request(20, 500)).await.unwrap())
        .await
        .unwrap();
    let per_token = roomy.info().memory.kv_per_token;
    let small = builder()
        .max_model_len(Some(600))
        .kv_cache_bytes(Some(per_token * 600))
        .build()
        .unwrap();
    let mut most = 0;
    let mut generation = small.generate(request(20, 500)).await.unwrap();
    let mut tokens = Vec::new();
    while let Some(event) = generation.next().await {
        most = most.max(small.load().kv_used_blocks);
        if let maitre_engine::Event::Delta(delta) = event.unwrap() {
            tokens.extend(delta.token_ids);
        }
    }
    assert_eq!(tokens, whole.token_ids);
    assert!(
        (5..=7).contains(&most),
        "{most} blocks for a window of four"
    );
    let long = request(300, 8);
    let first = answer(small.generate(long.clone()).await.unwrap())
        .await
        .unwrap();
    let again = answer(small.generate(long).await.unwrap()).await.unwrap();
    // All but the last: of the block that is not full, the beginning is copied.
    assert_eq!(again.end.usage.cached_prompt_tokens, 299);
    assert_eq!(first.token_ids, again.token_ids);
    idle(&small).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_requests_all_get_the_right_text() {
    let goldens = goldens();
    let engine = builder().dtype(Some(WeightFormat::F32)).build().unwrap();
    let expected: Vec<String> = goldens
        .iter()
        .map(|golden| engine.tokenizer().decode(&golden.greedy_ids, true).unwrap())
        .collect();
    let requests = (0..200)
        .map(|index| greedy(&goldens[index % goldens.len()]))
        .collect();
    for (index, found) in crowd(&engine, requests).await.iter().enumerate() {
        assert_eq!(
            found.text,
            expected[index % goldens.len()],
            "request {index}"
        );
    }
    idle(&engine).await;
}

#[test]
fn a_start_tells_how_far_each_model_is_loaded() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&told);
    let draft = &maitre_bundled::DRAFT;
    let draft = ModelSource::Memory {
        name: draft.name,
        files: draft.files,
    };
    let observed = builder()
        .served_name("chat")
        .draft_model(Some(draft))
        .progress(move |model, progress| seen.lock().unwrap().push((model.to_owned(), progress)));
    drop(observed.build().unwrap());
    let mut told = told.lock().unwrap().clone();
    told.dedup_by(|next, last| next.0 == last.0);
    let firsts: Vec<_> = told.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(firsts, ["chat", "bundled-draft"]);
    for (name, progress) in &told {
        assert_eq!(progress.done_bytes, 0, "{name}");
    }
}
