//! What the server counts, and the recorder that turns everything counted in the process into the
//! Prometheus text format.
//!
//! A process has one recorder. Numbers counted before it is installed are lost, so a program
//! installs it before it builds an engine.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use maitre_engine::byte_budget::ByteBudget;
use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::time::MissedTickBehavior;

use crate::Startup;
use crate::service::call_control::Cut;
use crate::service::outcome::Outcome;

/// What the calls of one front are counted as.
#[derive(Debug)]
pub(crate) struct Family {
    total: &'static str,
    seconds: &'static str,
    in_progress: &'static str,
    cut: &'static str,
}

/// Calls over gRPC.
pub(crate) static GRPC: Family = Family {
    total: "maitre_grpc_requests_total",
    seconds: "maitre_grpc_request_seconds",
    in_progress: "maitre_grpc_requests_in_progress",
    cut: "maitre_grpc_requests_cut_total",
};

/// Calls over HTTP, probes and scrapes aside. Their `method` is a path, and they have gRPC's names of codes, so that
/// the ends of calls are comparable, and so that a stream that failed after its status was sent is not counted as well
/// ended.
pub(crate) static HTTP: Family = Family {
    total: "maitre_http_requests_total",
    seconds: "maitre_http_request_seconds",
    in_progress: "maitre_http_requests_in_progress",
    cut: "maitre_http_requests_cut_total",
};

const CONNECTIONS_CLOSED: &str = "maitre_connections_closed_total";
const FRAMES_PACED: &str = "maitre_connections_paced_total";
const REQUEST_BYTES: &str = "maitre_request_bytes";
const ANSWER_BYTES: &str = "maitre_answer_bytes";
const ASYNC_TASKS: &str = "maitre_async_tasks";
const GPU_MEMORY_TOTAL: &str = "maitre_gpu_memory_total_bytes";
const GPU_MEMORY_FREE: &str = "maitre_gpu_memory_free_bytes";

/// Upper bounds of latency histograms, in seconds: from one fast decode step to a long answer.
const SECONDS: [f64; 16] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
];
/// Upper bounds of histograms of what should be done within a step.
const SHORT_SECONDS: [f64; 12] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.025, 0.1, 1.0, 10.0,
];
const SHORT: [&str; 2] = [
    "maitre_token_delivery_seconds",
    "maitre_constraint_mask_seconds",
];
/// Upper bounds of histograms that count things.
const COUNTS: [f64; 15] = [
    1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0,
    16384.0,
];

/// How often the recorder folds what it has collected into its histograms. Without this it would
/// keep every sample until a client asks for `/metrics`.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();
static INSTALLING: Mutex<()> = Mutex::new(());

/// Installs the recorder behind `/metrics`, once per process; call it before an engine is built.
///
/// False when the process already has a recorder of its own: then that one receives everything,
/// and `/metrics` answers 404.
pub fn install_recorder() -> bool {
    let _one_at_a_time = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
    if RECORDER.get().is_some() {
        return true;
    }
    let Ok(handle) = builder().and_then(PrometheusBuilder::install_recorder) else {
        return false;
    };
    describe();
    RECORDER.set(handle).is_ok()
}

fn builder() -> Result<PrometheusBuilder, metrics_exporter_prometheus::BuildError> {
    let mut builder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS)?;
    for name in SHORT {
        builder = builder.set_buckets_for_metric(Matcher::Full(name.into()), &SHORT_SECONDS)?;
    }
    builder.set_buckets(&COUNTS)
}

