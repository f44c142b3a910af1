//! Tiny schedules that were computed by hand.

use expect_test::expect;
use maitre_sim::EngineSettings;

use crate::{Given, overheads, run, simulation};

fn engine() -> EngineSettings {
    EngineSettings {
        max_seqs: 8,
        max_batched_tokens: 8,
        block_size: 4,
        ..EngineSettings::new(64, 128)
    }
}

/// Milliseconds of the start, the first token and the end of each answer, in the order of the requests.
fn times(answers: &[maitre_sim::Answered]) -> Vec<(u64, u128, u128, u128)> {
    let mut times: Vec<_> = answers
        .iter()
        .map(|it| {
            let ms = |time: std::time::Duration| time.as_millis();
            (it.number, ms(it.started), ms(it.first_token), ms(it.ended))
        })
        .collect();
    times.sort_unstable();
    times
}

/// A step takes 10 ms, 1 ms for each sequence and 2 ms for each chunk, and has 8 tokens at most.
///
/// ```text
///  0 to 13  8 of the 10 tokens of prompt 0
/// 13 to 29  its other 2, and the 4 tokens of prompt 1, which came at 5: both have their first token
/// 29 to 41  a token for each; request 1 has its two
/// 41 to 52  the third token of request 0
/// ```
#[test]
fn two_requests_go_step_by_step() {
    let mut arrivals = Given::new(&[(0, 10, 3, &[]), (5, 4, 2, &[])]);
    let mut simulation = simulation(overheads(0.010, 0.001, 0.002), engine());
    simulation.slo = "ttft=25ms".parse().unwrap();
    let (report, answers) = run(&simulation, &mut arrivals);
    assert_eq!(times(&answers), [(0, 0, 29, 52), (1, 13, 29, 41)]);
    expect![[r#"
        tiny on none, 1 replica, round-robin, seed 0


        requests        2 arrived, 2 completed
        duration        0.052 s
        throughput      38.462 requests/s, 96.2 output tok/s, 365.4 total tok/s
        goodput         19.231 requests/s, 50.0 % of all that arrived, kept to ttft=25ms

        ms                      mean         p50         p90         p95         p99         max
        TTFT                   26.50       24.00       29.00       29.00       29.00       29.00
        TPOT                   11.75       11.50       12.00       12.00       12.00       12.00
        ITL                    11.67       12.00       12.00       12.00       12.00       12.00
        E2E                    44.00       36.01       52.00       52.00       52.00       52.00
        queue wait              4.00        0.00        8.00        8.00        8.00        8.00

        tokens          14 prompt, 0 of them cached, 5 output, 17 computed
        queue           0.15 waiting on average, 1 at most
        KV cache        64 blocks, 6.4 % used on average, 7.8 % at most
        preemptions     0, 0 computed tokens lost
        steps           4 of 13.000 ms, with 1.5 sequences and 4.2 tokens; busy 100.0 %
        their time      step 76.9 %, sequences 11.5 %, chunks 11.5 %
    "#]]
    .assert_eq(&report.to_string());
}

/// With two steps in flight the second one is planned when the first begins: what comes meanwhile waits for the third.
#[test]
fn a_step_that_is_planned_ahead_does_not_see_what_comes_later() {
    let ahead = EngineSettings {
        steps_in_flight: 2,
        ..engine()
    };
    let mut arrivals = Given::new(&[(0, 4, 5, &[]), (5, 4, 1, &[])]);
    let simulation = simulation(overheads(0.010, 0.0, 0.0), ahead);
    let (_, answers) = run(&simulation, &mut arrivals);
    // Planned at 10, run from 20 to 30.
    assert_eq!(times(&answers), [(0, 0, 10, 50), (1, 10, 30, 30)]);
}

/// The second prompt begins as the first one, whose blocks are kept.
#[test]
fn what_was_computed_before_is_found() {
    let mut arrivals = Given::new(&[(0, 40, 1, &[1, 2]), (1000, 40, 1, &[1, 2])]);
    let settings = EngineSettings {
        max_batched_tokens: 8,
        ..engine()
    };
    let simulation = simulation(overheads(0.010, 0.0, 0.0), settings);
    let (report, answers) = run(&simulation, &mut arrivals);
    // 40 tokens in five steps, then the last 8 in one.
    assert_eq!(times(&answers), [(0, 0, 50, 50), (1, 1000, 1010, 1010)]);
    assert_eq!((report.tokens.cached, report.tokens.computed), (32, 48));
}

/// A full queue refuses, and what never fits is refused too.
#[test]
fn what_cannot_wait_or_run_is_refused_at_once() {
    let settings = EngineSettings {
        max_queue: 1,
        max_seqs: 1,
        kv_blocks: 20,
        ..engine()
    };
    let mut arrivals = Given::new(&[
        (0, 4, 2, &[]),
        (1, 4, 2, &[]),
        (2, 4, 2, &[]),
        (30, 200, 1, &[]),
        (30, 5, u32::MAX, &[]),
        (30, 100, 20, &[]),
    ]);
    let simulation = simulation(overheads(0.010, 0.0, 0.0), settings);
    let (report, answers) = run(&simulation, &mut arrivals);
    assert_eq!(times(&answers), [(0, 0, 10, 20), (1, 20, 30, 40)]);
    let refused: Vec<_> = report.requests.refused.into_iter().collect();
    assert_eq!(
        refused,
        [("never_fits", 1), ("queue_full", 1), ("too_long", 2)]
    );
}
