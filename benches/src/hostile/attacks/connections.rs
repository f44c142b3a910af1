//! Connections that say nothing, or not enough to be served.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::super::door::RETRY;
use super::super::frames::PREFACE;
use super::{Arena, Attack, Attacking};

/// As many as a listener of the server accepts.
const CONNECTIONS: usize = 4096;

/// So many are opened at the same time: more than a listener's backlog would make the system drop other clients'
/// first packets, and those wait a second before they try again.
const AT_ONCE: usize = 256;
const SPACING: Duration = Duration::from_millis(50);

pub(super) const ATTACKS: [Attack; 5] = [
    Attack::new(
        "silent-connections",
        "4,096 connections to the gRPC port that send nothing",
        |arena| hold(arena.target.grpc, arena, b""),
    ),
    Attack::new(
        "one-byte-connections",
        "4,096 connections to the gRPC port that send one byte",
        |arena| hold(arena.target.grpc, arena, b"P"),
    ),
    Attack::new(
        "preface-only",
        "4,096 connections to the gRPC port that send the preface, but no SETTINGS",
        |arena| hold(arena.target.grpc, arena, PREFACE),
    ),
    Attack::new(
        "silent-http-connections",
        "4,096 connections to the HTTP port that send nothing",
        |arena| hold(arena.target.http, arena, b""),
    ),
    Attack::new(
        "unfinished-http-headers",
        "4,096 connections to the HTTP port that send half a request",
        |arena| hold(arena.target.http, arena, b"GET /metrics HTTP/1.1\r\nhost: "),
    ),
];

/// Holds connections that sent `said`; one that the server closes is opened again.
fn hold(server: SocketAddr, arena: Arena, said: &'static [u8]) -> Attacking {
    Box::pin(async move {
        let count = arena.connections(CONNECTIONS);
        let arena = &arena;
        join_all((0..count).map(|number| async move {
            sleep(SPACING * (number / AT_ONCE) as u32).await;
            loop {
                if hold_one(server, arena, said).await.is_err() {
                    arena.tally.count("connection lost");
                }
                sleep(RETRY * 10).await;
            }
        }))
        .await;
        Ok(())
    })
}

async fn hold_one(server: SocketAddr, arena: &Arena, said: &[u8]) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(server).await?;
    arena.tally.count("connected");
    stream.write_all(said).await?;
    let mut heard = [0; 512];
    while stream.read(&mut heard).await? > 0 {}
    arena.tally.count("closed by the server");
    Ok(())
}
