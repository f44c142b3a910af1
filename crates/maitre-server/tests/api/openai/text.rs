//! Texts and their tokens; what would be run.

use serde_json::json;

use super::client::{Client, get, good};
use crate::test_server::TestServer;

#[tokio::test(flavor = "multi_thread")]
async fn a_text_goes_to_tokens_and_back() {
    let served = TestServer::open().await;
    let text = "Grüße, once upon a time!";
    let request = json!({"prompt": text, "return_token_strs": true, "add_special_tokens": false});
    let tokens = good(served.http, "/tokenize", &request).await;
    let ids = tokens["tokens"].as_array().unwrap();
    assert_eq!(tokens["count"], ids.len());
    assert_eq!(tokens["token_strs"].as_array().unwrap().len(), ids.len());
    assert_eq!(
        tokens["max_model_len"],
        served.engine.info().limits.max_model_len
    );
    let back = good(served.http, "/detokenize", &json!({"tokens": ids})).await;
    assert_eq!(back["prompt"], text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_has_the_tokens_that_would_be_run() {
    let served = TestServer::open().await;
    let messages = json!([{"role": "user", "content": "Hello"}]);
    let tokens = good(served.http, "/tokenize", &json!({"messages": messages})).await;
    let path = "/v1/chat/completions/render";
    let request = json!({"messages": messages, "temperature": 0.5, "max_completion_tokens": 4,
        "stop": ["x"], "seed": -1, "logit_bias": {"5": 1}, "cache_salt": "s", "priority": 3});
    let rendered = good(served.http, path, &request).await;
    assert_eq!(rendered["token_ids"], tokens["tokens"]);
    let parameters = &rendered["sampling_params"];
    assert_eq!(parameters["temperature"], 0.5);
    assert_eq!(parameters["max_tokens"], 4);
    assert_eq!(parameters["seed"], -1);
    assert_eq!(parameters["logit_bias"], json!({"5": 1.0}));
    assert_eq!(
        (&rendered["priority"], &rendered["cache_salt"]),
        (&json!(3), &json!("s"))
    );
    assert_eq!(served.engine.load().in_flight, 0);

    let request = json!({"prompt": ["Hello", [1, 2, 3]]});
    let rendered = good(served.http, "/v1/completions/render", &request).await;
    assert_eq!(rendered.as_array().unwrap().len(), 2);
    assert_eq!(rendered[1]["token_ids"], json!([1, 2, 3]));
}

#[tokio::test(flavor = "multi_thread")]
async fn models_and_version_are_told() {
    let served = TestServer::open().await;
    let mut client = Client::connect(served.http).await;
    let models = client.ask(get("/v1/models")).await.json();
    assert_eq!(models["object"], "list");
    let model = &models["data"][0];
    assert_eq!(
        (&model["id"], &model["owned_by"]),
        (&maitre_bundled::TARGET.name.into(), &"maitre".into())
    );
    let one = client
        .ask(get(&format!("/v1/models/{}", maitre_bundled::TARGET.name)))
        .await;
    assert_eq!(one.json(), *model);
    let version = client.ask(get("/version")).await.json();
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
    let document = client.ask(get("/openapi.json")).await.json();
    assert!(document["paths"]["/v1/chat/completions"]["post"].is_object());
    for path in ["/health", "/ping"] {
        assert_eq!(client.ask(get(path)).await.status, 200, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn text_that_looks_like_a_control_token_can_stay_text() {
    let served = TestServer::open().await;
    let eos = served.engine.info().eos_token_ids[0];
    let text = good(served.http, "/detokenize", &json!({"tokens": [eos]})).await;
    let ids = async |add_special_tokens: bool| {
        let request = json!({"prompt": text["prompt"], "add_special_tokens": add_special_tokens});
        let rendered = good(served.http, "/v1/completions/render", &request).await;
        rendered[0]["token_ids"].clone()
    };
    assert_eq!(ids(true).await, json!([eos]));
    assert!(!ids(false).await.as_array().unwrap().contains(&json!(eos)));
}
