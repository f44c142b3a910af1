//! A gRPC call made by hand, for what generated clients do not send: they act on `grpc-timeout`
//! themselves and would hide what the server does with it.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;

use axum::body::Body;
use axum::http::{HeaderMap, Request, Response};
use hyper::body::{Body as _, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tonic::Status;

/// A message in a gRPC frame: not compressed, length, bytes.
pub(crate) fn framed(message: &[u8]) -> Vec<u8> {
    let mut frame = vec![0];
    frame.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    frame.extend(message);
    frame
}

/// Calls `path` on a connection of its own with these extra headers; returns the response's data
/// and the status, wherever in the response it stood.
pub(crate) async fn call(
    address: SocketAddr,
    path: &str,
    message: &impl Message,
    headers: &[(&str, &[u8])],
) -> (Vec<u8>, Status) {
    send(address, path, framed(&message.encode_to_vec()), headers).await
}

/// As [`call`], but the request's body is given as it is.
pub(crate) async fn send(
    address: SocketAddr,
    path: &str,
    body: Vec<u8>,
    headers: &[(&str, &[u8])],
) -> (Vec<u8>, Status) {
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    let connection = tokio::spawn(connection);
    let mut request = Request::post(format!("http://{address}{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = sender
        .send_request(request.body(Body::from(body)).unwrap())
        .await
        .unwrap();
    let (data, status) = read(response).await;
    connection.abort();
    (data, status.expect("a response without a status"))
}

/// The status of a response, wherever in it it stands.
pub(crate) async fn status_of(response: Response<Incoming>) -> Status {
    let (_, status) = read(response).await;
    status.expect("a response without a status")
}

/// As [`status_of`]; `None` if the response was cut off.
pub(crate) async fn try_status_of(response: Response<Incoming>) -> Option<Status> {
    read(response).await.1
}

async fn read(response: Response<Incoming>) -> (Vec<u8>, Option<Status>) {
    let (head, mut body) = response.into_parts();
    let mut data = Vec::new();
    let mut trailers = HeaderMap::new();
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let Ok(frame) = frame else { break };
        match frame.into_data() {
            Ok(bytes) => data.extend(bytes),
            Err(frame) => trailers = frame.into_trailers().unwrap(),
        }
    }
    let status =
        Status::from_header_map(&head.headers).or_else(|| Status::from_header_map(&trailers));
    (data, status)
}
