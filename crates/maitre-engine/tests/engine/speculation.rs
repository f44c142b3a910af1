//! Speculation on the bundled pair: whatever is drafted, and by which drafter, an answer is the same, bit for bit.

use std::fs;
use std::path::PathBuf;

use maitre_engine::{
    Acceptance, Engine, EngineBuilder, GenerateRequest, Input, ModelSource, Speculate,
};
use serde_json::Value;

use crate::bundled::{builder, crowd, goldens, greedy, seeded};
use crate::toy::{Answer, answer, idle};

fn with_draft(speculate: Speculate) -> EngineBuilder {
    let draft = &maitre_bundled::DRAFT;
    builder()
        .speculate(speculate)
        .draft_model(Some(ModelSource::Memory {
            name: draft.name,
            files: draft.files,
        }))
}

/// Greedy, and seeded with all that makes a choice depend on what came before.
fn requests(prompts: &[String], max_tokens: u32) -> Vec<GenerateRequest> {
    let prompts = prompts.iter().enumerate();
    prompts
        .map(|(of, prompt)| {
            let golden = &goldens()[of % 20];
            let mut request = match of % 2 {
                0 => greedy(golden),
                _ => seeded(golden, of as u64),
            };
            request.input = Input::Text(prompt.clone());
            request.stopping.max_tokens = Some(max_tokens);
            if of % 5 == 4 {
                request.stopping.stop = vec![" the".into(), "at".into()];
            }
            if of % 7 == 6 {
                request.stopping.min_tokens = max_tokens / 2;
            }
            request
        })
        .collect()
}

/// Every prompt of the test data, cut to what leaves space for an answer: all turns of the conversations and
/// pieces of the verse; without it those of the golden answers.
fn prompts() -> Vec<String> {
    let own = || goldens().iter().map(|it| it.prompt.clone()).collect();
    let Some(data) = std::env::var_os("MAITRE_TEST_DATA").map(PathBuf::from) else {
        println!("skipped: all prompts but the bundled ones (MAITRE_TEST_DATA is not set)");
        return own();
    };
    let questions = fs::read_to_string(data.join("prompts/mt_bench_question.jsonl")).unwrap();
    let turns = questions.lines().flat_map(|line| {
        let question: Value = serde_json::from_str(line).unwrap();
        let turns = question["turns"].as_array().unwrap().clone();
        turns
            .into_iter()
            .map(|turn| turn.as_str().unwrap().to_owned())
    });
    let verse = fs::read_to_string(data.join("prompts/sonnet.txt")).unwrap();
    let lines: Vec<&str> = verse.lines().collect();
    let verses = lines.chunks(8).take(40).map(|lines| lines.join("\n"));
    // Space for an answer in a short context.
    let short = |text: String| text.chars().take(300).collect::<String>();
    let mut all: Vec<String> = own();
    all.extend(turns.chain(verses).map(short));
    all
}

async fn one_by_one(engine: &Engine, requests: &[GenerateRequest]) -> Vec<Answer> {
    let mut answers = Vec::new();
    for request in requests {
        let generation = engine.generate(request.clone()).await.unwrap();
        answers.push(answer(generation).await.unwrap());
    }
    answers
}

/// What the caller sees, but for times and what speculation cost.
fn assert_same(found: &[Answer], expected: &[Answer], how: &str) {
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert_eq!(
            found.token_ids, expected.token_ids,
            "{how}, request {index}"
        );
        assert_eq!(found.logprobs, expected.logprobs, "{how}, request {index}");
        assert_eq!(found.text, expected.text, "{how}, request {index}");
        assert_eq!(found.reason, expected.reason, "{how}, request {index}");
        assert_eq!(
            found.end.matched, expected.end.matched,
            "{how}, request {index}"
        );
        let (usage, as_usual) = (found.end.usage, expected.end.usage);
        assert_eq!(usage.completion_tokens, as_usual.completion_tokens, "{how}");
        assert!(usage.accepted_tokens <= usage.drafted_tokens, "{how}");
        assert!(usage.accepted_tokens < usage.completion_tokens, "{how}");
    }
}

