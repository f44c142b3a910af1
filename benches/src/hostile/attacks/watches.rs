//! Streams that last for ever by their nature, by the thousand.

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::time::sleep;

use super::super::door::{Door, READS, RETRY, framed};
use super::{Arena, Attack, Attacking};

pub(super) const ATTACKS: [Attack; 3] = [
    Attack::new(
        "health-watches",
        "20,000 watches of health over 20 connections",
        |arena| watch(arena, 20, "/grpc.health.v1.Health/Watch", framed(b"")),
    ),
    Attack::new(
        "reflection-streams",
        "20,000 reflection streams over 20 connections",
        |arena| watch(arena, 20, REFLECTION, Bytes::new()),
    ),
    Attack::new(
        "cache-event-watches",
        "2,000 watches of cache events over 2 connections",
        |arena| {
            watch(
                arena,
                2,
                "/maitre.v1.AdminService/WatchCacheEvents",
                framed(b""),
            )
        },
    )
    .with_flags(&["--cache-events"]),
];

const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
const EACH: usize = 1000;

/// A watch's request is complete where it has a message; a reflection stream waits for questions.
fn watch(arena: Arena, connections: usize, path: &'static str, message: Bytes) -> Attacking {
    Box::pin(async move {
        join_all((0..connections).map(|_| async {
            loop {
                let door = arena.door(READS).await;
                join_all((0..EACH).map(|_| watch_one(&arena, &door, path, &message))).await;
                arena
                    .tally
                    .count(format!("connection: {}", door.closed().await));
                sleep(RETRY).await;
            }
        }))
        .await;
        Ok(())
    })
}

/// Until the connection is gone. A watch that is ended begins again later.
async fn watch_one(arena: &Arena, door: &Door, path: &str, message: &Bytes) {
    loop {
        let call = if message.is_empty() {
            door.call_unfinished(path, Bytes::new()).await
        } else {
            door.call(path, message.clone()).await
        };
        let Ok(call) = call else { return };
        arena.tally.count("begun");
        arena.tally.count(&call.answer().await.status);
        sleep(RETRY * 10).await;
    }
}
