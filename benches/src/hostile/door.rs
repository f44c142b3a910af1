//! A gRPC client that may do what well-behaved ones don't: leave a message unfinished, never read an answer.
//!
//! Bodies are bytes made beforehand and shared, so that an attacker costs the machine as little as it can.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use h2::client::{self, ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Method, Request};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tonic::Code;

pub(crate) const GENERATE: &str = "/maitre.v1.GenerationService/StreamGenerate";
pub(crate) const CHAT: &str = "/maitre.v1.GenerationService/StreamChat";
pub(crate) const TOKENIZE: &str = "/maitre.v1.GenerationService/Tokenize";
pub(crate) const SERVER_INFO: &str = "/maitre.v1.AdminService/GetServerInfo";
pub(crate) const ABORT: &str = "/maitre.v1.GenerationService/Abort";
pub(crate) const HEALTH_CHECK: &str = "/grpc.health.v1.Health/Check";

/// How many bytes of an answer the server may send before this client reads.
pub(crate) const READS: u32 = 1 << 20;
/// None at all.
pub(crate) const NEVER_READS: u32 = 0;

/// A connection; closed with this value.
#[derive(Debug)]
pub(crate) struct Door {
    send: SendRequest<Bytes>,
    driver: JoinHandle<Result<(), h2::Error>>,
}

impl Door {
    pub(crate) async fn open(address: SocketAddr, window: u32) -> Result<Self> {
        let stream = TcpStream::connect(address)
            .await
            .context("opening a connection")?;
        stream.set_nodelay(true)?;
        let (send, connection) = client::Builder::new()
            .initial_window_size(window)
            .initial_connection_window_size(READS.max(1 << 16))
            .enable_push(false)
            .handshake(stream)
            .await
            .context("the HTTP/2 handshake")?;
        let driver = tokio::spawn(connection);
        Ok(Self { send, driver })
    }

    /// A call whose message is complete.
    pub(crate) async fn call(&self, path: &str, message: Bytes) -> Result<Call> {
        self.start(path, message, true).await
    }

    /// A call whose message never ends: `part` is all there will be.
    pub(crate) async fn call_unfinished(&self, path: &str, part: Bytes) -> Result<Call> {
        self.start(path, part, false).await
    }

    async fn start(&self, path: &str, message: Bytes, complete: bool) -> Result<Call> {
        let mut send = self.send.clone().ready().await?;
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("http://localhost{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())?;
        let (response, mut body) = send.send_request(request, false)?;
        if !message.is_empty() || complete {
            body.send_data(message, complete)?;
        }
        Ok(Call { response, body })
    }

    /// Resolves when the connection ends, with the reason in a few words.
    pub(crate) async fn closed(mut self) -> String {
        match (&mut self.driver).await {
            Ok(Err(error)) => broken(&error),
            _ => "connection closed".to_owned(),
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// A call under way; dropping it resets the stream.
#[derive(Debug)]
pub(crate) struct Call {
    response: ResponseFuture,
    body: SendStream<Bytes>,
}

/// How a call ended.
#[derive(Debug)]
pub(crate) struct Answer {
    /// A status code such as `OK`, or what broke.
    pub(crate) status: String,
    /// The body, length prefixes included.
    pub(crate) body: Vec<u8>,
}

impl Call {
    /// Reads the whole answer. A client whose window is closed waits until the server gives up.
    pub(crate) async fn answer(self) -> Answer {
        let mut body = Vec::new();
        // The request stays open as long as the answer is awaited.
        let _open = self.body;
        let read = async {
            let response = self.response.await?;
            if let Some(status) = status_in(response.headers()) {
                return Ok(status);
            }
            let mut stream = response.into_body();
            read(&mut stream, &mut body).await?;
            let trailers = stream.trailers().await?;
            let status = trailers.as_ref().and_then(status_in);
            Ok(status.unwrap_or_else(|| "no status".to_owned()))
        };
        let status = read.await.unwrap_or_else(|error| broken(&error));
        Answer { status, body }
    }

    /// Reads until the first part of the answer is there; the call goes on.
    pub(crate) async fn begun(self) -> Result<(RecvStream, SendStream<Bytes>, Vec<u8>)> {
        let mut stream = self.response.await?.into_body();
        let first = stream.data().await.context("no data")??;
        let _ = stream.flow_control().release_capacity(first.len());
        Ok((stream, self.body, first.to_vec()))
    }

    /// Gives the call up.
    pub(crate) fn reset(mut self) {
        self.body.send_reset(h2::Reason::CANCEL);
    }
}

async fn read(stream: &mut RecvStream, into: &mut Vec<u8>) -> Result<(), h2::Error> {
    while let Some(part) = stream.data().await {
        let part = part?;
        into.extend_from_slice(&part);
        stream.flow_control().release_capacity(part.len())?;
    }
    Ok(())
}

fn status_in(headers: &HeaderMap) -> Option<String> {
    let code = headers.get("grpc-status")?.to_str().ok()?.parse().ok()?;
    Some(name_of(Code::from_i32(code)))
}

/// A code's name as the gRPC specification writes it.
pub(crate) fn name_of(code: Code) -> String {
    let mut name = String::new();
    for letter in format!("{code:?}").chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

fn broken(error: &h2::Error) -> String {
    let reason = error
        .reason()
        .map_or_else(String::new, |reason| format!(" {reason:?}"));
    let what = if error.is_go_away() {
        "GOAWAY"
    } else if error.is_reset() {
        "RST_STREAM"
    } else if error.is_io() {
        "connection lost"
    } else {
        "broken"
    };
    format!("{what}{reason}")
}

/// A message with the prefix that gRPC puts before it: not compressed, and its length.
pub(crate) fn framed(message: &[u8]) -> Bytes {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let mut framed = Vec::with_capacity(message.len() + 5);
    framed.push(0);
    framed.extend_from_slice(&length.to_be_bytes());
    framed.extend_from_slice(message);
    framed.into()
}

/// A pause between tries, so that a busy loop does not flood a listener that refuses.
pub(crate) const RETRY: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_the_specifications_names() {
        assert_eq!(name_of(Code::from_i32(0)), "OK");
        assert_eq!(name_of(Code::from_i32(8)), "RESOURCE_EXHAUSTED");
    }

    #[test]
    fn a_message_has_its_length_in_front() {
        assert_eq!(framed(b"abc")[..], [0, 0, 0, 0, 3, b'a', b'b', b'c']);
    }
}
