//! Invariant 3: cancellation is prompt. A dropped stream, an abort and a deadline free what the
//! request held at the next step boundary, whether it waits, prefills or decodes.

use std::time::Duration;

use crate::toy::{Setup, answer, idle, tokens_request};
use maitre_engine::{EngineError, Event, FinishReason};

fn long_prompt() -> Vec<u32> {
    (0..200).map(|i| 50 + i).collect()
}

#[tokio::test]
async fn a_dropped_stream_frees_its_blocks_while_decoding() {
    let (engine, _gate) = Setup::default().start();
    let mut generation = engine
        .generate(tokens_request(&[9, 10, 11], 200))
        .await
        .unwrap();
    assert!(matches!(generation.next().await, Some(Ok(Event::Delta(_)))));
    drop(generation);
    idle(&engine).await;
}

#[tokio::test]
async fn a_stream_dropped_during_prefill_or_in_the_queue_leaves_nothing_behind() {
    let (engine, gate) = Setup {
        max_seqs: 1,
        max_batched_tokens: 8,
        ..Setup::default()
    }
    .start();
    gate.shut();
    let prefilling = engine
        .generate(tokens_request(&long_prompt(), 4))
        .await
        .unwrap();
    tokio::task::spawn_blocking({
        let gate = std::sync::Arc::clone(&gate);
        move || gate.wait_for_step()
    })
    .await
    .unwrap();
    let queued = engine.generate(tokens_request(&[7, 8], 4)).await.unwrap();
    assert_eq!(engine.load().waiting, 1);
    drop(prefilling);
    drop(queued);
    gate.open();
    idle(&engine).await;
}

#[tokio::test]
async fn an_aborted_request_ends_in_cancelled_and_its_name_is_free() {
    let (engine, _gate) = Setup::default().start();
    let mut request = tokens_request(&[9, 10, 11], 200);
    request.request_id = Some("mine".into());
    let mut generation = engine.generate(request.clone()).await.unwrap();
    let duplicate = engine.generate(request.clone()).await.unwrap_err();
    assert!(
        matches!(duplicate, EngineError::DuplicateRequest { .. }),
        "{duplicate:?}"
    );
    assert!(generation.next().await.unwrap().is_ok());
    assert!(engine.abort("", "mine"));
    let last = loop {
        match generation.next().await {
            Some(Ok(_)) => {}
            other => break other,
        }
    };
    assert_eq!(last, Some(Err(EngineError::Cancelled)));
    assert_eq!(generation.next().await, None);
    idle(&engine).await;
    assert!(
        !engine.abort("", "mine"),
        "no request of that name is in flight"
    );
    assert!(engine.generate(request).await.is_ok());
}

/// Invariant 7: an id is its tenant's own. Another tenant may use it too, ends nothing by it, and is not told
/// that it is in use.
#[tokio::test]
async fn ids_and_aborts_are_apart_between_tenants() {
    let (engine, gate) = Setup::default().start();
    gate.shut();
    let of = |tenant: &str| {
        let mut request = tokens_request(&[9, 10, 11], 200);
        request.request_id = Some("mine".into());
        request.service.tenant = tenant.into();
        request
    };
    let mut a = engine.generate(of("a")).await.unwrap();
    let mut b = engine.generate(of("b")).await.unwrap();
    assert!(
        engine.generate(of("a")).await.is_err(),
        "a's own id is taken"
    );
    assert!(!engine.abort("", "mine"));
    assert!(!engine.abort("c", "mine"));
    assert!(engine.abort("b", "mine"));
    gate.open();
    // The step at the gate may be one of both.
    let last = loop {
        match b.next().await {
            Some(Ok(_)) => {}
            other => break other,
        }
    };
    assert_eq!(last, Some(Err(EngineError::Cancelled)));
    assert!(a.next().await.unwrap().is_ok(), "a's request runs on");
    drop((a, b));
    idle(&engine).await;
}

/// The step loop is busy, so that submission and abort both wait for it: in this order.
#[tokio::test]
async fn an_abort_right_after_submission_ends_every_answer() {
    let (engine, gate) = Setup::default().start();
    gate.shut();
    let busy = engine.generate(tokens_request(&[7, 8], 2)).await.unwrap();
    let mut request = tokens_request(&[9, 10, 11], 200);
    request.request_id = Some("mine".into());
    request.n = 4;
    let mut generation = engine.generate(request).await.unwrap();
    assert!(engine.abort("", "mine"));
    assert!(
        engine.abort("", "mine"),
        "still in flight until its receiver knows"
    );
    gate.open();
    assert_eq!(generation.next().await, Some(Err(EngineError::Cancelled)));
    assert_eq!(generation.next().await, None);
    answer(busy).await.unwrap();
    idle(&engine).await;
}

