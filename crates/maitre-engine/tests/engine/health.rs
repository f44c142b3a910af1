//! Invariant 6: health tells the truth. Readiness flips when the step loop is stuck, and neither
//! during a long step whose operators beat nor while idle.

use std::sync::Arc;

use crate::toy::{Setup, answer, tokens_request};

/// The stall limit is five seconds by the monitor's clock; these tests set it to nothing instead
/// of waiting, so that any silence at all between two looks counts.
#[tokio::test]
async fn a_stuck_step_is_noticed_and_recovery_too() {
    let (engine, gate) = Setup::default().start_with_stall_limit(std::time::Duration::ZERO);
    assert!(engine.health().ready);
    gate.shut();
    let request = engine.generate(tokens_request(&[9, 10], 4)).await.unwrap();
    let at_gate = Arc::clone(&gate);
    tokio::task::spawn_blocking(move || at_gate.wait_for_step())
        .await
        .unwrap();
    crate::toy::until("the stuck step is noticed", || !engine.health().ready).await;
    assert!(
        engine.health().reason.contains("stuck"),
        "{:?}",
        engine.health()
    );
    gate.open();
    answer(request).await.unwrap();
    crate::toy::until("the engine is ready again", || engine.health().ready).await;
}

/// A long prefill: one step that takes as long as this test likes, and whose operators finish now
/// and then. With a limit of nothing, any two looks without a beat between them are too far apart.
#[tokio::test]
async fn a_long_step_is_ready_as_long_as_its_operators_finish() {
    let (engine, gate) = Setup::default().start_with_stall_limit(std::time::Duration::ZERO);
    gate.shut();
    let request = engine.generate(tokens_request(&[9, 10], 2)).await.unwrap();
    let at_gate = Arc::clone(&gate);
    tokio::task::spawn_blocking(move || at_gate.wait_for_step())
        .await
        .unwrap();
    for _ in 0..1000 {
        gate.beat();
        assert!(engine.health().ready, "{:?}", engine.health());
    }
    crate::toy::until("silence is noticed", || !engine.health().ready).await;
    gate.beat();
    assert!(engine.health().ready);
    gate.open();
    answer(request).await.unwrap();
}

#[tokio::test]
async fn an_engine_without_a_step_loop_is_neither_alive_nor_ready() {
    let (engine, gate) = Setup::default().start_with_stall_limit(std::time::Duration::from_secs(5));
    assert!(engine.is_alive());
    gate.fall_apart();
    let request = engine.generate(tokens_request(&[9, 10], 4)).await.unwrap();
    assert_eq!(
        answer(request).await.unwrap_err(),
        maitre_engine::EngineError::Stopped
    );
    crate::toy::until("the loop's end is noticed", || !engine.is_alive()).await;
    assert!(
        engine.health().reason.contains("ended"),
        "{:?}",
        engine.health()
    );
    let refused = engine
        .generate(tokens_request(&[9, 10], 4))
        .await
        .unwrap_err();
    assert_eq!(refused, maitre_engine::EngineError::Stopped);
}
