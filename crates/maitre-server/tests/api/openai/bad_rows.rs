//! What can be wrong with a request, route by route.

use serde_json::{Map, Value, json};

use super::bad_input_page::MAX_MESSAGE_BYTES;

/// Routes that answer alike, and what can be wrong with a request to them.
pub(super) struct Section {
    pub(super) title: &'static str,
    pub(super) routes: Vec<Route>,
    pub(super) rows: Vec<Row>,
}

pub(super) struct Route {
    pub(super) path: &'static str,
    pub(super) good: Value,
}

/// One thing that is wrong.
pub(super) struct Row {
    pub(super) what: &'static str,
    /// The request as the page shows it.
    pub(super) shown: String,
    pub(super) method: &'static str,
    /// Instead of the route's.
    pub(super) path: Option<&'static str>,
    pub(super) headers: Vec<(&'static str, &'static str)>,
    /// Fields of a good request that are replaced.
    pub(super) change: Value,
    /// The body, if it is not a good request with a change.
    pub(super) body: Option<String>,
}

const JSON: (&str, &str) = ("content-type", "application/json");

fn row(what: &'static str, change: Value) -> Row {
    let shown = change.to_string();
    let shown = match shown.strip_suffix('}') {
        Some("{") => "{…}".to_owned(),
        Some(fields) => format!("{fields}, …}}"),
        None => shown,
    };
    Row {
        what,
        shown,
        method: "POST",
        path: None,
        headers: vec![JSON],
        change,
        body: None,
    }
}

/// The same, of which the page shows something shorter.
fn long(what: &'static str, shown: &str, change: Value) -> Row {
    Row {
        shown: shown.to_owned(),
        ..row(what, change)
    }
}

fn raw(what: &'static str, body: &str) -> Row {
    Row {
        shown: body.to_owned(),
        body: Some(body.to_owned()),
        ..row(what, json!({}))
    }
}

fn headers(what: &'static str, shown: &str, headers: Vec<(&'static str, &'static str)>) -> Row {
    Row {
        shown: shown.to_owned(),
        headers,
        ..row(what, json!({}))
    }
}

fn asked(what: &'static str, method: &'static str, path: Option<&'static str>) -> Row {
    let shown = match path {
        Some(path) => format!("{method} {path}"),
        None => method.to_owned(),
    };
    Row {
        shown,
        method,
        path,
        ..row(what, json!({}))
    }
}

