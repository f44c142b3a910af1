//! Bad parameters of sampling, stopping and streaming, which chats and completions share.

use serde_json::{Map, Value, json};

use super::{Row, long, row};

pub(super) fn of_parameters() -> Vec<Row> {
    let many = |count: usize, item: Value| Value::Array(vec![item; count]);
    let biases: Map<String, Value> = (0..1025).map(|id| (id.to_string(), json!(1))).collect();
    vec![
        row("out of range", json!({"temperature": -1})),
        row("a wrong type", json!({"temperature": "hot"})),
        row("out of range", json!({"top_p": 0})),
        row("out of range", json!({"top_p": 2})),
        row("out of range", json!({"top_k": -2})),
        row("out of range", json!({"min_p": 2})),
        row("out of range", json!({"repetition_penalty": 0})),
        row("out of range", json!({"frequency_penalty": -3})),
        row("out of range", json!({"presence_penalty": 3})),
        row("out of range", json!({"n": 0})),
        row("too many answers", json!({"n": 17})),
        row("a wrong type", json!({"n": -1})),
        row("a wrong type", json!({"n": 1.5})),
        row("a wrong type", json!({"seed": "x"})),
        row("a wrong type", json!({"logit_bias": [1]})),
        row("no id", json!({"logit_bias": {"x": 1}})),
        row(
            "no id of this model",
            json!({"logit_bias": {"10000000": 1}}),
        ),
        row("out of range", json!({"logit_bias": {"5": 200}})),
        long(
            "too many",
            "{\"logit_bias\": {1025 entries}, …}",
            json!({"logit_bias": biases}),
        ),
        row("a wrong type", json!({"max_tokens": -1})),
        row("more than max_tokens", json!({"min_tokens": 100})),
        row("an empty text", json!({"stop": ["a", ""]})),
        row("a wrong type", json!({"stop": 1})),
        row("a wrong type", json!({"stop": ["a", 1]})),
        long(
            "too many",
            "{\"stop\": [65 texts], …}",
            json!({"stop": many(65, json!("a"))}),
        ),
        long(
            "too long",
            "{\"stop\": \"2000 bytes\", …}",
            json!({"stop": "x".repeat(2000)}),
        ),
        row(
            "no id of this model",
            json!({"stop_token_ids": [1, 10_000_000]}),
        ),
        long(
            "too many",
            "{\"stop_token_ids\": [257 ids], …}",
            json!({"stop_token_ids": many(257, json!(1))}),
        ),
        row("a wrong type", json!({"ignore_eos": "yes"})),
        row("a wrong type", json!({"stream": 1})),
        row(
            "without stream",
            json!({"stream_options": {"include_usage": true}}),
        ),
        row(
            "a wrong type",
            json!({"stream": true, "stream_options": {"include_usage": 1}}),
        ),
        row("too many", json!({"prompt_logprobs": 100})),
        row("out of range", json!({"truncate_prompt_tokens": 0})),
        row("a wrong type", json!({"priority": 1.5})),
        long(
            "too long",
            "{\"cache_salt\": \"300 bytes\", …}",
            json!({"cache_salt": "x".repeat(300)}),
        ),
        row("an empty name", json!({"request_id": ""})),
        row("a line break", json!({"request_id": "a\nb"})),
        long(
            "too long",
            "{\"request_id\": \"300 bytes\", …}",
            json!({"request_id": "x".repeat(300)}),
        ),
        row(
            "several wrong types",
            json!({"n": "x", "temperature": "hot", "stop": [[]], "suffix": "x"}),
        ),
        row(
            "several wrong values",
            json!({"n": 0, "temperature": -1, "min_tokens": 100}),
        ),
        row("not supported", json!({"suffix": "end"})),
        row("not supported", json!({"best_of": 3})),
        row("not supported", json!({"use_beam_search": true})),
        row("not supported", json!({"length_penalty": 2})),
        row("not supported", json!({"early_stopping": true})),
        row("not supported", json!({"allowed_token_ids": [1]})),
        row("not supported", json!({"bad_words": ["a"]})),
        row("not supported", json!({"logits_processors": ["a"]})),
        row("not supported", json!({"prompt_embeds": "AAAA"})),
        row("not supported", json!({"mm_processor_kwargs": {"a": 1}})),
        row("not supported", json!({"kv_transfer_params": {"a": 1}})),
        row("not supported", json!({"vllm_xargs": {"a": 1}})),
        row("not supported", json!({"repetition_detection": {"a": 1}})),
    ]
}
