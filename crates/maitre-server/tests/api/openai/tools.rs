//! Tools of a conversation: calls that have to be made, streamed and whole, and what cannot be asked for.

use serde_json::{Value, json};

use super::client::{good, post, stream};
use crate::surroundings::get;
use crate::test_server::TestServer;

const CHAT: &str = "/v1/chat/completions";

fn chat(change: &Value) -> Value {
    let mut request = json!({
        "messages": [{"role": "user", "content": "How warm will it be in Oslo?"}],
        "tools": [
            {"type": "function", "function": {"name": "weather", "description": "The weather.", "parameters": {
                "type": "object",
                "properties": {"city": {"enum": ["Bonn", "Oslo"]}},
                "required": ["city"], "additionalProperties": false}}},
            {"type": "function", "function": {"name": "now"}},
        ],
        "seed": 5,
        "temperature": 1,
        "max_tokens": 200,
    });
    let fields = request.as_object_mut().unwrap();
    fields.extend(change.as_object().unwrap().clone());
    request
}

fn named(name: &str) -> Value {
    json!({"type": "function", "function": {"name": name}})
}

/// What an answer says, the calls it makes (name and arguments), and why it ended.
type Said = (Value, Vec<(String, String)>, String);

/// The message that a stream's chunks make for each answer, without ids, and why each ended.
fn put_together(chunks: &[Value], n: usize) -> Vec<Said> {
    let mut answers = vec![(Value::Null, Vec::new(), String::new()); n];
    for choice in chunks
        .iter()
        .flat_map(|it| it["choices"].as_array().unwrap())
    {
        let index = usize::try_from(choice["index"].as_u64().unwrap()).unwrap();
        let (content, calls, reason) = &mut answers[index];
        let delta = &choice["delta"];
        if let Some(more) = delta["content"].as_str().filter(|it| !it.is_empty()) {
            *content = (content.as_str().unwrap_or_default().to_owned() + more).into();
        }
        for call in delta["tool_calls"].as_array().into_iter().flatten() {
            let function = &call["function"];
            if let Some(name) = function["name"].as_str() {
                assert_eq!(call["index"], calls.len());
                assert_eq!(call["type"], "function");
                is_id(&call["id"]);
                calls.push((name.to_owned(), String::new()));
            }
            let (_, arguments) = calls.last_mut().unwrap();
            *arguments += function["arguments"].as_str().unwrap();
        }
        if let Some(ended) = choice["finish_reason"].as_str() {
            *reason = ended.to_owned();
        }
    }
    answers
}

