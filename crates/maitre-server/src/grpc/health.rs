//! `grpc.health.v1`: readiness follows the engine, so that neither a model that is still loading nor a stuck
//! step loop is called healthy.

use std::time::Duration;

use maitre_proto::v1::admin_service_server::SERVICE_NAME as ADMIN;
use maitre_proto::v1::generation_service_server::SERVICE_NAME as GENERATION;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::Startup;

/// How often the engine is asked.
const INTERVAL: Duration = Duration::from_millis(500);
/// The server as a whole, by the protocol's convention, and each service.
const NAMES: [&str; 3] = ["", GENERATION, ADMIN];

/// Reports the engine's health until dropped; at once when `draining` becomes true or the engine arrives.
pub(crate) async fn report(
    startup: Startup,
    reporter: HealthReporter,
    mut draining: watch::Receiver<bool>,
) {
    let mut changes = startup.changes();
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut reported = None;
    loop {
        let has_engine = startup.engine().is_some();
        let health = startup.health();
        let ready = health.ready && !*draining.borrow_and_update();
        if reported != Some(ready) {
            set(&reporter, ready).await;
            if has_engine && !health.ready {
                tracing::warn!(reason = health.reason, "not ready");
            }
            reported = Some(ready);
        }
        if has_engine {
            startup.announce();
        }
        tokio::select! {
            _ = ticks.tick() => {}
            () = changes.next() => {}
            changed = draining.changed() => if changed.is_err() { return },
        }
    }
}

/// Sets the status of the server and of every service.
pub(crate) async fn set(reporter: &HealthReporter, ready: bool) {
    let status = if ready {
        ServingStatus::Serving
    } else {
        ServingStatus::NotServing
    };
    for name in NAMES {
        reporter.set_service_status(name, status).await;
    }
}
