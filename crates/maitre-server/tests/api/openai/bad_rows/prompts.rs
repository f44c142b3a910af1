//! Bad prompts that are texts or ids: to complete, to turn into tokens, to turn into texts.

use serde_json::json;

use super::{Row, long, row};

pub(super) fn of_completions(context: usize) -> Vec<Row> {
    vec![
        row("no prompt", json!({"prompt": null})),
        row("an empty prompt", json!({"prompt": ""})),
        row("no prompt", json!({"prompt": []})),
        row("an empty prompt", json!({"prompt": ["a", ""]})),
        row("a wrong type", json!({"prompt": 5})),
        row("ids and texts", json!({"prompt": [1, "a"]})),
        row("no id", json!({"prompt": [-1]})),
        row("no id of this model", json!({"prompt": [1, 10_000_000]})),
        row(
            "no id of this model",
            json!({"prompt": [[1], [2, 10_000_000]]}),
        ),
        long(
            "too many",
            "{\"prompt\": [1025 prompts], …}",
            json!({"prompt": vec!["a"; 1025]}),
        ),
        long(
            "longer than the context",
            "{\"prompt\": \"thousands of words\", …}",
            json!({"prompt": "word ".repeat(context + 10)}),
        ),
        long(
            "far longer than the context",
            "{\"prompt\": \"150,000 bytes\", …}",
            json!({"prompt": "x".repeat(150_000)}),
        ),
        row("longer than the context", json!({"max_tokens": context})),
        row(
            "not in a stream",
            json!({"stream": true, "prompt_logprobs": 1}),
        ),
        row("too many", json!({"logprobs": 100})),
        row("a wrong type", json!({"logprobs": true})),
        row("a wrong type", json!({"echo": "yes"})),
        row("not supported", json!({"thinking_token_budget": 5})),
    ]
}

pub(super) fn of_tokenize() -> Vec<Row> {
    let said = json!([{"role": "user", "content": "Hello"}]);
    vec![
        row("nothing", json!({"prompt": null})),
        row("a wrong type", json!({"prompt": ["a"]})),
        row("two things", json!({"messages": said.clone()})),
        row("no message", json!({"prompt": null, "messages": []})),
        row(
            "a field of the request",
            json!({"prompt": null, "messages": said.clone(), "chat_template_kwargs": {"tools": []}}),
        ),
        row(
            "an image",
            json!({"prompt": null, "messages": [{"role": "user", "content": [{"type": "image_url"}]}]}),
        ),
        row(
            "two ends",
            json!({"prompt": null, "messages": said, "continue_final_message": true, "add_generation_prompt": true}),
        ),
        row(
            "not the assistant's message",
            json!({"prompt": null, "messages": [{"role": "user", "content": "a"}], "continue_final_message": true}),
        ),
    ]
}

pub(super) fn of_detokenize() -> Vec<Row> {
    vec![
        row("nothing", json!({"tokens": null})),
        row("a wrong type", json!({"tokens": "a"})),
        row("a wrong type", json!({"tokens": [1, "a"]})),
        row("no id of this model", json!({"tokens": [1, 10_000_000]})),
    ]
}
