//! Clients of HTTP/1 that take their answers too slowly, on connections in memory, with a clock that is set forward.

use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::*;
use crate::Startup;
use crate::http::calls::Calls;
use crate::service::Service;

/// The longest answer that needs no engine: many pieces.
const DOCUMENT: &[u8] = b"GET /openapi.json HTTP/1.1\r\nhost: test\r\n\r\n";

/// A connection with `buffer` bytes between client and server, and how long it lasts.
fn connection(buffer: usize) -> (DuplexStream, JoinHandle<Duration>) {
    let (client, server) = duplex(buffer);
    let calls = Calls::new(&Service::for_tests(), &Startup::new("a test"));
    let state = Arc::new(ConnectionState::new(false, Arc::default()));
    let served = tokio::spawn(async move {
        let began = Instant::now();
        let (_open, closing) = watch::channel(false);
        let answered_by = calls.on_connection(Arc::clone(&state));
        serve_http1(server, state, answered_by, Limits::for_tests(), closing).await;
        began.elapsed()
    });
    (client, served)
}

/// A byte now and then keeps the connection from standing still, but its call has to get on.
#[tokio::test(start_paused = true)]
async fn an_answer_that_is_taken_byte_by_byte_is_cut_off() {
    let (mut client, served) = connection(256);
    client.write_all(DOCUMENT).await.unwrap();
    let reader = tokio::spawn(async move {
        let mut taken = 0;
        while client.read_u8().await.is_ok() {
            taken += 1;
            sleep(Duration::from_secs(20)).await;
        }
        taken
    });
    assert_eq!(served.await.unwrap(), Duration::from_secs(30));
    assert!(reader.await.unwrap() < 1000);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_taken_steadily_is_not_cut_off() {
    let (mut client, served) = connection(256);
    client.write_all(DOCUMENT).await.unwrap();
    let (mut text, mut piece) = (Vec::new(), [0; 1024]);
    let is_whole = |text: &[u8]| {
        let text = String::from_utf8_lossy(text);
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let length = head.split_once("content-length: ");
        let length = length.and_then(|(_, rest)| rest.lines().next()?.parse().ok());
        length.is_some_and(|length: usize| length <= body.len())
    };
    while !is_whole(&text) {
        let taken = client.read(&mut piece).await.unwrap();
        assert!(taken > 0, "cut off after {} bytes", text.len());
        text.extend_from_slice(&piece[..taken]);
        sleep(Duration::from_millis(300)).await;
    }
    drop(client);
    assert!(served.await.unwrap() > Duration::from_secs(30));
}
