//! How good the load generator is, against a server that writes tokens at known times. It measures time, so that it runs on
//! demand on a quiet machine:
//!
//! ```text
//! cargo test --release --package maitre-bench --test load_generator -- --ignored --nocapture --test-threads 1
//! ```
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use maitre_bench::{
    Load, MonotonicClock, OpenAiOptions, OpenAiTarget, Run, Settings, Stop, Workload, measure,
};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

const MODELS: &str = r#"{"data": [{"id": "m", "vocab_size": 1000, "max_model_len": 100000}]}"#;
/// How far the 99th percentile of its own errors may be from nothing.
const MOST_MS: f64 = 1.0;
const TOKEN: &str = "data: {\"choices\": [{\"text\": \"a\", \"index\": 0}]}\n\n";

/// When a request was read, its first token was written and its last.
type Times = Arc<Mutex<Vec<(Instant, Instant, Instant)>>>;

/// A request with its body.
async fn read(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let (mut line, mut length, mut path) = (String::new(), 0, String::new());
    loop {
        line.clear();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        if path.is_empty() {
            path = line.clone();
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some(path + &String::from_utf8(body).unwrap())
}

async fn answer(stream: TcpStream, gap: Duration, times: Times) {
    stream.set_nodelay(true).unwrap();
    let mut stream = BufReader::new(stream);
    while let Some(request) = read(&mut stream).await {
        let began = Instant::now();
        if !request.starts_with("POST /v1/completions") {
            let text = if request.contains("/models") {
                MODELS
            } else {
                ""
            };
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", text.len());
            stream.write_all((head + text).as_bytes()).await.unwrap();
            continue;
        }
        let (_, tokens) = request.split_once("\"max_tokens\":").unwrap();
        let tokens: u32 = tokens.split([',', '}']).next().unwrap().parse().unwrap();
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
        let (mut first, mut last) = (began, began);
        for token in 1..=tokens {
            tokio::time::sleep_until((began + gap * token).into()).await;
            last = Instant::now();
            first = if token == 1 { last } else { first };
            stream.write_all(chunk(TOKEN).as_bytes()).await.unwrap();
        }
        times.lock().unwrap().push((began, first, last));
        let end = chunk("data: [DONE]\n\n") + "0\r\n\r\n";
        stream.write_all(end.as_bytes()).await.unwrap();
    }
}

/// The server on a thread of its own; its address.
fn serve(gap: Duration, times: Times) -> String {
    let (told, address) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            told.send(listener.local_addr().unwrap()).unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(answer(stream, gap, Arc::clone(&times)));
            }
        });
    });
    format!("http://{}/v1", address.recv().unwrap())
}

/// Processor time of this thread, which is all of the client.
fn thread_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
    let fields: Vec<f64> = stat
        .rsplit_once(')')
        .unwrap()
        .1
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|it| it.parse().unwrap())
        .collect();
    fields.iter().sum::<f64>() / 100.0
}

fn run(address: &str, workload: Workload, load: Load) -> (Run, f64) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let settings = Settings {
        loads: vec![load],
        ..Settings::closed_loop(workload, &[])
    };
    runtime.unwrap().block_on(async {
        let target = OpenAiTarget::connect(address, OpenAiOptions::default())
            .await
            .unwrap();
        let before = thread_seconds();
        let clock = MonotonicClock::new();
        let report = measure(&target, &clock, &settings, &Stop::default(), |_| {}).await;
        (report.unwrap().runs.remove(0), thread_seconds() - before)
    })
}

#[test]
#[ignore = "measures time: run it on a quiet machine"]
fn times_are_those_of_the_server() {
    let times = Times::default();
    let address = serve(Duration::from_millis(10), Arc::clone(&times));
    let workload = Workload {
        requests: Some(2000),
        ..Workload::of(16, 20)
    };
    let load = Load::Arrivals("poisson:200".parse().unwrap());
    let (run, _) = run(&address, workload, load);
    assert_eq!(run.completed, 2000, "{:?}", run.errors);
    // Requests are read in the order in which they are sent.
    let mut told = times.lock().unwrap().clone();
    told.sort();
    let ms = |from: Instant, to: Instant| (to - from).as_secs_f64() * 1e3;
    let ttft: Vec<f64> = told.iter().map(|it| ms(it.0, it.1)).collect();
    let e2e: Vec<f64> = told.iter().map(|it| ms(it.0, it.2)).collect();
    let late = run.lateness_ms.unwrap();
    println!("sends: p50 {:.3} ms, p99 {:.3} ms late", late.p50, late.p99);
    let mut worst = vec![("sends", late.p99)];
    for (name, seen, known) in [
        ("TTFT", &run.samples.ttft_ms, ttft),
        ("E2E", &run.samples.e2e_ms, e2e),
    ] {
        // From when a request was sent, as the server has it: how late it was sent is told above, and mostly the timer's doing.
        let sent = seen.iter().zip(&run.samples.lateness_ms);
        let pairs = sent.map(|(seen, late)| seen - late).zip(&known);
        let mut errors: Vec<f64> = pairs.map(|(seen, known)| (seen - known).abs()).collect();
        errors.sort_by(f64::total_cmp);
        let (p50, p99) = (errors[errors.len() / 2], errors[errors.len() * 99 / 100]);
        println!(
            "{name}: p50 {p50:.3} ms, p99 {p99:.3} ms from the server's own, from the send on"
        );
        worst.push((name, p99));
    }
    assert!(worst.iter().all(|(_, p99)| *p99 <= MOST_MS), "{worst:?}");
}

#[test]
#[ignore = "measures time: run it on a quiet machine"]
fn a_core_receives_twenty_thousand_tokens_a_second() {
    let address = serve(Duration::from_millis(4), Times::default());
    let workload = Workload {
        requests: Some(800),
        ..Workload::of(16, 500)
    };
    let (run, cpu) = run(&address, workload, Load::Users(200));
    assert_eq!(run.completed, 800, "{:?}", run.errors);
    let received = run.output_tokens as f64;
    println!(
        "{:.0} tokens/s received, {:.0} for each second of the client's processor",
        run.output_tokens_per_second,
        received / cpu
    );
    assert!(received / cpu >= 20_000.0);
}
