//! The client: chats at once, each on a connection of its own, and their events counted.
//!
//! It writes its requests by hand and only looks for the ends of events, so that on a machine that it shares with
//! the server it takes little of what is measured.

use std::net::SocketAddr;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use futures_util::future::try_join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Chats of one length.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    server: SocketAddr,
    streams: usize,
    tokens: usize,
    /// Further fields of the request's JSON, each behind a comma.
    extra: &'static str,
}

/// What came back.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    /// Answers that were complete.
    pub answered: usize,
    /// Refusals with a Retry-After.
    pub refused: usize,
    /// Server-sent events.
    pub events: usize,
    /// Seconds from the first request to the last answer.
    pub seconds: f64,
}

impl Load {
    pub(super) fn new(server: SocketAddr, streams: usize, tokens: usize) -> Self {
        Self {
            server,
            streams,
            tokens,
            extra: "",
        }
    }

    pub(super) fn with(self, extra: &'static str) -> Self {
        Self { extra, ..self }
    }

    /// With answers of `tokens` tokens.
    pub(super) fn of(self, tokens: usize) -> Self {
        Self { tokens, ..self }
    }

    /// All chats at once, to their ends.
    pub(super) async fn run(&self) -> Result<Counts> {
        let began = Instant::now();
        let chats = (0..self.streams).map(|number| self.chat(number));
        let mut total = Counts::default();
        for chat in try_join_all(chats).await? {
            total.answered += chat.answered;
            total.refused += chat.refused;
            total.events += chat.events;
        }
        total.seconds = began.elapsed().as_secs_f64();
        Ok(total)
    }

    async fn chat(&self, number: usize) -> Result<Counts> {
        let Self { tokens, extra, .. } = self;
        let body = format!(
            r#"{{"stream":true,"ignore_eos":true,"max_tokens":{tokens},"seed":{number}{extra},"messages":[{{"role":"user","content":"Tell me about the number {number}."}}]}}"#
        );
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let mut stream = TcpStream::connect(self.server).await?;
        stream.set_nodelay(true)?;
        stream.write_all((head + &body).as_bytes()).await?;
        let mut answer = Answer::default();
        let mut buffer = vec![0; 16 << 10];
        loop {
            match stream.read(&mut buffer).await? {
                0 => return answer.end(),
                read => answer.read(buffer.get(..read).unwrap_or_default()),
            }
        }
    }
}

/// Bytes of the head that are looked at, and of the end.
const KEPT: usize = 1024;
const END_OF_EVENT: u8 = b'\n';
const LAST_EVENT: &str = "data: [DONE]";

/// One answer as it is read.
#[derive(Debug, Default)]
struct Answer {
    head: Vec<u8>,
    tail: Vec<u8>,
    events: usize,
    /// Whether the last byte ended a line: JSON holds no raw one, so an empty line ends an event.
    line_ended: bool,
}

impl Answer {
    fn read(&mut self, bytes: &[u8]) {
        let missing = KEPT.saturating_sub(self.head.len()).min(bytes.len());
        self.head.extend_from_slice(&bytes[..missing]);
        for &byte in bytes {
            let ends = byte == END_OF_EVENT;
            self.events += usize::from(ends && self.line_ended);
            self.line_ended = ends;
        }
        self.tail
            .extend_from_slice(&bytes[bytes.len().saturating_sub(KEPT)..]);
        let surplus = self.tail.len().saturating_sub(KEPT);
        self.tail.drain(..surplus);
    }

    fn end(self) -> Result<Counts> {
        let head = String::from_utf8_lossy(&self.head);
        let status = head
            .split_whitespace()
            .nth(1)
            .context("an empty answer to a chat")?;
        let is_refused = matches!(status, "429" | "503")
            && head
                .lines()
                .any(|line| line.to_ascii_lowercase().starts_with("retry-after:"));
        if is_refused {
            return Ok(Counts {
                refused: 1,
                ..Counts::default()
            });
        }
        if status != "200" {
            bail!("a chat was answered with {head}");
        }
        let tail = String::from_utf8_lossy(&self.tail);
        if !tail.contains(LAST_EVENT) {
            bail!("a chat ended without {LAST_EVENT}: {tail}");
        }
        Ok(Counts {
            answered: 1,
            events: self.events,
            ..Counts::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_counted_however_the_answer_is_cut() {
        let whole = b"HTTP/1.1 200 OK\r\n\r\n5\r\ndata: {\"a\":\"\\n\\n\"}\n\n\r\n6\r\ndata: [DONE]\n\n\r\n0\r\n\r\n";
        for cut in 1..whole.len() {
            let mut answer = Answer::default();
            whole.chunks(cut).for_each(|piece| answer.read(piece));
            assert_eq!(answer.end().unwrap().events, 2, "{cut}");
        }
    }

    #[test]
    fn an_answer_that_is_no_answer_is_told() {
        let end = |bytes: &[u8]| {
            let mut answer = Answer::default();
            answer.read(bytes);
            answer.end()
        };
        let busy = end(b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 2\r\n\r\n").unwrap();
        assert_eq!((busy.answered, busy.refused), (0, 1));
        for (bytes, expected) in [
            (&b""[..], "empty"),
            (b"HTTP/1.1 429 Too Many Requests\r\n\r\n", "429"),
            (b"HTTP/1.1 200 OK\r\n\r\ndata: {}\n\n", "[DONE]"),
        ] {
            let error = end(bytes).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
