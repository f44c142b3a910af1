//! The orderly end.

use std::time::Duration;

use maitre_proto::v1;
use maitre_proto::v1::generation_service_client::GenerationServiceClient;
use tonic::Code;

use crate::test_server::{TestServer, engine, long_request, reason, refused, short_request, soon};

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_is_finished_and_what_comes_is_refused() {
    let served = TestServer::open().await;
    let mut stream = served.busy("last request").await;
    let http = served.http;
    served.stop.send(()).unwrap();
    soon(async {
        while served.engine.health().ready {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // On a connection of its own: the first one gets GOAWAY, which may come while this call is made.
    let mut client = GenerationServiceClient::new(crate::test_server::connect(served.grpc).await);
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
    assert_eq!(finished, 1, "the running request was served to the end");
    soon(served.served).await.unwrap().unwrap();
    assert!(
        tokio::net::TcpStream::connect(served.grpc).await.is_err(),
        "the listener is closed"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_when_the_time_is_over_is_cancelled_and_told_so() {
    let served = TestServer::with(engine(), |server| {
        server.drain_timeout(Duration::from_millis(50))
    })
    .await;
    let mut client = served.generation();
    let mut stream = client
        .stream_generate(long_request("too long"))
        .await
        .unwrap()
        .into_inner();
    served.stop.send(()).unwrap();
    let status = loop {
        match stream.message().await {
            Ok(message) => assert!(message.is_some(), "ended well"),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::Cancelled, "{status:?}");
    assert_eq!(reason(&status), "CANCELLED");
    soon(served.served).await.unwrap().unwrap();
    assert_eq!(served.engine.load().in_flight, 0);
}

/// A health watch never ends by itself; it must not keep the server up.
#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_sees_the_end_and_does_not_delay_it() {
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_check_response::ServingStatus;
    use tonic_health::pb::health_client::HealthClient;
    let served = TestServer::open().await;
    let mut health = HealthClient::new(served.channel.clone());
    let mut watch = health
        .watch(HealthCheckRequest::default())
        .await
        .unwrap()
        .into_inner();
    let seen = watch.message().await.unwrap().unwrap();
    assert_eq!(seen.status(), ServingStatus::Serving);
    served.stop.send(()).unwrap();
    let seen = soon(watch.message()).await.unwrap().unwrap();
    assert_eq!(seen.status(), ServingStatus::NotServing);
    soon(served.served).await.unwrap().unwrap();
}

/// Dropping the future is the disorderly end: connections are cut, and nothing keeps running.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_dropped_takes_its_calls_along() {
    let served = TestServer::open().await;
    let mut stream = served.busy("cut off").await;
    served.served.abort();
    served.until_empty().await;
    while let Ok(message) = stream.message().await {
        assert!(message.is_some(), "ended well");
    }
}

/// A connection that is open when the drain begins is told at once, while others' calls still run; its
/// client goes elsewhere then instead of bringing more calls.
#[tokio::test(flavor = "multi_thread")]
async fn connections_get_goaway_at_the_beginning_of_the_drain() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    const GOAWAY: u8 = 7;
    let served = TestServer::open().await;
    let mut idle = tokio::net::TcpStream::connect(served.grpc).await.unwrap();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let empty_settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    idle.write_all(preface).await.unwrap();
    idle.write_all(&empty_settings).await.unwrap();
    let mut head = [0; 9];
    idle.read_exact(&mut head).await.unwrap();
    let stream = served.busy("last one").await;
    served.stop.send(()).unwrap();
    let goaway = async {
        loop {
            let length = usize::from(head[1]) << 8 | usize::from(head[2]);
            let mut payload = vec![0; length];
            idle.read_exact(&mut payload).await.unwrap();
            if head[3] == GOAWAY {
                return;
            }
            idle.read_exact(&mut head).await.unwrap();
        }
    };
    soon(goaway).await;
    assert_eq!(served.engine.load().in_flight, 1, "its answer goes on");
    // A probe may still connect.
    let mut health = tonic_health::pb::health_client::HealthClient::new(
        crate::test_server::connect(served.grpc).await,
    );
    let check = health.check(tonic_health::pb::HealthCheckRequest::default());
    assert!(check.await.is_ok());
    drop((stream, idle));
    soon(served.served).await.unwrap().unwrap();
}