#[tokio::test]
async fn a_deadline_fails_and_a_time_limit_ends_well() {
    let (engine, gate) = Setup::default().start();
    let soon = Some(Duration::from_millis(1));
    gate.shut();
    let mut with_deadline = tokens_request(&[9, 10], 200);
    with_deadline.service.deadline = soon;
    let mut with_limit = tokens_request(&[9, 11], 200);
    with_limit.service.time_limit = soon;
    let first = engine.generate(with_deadline).await.unwrap();
    let second = engine.generate(with_limit).await.unwrap();
    crate::toy::until("both times have passed", || {
        engine.uptime() > Duration::from_millis(50)
    })
    .await;
    gate.open();
    assert_eq!(
        answer(first).await.unwrap_err(),
        EngineError::DeadlineExceeded
    );
    let ended = answer(second).await.unwrap();
    assert_eq!(ended.reason, FinishReason::Deadline);
    assert_eq!(
        ended.end.usage.completion_tokens as usize,
        ended.token_ids.len()
    );
    idle(&engine).await;
}

#[tokio::test]
async fn a_deadline_of_zero_is_over_before_it_begins() {
    let (engine, _gate) = Setup::default().start();
    let mut request = tokens_request(&[9], 2);
    request.service.deadline = Some(Duration::ZERO);
    assert_eq!(
        engine.generate(request).await.unwrap_err(),
        EngineError::DeadlineExceeded
    );
    idle(&engine).await;
}

#[tokio::test]
async fn a_queue_timeout_counts_only_until_the_first_step() {
    let (engine, gate) = Setup {
        max_seqs: 1,
        ..Setup::default()
    }
    .start();
    gate.shut();
    let mut running = tokens_request(&[9, 10], 100);
    running.service.queue_timeout = Some(Duration::from_secs(3600));
    let running = engine.generate(running).await.unwrap();
    let mut queued = tokens_request(&[9, 11], 4);
    queued.service.queue_timeout = Some(Duration::from_millis(1));
    let queued = engine.generate(queued).await.unwrap();
    crate::toy::until("the queue timeout has passed", || {
        engine.uptime() > Duration::from_millis(50)
    })
    .await;
    gate.open();
    assert_eq!(answer(queued).await.unwrap_err(), EngineError::QueueTimeout);
    assert_eq!(answer(running).await.unwrap().token_ids.len(), 100);
}

#[tokio::test]
async fn a_receiver_that_reads_nothing_is_ended_and_hurts_nobody() {
    let setup = Setup {
        max_model_len: 8192,
        num_blocks: 8192,
        ..Setup::default()
    };
    let (engine, _gate) = setup.start();
    let mut lazy = engine
        .generate(tokens_request(&[9, 10], 6000))
        .await
        .unwrap();
    let brisk = engine
        .generate(tokens_request(&[9, 11], 100))
        .await
        .unwrap();
    assert_eq!(answer(brisk).await.unwrap().token_ids.len(), 100);
    crate::toy::until("the lazy request was ended", || {
        engine.load().kv_used_blocks == 0
    })
    .await;
    let mut last = None;
    while let Some(event) = lazy.next().await {
        last = Some(event);
    }
    assert!(
        matches!(last, Some(Err(EngineError::SlowReceiver { .. }))),
        "{last:?}"
    );
}

#[tokio::test]
async fn a_drain_finishes_what_runs_and_refuses_what_comes() {
    let (engine, gate) = Setup::default().start();
    gate.shut();
    let running = engine.generate(tokens_request(&[9, 10], 20)).await.unwrap();
    let draining = tokio::spawn({
        let engine = engine.clone();
        async move { engine.drain(Duration::from_secs(60)).await }
    });
    crate::toy::until("the drain has begun", || !engine.health().ready).await;
    let refused = engine
        .generate(tokens_request(&[9, 12], 2))
        .await
        .unwrap_err();
    assert_eq!(refused, EngineError::Draining);
    gate.open();
    assert_eq!(answer(running).await.unwrap().token_ids.len(), 20);
    assert_eq!(draining.await.unwrap(), 0);
}

