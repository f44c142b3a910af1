//! Drafted tokens over the wire: asked for or not, an answer is the same; what was drafted is told.

use maitre_engine::{Acceptance, Engine, EngineBuilder, ModelSource, Speculate};
use maitre_proto::v1;
use tokio_stream::StreamExt as _;

use crate::surroundings::get;
use crate::test_server::{TestServer, prompt, stream_of};

fn source(model: &maitre_bundled::BundledModel) -> ModelSource {
    ModelSource::Memory {
        name: model.name,
        files: model.files,
    }
}

/// The bundled model with its draft model, which always drafts: what a controller would decide depends on the
/// machine.
fn engine(settings: impl FnOnce(EngineBuilder) -> EngineBuilder) -> Engine {
    maitre_server::install_recorder();
    let builder = Engine::builder(source(&maitre_bundled::TARGET))
        .threads(Some(1))
        .max_seqs(4)
        .speculate(Speculate::Draft)
        .draft_model(Some(source(&maitre_bundled::DRAFT)));
    settings(builder).build().unwrap()
}

/// 40 tokens with log-probabilities: greedy without a seed, sampled with one.
fn request(seed: Option<u64>, mode: v1::SpeculationMode) -> v1::GenerateRequest {
    v1::GenerateRequest {
        input: prompt("Once upon a time there was a little"),
        sampling: Some(v1::SamplingParams {
            temperature: Some(if seed.is_some() { 0.8 } else { 0.0 }),
            seed,
            ..Default::default()
        }),
        stopping: Some(v1::StoppingParams {
            max_tokens: Some(40),
            ignore_eos: true,
            ..Default::default()
        }),
        output: Some(v1::OutputOptions {
            logprobs: Some(2),
            ..Default::default()
        }),
        speculation: Some(v1::SpeculationOptions { mode: mode.into() }),
        ..Default::default()
    }
}

async fn whole(served: &TestServer, request: v1::GenerateRequest) -> v1::Answer {
    let response = served.generation().generate(request).await.unwrap();
    response.into_inner().answers.remove(0)
}

/// The same request as a stream, put together.
async fn streamed(served: &TestServer, request: v1::GenerateRequest) -> v1::Answer {
    use v1::stream_generate_response::Event;
    let stream = served
        .generation()
        .stream_generate(stream_of(request))
        .await
        .unwrap();
    let mut stream = stream.into_inner();
    let mut answer = v1::Answer::default();
    while let Some(message) = stream.next().await {
        match message.unwrap().event.unwrap() {
            Event::PromptLogprobs(_) => panic!("not asked for"),
            Event::Delta(delta) => {
                answer.text.push_str(&delta.text);
                answer.token_ids.extend(delta.token_ids);
                answer.logprobs.extend(delta.logprobs);
            }
            Event::Finished(finished) => answer.usage = finished.usage,
        }
    }
    answer
}

fn same(one: &v1::Answer, other: &v1::Answer) {
    assert_eq!(one.text, other.text);
    assert_eq!(one.token_ids, other.token_ids);
    // Equal as numbers, which for these means bit for bit.
    assert_eq!(one.logprobs, other.logprobs);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_the_same_with_and_without_drafts() {
    let served = TestServer::with(engine(|it| it), |server| server).await;
    for seed in [None, Some(7)] {
        let plain = whole(&served, request(seed, v1::SpeculationMode::Off)).await;
        let usage = plain.usage.unwrap();
        assert_eq!((usage.drafted_tokens, usage.accepted_tokens), (0, 0));
        assert_eq!((plain.token_ids.len(), plain.logprobs.len()), (40, 40));
        for mode in [v1::SpeculationMode::Unspecified, v1::SpeculationMode::Auto] {
            let drafted = whole(&served, request(seed, mode)).await;
            same(&drafted, &plain);
            let in_pieces = streamed(&served, request(seed, mode)).await;
            same(&in_pieces, &plain);
            for usage in [drafted.usage.unwrap(), in_pieces.usage.unwrap()] {
                assert!(usage.accepted_tokens > 0, "{usage:?}");
                assert!(usage.drafted_tokens > usage.accepted_tokens, "{usage:?}");
                assert!(usage.accepted_tokens < usage.completion_tokens, "{usage:?}");
            }
        }
        let plain_stream = streamed(&served, request(seed, v1::SpeculationMode::Off)).await;
        same(&plain_stream, &plain);
        assert_eq!(plain_stream.usage.unwrap().drafted_tokens, 0);
    }
    served.until_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_says_who_drafts() {
    let info = async |settings: fn(EngineBuilder) -> EngineBuilder| {
        let served = TestServer::with(engine(settings), |server| server).await;
        let mut admin = served.admin();
        let info = admin.get_server_info(v1::GetServerInfoRequest {}).await;
        let info = info.unwrap().into_inner();
        (info.speculation.unwrap(), info.memory.unwrap())
    };
    let (speculation, memory) = info(|it| it).await;
    let draft = v1::DraftModel {
        name: "bundled-draft".into(),
        num_parameters: 918_400,
        dtype: "bf16".into(),
    };
    let expected = v1::Speculation {
        mode: "draft".into(),
        draft_tokens: 8,
        acceptance: "coupling".into(),
        draft_model: Some(draft),
    };
    assert_eq!(speculation, expected);
    assert!(memory.draft_weight_bytes > 1_800_000, "{memory:?}");
    assert!(memory.draft_weight_bytes < memory.weight_bytes);

    let (speculation, memory) = info(|it| {
        it.speculate(Speculate::Suffix)
            .draft_tokens(3)
            .acceptance(Acceptance::Rejection)
    })
    .await;
    let expected = v1::Speculation {
        mode: "suffix".into(),
        draft_tokens: 3,
        acceptance: "rejection".into(),
        draft_model: None,
    };
    assert_eq!(speculation, expected);
    assert_eq!(memory.draft_weight_bytes, 0);

    let (speculation, _) = info(|it| it.speculate(Speculate::Off)).await;
    let expected = v1::Speculation {
        mode: "off".into(),
        ..Default::default()
    };
    assert_eq!(speculation, expected);
}

/// A dashboard tells "nothing was drafted" from "not there". Other tests count into the same recorder, so that
/// the zeros themselves are looked for in a process of its own: the `serve` test of the binary.
#[tokio::test(flavor = "multi_thread")]
async fn drafts_are_counted_by_place() {
    let served = TestServer::with(engine(|it| it.draft_tokens(2)), |server| server).await;
    whole(&served, request(None, v1::SpeculationMode::Auto)).await;
    served.until_empty().await;
    let text = get(served.http, "/metrics").await;
    for name in [
        "maitre_drafts_total",
        "maitre_drafted_tokens_total",
        "maitre_accepted_tokens_total",
        "vllm:spec_decode_num_drafts_total",
        "vllm:spec_decode_num_draft_tokens_total",
        "vllm:spec_decode_num_accepted_tokens_total",
        r#"maitre_drafted_tokens_by_position_total{position="0"}"#,
        r#"maitre_accepted_tokens_by_position_total{position="0"}"#,
        r#"vllm:spec_decode_num_accepted_tokens_per_pos_total{position="0"}"#,
    ] {
        let counted = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
        assert!(counted > Some(0), "{name} is {counted:?} in\n{text}");
    }
}
