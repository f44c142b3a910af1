//! Every call of the API, once the way it is meant to be used.

use maitre_proto::v1;
use maitre_proto::v1::FinishReason;
use tokio_stream::StreamExt as _;

use crate::test_server::{TestServer, long_request, short_request};

fn user(content: &str) -> v1::ChatMessage {
    v1::ChatMessage {
        role: "user".into(),
        content: content.into(),
        ..Default::default()
    }
}

/// What a stream brought, put together.
#[derive(Debug, Default)]
struct Told {
    request_ids: Vec<String>,
    text: String,
    token_ids: Vec<u32>,
    finished: Vec<v1::Finished>,
}

async fn told(mut stream: tonic::Streaming<v1::StreamGenerateResponse>) -> Told {
    use v1::stream_generate_response::Event;
    let mut told = Told::default();
    while let Some(message) = stream.next().await {
        let message = message.unwrap();
        told.request_ids.push(message.request_id);
        match message.event.unwrap() {
            Event::PromptLogprobs(_) => {}
            Event::Delta(delta) => {
                told.text.push_str(&delta.text);
                told.token_ids.extend(delta.token_ids);
            }
            Event::Finished(finished) => told.finished.push(finished),
        }
    }
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_the_same_whole_and_streamed() {
    let served = TestServer::open().await;
    let request = v1::GenerateRequest {
        request_id: "whole".into(),
        ..short_request("Once upon a time")
    };
    let whole = served
        .generation()
        .generate(request.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (whole.request_id.as_str(), whole.model.as_str()),
        ("whole", "bundled")
    );
    let answer = &whole.answers[0];
    assert!(!answer.text.is_empty());
    let usage = answer.usage.unwrap();
    assert_eq!(usage.completion_tokens as usize, answer.token_ids.len());
    assert!(usage.prompt_tokens > 0);
    let timings = answer.timings.unwrap();
    assert!(timings.e2e.unwrap().nanos > 0 && timings.ttft.unwrap().nanos > 0);

    let streamed = v1::StreamGenerateRequest {
        request_id: "streamed".into(),
        input: Some(v1::stream_generate_request::Input::Text(
            "Once upon a time".into(),
        )),
        sampling: request.sampling.clone(),
        stopping: request.stopping.clone(),
        ..Default::default()
    };
    let stream = served
        .generation()
        .stream_generate(streamed)
        .await
        .unwrap()
        .into_inner();
    let told = told(stream).await;
    assert_eq!(told.request_ids[0], "streamed");
    assert!(told.request_ids[1..].iter().all(String::is_empty));
    assert_eq!(
        (&told.text, &told.token_ids),
        (&answer.text, &answer.token_ids)
    );
    assert_eq!(told.finished.len(), 1);
    assert_eq!(told.finished[0].finish_reason, answer.finish_reason);
    // How much was drafted is a matter of the moment, the rest is not.
    let but_for_drafts = |usage: Option<v1::Usage>| v1::Usage {
        drafted_tokens: 0,
        accepted_tokens: 0,
        ..usage.unwrap()
    };
    assert_eq!(
        but_for_drafts(told.finished[0].usage),
        but_for_drafts(answer.usage)
    );
    served.until_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_can_be_asked_for_comes_back() {
    let served = TestServer::open().await;
    let mut request = short_request("The cat sat on the mat.");
    request.sampling.as_mut().unwrap().n = Some(2);
    request.stopping = Some(v1::StoppingParams {
        max_tokens: Some(3),
        ignore_eos: true,
        ..Default::default()
    });
    request.output = Some(v1::OutputOptions {
        logprobs: Some(2),
        prompt_logprobs: Some(1),
        ..Default::default()
    });
    let answers = served
        .generation()
        .generate(request.clone())
        .await
        .unwrap()
        .into_inner()
        .answers;
    assert_eq!(
        answers
            .iter()
            .map(|answer| answer.index)
            .collect::<Vec<_>>(),
        [0, 1]
    );
    for answer in &answers {
        assert_eq!(answer.finish_reason(), FinishReason::Length);
        assert_eq!((answer.token_ids.len(), answer.logprobs.len()), (3, 3));
        assert!(
            answer
                .logprobs
                .iter()
                .all(|position| position.top.len() == 2)
        );
        let first = &answer.logprobs[0];
        assert_eq!(first.rank, 1, "greedy takes the likeliest");
        assert_eq!(first.token.as_ref().unwrap().token_id, answer.token_ids[0]);
        let prompt_tokens = answer.usage.unwrap().prompt_tokens;
        assert_eq!(answer.prompt_logprobs.len() as u32, prompt_tokens - 1);
    }

    request.sampling.as_mut().unwrap().n = None;
    request.output = Some(v1::OutputOptions {
        echo: true,
        return_token_ids: Some(false),
        ..Default::default()
    });
    let echoed = served
        .generation()
        .generate(request)
        .await
        .unwrap()
        .into_inner()
        .answers;
    let expected = format!("The cat sat on the mat.{}", answers[0].text);
    assert_eq!((&echoed[0].text, echoed[0].token_ids.len()), (&expected, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_string_ends_the_answer_and_is_named() {
    let served = TestServer::open().await;
    let free = served
        .generation()
        .generate(short_request("Once upon a time"))
        .await
        .unwrap();
    let text = free.into_inner().answers[0].text.clone();
    let stop: String = text.chars().skip(2).take(3).collect();
    let mut request = short_request("Once upon a time");
    request.stopping.as_mut().unwrap().stop = vec![stop.clone()];
    let answers = served
        .generation()
        .generate(request)
        .await
        .unwrap()
        .into_inner()
        .answers;
    assert_eq!(answers[0].text, text[..text.find(&stop).unwrap()]);
    assert_eq!(answers[0].finish_reason(), FinishReason::StopSequence);
    let matched = answers[0].matched.clone().unwrap().what.unwrap();
    assert_eq!(matched, v1::matched::What::Text(stop));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_is_answered_whole_and_streamed() {
    let served = TestServer::open().await;
    let sampling = Some(v1::SamplingParams {
        temperature: Some(0.0),
        ..Default::default()
    });
    let stopping = Some(v1::StoppingParams {
        max_tokens: Some(8),
        ..Default::default()
    });
    let whole = served
        .generation()
        .chat(v1::ChatRequest {
            messages: vec![user("Hello!")],
            sampling: sampling.clone(),
            stopping: stopping.clone(),
            ..Default::default()
        })
        .await
        .unwrap()
        .into_inner();
    assert!(!whole.request_id.is_empty(), "an id is made up");
    assert!(!whole.answers[0].text.is_empty());

    let mut stream = served
        .generation()
        .stream_chat(v1::StreamChatRequest {
            messages: vec![user("Hello!")],
            sampling,
            stopping,
            ..Default::default()
        })
        .await
        .unwrap()
        .into_inner();
    let mut text = String::new();
    let mut finished = 0;
    while let Some(message) = stream.next().await {
        match message.unwrap().event.unwrap() {
            v1::stream_chat_response::Event::Delta(delta) => text.push_str(&delta.text),
            v1::stream_chat_response::Event::Finished(_) => finished += 1,
            v1::stream_chat_response::Event::PromptLogprobs(_) => panic!("not asked for"),
        }
    }
    assert_eq!((text, finished), (whole.answers[0].text.clone(), 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn text_and_tokens_go_both_ways() {
    let served = TestServer::open().await;
    let mut client = served.generation();
    let text = "Hello, wörld! 你好";
    let tokens = client
        .tokenize(v1::TokenizeRequest {
            text: text.into(),
            return_token_texts: true,
            ..Default::default()
        })
        .await
        .unwrap()
        .into_inner();
    assert!(!tokens.token_ids.is_empty());
    assert_eq!(tokens.token_texts.len(), tokens.token_ids.len());
    let back = client
        .detokenize(v1::DetokenizeRequest {
            token_ids: tokens.token_ids.clone(),
            ..Default::default()
        })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(back.text, text);

    // The same ids make the same prompt.
    let mut by_ids = short_request("");
    by_ids.input = Some(v1::generate_request::Input::TokenIds(v1::TokenIds {
        ids: tokens.token_ids,
    }));
    let by_ids = client.generate(by_ids).await.unwrap().into_inner().answers;
    let by_text = client
        .generate(short_request(text))
        .await
        .unwrap()
        .into_inner()
        .answers;
    assert_eq!(by_ids[0].token_ids, by_text[0].token_ids);

    let control = |special_tokens| v1::TokenizeRequest {
        text: "<|im_end|>".into(),
        special_tokens: Some(special_tokens),
        ..Default::default()
    };
    let parsed = client
        .tokenize(control(true))
        .await
        .unwrap()
        .into_inner()
        .token_ids;
    let plain = client
        .tokenize(control(false))
        .await
        .unwrap()
        .into_inner()
        .token_ids;
    assert_eq!(parsed.len(), 1, "a control token");
    assert!(plain.len() > 1, "text that looks like one");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_aborted_request_ends_in_cancelled_and_leaves_nothing() {
    let served = TestServer::open().await;
    let mut stream = served.busy("doomed").await;
    let abort = |id: &str| v1::AbortRequest {
        request_id: id.into(),
        ..Default::default()
    };
    let mut client = served.generation();
    let of_a_stranger = v1::AbortRequest {
        tenant: "stranger".into(),
        ..abort("doomed")
    };
    assert!(
        !client
            .abort(of_a_stranger)
            .await
            .unwrap()
            .into_inner()
            .aborted
    );
    assert!(
        client
            .abort(abort("doomed"))
            .await
            .unwrap()
            .into_inner()
            .aborted
    );
    let status = loop {
        match stream.message().await {
            Ok(message) => assert!(message.is_some(), "ended well"),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), tonic::Code::Cancelled);
    assert_eq!(crate::test_server::reason(&status), "CANCELLED");
    served.until_empty().await;
    assert!(
        !client
            .abort(abort("doomed"))
            .await
            .unwrap()
            .into_inner()
            .aborted
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_model_and_the_server_describe_themselves() {
    let served = TestServer::open().await;
    let models = served
        .generation()
        .list_models(v1::ListModelsRequest {})
        .await
        .unwrap()
        .into_inner()
        .models;
    assert_eq!(models.len(), 1);
    let model = &models[0];
    assert_eq!(
        (model.name.as_str(), model.architecture.as_str()),
        ("bundled", "Qwen3ForCausalLM")
    );
    assert!(model.has_chat_template && model.num_parameters > 5_000_000);
    for name in ["", "bundled"] {
        let request = v1::GetModelRequest { model: name.into() };
        let found = served
            .generation()
            .get_model(request)
            .await
            .unwrap()
            .into_inner();
        assert_eq!(found.model.as_ref(), Some(model));
    }

    let info = served
        .admin()
        .get_server_info(v1::GetServerInfoRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (info.version.as_str(), info.model.as_str()),
        (env!("CARGO_PKG_VERSION"), "bundled")
    );
    assert_eq!(info.threads, 1);
    let limits = info.limits.unwrap();
    assert_eq!(
        (limits.max_seqs, limits.max_queue, limits.max_message_bytes),
        (8, 16, 4 << 20)
    );
    assert_eq!(limits.max_model_len, model.max_model_len);
    assert!(info.memory.unwrap().kv_bytes > 0);
    assert!(info.uptime.is_some());

    let stream = served.busy("one").await;
    let load = served
        .admin()
        .get_load(v1::GetLoadRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!((load.running, load.waiting, load.in_flight), (1, 0, 1));
    assert!(load.kv_used_blocks > 0 && load.kv_used_blocks < load.kv_total_blocks);
    drop(stream);
    served.until_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_limit_ends_an_answer_well() {
    let served = TestServer::open().await;
    let mut request = long_request("patient");
    request.service = Some(v1::ServiceOptions {
        time_limit: Some(prost_types::Duration {
            seconds: 0,
            nanos: 200_000_000,
        }),
        ..Default::default()
    });
    let stream = served
        .generation()
        .stream_generate(request)
        .await
        .unwrap()
        .into_inner();
    let told = told(stream).await;
    assert_eq!(told.finished[0].finish_reason(), FinishReason::Deadline);
    assert_eq!(
        told.finished[0].usage.unwrap().completion_tokens as usize,
        told.token_ids.len()
    );
    served.until_empty().await;
}
