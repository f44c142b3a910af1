//! What happens to connections: kept, left, drained.

use std::time::Duration;

use serde_json::{Value, json};

use super::client::{Client, chunks, get, json as request, next, post};
use crate::test_server::{TestServer, engine, soon};

const COMPLETIONS: &str = "/v1/completions";

/// A stream as long as the context allows.
fn long() -> Value {
    json!({"prompt": "Once upon a time", "ignore_eos": true, "max_tokens": 2000, "stream": true})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_kept_for_the_next_request() {
    let served = TestServer::open().await;
    let mut client = Client::connect(served.http).await;
    for stream in [false, true, false] {
        let body = json!({"prompt": "Hello", "max_tokens": 2, "stream": stream});
        let answer = client.post(COMPLETIONS, &body).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        // A refusal keeps it, too.
        let answer = client.post(COMPLETIONS, &json!({})).await;
        assert_eq!(answer.status, 400);
        assert_eq!(client.ask(get("/health")).await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_frees_what_its_request_held() {
    let served = TestServer::open().await;
    for stream in [true, false] {
        let mut body = long();
        body["stream"] = stream.into();
        let mut client = Client::connect(served.http).await;
        if stream {
            let mut answer = client.send(request(COMPLETIONS, &body)).await.into_body();
            soon(next(&mut answer)).await.unwrap();
            assert_eq!(served.engine.load().in_flight, 1);
        } else {
            let asked = tokio::spawn(async move { client.ask(request(COMPLETIONS, &body)).await });
            served.until(|load| load.running == 1).await;
            asked.abort();
        }
        served.until_empty().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_prompts_leave_together() {
    let served = TestServer::open().await;
    let mut body = long();
    body["prompt"] = (0..30).map(|number| format!("Number {number}")).collect();
    let mut client = Client::connect(served.http).await;
    let mut answer = client.send(request(COMPLETIONS, &body)).await.into_body();
    soon(next(&mut answer)).await.unwrap();
    let in_flight = served.engine.load().in_flight;
    assert!((2..=8).contains(&in_flight), "a batch of them: {in_flight}");
    drop((client, answer));
    served.until_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_ends_streams_well_and_refuses_new_calls() {
    let served = TestServer::open().await;
    let mut client = Client::connect(served.http).await;
    let mut answer = client.send(request(COMPLETIONS, &long())).await.into_body();
    let mut text = soon(next(&mut answer)).await.unwrap();
    served.stop.send(()).unwrap();
    soon(async {
        while served.engine.health().ready {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let refused = post(served.http, COMPLETIONS, &json!({"prompt": "Hello"})).await;
    assert_eq!(refused.status, 503, "{}", refused.text);
    assert_eq!(refused.json()["error"]["code"], "draining");
    assert_eq!(refused.header("connection"), "close");
    while let Some(more) = soon(next(&mut answer)).await {
        text += &more;
    }
    let chunks = chunks(&text);
    assert_eq!(
        chunks.last().unwrap()["choices"][0]["finish_reason"],
        "length"
    );
    soon(served.served).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_fails_says_so_and_ends() {
    let served = TestServer::with(engine(), |server| {
        server.drain_timeout(Duration::from_millis(50))
    })
    .await;
    let mut client = Client::connect(served.http).await;
    let mut answer = client.send(request(COMPLETIONS, &long())).await.into_body();
    let mut text = soon(next(&mut answer)).await.unwrap();
    served.stop.send(()).unwrap();
    while let Some(more) = soon(next(&mut answer)).await {
        text += &more;
    }
    let chunks = chunks(&text);
    assert_eq!(chunks.last().unwrap()["error"]["code"], "cancelled");
    soon(served.served).await.unwrap().unwrap();
}

/// One connection has one call at a time, so the bound that is met is that of all calls.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_server_says_when_to_come_back() {
    let served = TestServer::with(engine(), |server| server.max_calls(1)).await;
    let mut client = Client::connect(served.http).await;
    let mut answer = client.send(request(COMPLETIONS, &long())).await.into_body();
    soon(next(&mut answer)).await.unwrap();
    let refused = post(served.http, COMPLETIONS, &json!({"prompt": "Hello"})).await;
    assert_eq!(refused.status, 429, "{}", refused.text);
    assert_eq!(refused.json()["error"]["code"], "too_many_calls");
    assert_eq!(refused.json()["error"]["type"], "rate_limit_error");
    assert_eq!(refused.header("retry-after"), "1");
    assert_eq!(refused.header("retry-after-ms"), "1000");
}

/// Its events are held within the bounds that all clients share, and it is cut off when it has taken nothing for the
/// stall timeout.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_is_cut_off() {
    use tokio::io::AsyncWriteExt as _;
    let served = TestServer::with(engine(), |server| {
        server.stall_timeout(Duration::from_millis(200))
    })
    .await;
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut client = socket.connect(served.http).await.unwrap();
    let mut body = long();
    // About a kilobyte for each token.
    body["logprobs"] = 20.into();
    let body = body.to_string();
    let request = format!(
        "POST {COMPLETIONS} HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    client.write_all(request.as_bytes()).await.unwrap();
    served.until(|load| load.running == 1).await;
    served.until_empty().await;
    let cut = async {
        loop {
            let text = Client::connect(served.http)
                .await
                .ask(get("/metrics"))
                .await
                .text;
            if text.contains(
                r#"maitre_http_requests_total{method="/v1/completions",code="CANCELLED"}"#,
            ) || text.contains(r#"maitre_http_requests_cut_total{why="stalled"}"#)
            {
                break;
            }
        }
    };
    soon(cut).await;
}

/// `nc -N` and some proxies close their side as soon as the request is sent.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_sends_nothing_more_gets_its_answer() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let served = TestServer::open().await;
    for (stream, tokens) in [(false, 1), (false, 400), (true, 100)] {
        let body =
            json!({"prompt": "Once", "max_tokens": tokens, "ignore_eos": true, "stream": stream});
        let body = body.to_string();
        let request = format!(
            "POST {COMPLETIONS} HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut client = tokio::net::TcpStream::connect(served.http).await.unwrap();
        client.write_all(request.as_bytes()).await.unwrap();
        client.shutdown().await.unwrap();
        let mut answer = String::new();
        soon(client.read_to_string(&mut answer)).await.unwrap();
        assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 1, "{answer}");
        assert!(answer.contains(r#""finish_reason":"length""#), "{answer}");
    }
    for path in ["/health", "/v1/models", "/metrics"] {
        let mut client = tokio::net::TcpStream::connect(served.http).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n");
        client.write_all(request.as_bytes()).await.unwrap();
        client.shutdown().await.unwrap();
        let mut answer = String::new();
        soon(client.read_to_string(&mut answer)).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{path}: {answer}");
    }
}
