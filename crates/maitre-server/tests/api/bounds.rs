//! What one client can do to the others: nothing.

use std::time::Duration;

use maitre_proto::v1;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::raw::send;
use crate::test_server::{TestServer, engine, long_request, reason, refused, short_request};

#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_10_mb_fails_alone() {
    let served = TestServer::open().await;
    let mut neighbour = served.busy("neighbour").await;
    let big = v1::GenerateRequest {
        input: crate::test_server::prompt(&"a".repeat(10 << 20)),
        ..Default::default()
    };
    refused(
        served.generation().generate(big).await,
        Code::ResourceExhausted,
        "MESSAGE_TOO_LARGE",
        &[],
    );
    // On the same connection.
    assert!(neighbour.message().await.unwrap().is_some());
    assert!(
        served
            .generation()
            .generate(short_request("Hello"))
            .await
            .is_ok()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_message_are_the_callers_mistake() {
    let served = TestServer::open().await;
    let path = "/maitre.v1.GenerationService/Generate";
    let garbage = crate::raw::framed(&[0xff; 40]);
    let (_, status) = send(served.grpc, path, garbage, &[]).await;
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    assert_eq!(reason(&status), "MALFORMED_MESSAGE");

    let (_, status) = send(
        served.grpc,
        "/maitre.v1.GenerationService/Embed",
        vec![],
        &[],
    )
    .await;
    assert_eq!(status.code(), Code::Unimplemented, "{status:?}");
    assert_eq!(reason(&status), "UNKNOWN_METHOD");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_says_when_to_come_back() {
    let served = TestServer::open().await;
    let client = served.generation();
    let submit = |count: usize| -> Vec<_> {
        let one = || {
            let mut client = client.clone();
            tokio::spawn(async move { client.stream_generate(long_request("")).await })
        };
        (0..count).map(|_| one()).collect()
    };
    let running = submit(8);
    served.until(|load| load.running == 8).await;
    let waiting = submit(16);
    served.until(|load| load.waiting == 16).await;
    let status = served
        .generation()
        .generate(short_request("Hello"))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    assert_eq!(reason(&status), "QUEUE_FULL");
    let details = status.get_error_details();
    assert!(details.retry_info().unwrap().retry_delay.unwrap() > Duration::ZERO);
    assert_eq!(
        details.quota_failure().unwrap().violations[0].subject,
        "queue"
    );
    for call in running.iter().chain(&waiting) {
        call.abort();
    }
    drop((running, waiting));
    served.until_empty().await;
    assert!(
        served
            .generation()
            .generate(short_request("Hello"))
            .await
            .is_ok()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_past_the_bound_are_refused_but_health_is_not() {
    let served = TestServer::with(engine(), |server| server.max_calls(1)).await;
    let stream = served.busy("only").await;
    let refused = served
        .generation()
        .generate(short_request("Hello"))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert_eq!(reason(&refused), "TOO_MANY_CALLS");
    let mut health = tonic_health::pb::health_client::HealthClient::new(served.channel.clone());
    assert!(
        health
            .check(tonic_health::pb::HealthCheckRequest::default())
            .await
            .is_ok()
    );
    drop(stream);
    served.until_empty().await;
}

/// Two bytes a message: as text they are nothing, as messages they would be a million tokens.
#[tokio::test(flavor = "multi_thread")]
async fn a_chat_of_many_empty_messages_is_refused_for_what_it_holds() {
    let served = TestServer::open().await;
    let user = v1::ChatMessage {
        role: "user".into(),
        ..Default::default()
    };
    let with = |count: usize| v1::ChatRequest {
        messages: vec![user.clone(); count],
        ..Default::default()
    };
    let invalid = |status: tonic::Status, text: &str| {
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        assert!(status.message().contains(text), "{status:?}");
        assert!(status.message().contains("messages"), "{status:?}");
    };
    let mut client = served.generation();
    invalid(client.chat(with(100_000)).await.unwrap_err(), "far more");
    let mut tools = with(1);
    tools.tools = vec![v1::Tool {
        name: "tool".into(),
        parameters_json: format!("{{\"a\":[{}[]]}}", "[],".repeat(100_000)),
        ..Default::default()
    }];
    invalid(client.chat(tools).await.unwrap_err(), "far more");
    // Of a size that is looked at message by message.
    let mut roles = with(1_000);
    for message in &mut roles.messages {
        message.role = "robot".into();
    }
    let status = client.chat(roles).await.unwrap_err();
    let fields = crate::test_server::fields(&status);
    assert!(
        fields.contains(&"messages[0].role".to_owned()),
        "{fields:?}"
    );
}

/// What is far too large is refused before anything is made of it: what else is wrong with it is not looked for.
#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_far_too_large_is_not_converted() {
    let served = TestServer::open().await;
    let robot = v1::ChatMessage {
        role: "robot".into(),
        ..Default::default()
    };
    let request = v1::ChatRequest {
        messages: vec![robot; 100_000],
        ..Default::default()
    };
    let status = served.generation().chat(request).await.unwrap_err();
    assert_eq!(crate::test_server::fields(&status), ["messages"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_and_ids_are_turned_into_each_other_in_bounded_pieces() {
    let served = TestServer::open().await;
    let mut client = served.generation();
    let text = |bytes| v1::TokenizeRequest {
        text: "a".repeat(bytes),
        ..Default::default()
    };
    client.tokenize(text(1 << 20)).await.unwrap();
    let status = client.tokenize(text((1 << 20) + 1)).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(crate::test_server::fields(&status), ["text"]);
    let ids = |count| v1::DetokenizeRequest {
        token_ids: vec![300; count],
        ..Default::default()
    };
    client.detokenize(ids(262_144)).await.unwrap();
    let status = client.detokenize(ids(262_145)).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(crate::test_server::fields(&status), ["token_ids"]);
}

/// An abort says true exactly for the calls that end CANCELLED, however close it comes to their end.
#[tokio::test(flavor = "multi_thread")]
async fn an_abort_and_its_call_agree() {
    let served = TestServer::open().await;
    for race in 0..30_u32 {
        let mut request = crate::test_server::stream_of(short_request("Once upon a time"));
        request.request_id = format!("race {race}");
        let abort = v1::AbortRequest {
            request_id: request.request_id.clone(),
            ..Default::default()
        };
        let mut client = served.generation();
        let mut stream = client.stream_generate(request).await.unwrap().into_inner();
        let mut end = Ok(());
        for _ in 0..race % 10 {
            if !matches!(stream.message().await, Ok(Some(_))) {
                break;
            }
        }
        let aborted = client.abort(abort).await.unwrap().into_inner().aborted;
        loop {
            match stream.message().await {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(status) => {
                    end = Err(status.code());
                    break;
                }
            }
        }
        let expected = if aborted {
            Err(Code::Cancelled)
        } else {
            Ok(())
        };
        assert_eq!(end, expected, "race {race}");
    }
    served.until_empty().await;
}