fn chat() -> Value {
    json!({"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 2})
}

fn completion() -> Value {
    json!({"prompt": "Hello", "max_tokens": 2})
}

fn route(path: &'static str, good: Value) -> Route {
    Route { path, good }
}

fn chats() -> Vec<Route> {
    let paths = ["/v1/chat/completions", "/v1/chat/completions/render"];
    paths.map(|path| route(path, chat())).into()
}

fn completions() -> Vec<Route> {
    let paths = ["/v1/completions", "/v1/completions/render"];
    paths.map(|path| route(path, completion())).into()
}

fn with_messages() -> Vec<Route> {
    let mut routes = chats();
    routes.extend(completions());
    routes.push(route("/tokenize", json!({"prompt": "Hello"})));
    routes.push(route("/detokenize", json!({"tokens": [1]})));
    routes
}

fn both() -> Vec<Route> {
    let mut routes = chats();
    routes.extend(completions());
    routes
}

/// Everything that can be wrong, for a model with so many tokens of context.
pub(super) fn sections(context: usize) -> Vec<Section> {
    vec![
        Section {
            title: "Every route that takes a message",
            routes: with_messages(),
            rows: of_messages(),
        },
        Section {
            title: "Parameters of both",
            routes: both(),
            rows: of_parameters(),
        },
        Section {
            title: "The form of an answer",
            routes: both(),
            rows: of_forms(),
        },
        Section {
            title: "Conversations",
            routes: chats(),
            rows: of_chats(context),
        },
        Section {
            title: "Tools",
            routes: chats(),
            rows: of_tools(),
        },
        Section {
            title: "Completions",
            routes: completions(),
            rows: of_completions(context),
        },
        Section {
            title: "Texts into tokens",
            routes: vec![route("/tokenize", json!({"prompt": "Hello"}))],
            rows: of_tokenize(),
        },
        Section {
            title: "Tokens into texts",
            routes: vec![route("/detokenize", json!({"tokens": [1]}))],
            rows: of_detokenize(),
        },
        Section {
            title: "Everything that is asked with GET",
            routes: [
                "/v1/models",
                "/version",
                "/openapi.json",
                "/metrics",
                "/health",
                "/health/live",
                "/health/ready",
            ]
            .map(|path| route(path, json!({})))
            .into(),
            rows: vec![asked("a wrong method", "POST", None)],
        },
        Section {
            title: "Other paths",
            routes: vec![route("/v1/nothing", json!({}))],
            rows: vec![
                asked("no such path", "GET", None),
                asked("no such path", "POST", Some("/v1/embeddings")),
                asked("a slash too many", "POST", Some("/v1/completions/")),
                asked("no such model", "GET", Some("/v1/models/gpt-7")),
                asked("a wrong method", "DELETE", Some("/v1/models/gpt-7")),
                asked("a wrong method", "DELETE", Some("/ping")),
            ],
        },
    ]
}

fn of_messages() -> Vec<Row> {
    vec![
        Row {
            shown: "(nothing)".to_owned(),
            ..raw("no body", "")
        },
        raw("JSON that breaks off", "{\"model\": "),
        raw("no JSON", "{model: 1}"),
        raw("a list", "[]"),
        raw("a text", "\"Hello\""),
        raw("two objects", "{} {}"),
        raw(
            "a field twice",
            "{\"model\": \"bundled\", \"model\": \"bundled\"}",
        ),
        row("a model that is not served", json!({"model": "gpt-7"})),
        row("a model that is no name", json!({"model": 7})),
        headers(
            "another content type",
            "content-type: text/plain",
            vec![("content-type", "text/plain")],
        ),
        headers(
            "a form",
            "content-type: multipart/form-data",
            vec![("content-type", "multipart/form-data; boundary=x")],
        ),
        headers("no content type", "no content-type", vec![]),
        headers(
            "a compressed body",
            "content-encoding: gzip",
            vec![JSON, ("content-encoding", "gzip")],
        ),
        Row {
            shown: "a body of more bytes than are taken".to_owned(),
            body: Some(" ".repeat(MAX_MESSAGE_BYTES + 1)),
            ..row("too large", json!({}))
        },
        asked("a wrong method", "GET", None),
        asked("a wrong method", "PUT", None),
    ]
}

fn of_parameters() -> Vec<Row> {
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

fn of_forms() -> Vec<Row> {
    let format = |format: Value| json!({"response_format": format});
    let schema = |schema: Value| json!({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}});
    let outputs = |outputs: Value| json!({"structured_outputs": outputs});
    vec![
        row("a wrong type", format(json!("json_object"))),
        row("no type", format(json!({}))),
        row("an unknown type", format(json!({"type": "xml"}))),
        row("no schema", format(json!({"type": "json_schema"}))),
        row("a schema of a wrong type", schema(json!("object"))),
        row(
            "no schema that can be met",
            schema(json!({"type": "nothing"})),
        ),
        row(
            "a bad pattern",
            schema(json!({"type": "string", "pattern": "("})),
        ),
        row(
            "a keyword that is not supported",
            schema(json!({"type": "array", "uniqueItems": true})),
        ),
        row(
            "a pattern that nothing meets",
            schema(json!({"type": "string", "pattern": "[^\\s\\S]"})),
        ),
        row(
            "a pattern that nothing meets",
            outputs(json!({"grammar": "start: /[^\\s\\S]/"})),
        ),
        row("no structures", format(json!({"type": "structural_tag"}))),
        row("a bad regex", outputs(json!({"regex": "("}))),
        row("a regex of nothing", outputs(json!({"regex": ""}))),
        row(
            "a regex that nothing meets",
            outputs(json!({"regex": "[^\\s\\S]"})),
        ),
        row("nothing to choose from", outputs(json!({"choice": []}))),
        row("a bad grammar", outputs(json!({"grammar": "root ::= ("}))),
        row("a schema that is no JSON", outputs(json!({"json": "{"}))),
        row("no tags", outputs(json!({"structural_tag": "no JSON"}))),
        row("no form", outputs(json!({}))),
        row("two forms", outputs(json!({"regex": "a", "choice": ["a"]}))),
        row(
            "not supported",
            outputs(json!({"json": {}, "whitespace_pattern": " ?"})),
        ),
        row(
            "two forms",
            json!({"guided_regex": "a", "guided_choice": ["a"]}),
        ),
        row(
            "two forms",
            json!({"guided_json": {}, "response_format": {"type": "json_object"}}),
        ),
        row("a bad regex", json!({"guided_regex": "("})),
        row("a wrong type", json!({"guided_choice": "a"})),
        row("not supported", json!({"guided_whitespace_pattern": " ?"})),
    ]
}

fn of_chats(context: usize) -> Vec<Row> {
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

fn of_tools() -> Vec<Row> {
    let function = |function: Value| json!({"type": "function", "function": function});
    let f = || function(json!({"name": "f"}));
    let tools = |tools: Value| json!({"tools": tools});
    let chosen = |choice: Value| json!({"tools": [f()], "tool_choice": choice});
    let allowed =
        |allowed: Value| chosen(json!({"type": "allowed_tools", "allowed_tools": allowed}));
    vec![
        row("a wrong type", tools(json!({}))),
        row("no type", tools(json!([{}]))),
        row("another type", tools(json!([{"type": "web_search"}]))),
        row("no name", tools(json!([function(json!({}))]))),
        row(
            "a bad name",
            tools(json!([function(json!({"name": "f g"}))])),
        ),
        row("one name twice", tools(json!([f(), f()]))),
        row(
            "no schema",
            tools(json!([function(json!({"name": "f", "parameters": 1}))])),
        ),
        row(
            "a schema of something else",
            tools(json!([function(
                json!({"name": "f", "parameters": {"type": "array"}})
            )])),
        ),
        row(
            "a wrong type",
            tools(json!([function(json!({"name": "f", "description": 1}))])),
        ),
        row(
            "strict, with a keyword that is not supported",
            json!({"tools": [function(json!({"name": "f", "strict": true, "parameters":
                {"type": "object", "properties": {"a": {"type": "array", "uniqueItems": true}}}}))], "tool_choice": "required"}),
        ),
        row("an unknown word", chosen(json!("often"))),
        row("a wrong type", chosen(json!(7))),
        row("no tools", json!({"tool_choice": "required"})),
        row("no such tool", chosen(function(json!({"name": "g"})))),
        row("no name", chosen(json!({"type": "function"}))),
        row(
            "an unknown type",
            chosen(json!({"type": "custom", "custom": {"name": "f"}})),
        ),
        row(
            "an unknown mode",
            allowed(json!({"mode": "none", "tools": [f()]})),
        ),
        row(
            "no tools that are allowed",
            allowed(json!({"mode": "auto", "tools": []})),
        ),
        row(
            "a tool that there is not",
            allowed(json!({"mode": "auto", "tools": [function(json!({"name": "g"}))]})),
        ),
        row(
            "a form and a call",
            json!({"tools": [f()], "tool_choice": "required", "response_format": {"type": "json_object"}}),
        ),
        row(
            "a wrong type",
            json!({"tools": [f()], "parallel_tool_calls": "no"}),
        ),
        row("the older way", json!({"functions": [{"name": "f"}]})),
        row("the older way", json!({"function_call": "auto"})),
    ]
}

fn of_completions(context: usize) -> Vec<Row> {
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

fn of_tokenize() -> Vec<Row> {
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

fn of_detokenize() -> Vec<Row> {
    vec![
        row("nothing", json!({"tokens": null})),
        row("a wrong type", json!({"tokens": "a"})),
        row("a wrong type", json!({"tokens": [1, "a"]})),
        row("no id of this model", json!({"tokens": [1, 10_000_000]})),
    ]
}
