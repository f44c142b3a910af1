//! Clients that leave: by dropping the stream, the call, or the whole connection.

use maitre_proto::v1::generation_service_client::GenerationServiceClient;

use crate::test_server::{TestServer, connect, long_request};

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_stream_frees_its_request() {
    let served = TestServer::open().await;
    let stream = served.busy("leaver").await;
    served
        .until(|load| load.running == 1 && load.kv_used_blocks > 0)
        .await;
    drop(stream);
    served.until_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_unary_call_frees_its_request() {
    let served = TestServer::open().await;
    let long = long_request("leaver");
    let request = maitre_proto::v1::GenerateRequest {
        request_id: long.request_id,
        input: crate::test_server::prompt("Once upon a time"),
        stopping: long.stopping,
        ..Default::default()
    };
    let mut client = served.generation();
    let call = tokio::spawn(async move { client.generate(request).await });
    served.until(|load| load.running == 1).await;
    call.abort();
    served.until_empty().await;
}

/// The process is gone without a word: its socket is all that says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_client_frees_its_requests() {
    let served = TestServer::open().await;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let address = served.grpc;
    for id in ["one", "two", "three"] {
        runtime.spawn(async move {
            let mut client = GenerationServiceClient::new(connect(address).await);
            let mut stream = client
                .stream_generate(long_request(id))
                .await
                .unwrap()
                .into_inner();
            while let Ok(Some(_)) = stream.message().await {}
        });
    }
    served.until(|load| load.running == 3).await;
    runtime.shutdown_background();
    served.until_empty().await;
}
