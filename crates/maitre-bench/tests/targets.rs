//! All kinds of target on the bundled model: the same questions, the same kind of answers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use maitre_bench::{
    BenchError, GrpcTarget, InProcessTarget, MonotonicClock, OpenAiOptions, OpenAiTarget,
    PromptFile, Questions, Report, Settings, Stop, Target, Workload, measure,
};
use maitre_engine::{Engine, EngineBuilder, ModelSource};
use maitre_server::{Listeners, Server};

fn engine() -> EngineBuilder {
    let model = &maitre_bundled::TARGET;
    Engine::builder(ModelSource::Memory {
        name: model.name,
        files: model.files,
    })
    .threads(Some(1))
}

/// A server on free ports, which lives as long as the test's runtime; `HOST:PORT` of its gRPC, and the address of its API
/// like OpenAI's.
async fn serve(engine: Engine) -> (String, String) {
    let any_port = ([127, 0, 0, 1], 0).into();
    let listeners = Listeners::bind(any_port, Some(any_port)).await.unwrap();
    let grpc = listeners.grpc_address().to_string();
    let http = format!("http://{}/v1", listeners.http_address().unwrap());
    tokio::spawn(Server::builder(engine).serve(listeners, std::future::pending()));
    (grpc, http)
}

async fn targets(engine: Engine) -> [Box<dyn Target>; 3] {
    let (grpc, http) = serve(engine.clone()).await;
    let grpc = GrpcTarget::connect(&grpc).await.unwrap();
    let http = OpenAiTarget::connect(&http, OpenAiOptions::default());
    let http = http.await.unwrap();
    let local = InProcessTarget::new(engine);
    assert_eq!(grpc.model(), local.model());
    assert_eq!(http.model(), local.model());
    [Box::new(grpc), Box::new(http), Box::new(local)]
}

async fn all(engine: Engine, settings: &Settings) -> Vec<Report> {
    let clock = MonotonicClock::new();
    let mut reports = Vec::new();
    for target in targets(engine).await {
        let report = measure(target.as_ref(), &clock, settings, &Stop::default(), |_| {}).await;
        reports.push(report.unwrap());
    }
    reports
}

fn settings(output_tokens: u32, requests: usize, users: &[u32]) -> Settings {
    let workload = Workload {
        requests: Some(requests),
        seed: 3,
        ..Workload::of(12, output_tokens)
    };
    Settings {
        warmup_requests: 1,
        ..Settings::closed_loop(workload, users)
    }
}

#[tokio::test]
async fn answers_have_the_asked_length_and_every_gap_is_seen() {
    let settings = settings(9, 6, &[1, 3]);
    for report in all(engine().build().unwrap(), &settings).await {
        assert!(report.is_complete(), "{report}");
        for run in &report.runs {
            assert_eq!(
                (run.completed, run.output_tokens, run.input_tokens),
                (6, 54, 72)
            );
            let (ttft, itl, e2e) = (
                run.ttft_ms.unwrap(),
                run.itl_ms.unwrap(),
                run.e2e_ms.unwrap(),
            );
            assert!(
                0.0 < ttft.p50 && ttft.p50 < e2e.p50 && itl.max < e2e.max,
                "{report}"
            );
            assert!(run.output_tokens_per_second > 0.0);
            // All ask one engine the same, so that the second finds the first one's prompts.
            let cached = run.cached_tokens.unwrap();
            assert_eq!(cached > 0, !report.target.starts_with("grpc"), "{report}");
        }
    }
}

#[tokio::test]
async fn all_read_prompts_as_the_same_tokens() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let chat = "\"<|im_start|>user\\nHello!<|im_end|>\"\n\"A table for two.\"\n";
    std::fs::write(file.path(), chat).unwrap();
    let file = PromptFile::read(file.path()).unwrap();
    let engine = engine().build().unwrap();
    let prompts = file.tokens(&InProcessTarget::new(engine.clone())).await;
    let prompts = prompts.unwrap();
    for target in targets(engine.clone()).await {
        let read = file.tokens(target.as_ref()).await.unwrap();
        assert_eq!(read, prompts, "{}", target.name());
    }
    let settings = Settings {
        questions: Questions::InTurn(prompts),
        ..settings(5, 4, &[2])
    };
    let reports = all(engine, &settings).await;
    for report in &reports {
        assert!(report.is_complete(), "{report}");
        let tokens = |report: &Report| report.runs[0].input_tokens;
        assert_eq!(tokens(report), tokens(&reports[0]));
    }
}

#[tokio::test]
async fn a_full_queue_has_the_same_name_at_all() {
    let settings = settings(64, 12, &[12]);
    let engine = engine().max_seqs(1).max_queue(1).build().unwrap();
    for report in all(engine, &settings).await {
        let run = &report.runs[0];
        let codes: Vec<_> = run.errors.keys().map(String::as_str).collect();
        assert_eq!(codes, ["RESOURCE_EXHAUSTED"], "{report}");
        assert!(run.completed > 0 && !report.is_complete(), "{report}");
        let refused = run.errors["RESOURCE_EXHAUSTED"];
        assert_eq!(run.completed + refused, 12);
        assert_eq!(run.refusals.get("queue_full"), Some(&refused), "{report}");
    }
}

#[tokio::test]
async fn where_nobody_listens_the_address_is_named() {
    let error = GrpcTarget::connect("127.0.0.1:1").await.unwrap_err();
    assert!(matches!(error, BenchError::Connect { .. }));
    let message = error.to_string();
    assert!(
        message.contains("grpc://127.0.0.1:1") && message.contains("refused"),
        "{message}"
    );
}
