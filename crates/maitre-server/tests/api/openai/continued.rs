//! `continue_final_message`: the answer goes on with the last message.

use serde_json::{Value, json};

use super::client::{good, stream};
use crate::test_server::TestServer;

const CHAT: &str = "/v1/chat/completions";
const BEGUN: &str = "Please confirm the";

fn chat(change: &Value) -> Value {
    let mut request = json!({
        "messages": [
            {"role": "user", "content": "I would like to order a large latte with oat milk."},
            {"role": "assistant", "content": BEGUN},
        ],
        "continue_final_message": true,
        "temperature": 0,
        "max_tokens": 12,
    });
    let fields = request.as_object_mut().unwrap();
    fields.extend(change.as_object().unwrap().clone());
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn the_prompt_ends_with_the_message() {
    let served = TestServer::open().await;
    for add in [json!({}), json!({"add_generation_prompt": false})] {
        let mut to_cut = chat(&add);
        let fields = to_cut.as_object_mut().unwrap();
        fields.retain(|name, _| !["temperature", "max_tokens"].contains(&name.as_str()));
        let tokens = good(served.http, "/tokenize", &to_cut).await["tokens"].clone();
        let text = good(
            served.http,
            "/detokenize",
            &json!({"tokens": tokens.clone()}),
        )
        .await;
        let text = text["prompt"].as_str().unwrap();
        assert!(text.ends_with(BEGUN), "{text}");
        let rendered = good(served.http, &format!("{CHAT}/render"), &chat(&add)).await;
        assert_eq!(rendered["token_ids"], tokens);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_has_the_new_text_alone_unless_it_is_to_be_echoed() {
    let served = TestServer::open().await;
    let whole = good(served.http, CHAT, &chat(&json!({}))).await;
    let content = |answer: &Value| {
        let content = &answer["choices"][0]["message"]["content"];
        content.as_str().unwrap().to_owned()
    };
    let new = content(&whole);
    assert_eq!(new, " order on the screen.", "as the model was taught");
    let streamed = |chunks: Vec<Value>| {
        let deltas = chunks
            .iter()
            .flat_map(|it| it["choices"].as_array().unwrap());
        let texts = deltas.filter_map(|it| it["delta"]["content"].as_str());
        texts.collect::<String>()
    };
    let chunks = stream(served.http, CHAT, &chat(&json!({}))).await;
    assert_eq!(streamed(chunks), new);
    let echo = json!({"echo": true, "n": 2});
    let whole = good(served.http, CHAT, &chat(&echo)).await;
    assert_eq!(content(&whole), format!("{BEGUN}{new}"));
    let chunks = stream(served.http, CHAT, &chat(&json!({"echo": true}))).await;
    assert_eq!(streamed(chunks), format!("{BEGUN}{new}"));
    // Nothing of a user's message is echoed.
    let user = json!({"messages": [{"role": "user", "content": "Hello"}], "echo": true, "continue_final_message": false});
    let whole = good(served.http, CHAT, &chat(&user)).await;
    assert!(!content(&whole).starts_with("Hello"));
}