fn drafted_and_accepted(answers: &[Answer]) -> (u32, u32) {
    let usages = answers.iter().map(|answer| answer.end.usage);
    usages.fold((0, 0), |(drafted, accepted), usage| {
        (
            drafted + usage.drafted_tokens,
            accepted + usage.accepted_tokens,
        )
    })
}

#[tokio::test]
async fn drafts_change_no_bit_of_any_answer() {
    let requests = requests(&prompts(), 40);
    let plain = builder()
        .speculate(Speculate::Off)
        .prefix_cache(false)
        .build()
        .unwrap();
    let expected = one_by_one(&plain, &requests).await;
    assert_eq!(drafted_and_accepted(&expected), (0, 0));
    for speculate in [
        Speculate::Ngram,
        Speculate::Suffix,
        Speculate::Draft,
        Speculate::Auto,
    ] {
        // Small chunks, prefix hits in the second round, and a pool so small that sequences are preempted.
        let per_token = with_draft(speculate)
            .build()
            .unwrap()
            .info()
            .memory
            .kv_per_token;
        let crowded = with_draft(speculate)
            .draft_tokens(5)
            .max_seqs(16)
            .max_batched_tokens(37)
            .block_size(3)
            .max_model_len(Some(260))
            .kv_cache_bytes(Some(per_token * 3 * 90))
            .build()
            .unwrap();
        let mut drafted = 0;
        for round in 0..2 {
            let found = crowd(&crowded, requests.clone()).await;
            assert_same(&found, &expected, &format!("{speculate:?}, round {round}"));
            let (tokens, accepted) = drafted_and_accepted(&found);
            drafted += tokens;
            println!("{speculate:?}: {accepted} of {tokens} drafted tokens accepted");
        }
        // With many requests the controller may well decide against it; a single one is another matter.
        let alone = &requests[..requests.len().min(30)];
        let found = one_by_one(&crowded, alone).await;
        assert_same(&found, &expected, &format!("{speculate:?}, alone"));
        drafted += drafted_and_accepted(&found).0;
        idle(&crowded).await;
        let load = crowded.load();
        // How much the controller drafts is its own affair.
        let least = if speculate == Speculate::Auto { 0 } else { 20 };
        assert!(
            drafted > least && load.preemptions > 0 && load.prefix_hits > 0,
            "nothing was put to the test under {speculate:?}: {drafted} drafted, {load:?}"
        );
    }
}

#[tokio::test]
async fn a_fixed_draft_saves_steps() {
    let engine = with_draft(Speculate::Draft)
        .draft_tokens(3)
        .build()
        .unwrap();
    let requests: Vec<GenerateRequest> = goldens().iter().map(greedy).collect();
    let answers = one_by_one(&engine, &requests).await;
    let (drafted, accepted) = drafted_and_accepted(&answers);
    // Three tokens in four are what the target would say; in a row fewer.
    assert!(
        accepted * 10 > drafted * 4,
        "{accepted} of {drafted} accepted"
    );
}

#[tokio::test]
async fn rejection_answers_greedy_requests_as_they_are() {
    let engine = with_draft(Speculate::Draft)
        .acceptance(Acceptance::Rejection)
        .draft_tokens(4)
        .build()
        .unwrap();
    let requests: Vec<GenerateRequest> = goldens().iter().map(greedy).collect();
    let plain = builder().speculate(Speculate::Off).build().unwrap();
    let expected = one_by_one(&plain, &requests).await;
    let found = crowd(&engine, requests).await;
    assert_same(&found, &expected, "rejection");
    let sampled: Vec<GenerateRequest> = goldens().iter().map(|it| seeded(it, 3)).collect();
    let (drafted, accepted) = drafted_and_accepted(&crowd(&engine, sampled).await);
    assert!(accepted * 3 > drafted, "{accepted} of {drafted} accepted");
}

#[tokio::test]
async fn a_request_may_do_without() {
    let engine = with_draft(Speculate::Draft).build().unwrap();
    let mut request = greedy(&goldens()[0]);
    request.speculate = false;
    let answer = answer(engine.generate(request).await.unwrap())
        .await
        .unwrap();
    assert_eq!(answer.end.usage.drafted_tokens, 0);
    assert_eq!(answer.token_ids, goldens()[0].greedy_ids);
}
