//! The table of bad input: each with its exact status and fields, all violations at once.

use maitre_proto::v1;
use tonic::Code;

use crate::test_server::{TestServer, refused, short_request};

type Change = Box<dyn Fn(&mut v1::GenerateRequest)>;

fn sampling(change: impl Fn(&mut v1::SamplingParams) + 'static) -> Change {
    Box::new(move |request| change(request.sampling.as_mut().unwrap()))
}

fn stopping(change: impl Fn(&mut v1::StoppingParams) + 'static) -> Change {
    Box::new(move |request| change(request.stopping.as_mut().unwrap()))
}

fn output(change: impl Fn(&mut v1::OutputOptions) + 'static) -> Change {
    Box::new(move |request| change(request.output.get_or_insert_default()))
}

fn service(change: impl Fn(&mut v1::ServiceOptions) + 'static) -> Change {
    Box::new(move |request| change(request.service.get_or_insert_default()))
}

fn speculation(mode: i32) -> Change {
    Box::new(move |request| request.speculation = Some(v1::SpeculationOptions { mode }))
}

fn input(input: Option<v1::generate_request::Input>) -> Change {
    Box::new(move |request| request.input = input.clone())
}

fn text(text: String) -> Option<v1::generate_request::Input> {
    Some(v1::generate_request::Input::Text(text))
}

fn ids(ids: Vec<u32>) -> Option<v1::generate_request::Input> {
    Some(v1::generate_request::Input::TokenIds(v1::TokenIds { ids }))
}

fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