#[tokio::test]
async fn a_drain_that_runs_out_of_time_cancels_the_rest() {
    let (engine, gate) = Setup::default().start();
    gate.shut();
    let stuck = engine.generate(tokens_request(&[9, 10], 20)).await.unwrap();
    assert_eq!(engine.drain(Duration::from_millis(1)).await, 1);
    gate.open();
    assert_eq!(answer(stuck).await.unwrap_err(), EngineError::Cancelled);
}

#[tokio::test]
async fn dropping_the_engine_tells_whoever_still_waits() {
    let (engine, gate) = Setup::default().start();
    gate.shut();
    let waiting = engine
        .generate(tokens_request(&[9, 10], 100))
        .await
        .unwrap();
    drop(engine);
    gate.open();
    assert_eq!(answer(waiting).await.unwrap_err(), EngineError::Stopped);
}

/// The answer is complete and only waits to be read: an abort that says it ended the request must be right.
#[tokio::test]
async fn an_abort_and_the_end_agree_whichever_comes_first() {
    let (engine, gate) = Setup::default().start();
    let mut request = tokens_request(&[9, 10, 11], 20);
    request.request_id = Some("mine".into());
    let mut generation = engine.generate(request.clone()).await.unwrap();
    crate::toy::until("the last step is over", || {
        gate.computed() >= 3 + 19 && engine.load().kv_used_blocks == 0
    })
    .await;
    assert!(engine.abort("", "mine"));
    let mut last = None;
    while let Some(event) = generation.next().await {
        last = Some(event);
    }
    assert_eq!(last, Some(Err(EngineError::Cancelled)));

    let mut generation = engine.generate(request).await.unwrap();
    let mut last = None;
    while let Some(event) = generation.next().await {
        last = Some(event);
    }
    assert!(matches!(last, Some(Ok(Event::Finished(_)))), "{last:?}");
    assert!(
        !engine.abort("", "mine"),
        "its receiver has the whole answer"
    );
    idle(&engine).await;
}

/// The step loop is in a step that does not end, so nothing is given back by it.
#[tokio::test]
async fn a_place_in_the_queue_is_free_at_once_when_its_request_ends() {
    let (engine, gate) = Setup {
        max_seqs: 1,
        max_queue: 2,
        ..Setup::default()
    }
    .start();
    gate.shut();
    let running = engine.generate(tokens_request(&[7, 8], 2)).await.unwrap();
    let at_gate = std::sync::Arc::clone(&gate);
    tokio::task::spawn_blocking(move || at_gate.wait_for_step())
        .await
        .unwrap();
    let submit = |n: u32, id: &str| {
        let mut request = tokens_request(&[9, 10], 4);
        request.n = n;
        request.request_id = Some(id.into());
        engine.generate(request)
    };
    let left = submit(2, "left").await.unwrap();
    assert_eq!(engine.load().waiting, 2);
    assert!(submit(1, "refused").await.is_err(), "the queue is full");
    drop(left);
    assert_eq!(engine.load().waiting, 0);

    // What lies in the loop's mailbox is bounded too: these places are free when the loop has looked.
    let mut aborted = submit(2, "aborted").await.unwrap();
    assert!(engine.abort("", "aborted"));
    assert_eq!(aborted.next().await, Some(Err(EngineError::Cancelled)));
    assert_eq!(engine.load().waiting, 2);
    assert!(submit(1, "refused").await.is_err());
    gate.open();
    answer(running).await.unwrap();
    idle(&engine).await;
    answer(submit(1, "served").await.unwrap()).await.unwrap();
    idle(&engine).await;
}

/// It has read all there was and waits; that its thread does other work meanwhile is not its fault.
#[tokio::test]
async fn a_receiver_that_waits_for_its_turn_is_not_slow() {
    let setup = Setup {
        max_model_len: 8192,
        num_blocks: 8192,
        ..Setup::default()
    };
    let (engine, gate) = setup.start();
    gate.shut();
    let generation = engine.generate(tokens_request(&[9, 10], 6000)).await;
    let mut generation = generation.unwrap();
    let first = std::future::poll_fn(|context| {
        let next = std::pin::pin!(generation.next());
        std::task::Poll::Ready(next.poll(context).is_pending())
    });
    assert!(first.await, "nothing is there yet");
    gate.open();
    crate::toy::until("all tokens are there", || {
        gate.computed() > 6000 && engine.load().kv_used_blocks == 0
    })
    .await;
    assert_eq!(answer(generation).await.unwrap().token_ids.len(), 6000);
}
