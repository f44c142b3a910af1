//! A client of HTTP/1.1 that shows what was sent: status, headers, JSON, events.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;

use axum::body::Body;
use axum::http::{HeaderMap, Request, Response};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::Value;

use crate::test_server::soon;

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.map_or("", |value| value.to_str().unwrap())
    }
}

/// One connection, which can be asked again.
pub(crate) struct Client(SendRequest<Body>);

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let (sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self(sender)
    }

    pub(crate) async fn send(&mut self, request: Request<Body>) -> Response<Incoming> {
        let response = async {
            self.0.ready().await.unwrap();
            self.0.send_request(request).await.unwrap()
        };
        soon(response).await
    }

    pub(crate) async fn ask(&mut self, request: Request<Body>) -> Answer {
        let (head, mut body) = self.send(request).await.into_parts();
        let mut text = String::new();
        while let Some(piece) = soon(next(&mut body)).await {
            text += &piece;
        }
        Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            text,
        }
    }

    pub(crate) async fn post(&mut self, path: &str, body: &Value) -> Answer {
        self.ask(json(path, body)).await
    }
}

/// The next bytes of a body; `None` at its end, or where it was cut off.
pub(crate) async fn next(body: &mut Incoming) -> Option<String> {
    loop {
        let frame = poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await?;
        if let Ok(bytes) = frame.ok()?.into_data() {
            return Some(String::from_utf8(bytes.to_vec()).unwrap());
        }
    }
}

pub(crate) fn json(path: &str, body: &Value) -> Request<Body> {
    Request::post(path)
        .header("host", "test")
        .header("content-type", "application/json")
        .body(Body::from(body.to_string()))
        .unwrap()
}

pub(crate) fn get(path: &str) -> Request<Body> {
    Request::get(path)
        .header("host", "test")
        .body(Body::empty())
        .unwrap()
}

/// Asks on a connection of its own.
pub(crate) async fn post(address: SocketAddr, path: &str, body: &Value) -> Answer {
    Client::connect(address).await.post(path, body).await
}

/// The same, of which the answer has to be good.
pub(crate) async fn good(address: SocketAddr, path: &str, body: &Value) -> Value {
    let answer = post(address, path, body).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.header("content-type"), "application/json");
    answer.json()
}

/// The chunks of a streamed answer; checks how they are framed.
pub(crate) async fn stream(address: SocketAddr, path: &str, body: &Value) -> Vec<Value> {
    let mut body = body.clone();
    body["stream"] = true.into();
    let answer = post(address, path, &body).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(
        answer.header("content-type"),
        "text/event-stream; charset=utf-8"
    );
    assert_eq!(answer.header("cache-control"), "no-cache");
    chunks(&answer.text)
}

/// The chunks in a stream that ended with `[DONE]`.
pub(crate) fn chunks(text: &str) -> Vec<Value> {
    let events = text
        .strip_suffix("data: [DONE]\n\n")
        .unwrap_or_else(|| panic!("{text}"));
    let events = events.split_terminator("\n\n");
    events
        .map(|event| {
            let data = event
                .strip_prefix("data: ")
                .unwrap_or_else(|| panic!("{event:?}"));
            serde_json::from_str(data).unwrap()
        })
        .collect()
}
