//! What can be wrong with a request, route by route.

mod conversations;
mod forms;
mod parameters;
mod prompts;
mod tools;

use conversations::of_chats;
use forms::of_forms;
use parameters::of_parameters;
use prompts::{of_completions, of_detokenize, of_tokenize};
use serde_json::{Value, json};
use tools::of_tools;

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
