//! Clients of HTTP/1 that close their sending side, on connections in memory, with a clock that is set forward.

use std::sync::Arc;

use axum::body::Body as AnswerBody;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::*;

/// A server that answers after `work`, and how long the connection lasts.
fn connection(work: Duration) -> (DuplexStream, JoinHandle<Duration>) {
    let (client, server) = duplex(1 << 16);
    let state = Arc::new(ConnectionState::new(false, Arc::default()));
    let served = tokio::spawn(async move {
        let began = Instant::now();
        let (_open, closing) = watch::channel(false);
        let service =
            hyper::service::service_fn(move |request: Request<Arriving<Incoming>>| async move {
                let read = axum::body::to_bytes(AnswerBody::new(request.into_body()), 100).await;
                sleep(work).await;
                let said = read.map_or("broken off".into(), |body| format!("{} bytes", body.len()));
                Ok::<_, Infallible>(Response::new(AnswerBody::from(said)))
            });
        let answered_by = (service, Streams::default());
        serve_http1(server, state, answered_by, Limits::for_tests(), closing).await;
        began.elapsed()
    });
    (client, served)
}

const REQUEST: &[u8] = b"POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 4\r\n\r\nbody";

/// What a client gets that sends this and then nothing more.
async fn answer(request: &[u8], work: Duration) -> (String, Duration) {
    let (mut client, served) = connection(work);
    client.write_all(request).await.unwrap();
    client.shutdown().await.unwrap();
    let mut text = String::new();
    client.read_to_string(&mut text).await.unwrap();
    (text, served.await.unwrap())
}

#[tokio::test(start_paused = true)]
async fn the_answer_comes_whatever_time_it_takes() {
    let (text, _) = answer(REQUEST, Duration::ZERO).await;
    assert!(text.starts_with("HTTP/1.1 200 OK"), "{text}");
    assert!(text.ends_with("4 bytes"), "{text}");
    let (text, took) = answer(REQUEST, Duration::from_secs(20)).await;
    assert!(
        text.starts_with("HTTP/1.1 102 Processing\r\n\r\n"),
        "{text}"
    );
    assert_eq!(text.matches("HTTP/1.1 200 OK").count(), 1, "{text}");
    assert!(text.ends_with("4 bytes"), "{text}");
    assert_eq!(took.as_secs(), 20);
    let get = b"GET / HTTP/1.1\r\nhost: test\r\n\r\n";
    let (text, _) = answer(get, Duration::from_secs(2)).await;
    assert!(text.ends_with("0 bytes"), "{text}");
    let two = [REQUEST, get].concat();
    let (text, _) = answer(&two, Duration::from_secs(2)).await;
    assert_eq!(text.matches("HTTP/1.1 200 OK").count(), 2, "{text}");
}

#[tokio::test(start_paused = true)]
async fn half_a_request_is_given_up() {
    let (text, took) = answer(&REQUEST[..REQUEST.len() - 1], Duration::ZERO).await;
    assert!(text.ends_with("broken off"), "{text}");
    assert!(took < Duration::from_secs(1), "{took:?}");
    let (text, took) = answer(b"", Duration::ZERO).await;
    assert_eq!((&*text, took), ("", Duration::ZERO));
}

/// An older client has no interim responses, so that nothing tells whether it is there.
#[tokio::test(start_paused = true)]
async fn a_client_of_http_1_0_counts_as_gone() {
    let request = b"GET / HTTP/1.0\r\n\r\n";
    let (text, took) = answer(request, Duration::from_secs(20)).await;
    assert_eq!(text, "");
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_gone_is_noticed_soon() {
    let (mut client, served) = connection(Duration::from_secs(600));
    client.write_all(REQUEST).await.unwrap();
    drop(client);
    assert!(served.await.unwrap() < Duration::from_secs(1));
}
