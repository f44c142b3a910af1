//! Messages of OpenAI's API against a running server, on the routes that read a request, check it and render its prompt without
//! running it. Whatever comes, the answer is JSON, and never that the server failed.
#![no_main]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use maitre_engine::{Engine, ModelSource};
use maitre_fuzz::Input;
use maitre_server::{Listeners, Server};
use serde_json::Value;

const ROUTES: [&str; 4] = [
    "/v1/chat/completions/render",
    "/v1/completions/render",
    "/tokenize",
    "/detokenize",
];

static ADDRESS: LazyLock<SocketAddr> = LazyLock::new(|| {
    maitre_server::install_recorder();
    let bundled = &maitre_bundled::TARGET;
    let source = ModelSource::Memory {
        name: bundled.name,
        files: bundled.files,
    };
    let engine = Engine::builder(source)
        .threads(Some(1))
        .build()
        .expect("an engine");
    let (send, receive) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = { runtime }
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let any = ([127, 0, 0, 1], 0).into();
            let listeners = Listeners::bind(any, Some(any)).await.expect("two ports");
            send.send(listeners.http_address().expect("an address"))
                .expect("a reader");
            let served = Server::builder(engine).serve(listeners, std::future::pending());
            served.await.expect("the server goes on");
        });
    });
    receive.recv().expect("the server starts")
});
static CONNECTION: Mutex<Option<BufReader<TcpStream>>> = Mutex::new(None);

fn connect() -> BufReader<TcpStream> {
    let stream = TcpStream::connect(*ADDRESS).expect("the server takes connections");
    stream.set_nodelay(true).expect("a socket");
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .expect("a socket");
    BufReader::new(stream)
}

/// Sends a message; the status and the body of its answer.
fn post(route: &str, body: &[u8]) -> std::io::Result<(u16, Vec<u8>)> {
    let mut held = CONNECTION.lock().expect("one thread");
    let mut connection = held.take().unwrap_or_else(connect);
    let head = format!(
        "POST {route} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let message = [head.as_bytes(), body].concat();
    connection.get_mut().write_all(&message)?;
    let mut line = String::new();
    connection.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|it| it.parse().ok());
    let status = status.ok_or(std::io::ErrorKind::UnexpectedEof)?;
    let (mut length, mut closes) = (0, false);
    loop {
        line.clear();
        connection.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().unwrap_or(0),
            "connection" => closes = value.trim() == "close",
            _ => {}
        }
    }
    let mut answer = vec![0; length];
    connection.read_exact(&mut answer)?;
    if !closes {
        *held = Some(connection);
    }
    Ok((status, answer))
}

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let route = input.one_of(&ROUTES);
    // A connection that was held may be closed by now.
    let answered = post(route, input.0).or_else(|_| post(route, input.0));
    let (status, body) = answered.expect("an answer");
    let shown = String::from_utf8_lossy(&body);
    let read: Value =
        serde_json::from_slice(&body).unwrap_or_else(|error| panic!("{status}: {error}: {shown}"));
    assert!(
        status == 200 || (400..500).contains(&status),
        "{status}: {shown}"
    );
    assert_eq!(
        status == 200,
        read.get("error").is_none(),
        "{status}: {shown}"
    );
});
