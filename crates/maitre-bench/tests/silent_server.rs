//! A server that says what it serves and then nothing any more: no question to it is without an end.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use maitre_bench::{
    BenchError, Clock, OpenAiOptions, OpenAiTarget, Settings, Stop, Target, Workload, measure,
};
use tokio::time::Instant;

/// Time as the runtime has it, which a test can let pass at once.
struct RuntimeClock(Instant);

impl Clock for RuntimeClock {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }

    fn sleep_until(&self, at: Duration) -> BoxFuture<'static, ()> {
        tokio::time::sleep_until(self.0 + at).boxed()
    }
}

/// Its address. It answers `/models` alone, and keeps every connection open.
fn serve(models: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        for (number, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            if number == 0 {
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                assert!(lines.next().unwrap().unwrap().starts_with("GET /v1/models"));
                while !lines.next().unwrap().unwrap().is_empty() {}
                let head = format!(
                    "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n",
                    models.len()
                );
                stream.write_all((head + models).as_bytes()).unwrap();
            }
            kept.push(stream);
        }
    });
    format!("http://{address}/v1")
}

async fn connect(models: &'static str) -> OpenAiTarget {
    let address = serve(models);
    let target = OpenAiTarget::connect(&address, OpenAiOptions::default());
    target.await.unwrap()
}

/// What lasts longer does not end.
async fn in_a_day<T>(what: impl Future<Output = T>) -> T {
    let day = Duration::from_secs(86_400);
    tokio::time::timeout(day, what).await.expect("no end")
}

#[tokio::test]
async fn a_measurement_of_it_ends_with_a_report() {
    let target =
        connect(r#"{"data": [{"id": "m", "vocab_size": 1000, "max_model_len": 4096}]}"#).await;
    // From here on nothing is waited for but time, which passes at once.
    tokio::time::pause();
    let clock = RuntimeClock(Instant::now());
    let settings = Settings::closed_loop(Workload::of(8, 4), &[2]);
    let stop = Stop::default();
    let report = in_a_day(measure(&target, &clock, &settings, &stop, |_| {})).await;
    let report = report.unwrap();
    let run = &report.runs[0];
    assert_eq!((run.requests, run.completed), (8, 0), "{report}");
    assert_eq!(run.errors["TIMEOUT"], 8, "{report}");
    assert!(
        (2400.0..2420.0).contains(&run.duration_s),
        "{}",
        run.duration_s
    );
    let refused = in_a_day(target.tokenize("hello")).await.unwrap_err();
    assert_eq!(refused.code, "DEADLINE_EXCEEDED");
}

#[tokio::test]
async fn without_a_vocabulary_only_random_prompts_are_refused() {
    let target = connect(r#"{"data": [{"id": "m"}]}"#).await;
    tokio::time::pause();
    let clock = RuntimeClock(Instant::now());
    let settings = Settings::closed_loop(Workload::of(8, 4), &[1]);
    let refused = measure(&target, &clock, &settings, &Stop::default(), |_| {}).await;
    let error = refused.unwrap_err();
    assert!(matches!(error, BenchError::VocabSize { .. }), "{error}");
    assert!(error.to_string().contains("--vocab-size"), "{error}");
}