fn is_id(id: &Value) -> String {
    let id = id.as_str().unwrap();
    let letters = id.strip_prefix("call_").unwrap();
    assert_eq!(letters.len(), 24, "{id}");
    assert!(letters.chars().all(|c| c.is_ascii_alphanumeric()), "{id}");
    id.to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_required_call_is_made_whole_and_streamed() {
    let served = TestServer::open().await;
    let required = json!({"tool_choice": "required", "parallel_tool_calls": false, "n": 2});
    let whole = good(served.http, CHAT, &chat(&required)).await;
    let chunks = stream(served.http, CHAT, &chat(&required)).await;
    let streamed = put_together(&chunks, 2);
    let mut ids = Vec::new();
    for (choice, streamed) in whole["choices"].as_array().unwrap().iter().zip(streamed) {
        assert_eq!(choice["finish_reason"], "tool_calls", "{choice}");
        let message = &choice["message"];
        assert_eq!(message["content"], Value::Null);
        let calls = message["tool_calls"].as_array().unwrap();
        assert_eq!(calls.len(), 1);
        ids.push(is_id(&calls[0]["id"]));
        let called = &calls[0]["function"];
        let (name, arguments) = (&called["name"], called["arguments"].as_str().unwrap());
        let arguments: Value = serde_json::from_str(arguments).unwrap();
        if name == "weather" {
            let city = arguments["city"].as_str().unwrap();
            assert!(["Bonn", "Oslo"].contains(&city), "{arguments}");
        } else {
            assert_eq!((name, arguments), (&json!("now"), json!({})));
        }
        let text = |it: &Value| it.as_str().unwrap().to_owned();
        let whole = (
            Value::Null,
            vec![(text(name), text(&called["arguments"]))],
            "tool_calls".to_owned(),
        );
        assert_eq!(streamed, whole);
    }
    ids.dedup();
    assert_eq!(ids.len(), 2);
    let metrics = get(served.http, "/metrics").await;
    assert!(metrics.contains("maitre_tool_calls_total"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_named_tool_is_called_and_what_it_says_goes_back() {
    let served = TestServer::open().await;
    let request = chat(&json!({"tool_choice": named("now")}));
    let whole = good(served.http, CHAT, &request).await;
    let message = whole["choices"][0]["message"].clone();
    assert_eq!(
        message["tool_calls"][0]["function"],
        json!({"name": "now", "arguments": "{}"})
    );

    // The message as it came, and the tool's answer to it.
    let id = message["tool_calls"][0]["id"].clone();
    let mut spoken = message.clone();
    // The bundled model's template wants a text in every message.
    spoken["content"] = "".into();
    let tool = json!({"role": "tool", "tool_call_id": id, "content": "Noon."});
    let mut messages = request["messages"].as_array().unwrap().clone();
    messages.extend([spoken, tool]);
    let next = chat(&json!({"messages": messages, "tool_choice": "none", "max_tokens": 8}));
    let choice = good(served.http, CHAT, &next).await["choices"][0].clone();
    assert!(choice["message"]["content"].is_string(), "{choice}");
    assert_eq!(choice["message"].get("tool_calls"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_asked_of_tools_is_refused_by_name() {
    let served = TestServer::open().await;
    let f = json!({"type": "function", "function": {"name": "f"}});
    for (change, param) in [
        (json!({"tool_choice": named("f")}), "tool_choice"),
        (
            json!({"tool_choice": "required", "tools": []}),
            "tool_choice",
        ),
        (json!({"tool_choice": "often"}), "tool_choice"),
        (json!({"tool_choice": {"type": "function"}}), "tool_choice"),
        (
            json!({"tool_choice": {"type": "custom"}}),
            "tool_choice.type",
        ),
        (
            json!({"tools": [{"type": "function", "function": {}}]}),
            "tools[0].function.name",
        ),
        (json!({"tools": [f, f]}), "tools[1].function.name"),
        (
            json!({"tools": [f, {"type": "function", "function": {"name": "g", "parameters": []}}]}),
            "tools[1].function.parameters",
        ),
        (
            json!({"tools": [{"type": "function", "function": {"name": "a b"}}]}),
            "tools[0].function",
        ),
        (json!({"parallel_tool_calls": "no"}), "parallel_tool_calls"),
        (json!({"thinking_token_budget": 5}), "thinking_token_budget"),
        (
            json!({"tools": [{"type": "function", "function": {"name": "f", "strict": true, "parameters":
                {"properties": {"a": {"not": {}}}}}}], "tool_choice": "required"}),
            "tools",
        ),
    ] {
        let answer = post(served.http, CHAT, &chat(&change)).await;
        let error = answer.json()["error"].clone();
        assert_eq!(
            (answer.status, &error["param"]),
            (400, &json!(param)),
            "{change} {error}"
        );
        println!("{}", error["message"]);
    }
}

/// A bare schema lets a model write without end: what there is of the call comes back as a call.
#[tokio::test(flavor = "multi_thread")]
async fn a_required_call_that_is_cut_off_is_a_call_all_the_same() {
    let served = TestServer::open().await;
    let any = json!({"name": "any", "parameters": {"type": "object"}});
    let change = json!({
        "tools": [{"type": "function", "function": any}],
        "tool_choice": "required", "max_tokens": 40, "ignore_eos": true,
    });
    let whole = good(served.http, CHAT, &chat(&change)).await;
    let choice = &whole["choices"][0];
    let called = &choice["message"]["tool_calls"][0]["function"];
    assert_eq!(called["name"], "any", "{choice}");
    assert_eq!(choice["message"]["content"], Value::Null, "{choice}");
    let streamed = put_together(&stream(served.http, CHAT, &chat(&change)).await, 1);
    let arguments = called["arguments"].as_str().unwrap().to_owned();
    let reason = choice["finish_reason"].as_str().unwrap().to_owned();
    if serde_json::from_str::<Value>(&arguments).is_err() {
        assert_eq!(reason, "length");
    }
    let expected = (Value::Null, vec![("any".to_owned(), arguments)], reason);
    assert_eq!(streamed, [expected]);

    // Before the name there is no call.
    let early = json!({"tool_choice": "required", "max_tokens": 2});
    let whole = good(served.http, CHAT, &chat(&early)).await;
    let choice = &whole["choices"][0];
    assert_eq!(choice["finish_reason"], "length");
    assert!(!choice["message"]["content"].as_str().unwrap().is_empty());
    let metrics = get(served.http, "/metrics").await;
    let counted = r#"maitre_malformed_tool_calls_total{format="hermes",why="cut_off"}"#;
    assert!(metrics.contains(counted), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_tools_that_are_allowed_are_called() {
    let served = TestServer::open().await;
    let of = |mode: &str| json!({"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": [named("now")]}});
    let all = chat(&json!({"tool_choice": "auto", "max_tokens": 1}));
    let shown = good(served.http, &format!("{CHAT}/render"), &all).await["token_ids"].clone();
    for seed in 0..4 {
        let change =
            json!({"tool_choice": of("required"), "seed": seed, "parallel_tool_calls": false});
        let request = chat(&change);
        let whole = good(served.http, CHAT, &request).await;
        let called = &whole["choices"][0]["message"]["tool_calls"][0]["function"];
        assert_eq!(called["name"], "now", "{whole}");
        let rendered = good(served.http, &format!("{CHAT}/render"), &request).await;
        assert_eq!(rendered["token_ids"], shown, "all tools are shown");
    }
    let free = chat(&json!({"tool_choice": of("auto"), "max_tokens": 8}));
    let whole = good(served.http, CHAT, &free).await;
    assert!(
        whole["choices"][0]["message"]["content"].is_string(),
        "{whole}"
    );
}
