//! HTTP requests whose answers are never read.

use futures_util::future::join_all;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::super::door::RETRY;
use super::{Arena, Attack, Attacking};

pub(super) const ATTACKS: [Attack; 2] = [
    Attack::new(
        "unread-scrapes",
        "256 connections that pipeline scrapes of /metrics and never read",
        |arena| pipeline(arena, "GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n"),
    ),
    Attack::new(
        "unfinished-http-bodies",
        "256 connections that announce a body of 1 GB and trickle it",
        |arena| {
            pipeline(
                arena,
                "POST /metrics HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000000000\r\n\r\n",
            )
        },
    ),
];

const CONNECTIONS: usize = 256;
/// Requests sent in one go.
const AT_ONCE: usize = 100;

/// Sends the request again and again as long as the server takes it.
fn pipeline(arena: Arena, request: &'static str) -> Attacking {
    Box::pin(async move {
        let requests = request.repeat(AT_ONCE);
        join_all((0..CONNECTIONS).map(|_| async {
            loop {
                if let Ok(mut stream) = TcpStream::connect(arena.target.http).await {
                    arena.tally.count("connected");
                    while stream.write_all(requests.as_bytes()).await.is_ok() {
                        arena.tally.add("requests", AT_ONCE as u64);
                        sleep(RETRY).await;
                    }
                    arena.tally.count("closed by the server");
                }
                sleep(RETRY * 10).await;
            }
        }))
        .await;
        Ok(())
    })
}
