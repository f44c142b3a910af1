//! Answers of a form, as OpenAI and vLLM have clients ask for them.

use serde_json::{Value, json};

use super::client::{good, post, stream};
use crate::test_server::TestServer;

const CHAT: &str = "/v1/chat/completions";
const COMPLETIONS: &str = "/v1/completions";

fn chat(form: Value) -> Value {
    with(
        json!({"messages": [{"role": "user", "content": "How is the weather?"}], "max_tokens": 60}),
        form,
    )
}

fn completion(form: Value) -> Value {
    with(json!({"prompt": "The weather: ", "max_tokens": 60}), form)
}

fn with(mut request: Value, form: Value) -> Value {
    let fields = form.as_object().unwrap().clone();
    request.as_object_mut().unwrap().extend(fields);
    request
}

fn weather() -> Value {
    json!({
        "type": "object",
        "properties": {
            "sky": {"enum": ["blue", "grey"]},
            "degrees": {"type": "integer", "minimum": -9, "maximum": 40},
        },
        "required": ["sky", "degrees"],
        "additionalProperties": false,
    })
}

fn is_weather(text: &str) -> bool {
    let Ok(value) = serde_json::from_str::<Value>(text) else {
        return false;
    };
    let sky = value["sky"].as_str();
    let degrees = value["degrees"].as_i64();
    value.as_object().is_some_and(|it| it.len() == 2)
        && sky.is_some_and(|sky| ["blue", "grey"].contains(&sky))
        && degrees.is_some_and(|degrees| (-9..=40).contains(&degrees))
}

fn is_object(text: &str) -> bool {
    serde_json::from_str::<Value>(text).is_ok_and(|value| value.is_object())
}

/// Whether a text has the form.
type Keeps<'a> = &'a dyn Fn(&str) -> bool;

#[tokio::test(flavor = "multi_thread")]
async fn every_form_is_kept_to_by_both_routes_and_in_streams() {
    let served = TestServer::open().await;
    let tag = json!({
        "structures": [{"begin": "<w>", "schema": {"enum": ["wet"]}, "end": "</w>"}],
        "triggers": ["<w>"],
    });
    let tag_in_json = |text: &str| {
        let parts: Vec<&str> = text.split("<w>").skip(1).collect();
        let ends = |part: &&str| part.starts_with("\"wet\"</w>");
        // An answer may have no tag, or end within one.
        parts.iter().rev().skip(1).all(ends)
    };
    let forms: [(Value, Keeps<'_>); 8] = [
        (
            json!({"response_format": {"type": "json_schema",
                "json_schema": {"name": "weather", "strict": true, "schema": weather()}}}),
            &is_weather,
        ),
        (
            json!({"structured_outputs": {"json": weather()}}),
            &is_weather,
        ),
        (
            json!({"structured_outputs": {"json": weather().to_string()}}),
            &is_weather,
        ),
        (
            json!({"response_format": {"type": "json_object"}}),
            &is_object,
        ),
        (
            json!({"structured_outputs": {"regex": "(wet|dry), [0-9]{1,2} C"}}),
            &|text| text.ends_with(" C") && ["wet, ", "dry, "].contains(&&text[..5]),
        ),
        (
            json!({"structured_outputs": {"choice": ["sunny", "rainy"]}}),
            &|text| ["sunny", "rainy"].contains(&text),
        ),
        (
            json!({"structured_outputs": {"grammar": "root ::= \"so \"{2} (\"hot\" | \"cold\")"}}),
            &|text| ["so so hot", "so so cold"].contains(&text),
        ),
        (
            json!({"structured_outputs": {"structural_tag": tag}}),
            &tag_in_json,
        ),
    ];
    for (form, keeps) in forms {
        let form = with(form, json!({"seed": 3, "temperature": 1}));
        for (path, request) in [(CHAT, chat(form.clone())), (COMPLETIONS, completion(form))] {
            let whole = good(served.http, path, &request).await;
            let choice = &whole["choices"][0];
            let text = match path {
                CHAT => &choice["message"]["content"],
                _ => &choice["text"],
            };
            let text = text.as_str().unwrap();
            // The model may go on with an object for longer than it has tokens.
            let is_cut = choice["finish_reason"] == "length" && text.starts_with('{');
            assert!(keeps(text) || is_cut, "{request} gave {text:?}");
            let chunks = stream(served.http, path, &with(request, json!({"stream": true}))).await;
            let pieces = chunks.iter().filter_map(|chunk| {
                let choice = &chunk["choices"][0];
                choice["text"]
                    .as_str()
                    .or(choice["delta"]["content"].as_str())
            });
            assert_eq!(pieces.collect::<String>(), text);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_that_cannot_be_had_is_refused_by_the_field_that_asks_for_it() {
    let served = TestServer::open().await;
    let schema = "response_format.json_schema.schema";
    let as_format = |schema: Value| json!({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}});
    for (form, param) in [
        (as_format(json!({"type": "thing"})), schema),
        (as_format(json!({"$ref": "#/nowhere"})), schema),
        (
            json!({"structured_outputs": {"json": "{"}}),
            "structured_outputs.json",
        ),
        (
            json!({"structured_outputs": {"regex": "("}}),
            "structured_outputs.regex",
        ),
        (
            json!({"structured_outputs": {"choice": []}}),
            "structured_outputs.choice",
        ),
        (
            json!({"structured_outputs": {"grammar": "root ::= nowhere"}}),
            "structured_outputs.grammar",
        ),
        (
            json!({"structured_outputs": {"structural_tag": {}}}),
            "structured_outputs.structural_tag",
        ),
        (
            json!({"structured_outputs": {"regex": 1}}),
            "structured_outputs.regex",
        ),
    ] {
        for (path, request) in [(CHAT, chat(form.clone())), (COMPLETIONS, completion(form))] {
            let answer = post(served.http, path, &request).await;
            let error = &answer.json()["error"];
            assert_eq!(answer.status, 400, "{request}: {error}");
            assert_eq!(error["param"], param, "{error}");
            assert!(error["message"].as_str().unwrap().len() > 20, "{error}");
        }
    }
}

/// `ignore_eos` has a form go on for as long as it may, and no longer.
#[tokio::test(flavor = "multi_thread")]
async fn a_complete_form_ends_whatever_is_ignored() {
    let served = TestServer::open().await;
    for (form, reason) in [
        (json!({"guided_choice": ["yes"]}), "stop"),
        (
            json!({"structured_outputs": {"regex": "[0-9]{1,4}"}}),
            "stop",
        ),
        (
            json!({"structured_outputs": {"regex": "[a-z ]+"}}),
            "length",
        ),
    ] {
        let mut request =
            json!({"prompt": "Hello", "max_tokens": 20, "ignore_eos": true, "temperature": 0});
        request
            .as_object_mut()
            .unwrap()
            .extend(form.as_object().unwrap().clone());
        let answer = good(served.http, "/v1/completions", &request).await;
        let choice = &answer["choices"][0];
        assert_eq!(choice["finish_reason"], reason, "{choice}");
        if reason == "length" {
            assert_eq!(answer["usage"]["completion_tokens"], 20);
        }
    }
}
