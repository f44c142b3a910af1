//! What stands around the API: names of requests, counts of calls, a server that is not ready.

use maitre_server::{Listeners, Server, Startup};
use serde_json::json;

use super::client::{Client, get, json as request, post};
use crate::test_server::{TestServer, soon};

#[tokio::test(flavor = "multi_thread")]
async fn a_request_has_a_name() {
    let served = TestServer::open().await;
    let mut client = Client::connect(served.http).await;
    let mut asked = request(
        "/v1/completions",
        &json!({"prompt": "Hello", "max_tokens": 1}),
    );
    asked
        .headers_mut()
        .insert("x-request-id", "mine-1".parse().unwrap());
    let answer = client.ask(asked).await;
    assert_eq!(answer.header("x-request-id"), "mine-1");
    assert_eq!(answer.json()["id"], "cmpl-mine-1");
    let answer = client.ask(get("/v1/models")).await;
    assert_eq!(answer.header("x-request-id").len(), 32);
    for path in ["/health", "/health/live", "/ping", "/metrics", "/version"] {
        let mut asked = get(path);
        asked
            .headers_mut()
            .insert("x-request-id", "mine-2".parse().unwrap());
        let answer = client.ask(asked).await;
        assert_eq!(answer.header("x-request-id"), "mine-2", "{path}");
        let answer = client.ask(get(path)).await;
        assert_eq!(answer.header("x-request-id").len(), 32, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_counted_by_their_path() {
    let served = TestServer::open().await;
    let mut client = Client::connect(served.http).await;
    let body = json!({"prompt": "Hello", "max_tokens": 1, "stream": true});
    client.post("/v1/completions", &body).await;
    client
        .post("/v1/completions", &json!({"prompt": "Hello", "n": 0}))
        .await;
    client.ask(get("/made/up")).await;
    let counted = async {
        loop {
            let text = client.ask(get("/metrics")).await.text;
            let all = [
                r#"maitre_http_requests_total{method="/v1/completions",code="OK"}"#,
                r#"maitre_http_requests_total{method="/v1/completions",code="INVALID_ARGUMENT"}"#,
                r#"maitre_http_requests_total{method="unknown","#,
                r#"maitre_http_request_seconds_bucket{method="/v1/completions","#,
                "maitre_http_requests_in_progress",
            ];
            if all.iter().all(|it| text.contains(it)) {
                return text;
            }
        }
    };
    let text = soon(counted).await;
    assert!(!text.contains("/made/up"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_loads_says_so() {
    let startup = Startup::new("loading a model");
    let any_port = ([127, 0, 0, 1], 0).into();
    let listeners = Listeners::bind(any_port, Some(any_port)).await.unwrap();
    let address = listeners.http_address().unwrap();
    let _serving =
        tokio::spawn(Server::starting(&startup).serve(listeners, std::future::pending()));
    let answer = post(address, "/v1/completions", &json!({"prompt": "Hello"})).await;
    assert_eq!(answer.status, 503);
    let error = &answer.json()["error"];
    assert_eq!(error["code"], "model_loading");
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .contains("loading a model")
    );
    let answer = Client::connect(address).await.ask(get("/version")).await;
    assert_eq!(answer.status, 200);
}
