//! A small model directory behind the three addresses of the Hub that a download uses:
//! `/api/models/ORG/NAME/revision/REV`, `/api/models/ORG/NAME/tree/REV` and
//! `/ORG/NAME/resolve/REV/FILE`. It can break on purpose and remembers what it was asked.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::stream;
use serde_json::json;

/// The commit `main` points to at first.
pub(crate) const COMMIT: &str = "00000000000000000000000000000000000000aa";

/// What goes wrong with `model.safetensors`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// No byte from this offset on ever arrives.
    EndsAt(usize),
    /// Every connection breaks after this many bytes.
    SendsAtMost(usize),
    /// Whatever range is asked for, the whole file comes.
    IgnoresRanges,
    /// Both.
    IgnoresRangesAndEndsAt(usize),
}

struct Hub {
    files: BTreeMap<String, Vec<u8>>,
    commit: String,
    fault: Fault,
    outage: Outage,
    requests: Vec<String>,
    authorizations: Vec<Option<String>>,
}

/// What goes wrong with every request of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outage {
    None,
    /// No question is answered but with this status and error code.
    Refuses(u16, &'static str),
    /// Questions are answered, files are not.
    RefusesFiles(u16, &'static str),
    /// A page of something between here and the Hub.
    Page,
    /// Connections are taken, and nothing comes.
    Silent,
}

type Shared = Arc<Mutex<Hub>>;

pub(crate) struct FakeHub {
    address: String,
    hub: Shared,
}

impl FakeHub {
    pub(crate) async fn start(files: &[(&str, Vec<u8>)]) -> Self {
        let files = files
            .iter()
            .map(|(name, bytes)| ((*name).to_string(), bytes.clone()));
        let hub = Arc::new(Mutex::new(Hub {
            files: files.collect(),
            commit: COMMIT.to_string(),
            fault: Fault::None,
            outage: Outage::None,
            requests: Vec::new(),
            authorizations: Vec::new(),
        }));
        let router = Router::new()
            .route(
                "/api/models/{org}/{name}/revision/{revision}",
                get(revision),
            )
            .route("/api/models/{org}/{name}/tree/{revision}", get(tree))
            .route(
                "/{org}/{name}/resolve/{revision}/{*file}",
                get(resolve).head(resolve),
            )
            .layer(middleware::from_fn_with_state(hub.clone(), outage))
            .with_state(hub.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, hub }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn file(&self, name: &str) -> Vec<u8> {
        self.hub.lock().unwrap().files[name].clone()
    }

    pub(crate) fn set_fault(&self, fault: Fault) {
        self.hub.lock().unwrap().fault = fault;
    }

    pub(crate) fn set_outage(&self, outage: Outage) {
        self.hub.lock().unwrap().outage = outage;
    }

    /// The `Authorization` header of every request.
    pub(crate) fn authorizations(&self) -> Vec<Option<String>> {
        self.hub.lock().unwrap().authorizations.clone()
    }

    pub(crate) fn remove(&self, name: &str) {
        self.hub.lock().unwrap().files.remove(name);
    }

    /// Changes a file in a new commit on `main`.
    pub(crate) fn commit(&self, name: &str, bytes: Vec<u8>) {
        let mut hub = self.hub.lock().unwrap();
        hub.files.insert(name.to_string(), bytes);
        hub.commit = format!("{:040x}", 0xbb);
    }

    pub(crate) fn forget_requests(&self) {
        self.hub.lock().unwrap().requests.clear();
    }

    /// Every request: `METHOD what`.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.hub.lock().unwrap().requests.clone()
    }

    /// The file requests that carry bytes: `FILE` or `FILE RANGE`.
    pub(crate) fn downloads(&self) -> Vec<String> {
        let requests = self.requests().into_iter();
        requests
            .filter_map(|line| line.strip_prefix("GET ").map(str::to_string))
            .collect()
    }
}

async fn outage(State(hub): State<Shared>, request: Request, next: Next) -> Response {
    let is_file = request.uri().path().contains("/resolve/");
    let outage = {
        let mut hub = hub.lock().unwrap();
        let authorization = request.headers().get(header::AUTHORIZATION);
        let authorization = authorization.map(|value| value.to_str().unwrap().to_owned());
        hub.authorizations.push(authorization);
        hub.outage
    };
    let status = |status| StatusCode::from_u16(status).unwrap();
    match outage {
        Outage::RefusesFiles(code, reason) if is_file => refusal(status(code), reason),
        Outage::None | Outage::RefusesFiles(..) => next.run(request).await,
        Outage::Refuses(code, reason) => refusal(status(code), reason),
        Outage::Page => "<html>log in first</html>".into_response(),
        Outage::Silent => std::future::pending().await,
    }
}

fn refusal(status: StatusCode, code: &str) -> Response {
    (status, [("x-error-code", code)], "{\"error\":\"refused\"}").into_response()
}

async fn revision(
    State(hub): State<Shared>,
    Path((org, name, revision)): Path<(String, String, String)>,
) -> Response {
    let mut hub = hub.lock().unwrap();
    hub.requests.push(format!("INFO {revision}"));
    match (org.as_str(), name.as_str()) {
        ("tiny", "model") | ("Qwen", "Qwen3-0.6B-GGUF") if revision == "main" => {
            json!({"id": "tiny/model", "sha": hub.commit})
                .to_string()
                .into_response()
        }
        ("tiny", "model") => refusal(StatusCode::NOT_FOUND, "RevisionNotFound"),
        ("tiny", "gated") => refusal(StatusCode::FORBIDDEN, "GatedRepo"),
        ("tiny", "private") => refusal(StatusCode::UNAUTHORIZED, "RepoNotFound"),
        ("tiny", "broken") => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        _ => refusal(StatusCode::NOT_FOUND, "RepoNotFound"),
    }
}

async fn tree(State(hub): State<Shared>) -> Response {
    let mut hub = hub.lock().unwrap();
    hub.requests.push("TREE".to_string());
    let mut entries = vec![json!({"type": "directory", "oid": "d0", "path": "onnx", "size": 0})];
    entries.extend(hub.files.iter().map(|(path, bytes)| {
        json!({"type": "file", "oid": id_of(bytes), "path": path, "size": bytes.len()})
    }));
    serde_json::Value::from(entries).to_string().into_response()
}

async fn resolve(
    State(hub): State<Shared>,
    Path((_, _, _, name)): Path<(String, String, String, String)>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    let mut hub = hub.lock().unwrap();
    let range = headers
        .get(header::RANGE)
        .map(|range| range.to_str().unwrap().to_string());
    let shown = range
        .as_ref()
        .map(|range| format!(" {range}"))
        .unwrap_or_default();
    hub.requests.push(format!("{method} {name}{shown}"));
    let Some(bytes) = hub.files.get(&name).cloned() else {
        return refusal(StatusCode::NOT_FOUND, "EntryNotFound");
    };
    let fault = if name == "model.safetensors" {
        hub.fault
    } else {
        Fault::None
    };
    let ignores_ranges = matches!(
        fault,
        Fault::IgnoresRanges | Fault::IgnoresRangesAndEndsAt(_)
    );
    let from = range
        .filter(|_| !ignores_ranges)
        .map(|range| first_byte(&range));
    let start = from.unwrap_or(0);
    let sent = match fault {
        Fault::None | Fault::IgnoresRanges => bytes.len(),
        Fault::EndsAt(end) | Fault::IgnoresRangesAndEndsAt(end) => end.max(start),
        Fault::SendsAtMost(count) => (start + count).min(bytes.len()),
    };
    let status = if from.is_some() {
        StatusCode::PARTIAL_CONTENT
    } else {
        StatusCode::OK
    };
    let head = Response::builder()
        .status(status)
        .header(header::ETAG, format!("\"{}\"", id_of(&bytes)))
        .header("x-repo-commit", &hub.commit)
        .header(header::CONTENT_LENGTH, bytes.len() - start);
    let body = if method == Method::HEAD {
        Body::empty()
    } else if sent == bytes.len() {
        Body::from(bytes[start..].to_vec())
    } else {
        breaking(bytes[start..sent].to_vec())
    };
    head.body(body).unwrap()
}

/// Sends these bytes and then breaks the connection. The pause between lets them leave first.
fn breaking(bytes: Vec<u8>) -> Body {
    Body::from_stream(stream::unfold(Some(bytes), |bytes| async {
        match bytes {
            Some(bytes) if !bytes.is_empty() => Some((Ok(bytes), Some(Vec::new()))),
            _ => {
                tokio::task::yield_now().await;
                Some((Err(std::io::Error::other("broken on purpose")), None))
            }
        }
    }))
}

fn first_byte(range: &str) -> usize {
    range
        .trim_start_matches("bytes=")
        .split('-')
        .next()
        .unwrap()
        .parse()
        .unwrap()
}

/// A name that changes with the content, as a git object id does.
fn id_of(bytes: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    format!("{:040x}", hasher.finish())
}
