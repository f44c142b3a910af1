//! Calls on connections that are not there: what happens before and after a service.

use super::*;
use crate::service::call_pools::Class;
use crate::service::registry::Registry;
use crate::service::turns::Turns;
use futures_util::FutureExt as _;
use std::future::{pending, poll_fn, ready};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Calls of one unknown method on one connection, all answered by `router`.
fn calls(router: axum::Router) -> ConnectionCalls {
    let methods = Methods::from_descriptors(&[]).unwrap();
    let calls = Calls::for_tests(Routes::from(router), methods);
    calls
        .on_connection(Arc::new(ConnectionState::new(false, Arc::default())))
        .0
}

fn request(timeout: Option<&str>) -> Request<Body> {
    let mut request = Request::post("/").body(Body::empty()).unwrap();
    if let Some(timeout) = timeout {
        let headers = request.headers_mut();
        headers.insert("grpc-timeout", timeout.parse().unwrap());
    }
    request
}

fn code(response: &Response<Body>) -> Option<Code> {
    Status::from_header_map(response.headers()).map(|status| status.code())
}

/// Whatever a service does, or does not do: here it never answers.
#[tokio::test]
async fn a_deadline_ends_a_call_that_nobody_answers() {
    let calls = calls(axum::Router::new().fallback(pending::<()>));
    let answer = tokio::time::timeout(Duration::from_secs(60), calls.call(request(Some("5m"))));
    let Ok(response) = answer.await.unwrap();
    assert_eq!(code(&response), Some(Code::DeadlineExceeded));
}

#[tokio::test]
async fn a_service_learns_the_deadline_but_not_the_header() {
    let seen = |request: axum::extract::Request| {
        let header = request.headers().contains_key("grpc-timeout");
        let deadline = request.extensions().get::<Deadline>();
        let left = deadline.map_or(Duration::ZERO, |deadline| deadline.remaining());
        ready(format!("{header} {}", left > Duration::from_secs(50)))
    };
    let calls = calls(axum::Router::new().fallback(seen));
    let Ok(response) = calls.call(request(Some("1M"))).await;
    // The status waits until the data is written, so the data must not wait for the status.
    let mut body = response.into_body();
    let frame = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
    let data = frame.unwrap().unwrap().into_data().unwrap();
    assert_eq!(data, "false true");
}

/// A call lasts until its response's last byte is gone, however early its headers came.
#[tokio::test]
async fn a_call_is_in_progress_until_its_body_is_dropped() {
    let calls = calls(axum::Router::new().fallback(|| ready("body")));
    let Ok(first) = calls.call(request(None)).await;
    let Ok(second) = calls.call(request(None)).await;
    assert_eq!(calls.calls.service.taken(Class::Control), 2);
    drop((first, second));
    calls.calls.service.idle().await;
    assert_eq!(calls.calls.service.taken(Class::Control), 0);
}

/// Two requests of a connection are worked on, the third waits; those of another connection do not wait for it.
#[tokio::test(start_paused = true)]
async fn the_calls_of_a_connection_share_its_turns() {
    let working = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&working);
    let router = axum::Router::new().fallback(move |request: axum::extract::Request| {
        let (turns, working) = (
            request.extensions().get::<Turns>().cloned(),
            Arc::clone(&seen),
        );
        async move {
            let _turn = turns.unwrap().turn().await;
            working.fetch_add(1, Ordering::SeqCst);
            pending::<()>().await;
        }
    });
    let one = calls(router);
    let state = Arc::new(ConnectionState::new(false, Arc::default()));
    let (other, _) = one.calls.on_connection(state);
    let mut held = Vec::new();
    for (connection, expected) in [(&one, 2), (&other, 4)] {
        for _ in 0..3 {
            held.push(tokio::spawn(connection.call(request(None))));
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(working.load(Ordering::SeqCst), expected);
    }
}

/// A watch is told of changes for as long as its client likes; it does not keep a place of a full listener.
#[tokio::test(start_paused = true)]
async fn a_connection_that_only_watches_may_have_to_leave() {
    let descriptors = [tonic_health::pb::FILE_DESCRIPTOR_SET];
    let methods = || Methods::from_descriptors(&descriptors).unwrap();
    let router = axum::Router::new().fallback(|| ready("body"));
    for (method, leaves) in [("Watch", true), ("Check", false)] {
        let registry = Arc::new(Registry::new(1));
        let member = registry.enter(([10, 0, 0, 1], 1).into());
        member.state.opened();
        let calls = Calls::for_tests(Routes::from(router.clone()), methods());
        let (calls, _) = calls.on_connection(Arc::clone(&member.state));
        let path = format!("/grpc.health.v1.Health/{method}");
        let call = calls.call(Request::post(path).body(Body::empty()).unwrap());
        let Ok(_answer) = call.await;
        let _newcomer = registry.enter(([10, 0, 0, 2], 1).into());
        let told = member.state.has_to_leave().now_or_never();
        assert_eq!(told.is_some(), leaves, "{method}");
    }
}

#[tokio::test]
async fn only_a_post_is_a_call() {
    let calls = calls(axum::Router::new().fallback(|| ready("body")));
    for method in [HttpMethod::GET, HttpMethod::CONNECT, HttpMethod::PUT] {
        let mut request = request(None);
        *request.method_mut() = method;
        let Ok(response) = calls.call(request).await;
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
    }
}
