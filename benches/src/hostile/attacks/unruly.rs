//! Clients of the HTTP API as networks and programs make them: they cancel, stall, vanish in the middle of a frame, and
//! send what is no request. Each one does all of it in turn, and now and then waits for a whole answer.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, bail};
use futures_util::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::super::door::RETRY;
use super::{Arena, Attack, Attacking};
use crate::texts::random;

pub(super) const ATTACK: Attack = Attack::new(
    "unruly-clients",
    "32 HTTP clients that cancel, stall, disconnect within a frame, send garbage, or wait for their answers",
    |arena| clients(arena, &CONDUCTS),
)
.beside(|arena| clients(arena, &[Conduct::Whole]));

const CLIENTS: u64 = 32;
/// Between two requests of a client.
const PAUSE: Duration = Duration::from_millis(50);
/// A client that waits for an answer gives up after this.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a client does with a connection.
#[derive(Debug, Clone, Copy)]
enum Conduct {
    Whole,
    Cancelled,
    Stalled,
    CutRequest,
    Garbage,
    BadRequest,
}

const CONDUCTS: [Conduct; 6] = [
    Conduct::Whole,
    Conduct::Cancelled,
    Conduct::Stalled,
    Conduct::CutRequest,
    Conduct::Garbage,
    Conduct::BadRequest,
];

/// Questions, some of which ask for a form, several answers, or a plain completion.
const BODIES: [(&str, &str); 5] = [
    (
        "/v1/chat/completions",
        r#"{"messages":[{"role":"user","content":"Tell me of the sea."}],"stream":true,"max_tokens":64}"#,
    ),
    (
        "/v1/chat/completions",
        r#"{"messages":[{"role":"user","content":"Fill in the form."}],"stream":true,"max_tokens":64,
            "response_format":{"type":"json_schema","json_schema":{"name":"form","schema":{"type":"object",
            "properties":{"name":{"type":"string"},"age":{"type":"integer"}},"required":["name","age"]}}}}"#,
    ),
    (
        "/v1/completions",
        r#"{"prompt":["Once upon a time","One day"],"n":2,"stream":true,"max_tokens":48,"logprobs":2}"#,
    ),
    (
        "/v1/chat/completions",
        r#"{"messages":[{"role":"user","content":"Will it rain?"}],"max_tokens":32,"tool_choice":"required",
            "tools":[{"type":"function","function":{"name":"weather","parameters":{"type":"object",
            "properties":{"city":{"enum":["Oslo","Bergen"]}},"required":["city"]}}}]}"#,
    ),
    (
        "/tokenize",
        r#"{"messages":[{"role":"user","content":"How many tokens?"}]}"#,
    ),
];

/// Well-formed HTTP with bodies that can't be served.
const BAD_BODIES: [&str; 4] = [
    "{",
    r#"{"messages": 7}"#,
    r#"{"messages":[{"role":"user","content":"Hi"}],"response_format":{"type":"json_schema","json_schema":{"name":"f","schema":{"type":"dragon"}}}}"#,
    r#"{"messages":[{"role":"user","content":"Hi"}],"max_tokens":99999999}"#,
];

fn clients(arena: Arena, conducts: &'static [Conduct]) -> Attacking {
    Box::pin(async move {
        join_all((0..CLIENTS).map(|client| go_on(arena.clone(), client, conducts))).await;
        Ok(())
    })
}

async fn go_on(arena: Arena, client: u64, conducts: &[Conduct]) {
    let mut random = random(client);
    let mut next = move || random.next().unwrap_or_default();
    loop {
        let conduct = conducts[next() as usize % conducts.len()];
        let done = act(arena.target.http, conduct, &mut next).await;
        let how = match done {
            Ok(how) => how.to_owned(),
            Err(_lost) => "connection lost".to_owned(),
        };
        arena.tally.count(format!("{conduct:?}: {how}"));
        sleep(if how == "connection lost" {
            RETRY
        } else {
            PAUSE
        })
        .await;
    }
}

async fn act(
    server: SocketAddr,
    conduct: Conduct,
    next: &mut impl FnMut() -> u64,
) -> Result<&'static str> {
    let mut stream = TcpStream::connect(server).await?;
    let (path, body) = BODIES[next() as usize % BODIES.len()];
    let request = post(path, body);
    match conduct {
        Conduct::Whole => {
            stream.write_all(&request).await?;
            whole(&mut stream).await
        }
        Conduct::Cancelled => {
            stream.write_all(&request).await?;
            read_some(&mut stream, next() as usize % 4000).await?;
            Ok("closed")
        }
        Conduct::Stalled => {
            stream.write_all(&request).await?;
            sleep(Duration::from_millis(next() % 4000)).await;
            read_some(&mut stream, 1).await?;
            Ok("closed")
        }
        Conduct::CutRequest => {
            let part = next() as usize % request.len();
            stream.write_all(&request[..part]).await?;
            sleep(Duration::from_millis(next() % 200)).await;
            Ok("closed")
        }
        Conduct::Garbage => {
            let bytes: Vec<u8> = (0..next() % 2000).map(|_| next() as u8).collect();
            stream.write_all(&bytes).await?;
            // It may wait for the rest of a header; this client does not.
            let _ = timeout(PAUSE, read_some(&mut stream, 1)).await;
            Ok("closed")
        }
        Conduct::BadRequest => {
            let body = BAD_BODIES[next() as usize % BAD_BODIES.len()];
            stream
                .write_all(&post("/v1/chat/completions", body))
                .await?;
            whole(&mut stream).await
        }
    }
}

fn post(path: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n"
    );
    [head.as_bytes(), body.as_bytes()].concat()
}

/// Reads an answer to its end; its class of status.
async fn whole(stream: &mut TcpStream) -> Result<&'static str> {
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer)).await??;
    Ok(match answer.get(9) {
        Some(b'2') => "answered",
        Some(b'4') => "refused",
        Some(_) => "failed",
        None => bail!("no answer"),
    })
}

/// Reads at least so many bytes, if they come.
async fn read_some(stream: &mut TcpStream, bytes: usize) -> Result<()> {
    let mut buffer = [0; 1024];
    let mut read = 0;
    while read < bytes {
        match timeout(PATIENCE, stream.read(&mut buffer)).await?? {
            0 => break,
            more => read += more,
        }
    }
    Ok(())
}
