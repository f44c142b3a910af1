//! Asking both listeners whether the server is healthy, as an orchestrator does: with a new connection each time.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::door::{Door, HEALTH_CHECK, READS, framed};
use super::samples::{Recorder, Wait};
use crate::exposition::Exposition;

const INTERVAL: Duration = Duration::from_millis(100);
/// A probe that takes longer has failed; the next one begins.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Probes until this value is dropped.
#[derive(Debug)]
pub(crate) struct Probes {
    _tasks: JoinSet<()>,
}

impl Probes {
    pub(crate) fn start(grpc: SocketAddr, http: SocketAddr, recorder: &Recorder) -> Self {
        let mut tasks = JoinSet::new();
        tasks.spawn(probe(recorder.clone(), Wait::GrpcHealth, move || {
            ask_grpc(grpc)
        }));
        tasks.spawn(probe(recorder.clone(), Wait::HttpHealth, move || {
            ask_http(http)
        }));
        Self { _tasks: tasks }
    }
}

async fn probe<F>(recorder: Recorder, door: Wait, ask: impl Fn() -> F)
where
    F: Future<Output = Result<()>>,
{
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let waiting = recorder.wait(door);
        let answer = timeout(TIMEOUT, ask()).await;
        waiting.over();
        match answer {
            Ok(Ok(())) => {}
            Ok(Err(error)) => recorder.fail(format!("{door:?}: {error:#}")),
            Err(_elapsed) => recorder.fail(format!("{door:?}: no answer within {TIMEOUT:?}")),
        }
    }
}

async fn ask_grpc(address: SocketAddr) -> Result<()> {
    let door = Door::open(address, READS).await?;
    let call = door.call(HEALTH_CHECK, framed(b"")).await?;
    let answer = call.answer().await;
    ensure!(answer.status == "OK", "{}", answer.status);
    // HealthCheckResponse { status: SERVING } behind its length.
    ensure!(answer.body.ends_with(&[8, 1]), "not SERVING");
    Ok(())
}

/// How many asynchronous tasks the server says that it has.
pub(crate) async fn tasks(address: SocketAddr) -> Result<u64> {
    let metrics = Exposition::of(address).await?;
    Ok(metrics.value("maitre_async_tasks")? as u64)
}

async fn ask_http(address: SocketAddr) -> Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    let request = b"GET /health/ready HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    stream.write_all(request).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let first = answer.lines().next().context("an empty answer")?;
    ensure!(first.contains(" 200 "), "{first}");
    Ok(())
}
