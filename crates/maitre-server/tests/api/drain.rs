//! The orderly end.

use std::time::Duration;

use maitre_proto::v1;
use tonic::Code;

use crate::house::{House, engine, long_request, reason, refused, short_request, soon};

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_is_finished_and_what_comes_is_refused() {
    let house = House::open().await;
    let mut stream = house.busy("last guest").await;
    let mut client = house.generation();
    let http = house.http;
    house.stop.send(()).unwrap();
    soon(async {
        while house.engine.health().ready {
            tokio::task::yield_now().await;
        }
    })
    .await;
    refused(
        client.generate(short_request("Hello")).await,
        Code::Unavailable,
        "DRAINING",
        &[],
    );
    let ready = crate::surroundings::get(http, "/health/ready").await;
    assert!(ready.starts_with("HTTP/1.1 503"), "{ready}");
    let live = crate::surroundings::get(http, "/health/live").await;
    assert!(live.starts_with("HTTP/1.1 200"), "{live}");

    let mut finished = 0;
    while let Some(message) = stream.message().await.unwrap() {
        let event = message.event.unwrap();
        finished += usize::from(matches!(
            event,
            v1::stream_generate_response::Event::Finished(_)
        ));
    }
    assert_eq!(finished, 1, "the last guest was served to the end");
    soon(house.served).await.unwrap().unwrap();
    assert!(
        tokio::net::TcpStream::connect(house.grpc).await.is_err(),
        "the door is closed"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_when_the_time_is_over_is_cancelled_and_told_so() {
    let house = House::with(engine(), |server| {
        server.drain_timeout(Duration::from_millis(50))
    })
    .await;
    let mut client = house.generation();
    let mut stream = client
        .stream_generate(long_request("too long"))
        .await
        .unwrap()
        .into_inner();
    house.stop.send(()).unwrap();
    let status = loop {
        match stream.message().await {
            Ok(message) => assert!(message.is_some(), "ended well"),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::Cancelled, "{status:?}");
    assert_eq!(reason(&status), "CANCELLED");
    soon(house.served).await.unwrap().unwrap();
    assert_eq!(house.engine.load().in_flight, 0);
}

/// A health watch never ends by itself; it must not keep the server up.
#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_sees_the_end_and_does_not_delay_it() {
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_check_response::ServingStatus;
    use tonic_health::pb::health_client::HealthClient;
    let house = House::open().await;
    let mut health = HealthClient::new(house.channel.clone());
    let mut watch = health
        .watch(HealthCheckRequest::default())
        .await
        .unwrap()
        .into_inner();
    let seen = watch.message().await.unwrap().unwrap();
    assert_eq!(seen.status(), ServingStatus::Serving);
    house.stop.send(()).unwrap();
    let seen = soon(watch.message()).await.unwrap().unwrap();
    assert_eq!(seen.status(), ServingStatus::NotServing);
    soon(house.served).await.unwrap().unwrap();
}

/// Dropping the future is the disorderly end: connections are cut, and nothing keeps running.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_dropped_takes_its_calls_along() {
    let house = House::open().await;
    let mut stream = house.busy("cut off").await;
    house.served.abort();
    house.until_empty().await;
    while let Ok(message) = stream.message().await {
        assert!(message.is_some(), "ended well");
    }
}
