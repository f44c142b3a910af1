//! Bad conversations: their messages, their length, and the end at which the answer begins.

use serde_json::{Value, json};

use super::{Row, long, row};

pub(super) fn of_chats(context: usize) -> Vec<Row> {
    let messages = |messages: Value| json!({"messages": messages});
    let parts = |part: Value| json!({"messages": [{"role": "user", "content": [part]}]});
    let said = |role: &str| json!([{"role": role, "content": "Hello"}]);
    vec![
        row("no conversation", messages(json!(null))),
        row("no message", messages(json!([]))),
        row("a wrong type", messages(json!("Hello"))),
        row("a wrong type", messages(json!([1]))),
        row("an empty message", messages(json!([{}]))),
        row("an unknown role", messages(said("robot"))),
        row("no content", messages(json!([{"role": "user"}]))),
        row(
            "a wrong type",
            messages(json!([{"role": "user", "content": 1}])),
        ),
        row("a part without type", parts(json!({}))),
        row("a part without text", parts(json!({"type": "text"}))),
        row(
            "an image",
            parts(json!({"type": "image_url", "image_url": {"url": "https://example.com/a.png"}})),
        ),
        row(
            "a sound",
            parts(json!({"type": "input_audio", "input_audio": {"data": "", "format": "wav"}})),
        ),
        row(
            "a file",
            parts(json!({"type": "file", "file": {"file_id": "a"}})),
        ),
        row(
            "an older answer with sound",
            messages(json!([{"role": "assistant", "audio": {"id": "a"}}])),
        ),
        row(
            "the older way to call",
            messages(json!([{"role": "assistant", "content": "", "function_call": {"name": "f"}}])),
        ),
        row(
            "a call without name",
            messages(json!([{"role": "assistant", "tool_calls": [{"id": "a"}]}])),
        ),
        row(
            "arguments that are no JSON object",
            messages(
                json!([{"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "{"}}]}]),
            ),
        ),
        long(
            "longer than the context",
            "{\"messages\": [{\"role\": \"user\", \"content\": \"thousands of words\"}], …}",
            json!({"messages": [{"role": "user", "content": "word ".repeat(context + 10)}]}),
        ),
        long(
            "far longer than the context",
            "{\"messages\": [{\"role\": \"user\", \"content\": \"150,000 bytes\"}], …}",
            json!({"messages": [{"role": "user", "content": "x".repeat(150_000)}]}),
        ),
        row("longer than the context", json!({"max_tokens": context})),
        row("no space for an answer", json!({"max_tokens": 0})),
        row(
            "no space for an answer",
            json!({"max_completion_tokens": 0}),
        ),
        row(
            "not in a stream",
            json!({"stream": true, "prompt_logprobs": 1}),
        ),
        row("without logprobs", json!({"top_logprobs": 1})),
        row("too many", json!({"logprobs": true, "top_logprobs": 100})),
        row("a wrong type", json!({"logprobs": 5})),
        row(
            "not the assistant's message",
            json!({"continue_final_message": true, "add_generation_prompt": false}),
        ),
        row(
            "two ends",
            json!({"continue_final_message": true, "add_generation_prompt": true, "messages": said("assistant")}),
        ),
        row(
            "nothing to continue",
            json!({"continue_final_message": true, "messages": [{"role": "assistant"}]}),
        ),
        row("not supported", json!({"add_special_tokens": true})),
        row("not supported", json!({"chat_template": "{{ messages }}"})),
        row(
            "a field of the request",
            json!({"chat_template_kwargs": {"messages": []}}),
        ),
        row("a wrong type", json!({"reasoning_effort": 5})),
        row("no thoughts to bound", json!({"thinking_token_budget": 5})),
        row("not supported", json!({"modalities": ["text", "audio"]})),
        row("not supported", json!({"audio": {"voice": "x"}})),
        row(
            "not supported",
            json!({"prediction": {"type": "content", "content": "a"}}),
        ),
        row("not supported", json!({"web_search_options": {"a": 1}})),
    ]
}
