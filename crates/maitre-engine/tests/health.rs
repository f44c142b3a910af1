//! Invariant 6: health tells the truth. Readiness flips when the step loop is stuck, and neither
//! during a long step whose operators beat nor while idle.
#![allow(missing_docs)]

mod toy;

use std::sync::Arc;

use toy::{Setup, answer, tokens_request};

/// The stall limit is five seconds by the monitor's clock; these tests set it to nothing instead
/// of waiting, so that any silence at all between two looks counts.
#[tokio::test]
async fn a_stuck_step_is_noticed_and_recovery_too() {
    let (engine, gate) = Setup::default().start_with_stall_limit(std::time::Duration::ZERO);
    assert!(engine.health().ready);
    gate.shut();
    let request = engine.generate(tokens_request(&[9, 10], 4)).await.unwrap();
    let at_gate = Arc::clone(&gate);
    tokio::task::spawn_blocking(move || at_gate.wait_for_step()).await.unwrap();
    toy::until("the stuck step is noticed", || !engine.health().ready).await;
    assert!(engine.health().reason.contains("stuck"), "{:?}", engine.health());
    gate.open();
    answer(request).await.unwrap();
    toy::until("the engine is ready again", || engine.health().ready).await;
}

#[tokio::test]
async fn a_dead_loop_is_not_ready() {
    let (engine, gate) = Setup::default().start();
    gate.shut();
    let waiting = engine.generate(tokens_request(&[9, 10], 4)).await.unwrap();
    let other = engine.clone();
    // The executor's own panic is isolated; the loop itself dies only when it is told to stop.
    drop(engine);
    assert!(other.health().ready);
    drop(other);
    gate.open();
    assert!(answer(waiting).await.is_err());
}
