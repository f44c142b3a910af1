//! What is wrong with a request: status, code, field, message.

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};

use super::client::{Answer, Client, get, json as request, post};
use crate::test_server::{TestServer, engine};

/// Checks status, code and field; the message.
fn refused(answer: &Answer, status: u16, code: &str, param: Option<&str>) -> String {
    let error = answer.json()["error"].clone();
    assert_eq!(answer.status, status, "{error}");
    assert_eq!(error["code"], code, "{error}");
    assert_eq!(error["param"], json!(param), "{error}");
    assert!(!answer.header("x-request-id").is_empty());
    let kind = error["type"].as_str().unwrap();
    assert!(kind.ends_with("_error"), "{kind}");
    error["message"].as_str().unwrap().to_owned()
}

/// A good request to each route that has a message.
fn routes() -> Vec<(&'static str, Value)> {
    let chat = json!({"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 2});
    let completion = json!({"prompt": "Hello", "max_tokens": 2});
    vec![
        ("/v1/chat/completions", chat.clone()),
        ("/v1/chat/completions/render", chat),
        ("/v1/completions", completion.clone()),
        ("/v1/completions/render", completion),
        ("/tokenize", json!({"prompt": "Hello"})),
        ("/detokenize", json!({"tokens": [1]})),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_refuses_what_is_no_request_to_it() {
    let served = TestServer::with(engine(), |server| server.max_message_bytes(10_000)).await;
    for (path, good) in routes() {
        assert_eq!(post(served.http, path, &good).await.status, 200, "{path}");
        let mut unknown = good.clone();
        unknown["model"] = "gpt-7".into();
        let answer = post(served.http, path, &unknown).await;
        let said = refused(&answer, 404, "model_not_found", Some("model"));
        assert!(said.contains(maitre_bundled::TARGET.name), "{said}");
        let mut wrong = good.clone();
        wrong["model"] = 7.into();
        let answer = post(served.http, path, &wrong).await;
        refused(&answer, 400, "invalid_request", Some("model"));
        for text in ["", "{", "[]", "7", "{} {}"] {
            let request = Request::post(path)
                .header("host", "test")
                .header("content-type", "application/json; charset=utf-8")
                .body(Body::from(text))
                .unwrap();
            let answer = Client::connect(served.http).await.ask(request).await;
            refused(&answer, 400, "malformed_message", None);
        }
        let mut request = request(path, &good);
        request.headers_mut().remove("content-type");
        let answer = Client::connect(served.http).await.ask(request).await;
        refused(&answer, 415, "unsupported_media_type", None);
        let mut large = good.clone();
        large["user"] = "x".repeat(10_000).into();
        let answer = post(served.http, path, &large).await;
        refused(&answer, 413, "message_too_large", None);
        let answer = Client::connect(served.http).await.ask(get(path)).await;
        refused(&answer, 405, "method_not_allowed", None);
    }
    for path in ["/v1/nothing", "/"] {
        let answer = Client::connect(served.http).await.ask(get(path)).await;
        refused(&answer, 404, "unknown_path", None);
    }
    let answer = Client::connect(served.http)
        .await
        .ask(get("/v1/models/a/b"))
        .await;
    refused(&answer, 404, "model_not_found", Some("model"));
    served.until_empty().await;
}

/// A change of a good request, and the field that the refusal names.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_named_as_the_client_wrote_it() {
    let served = TestServer::open().await;
    let both = [
        (json!({"temperature": -1}), "temperature"),
        (json!({"temperature": "hot"}), "temperature"),
        (json!({"top_p": 2}), "top_p"),
        (json!({"top_k": -2}), "top_k"),
        (json!({"min_p": 2}), "min_p"),
        (json!({"repetition_penalty": 0}), "repetition_penalty"),
        (json!({"presence_penalty": 3}), "presence_penalty"),
        (json!({"n": 0}), "n"),
        (json!({"n": 4_000_000_000_u32}), "n"),
        (json!({"min_tokens": 100}), "min_tokens"),
        (json!({"stop": ["a", ""]}), "stop[1]"),
        (json!({"stop": "x".repeat(2000)}), "stop"),
        (
            json!({"stop_token_ids": [1, 10_000_000]}),
            "stop_token_ids[1]",
        ),
        (json!({"logit_bias": {"x": 1}}), "logit_bias[\"x\"]"),
        (json!({"prompt_logprobs": 100}), "prompt_logprobs"),
        (
            json!({"truncate_prompt_tokens": 0}),
            "truncate_prompt_tokens",
        ),
        (json!({"cache_salt": "x".repeat(300)}), "cache_salt"),
        (json!({"request_id": ""}), "request_id"),
        (
            json!({"stream_options": {"include_usage": true}}),
            "stream_options",
        ),
        (
            json!({"stream": true, "prompt_logprobs": 1}),
            "prompt_logprobs",
        ),
        (json!({"suffix": "end"}), "suffix"),
        (json!({"best_of": 3}), "best_of"),
        (json!({"use_beam_search": true}), "use_beam_search"),
        (
            json!({"guided_json": {}, "guided_regex": "a"}),
            "guided_regex",
        ),
    ];
    let chat = [
        (json!({"messages": []}), "messages"),
        (json!({"messages": null}), "messages"),
        (
            json!({"messages": [{"role": "robot", "content": "a"}]}),
            "messages[0].role",
        ),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}),
            "messages[0].content[0].type",
        ),
        (
            json!({"messages": [{"role": "user", "content": 1}]}),
            "messages[0].content",
        ),
        (
            json!({"logprobs": true, "top_logprobs": 100}),
            "top_logprobs",
        ),
        (json!({"top_logprobs": 1}), "top_logprobs"),
        (json!({"max_completion_tokens": 0}), "max_completion_tokens"),
        (json!({"max_tokens": 0}), "max_tokens"),
        (json!({"tools": [{"type": "web_search"}]}), "tools[0].type"),
        (json!({"tool_choice": "required"}), "tool_choice"),
        (
            json!({"continue_final_message": true}),
            "continue_final_message",
        ),
        (json!({"modalities": ["text", "audio"]}), "modalities[1]"),
        (json!({"audio": {"voice": "x"}}), "audio"),
        (json!({"functions": [{}]}), "functions"),
        (json!({"thinking_token_budget": 5}), "thinking_token_budget"),
    ];
    let completions = [
        (json!({"prompt": null}), "prompt"),
        (json!({"prompt": ""}), "prompt"),
        (json!({"prompt": []}), "prompt"),
        (json!({"prompt": ["a", ""]}), "prompt[1]"),
        (json!({"prompt": [1, 10_000_000]}), "prompt[1]"),
        (json!({"prompt": [[1], [2, 10_000_000]]}), "prompt[1][1]"),
        (json!({"prompt": [1, "a"]}), "prompt"),
        (json!({"logprobs": 100}), "logprobs"),
        (json!({"logprobs": true}), "logprobs"),
    ];
    let routes = routes();
    let of_chat = both.iter().chain(&chat).map(|it| (&routes[0], it));
    let of_completions = both.iter().chain(&completions).map(|it| (&routes[2], it));
    for ((path, good), (change, field)) in of_chat.chain(of_completions) {
        for path in [(*path).to_owned(), format!("{path}/render")] {
            let mut request = good.clone();
            request
                .as_object_mut()
                .unwrap()
                .extend(change.as_object().unwrap().clone());
            let answer = post(served.http, &path, &request).await;
            let said = refused(&answer, 400, "invalid_request", Some(field));
            assert!(said.contains(field), "{path}: {said}");
        }
    }
    for (path, request, field) in [
        ("/tokenize", json!({}), "prompt"),
        (
            "/tokenize",
            json!({"prompt": "a", "messages": []}),
            "messages",
        ),
        ("/tokenize", json!({"messages": []}), "messages"),
        ("/detokenize", json!({}), "tokens"),
        (
            "/detokenize",
            json!({"tokens": [1, 10_000_000]}),
            "tokens[1]",
        ),
    ] {
        let answer = post(served.http, path, &request).await;
        refused(&answer, 400, "invalid_request", Some(field));
    }
    served.until_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_is_wrong_is_said_at_once() {
    let served = TestServer::open().await;
    let request = json!({"prompt": "a", "temperature": -1, "suffix": "x", "top_k": -5});
    let answer = post(served.http, "/v1/completions", &request).await;
    let said = refused(&answer, 400, "invalid_request", Some("suffix"));
    for field in ["suffix", "top_k", "temperature"] {
        assert!(said.contains(field), "{said}");
    }
}

/// Clients that shorten a conversation and try again look for this code.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_context_has_no_space_for_has_its_own_code() {
    let served = TestServer::open().await;
    let context = served.engine.info().limits.max_model_len;
    let long = "word ".repeat(context + 10);
    for (path, request, field) in [
        ("/v1/completions", json!({"prompt": long}), "prompt"),
        (
            "/v1/completions",
            json!({"prompt": "a", "max_tokens": context}),
            "max_tokens",
        ),
        (
            "/v1/chat/completions",
            json!({"messages": [{"role": "user", "content": long}]}),
            "messages",
        ),
    ] {
        let answer = post(served.http, path, &request).await;
        refused(&answer, 400, "context_length_exceeded", Some(field));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_in_flight_is_taken() {
    let served = TestServer::open().await;
    let _busy = served.busy("mine").await;
    let request = json!({"prompt": "a", "request_id": "mine"});
    let answer = post(served.http, "/v1/completions", &request).await;
    refused(&answer, 409, "duplicate_request_id", Some("request_id"));
}