/// What is wrong, the change that makes it so, the fields that must be named.
fn table(vocab_size: u32, context: u32) -> Vec<(&'static str, Change, Vec<&'static str>)> {
    let bias = |id: u32, by: f32| sampling(move |s| s.logit_bias = [(id, by)].into());
    vec![
        ("empty text", input(text(String::new())), vec!["text"]),
        ("empty ids", input(ids(vec![])), vec!["token_ids.ids"]),
        ("no input", input(None), vec!["input"]),
        (
            "an id too large",
            input(ids(vec![1, vocab_size])),
            vec!["token_ids.ids[1]"],
        ),
        (
            "too long a prompt",
            input(ids(vec![1; context as usize])),
            vec!["token_ids.ids"],
        ),
        (
            "too long a text",
            input(text("word ".repeat(context as usize))),
            vec!["text"],
        ),
        (
            "no space",
            stopping(move |s| s.max_tokens = Some(context)),
            vec!["stopping.max_tokens"],
        ),
        (
            "NaN",
            sampling(|s| s.temperature = Some(f32::NAN)),
            vec!["sampling.temperature"],
        ),
        (
            "infinity",
            sampling(|s| s.temperature = Some(f32::INFINITY)),
            vec!["sampling.temperature"],
        ),
        (
            "negative",
            sampling(|s| s.temperature = Some(-0.1)),
            vec!["sampling.temperature"],
        ),
        (
            "top_p 0",
            sampling(|s| s.top_p = Some(0.0)),
            vec!["sampling.top_p"],
        ),
        (
            "top_p 1.1",
            sampling(|s| s.top_p = Some(1.1)),
            vec!["sampling.top_p"],
        ),
        (
            "top_p NaN",
            sampling(|s| s.top_p = Some(f32::NAN)),
            vec!["sampling.top_p"],
        ),
        (
            "min_p 2",
            sampling(|s| s.min_p = Some(2.0)),
            vec!["sampling.min_p"],
        ),
        (
            "repetition 0",
            sampling(|s| s.repetition_penalty = Some(0.0)),
            vec!["sampling.repetition_penalty"],
        ),
        (
            "repetition -1",
            sampling(|s| s.repetition_penalty = Some(-1.0)),
            vec!["sampling.repetition_penalty"],
        ),
        (
            "frequency 3",
            sampling(|s| s.frequency_penalty = 3.0),
            vec!["sampling.frequency_penalty"],
        ),
        (
            "presence NaN",
            sampling(|s| s.presence_penalty = f32::NAN),
            vec!["sampling.presence_penalty"],
        ),
        ("n 0", sampling(|s| s.n = Some(0)), vec!["sampling.n"]),
        ("n 17", sampling(|s| s.n = Some(17)), vec!["sampling.n"]),
        (
            "max 0",
            stopping(|s| s.max_tokens = Some(0)),
            vec!["stopping.max_tokens"],
        ),
        (
            "min > max",
            stopping(|s| s.min_tokens = 9),
            vec!["stopping.min_tokens"],
        ),
        (
            "1,000 stop strings",
            stopping(|s| s.stop = (0..1000).map(|i| i.to_string()).collect()),
            vec!["stopping.stop"],
        ),
        (
            "an empty stop string",
            stopping(|s| s.stop = vec!["a".into(), String::new()]),
            vec!["stopping.stop[1]"],
        ),
        (
            "a stop string too long",
            stopping(|s| s.stop = vec!["a".repeat(1025)]),
            vec!["stopping.stop[0]"],
        ),
        (
            "a stop id too large",
            stopping(move |s| s.stop_token_ids = vec![vocab_size]),
            vec!["stopping.stop_token_ids[0]"],
        ),
        (
            "bias of no token",
            bias(vocab_size, 1.0),
            vec!["sampling.logit_bias"],
        ),
        (
            "bias too large",
            bias(1, 100.5),
            vec!["sampling.logit_bias"],
        ),
        (
            "bias infinite",
            bias(1, f32::NEG_INFINITY),
            vec!["sampling.logit_bias"],
        ),
        (
            "too many biases",
            sampling(|s| s.logit_bias = (0..1025).map(|id| (id, 1.0)).collect()),
            vec!["sampling.logit_bias"],
        ),
        (
            "logprobs 21",
            output(|o| o.logprobs = Some(21)),
            vec!["output.logprobs"],
        ),
        (
            "prompt logprobs 21",
            output(|o| o.prompt_logprobs = Some(21)),
            vec!["output.prompt_logprobs"],
        ),
        (
            "deadline 0",
            service(|s| s.deadline = seconds(0)),
            vec!["service.deadline"],
        ),
        (
            "time limit -1",
            service(|s| s.time_limit = seconds(-1)),
            vec!["service.time_limit"],
        ),
        (
            "queue timeout of a year",
            service(|s| s.queue_timeout = seconds(31_536_000)),
            vec!["service.queue_timeout"],
        ),
        ("an unknown mode", speculation(3), vec!["speculation.mode"]),
        ("a negative mode", speculation(-1), vec!["speculation.mode"]),
        (
            "an id of 257 bytes",
            Box::new(|request| request.request_id = "x".repeat(257)),
            vec!["request_id"],
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn each_mistake_is_named_by_its_field() {
    let served = TestServer::open().await;
    let info = served.engine.info();
    let (vocab_size, context) = (info.vocab_size as u32, info.limits.max_model_len as u32);
    for (what, change, fields) in table(vocab_size, context) {
        let mut request = short_request("Hello");
        change(&mut request);
        println!("{what}");
        let result = served.generation().generate(request).await;
        refused(result, Code::InvalidArgument, "INVALID_REQUEST", &fields);
    }
    served.until_empty().await;
    let answer = served.generation().generate(short_request("Hello")).await;
    assert!(answer.is_ok(), "{answer:?}");
}

/// Every mistake of the table that does not exclude another, in one request.
#[tokio::test(flavor = "multi_thread")]
async fn all_mistakes_are_named_at_once() {
    let served = TestServer::open().await;
    let vocab_size = served.engine.info().vocab_size as u32;
    let request = v1::GenerateRequest {
        request_id: "x".repeat(257),
        input: ids(vec![vocab_size]),
        sampling: Some(v1::SamplingParams {
            temperature: Some(f32::NAN),
            top_p: Some(0.0),
            min_p: Some(-1.0),
            repetition_penalty: Some(0.0),
            frequency_penalty: 3.0,
            presence_penalty: -3.0,
            logit_bias: [(vocab_size, f32::INFINITY)].into(),
            n: Some(0),
            ..Default::default()
        }),
        stopping: Some(v1::StoppingParams {
            max_tokens: Some(0),
            stop: vec![String::new(), "a".into(), String::new()],
            stop_token_ids: vec![vocab_size],
            ..Default::default()
        }),
        output: Some(v1::OutputOptions {
            logprobs: Some(21),
            prompt_logprobs: Some(21),
            ..Default::default()
        }),
        service: Some(v1::ServiceOptions {
            deadline: seconds(-1),
            time_limit: seconds(0),
            queue_timeout: seconds(-5),
            tenant: "t".repeat(257),
            ..Default::default()
        }),
        cache: Some(v1::CacheOptions {
            salt: "s".repeat(257),
            bypass: false,
        }),
        speculation: Some(v1::SpeculationOptions { mode: 99 }),
        ..Default::default()
    };
    refused(
        served.generation().generate(request).await,
        Code::InvalidArgument,
        "INVALID_REQUEST",
        &[
            "cache.salt",
            "output.logprobs",
            "output.prompt_logprobs",
            "request_id",
            "sampling.frequency_penalty",
            // Its token does not exist, and its value is infinite.
            "sampling.logit_bias",
            "sampling.logit_bias",
            "sampling.min_p",
            "sampling.n",
            "sampling.presence_penalty",
            "sampling.repetition_penalty",
            "sampling.temperature",
            "sampling.top_p",
            "service.deadline",
            "service.queue_timeout",
            "service.tenant",
            "service.time_limit",
            "speculation.mode",
            "stopping.max_tokens",
            "stopping.stop[0]",
            "stopping.stop[2]",
            "stopping.stop_token_ids[0]",
            "token_ids.ids[0]",
        ],
    );
    served.until_empty().await;
}

/// A refused stream is refused by the call, before any message.
#[tokio::test(flavor = "multi_thread")]
async fn streams_are_refused_like_whole_answers() {
    let served = TestServer::open().await;
    let request = v1::StreamGenerateRequest {
        stopping: Some(v1::StoppingParams {
            max_tokens: Some(0),
            ..Default::default()
        }),
        ..Default::default()
    };
    let result = served.generation().stream_generate(request).await;
    refused(
        result,
        Code::InvalidArgument,
        "INVALID_REQUEST",
        &["input", "stopping.max_tokens"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn conversations_are_checked_too() {
    let served = TestServer::open().await;
    let message = |role: &str| v1::ChatMessage {
        role: role.into(),
        content: "Hello".into(),
        ..Default::default()
    };
    let chat = |messages| v1::ChatRequest {
        messages,
        ..Default::default()
    };
    for (request, fields) in [
        (chat(vec![]), vec!["messages"]),
        (
            chat(vec![message("user"), message("robot")]),
            vec!["messages[1].role"],
        ),
        (
            chat(vec![message(""), message("User")]),
            vec!["messages[0].role", "messages[1].role"],
        ),
        (
            v1::ChatRequest {
                tools: vec![v1::Tool {
                    parameters_json: "[]".into(),
                    ..Default::default()
                }],
                template_kwargs_json: "{".into(),
                sampling: Some(v1::SamplingParams {
                    n: Some(99),
                    ..Default::default()
                }),
                ..chat(vec![message("user")])
            },
            vec![
                "sampling.n",
                "template_kwargs_json",
                "tools[0].name",
                "tools[0].parameters_json",
            ],
        ),
    ] {
        let result = served.generation().chat(request).await;
        refused(result, Code::InvalidArgument, "INVALID_REQUEST", &fields);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_model_is_not_found_in_every_call_that_names_one() {
    let served = TestServer::open().await;
    let mut client = served.generation();
    let model = || "gpt-7".to_owned();
    let not_found = (Code::NotFound, "MODEL_NOT_FOUND", ["model"]);
    let (code, reason, fields) = not_found;
    let generate = v1::GenerateRequest {
        model: model(),
        ..short_request("Hello")
    };
    refused(client.generate(generate).await, code, reason, &fields);
    let stream = v1::StreamGenerateRequest {
        model: model(),
        ..Default::default()
    };
    refused(client.stream_generate(stream).await, code, reason, &fields);
    let chat = v1::ChatRequest {
        model: model(),
        ..Default::default()
    };
    refused(client.chat(chat).await, code, reason, &fields);
    let stream = v1::StreamChatRequest {
        model: model(),
        ..Default::default()
    };
    refused(client.stream_chat(stream).await, code, reason, &fields);
    let tokenize = v1::TokenizeRequest {
        model: model(),
        ..Default::default()
    };
    refused(client.tokenize(tokenize).await, code, reason, &fields);
    let detokenize = v1::DetokenizeRequest {
        model: model(),
        ..Default::default()
    };
    refused(client.detokenize(detokenize).await, code, reason, &fields);
    refused(
        client
            .get_model(v1::GetModelRequest { model: model() })
            .await,
        code,
        reason,
        &fields,
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_small_calls_check_their_fields() {
    let served = TestServer::open().await;
    let vocab_size = served.engine.info().vocab_size as u32;
    let detokenize = v1::DetokenizeRequest {
        token_ids: vec![0, 1, vocab_size],
        ..Default::default()
    };
    refused(
        served.generation().detokenize(detokenize).await,
        Code::InvalidArgument,
        "INVALID_REQUEST",
        &["token_ids[2]"],
    );
    refused(
        served.generation().abort(v1::AbortRequest::default()).await,
        Code::InvalidArgument,
        "INVALID_REQUEST",
        &["request_id"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_in_flight_cannot_be_used_again_until_it_is_free() {
    let served = TestServer::open().await;
    let stream = served.busy("mine").await;
    let again = || v1::GenerateRequest {
        request_id: "mine".into(),
        ..short_request("Hello")
    };
    refused(
        served.generation().generate(again()).await,
        Code::AlreadyExists,
        "DUPLICATE_REQUEST_ID",
        &["request_id"],
    );
    drop(stream);
    served.until_empty().await;
    assert!(served.generation().generate(again()).await.is_ok());
}
