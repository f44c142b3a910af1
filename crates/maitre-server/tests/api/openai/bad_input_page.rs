//! The page of bad input, `docs/src/guide/openai-errors.md`: every row is sent to a server, and what the page says is
//! what came back. `UPDATE_EXPECT=1` writes the page anew.

use axum::body::Body;
use axum::http::Request;
use expect_test::expect_file;
use serde_json::{Value, json};

use super::bad_rows::{Row, Section, sections};
use super::client::{Answer, Client};
use crate::test_server::{TestServer, engine};

/// What the server of the page takes; small, so that a row can be larger.
pub(super) const MAX_MESSAGE_BYTES: usize = 200_000;

const HEAD: &str = "\
# What a bad request is answered

Each line was sent to a server with the bundled model, and a test sends it again: status, `code`, `param` and `message` of the answer are
those that a client gets ([the shape of a failure](openai.md#a-refused-request)). Numbers such as the context's length are the bundled
model's. `…` stands for the rest of a request that is fine.

Types are checked first: where a field has the wrong type, the answer lists all fields that have one (of each the first mistake in it, and at most
16), and the fields that are not supported. Where all types are right, it lists everything else that is wrong. `param` and
`code` are of the field that is listed first. What depends on the server's state rather than on the request (429, 503 …) is in the table of
[statuses](openai.md#a-refused-request).
";

#[tokio::test(flavor = "multi_thread")]
async fn every_row_of_the_page_is_what_the_server_says() {
    let change = |server: maitre_server::Server| server.max_message_bytes(MAX_MESSAGE_BYTES);
    let served = TestServer::with(engine(), change).await;
    let context = served.engine.info().limits.max_model_len;
    let (mut page, mut differ) = (HEAD.to_owned(), Vec::new());
    for Section {
        title,
        routes,
        rows,
    } in sections(context)
    {
        let shown: Vec<String> = routes.iter().map(|it| format!("`{}`", it.path)).collect();
        page += &format!("\n## {title}\n\n{}\n\n", shown.join(", "));
        page += "| what is wrong | request | status | `code` | `param` | `message` |\n|---|---|---|---|---|---|\n";
        for row in &rows {
            let mut told: Option<String> = None;
            for route in &routes {
                let request = row.request(route.path, &route.good);
                let answer = Client::connect(served.http).await.ask(request).await;
                let line = line(row, &answer, route.path, &mut differ);
                let first = told.get_or_insert_with(|| line.clone());
                if *first != line {
                    differ.push(format!("{}\n  {first}  {line}", route.path));
                }
            }
            page += &told.unwrap_or_default();
        }
    }
    assert!(
        differ.is_empty(),
        "routes of one section differ: {}",
        differ.join("")
    );
    served.until_empty().await;
    expect_file!["../../../../../docs/src/guide/openai-errors.md"].assert_eq(&page);
}

fn line(row: &Row, answer: &Answer, path: &str, differ: &mut Vec<String>) -> String {
    if !(400..500).contains(&answer.status) {
        differ.push(format!(
            "{path} {} is {}: {}
",
            row.shown, answer.status, answer.text
        ));
        return String::new();
    }
    assert!(!answer.header("x-request-id").is_empty(), "{path}");
    let error = answer.json()["error"].clone();
    let field = |name: &str| match &error[name] {
        Value::String(text) => cell(&text.replacen(path, "PATH", 1)),
        Value::Null => String::new(),
        other => panic!("{other}"),
    };
    let message = field("message");
    for leak in LEAKS {
        if message.contains(leak) {
            differ.push(format!("{leak:?} leaks: {message}\n"));
        }
    }
    format!(
        "| {} | {} | {} | {} | {} | {} |\n",
        row.what,
        cell(&row.shown),
        answer.status,
        field("code"),
        field("param"),
        message
    )
}

/// Words of libraries and of this program's own code that say nothing to a client.
const LEAKS: [&str; 9] = [
    "u32",
    "i64",
    "f32",
    "usize",
    "EOF",
    "struct ",
    "serde",
    "Regex is",
    "expected value",
];

/// A text as code in a table.
fn cell(text: &str) -> String {
    let text = text.replace('|', "\\|").replace('\n', " ");
    match text.contains('`') {
        true => format!("`` {text} ``"),
        false => format!("`{text}`"),
    }
}

impl Row {
    fn request(&self, path: &str, good: &Value) -> Request<Body> {
        let body = match &self.body {
            Some(raw) => raw.clone(),
            None => {
                let mut body = good.clone();
                let fields = body.as_object_mut().unwrap();
                fields.extend(self.change.as_object().unwrap().clone());
                body.to_string()
            }
        };
        let path = self.path.unwrap_or(path);
        let mut request = Request::builder()
            .method(self.method)
            .uri(path)
            .header("host", "test");
        for (name, value) in &self.headers {
            request = request.header(*name, *value);
        }
        request.body(Body::from(body)).unwrap()
    }
}

/// Fields that older vLLM clients send for themselves are not errors.
#[tokio::test(flavor = "multi_thread")]
async fn fields_that_are_not_known_are_ignored() {
    let served = TestServer::open().await;
    let body = json!({"prompt": "Hello", "max_tokens": 1, "guided_zzz": 1, "guided_decoding_backend": "x", "user": "me"});
    let answer = super::client::post(served.http, "/v1/completions", &body).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
}