fn describe() {
    for (family, calls) in [(&GRPC, "gRPC calls"), (&HTTP, "HTTP requests")] {
        describe_counter!(
            family.total,
            format!("{calls} that have ended, by method and status code")
        );
        describe_histogram!(family.seconds, format!("Duration of {calls}, by method"));
        describe_gauge!(
            family.in_progress,
            format!("{calls} in progress, health checks, watches and reflection aside")
        );
        describe_counter!(
            family.cut,
            format!(
                "{calls} that were ended because their clients did not read, by why: stalled, deadline or displaced"
            )
        );
    }
    describe_counter!(
        CONNECTIONS_CLOSED,
        "Connections that the server closed, by why: handshake, stalled or full"
    );
    describe_counter!(
        FRAMES_PACED,
        "Pauses in reading from connections whose clients send more HTTP/2 frames than their calls need"
    );
    describe_gauge!(
        REQUEST_BYTES,
        "Bytes of requests held until their answers begin"
    );
    describe_gauge!(ANSWER_BYTES, "Bytes of answers held until they are written");
    describe_gauge!(
        ASYNC_TASKS,
        "Asynchronous tasks: one for each connection, and a few that are always there"
    );
    describe_gauge!(
        GPU_MEMORY_TOTAL,
        "Bytes of memory of the GPU that the model runs on"
    );
    describe_gauge!(
        GPU_MEMORY_FREE,
        "Bytes of the GPU's memory that no process uses, as its driver says"
    );
}

/// Everything counted so far, in the Prometheus text format; `None` without a recorder of [ours](install_recorder).
#[must_use]
pub fn render() -> Option<String> {
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        gauge!(ASYNC_TASKS).set(runtime.metrics().num_alive_tasks() as f64);
    }
    RECORDER.get().map(PrometheusHandle::render)
}

/// A call was ended because its client does not read.
pub(crate) fn call_cut(family: &'static Family, why: Cut) {
    counter!(family.cut, "why" => why.name()).increment(1);
}

/// The server closed a connection: its client was silent (`handshake`), did not read (`stalled`), or had to make way
/// (`full`).
pub(crate) fn connection_closed(why: &'static str) {
    counter!(CONNECTIONS_CLOSED, "why" => why).increment(1);
}

/// Reading from a connection pauses: its client floods it with frames.
pub(crate) fn frames_paced() {
    counter!(FRAMES_PACED).increment(1);
}

/// Keeps the recorder's memory bounded, and shows how much is held for clients, until dropped.
pub(crate) async fn upkeep(requests: ByteBudget, answers: ByteBudget) {
    let mut ticks = tokio::time::interval(UPKEEP_INTERVAL);
    loop {
        ticks.tick().await;
        gauge!(REQUEST_BYTES).set(requests.used() as f64);
        gauge!(ANSWER_BYTES).set(answers.used() as f64);
        if let Some(recorder) = RECORDER.get() {
            recorder.run_upkeep();
        }
    }
}

/// Shows the memory of the GPU that the engine runs on, once there is one, until dropped. On the processor there is
/// nothing to show. The driver is asked on a thread where a call that hangs holds nothing up.
pub(crate) async fn watch_gpu(startup: Startup) {
    let engine = startup.until_ready().await;
    if !engine.info().memory.is_on_gpu {
        return;
    }
    let mut ticks = tokio::time::interval(UPKEEP_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let asked = engine.clone();
        let answer = tokio::task::spawn_blocking(move || asked.gpu_memory()).await;
        if let Ok(Some(memory)) = answer {
            gauge!(GPU_MEMORY_TOTAL).set(memory.total_bytes as f64);
            gauge!(GPU_MEMORY_FREE).set(memory.free_bytes as f64);
        }
    }
}

/// A call that counts as in progress began; [`call_left`] follows.
pub(crate) fn call_began(family: &'static Family) {
    gauge!(family.in_progress).increment(1.0);
}

/// A call that counted as in progress is over.
pub(crate) fn call_left(family: &'static Family) {
    gauge!(family.in_progress).decrement(1.0);
}

/// A call of the method `name` is over.
pub(crate) fn call_ended(
    family: &'static Family,
    name: &Arc<str>,
    outcome: Outcome,
    took: Duration,
) {
    let code = outcome.name();
    tracing::debug!(method = %name, code, ?took, "call ended");
    counter!(family.total, "method" => Arc::clone(name), "code" => code).increment(1);
    histogram!(family.seconds, "method" => Arc::clone(name)).record(took);
}
