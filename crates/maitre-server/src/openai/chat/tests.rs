//! Parts of an answer that are not text: whole and in chunks they say the same.

use maitre_engine::{
    Delta, Engine, Event, FinishReason, Finished, Matched, ModelSource, Part, Timings, Usage,
};
use serde_json::{Value, json};

use super::answer::{ChatChunks, ChatShape};
use super::request::read;
use crate::openai::events::{Chunks as _, Written};
use crate::service::answer::{Answer, CalledTool};

fn engine() -> Engine {
    let bundled = &maitre_bundled::TARGET;
    let source = ModelSource::Memory {
        name: bundled.name,
        files: bundled.files,
    };
    let engine = Engine::builder(source).threads(Some(1)).max_seqs(1);
    engine.build().unwrap()
}

fn shape(engine: &Engine, change: Value) -> ChatShape {
    let mut request = json!({"messages": [{"role": "user", "content": "Hello"}]});
    request
        .as_object_mut()
        .unwrap()
        .extend(change.as_object().unwrap().clone());
    ChatShape::from(&read(engine, request.to_string().as_bytes(), "x").unwrap())
}

fn finished(matched: Option<Matched>) -> Finished {
    Finished {
        index: 0,
        reason: FinishReason::Stop,
        matched,
        usage: Usage {
            prompt_tokens: 3,
            completion_tokens: 6,
            drafted_tokens: 4,
            accepted_tokens: 1,
            reasoning_tokens: 1,
            ..Usage::default()
        },
        timings: Timings::default(),
    }
}

fn call(index: u32, name: Option<&str>, arguments: &str) -> Part {
    Part::ToolCall {
        index,
        name: name.map(str::to_owned),
        arguments_delta: arguments.into(),
    }
}

/// The chunks of an answer of these parts, a token each.
fn chunks(shape: ChatShape, parts: Vec<Part>) -> Vec<Value> {
    ended_chunks(shape, parts, None)
}

fn ended_chunks(shape: ChatShape, parts: Vec<Part>, matched: Option<Matched>) -> Vec<Value> {
    let mut chunks = ChatChunks::new(shape);
    let mut written = Written::default();
    for part in parts {
        let delta = Delta {
            part,
            token_ids: [7].as_slice().into(),
            ..Delta::default()
        };
        chunks.event(0, Event::Delta(delta), &mut written);
    }
    chunks.event(0, Event::Finished(finished(matched)), &mut written);
    chunks.end(&mut written);
    let text = String::from_utf8(written.take().to_vec()).unwrap();
    let events = text.split_terminator("\n\n");
    let data = events.map(|event| event.strip_prefix("data: ").unwrap());
    data.map(|data| serde_json::from_str(data).unwrap())
        .collect()
}

fn parts() -> Vec<Part> {
    vec![
        Part::Reasoning("hm".into()),
        Part::Text("I ask.".into()),
        call(0, Some("add"), ""),
        call(0, None, "{}"),
        call(1, Some("sub"), "{\"a\":1}"),
    ]
}

fn answer() -> Answer {
    let called = |name: &str, arguments: &str| CalledTool {
        name: name.into(),
        arguments: arguments.into(),
    };
    Answer {
        text: "I ask.".into(),
        reasoning: "hm".into(),
        tool_calls: vec![called("add", "{}"), called("sub", "{\"a\":1}")],
        finished: Some(finished(None)),
        ..Answer::default()
    }
}

#[tokio::test]
async fn reasoning_and_calls_of_tools_are_told_in_their_own_fields() {
    let engine = engine();
    let counts = json!({"stream": true, "stream_options": {"include_usage": true}});
    let shape = shape(&engine, counts);
    let streamed = chunks(shape.clone(), parts());
    let deltas: Vec<&Value> = streamed
        .iter()
        .map(|it| &it["choices"][0]["delta"])
        .collect();
    assert_eq!(
        deltas[1],
        &json!({"reasoning_content": "hm", "reasoning": "hm"})
    );
    assert_eq!(deltas[2], &json!({"content": "I ask."}));
    let call = |index: u32, id: Option<&str>, function: Value| {
        let mut call = json!({"index": index, "function": function});
        if let Some(id) = id {
            call["id"] = id.into();
            call["type"] = "function".into();
        }
        json!({"tool_calls": [call]})
    };
    // The shape is the same, so the ids are.
    let whole = serde_json::to_value(shape.whole(vec![answer()])).unwrap();
    let calls = &whole["choices"][0]["message"]["tool_calls"];
    let ids: [&str; 2] = [0, 1].map(|call| calls[call]["id"].as_str().unwrap());
    assert_ne!(ids[0], ids[1]);
    let begun = |name, arguments| json!({"name": name, "arguments": arguments});
    assert_eq!(deltas[3], &call(0, Some(ids[0]), begun("add", "")));
    assert_eq!(deltas[4], &call(0, None, json!({"arguments": "{}"})));
    assert_eq!(deltas[5], &call(1, Some(ids[1]), begun("sub", "{\"a\":1}")));
    assert_eq!(streamed[6]["choices"][0]["finish_reason"], "tool_calls");
    let usage = &streamed[7]["usage"];
    assert_eq!(
        usage["completion_tokens_details"],
        json!({"reasoning_tokens": 1, "accepted_prediction_tokens": 1, "rejected_prediction_tokens": 3})
    );

    assert_eq!(&whole["usage"], usage);
    let choice = &whole["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls");
    assert_eq!(
        choice["message"],
        json!({
            "role": "assistant", "content": "I ask.", "refusal": null,
            "reasoning_content": "hm", "reasoning": "hm",
            "tool_calls": [
                {"id": ids[0], "type": "function", "function": {"name": "add", "arguments": "{}"}},
                {"id": ids[1], "type": "function", "function": {"name": "sub", "arguments": "{\"a\":1}"}},
            ],
        })
    );
}

#[tokio::test]
async fn no_reasoning_if_so_asked() {
    let engine = engine();
    let change = json!({"include_reasoning": false});
    let streamed = chunks(shape(&engine, change.clone()), parts());
    let text = serde_json::to_string(&streamed).unwrap();
    assert!(!text.contains("reasoning"), "{text}");
    let whole = shape(&engine, change).whole(vec![answer()]);
    let message = serde_json::to_value(whole).unwrap()["choices"][0]["message"].clone();
    assert_eq!(message.get("reasoning_content"), None);
}

#[tokio::test]
async fn only_a_stop_token_of_the_clients_is_a_reason() {
    let engine = engine();
    for (ids, reason) in [(json!([]), Value::Null), (json!([9]), json!(9))] {
        let mut answer = answer();
        answer.finished = Some(finished(Some(Matched::Token(9))));
        let shape = shape(&engine, json!({"stop_token_ids": ids}));
        let whole = shape.whole(vec![answer]);
        let choice = serde_json::to_value(whole).unwrap()["choices"][0].clone();
        assert_eq!(choice["stop_reason"], reason);
        // What the client asked to stop at may stand in the middle of a call.
        let expected = match reason {
            Value::Null => "tool_calls",
            _ => "stop",
        };
        assert_eq!(choice["finish_reason"], expected);
        let streamed = ended_chunks(shape, parts(), Some(Matched::Token(9)));
        assert_eq!(streamed[6]["choices"][0]["finish_reason"], expected);
    }
}
