//! The times of bursts, of an engine whose steps take known times.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod stepping;
mod virtual_time;

use std::time::Duration;

use maitre_bench::workload::{Burst, ObservedBurst};
use maitre_bench::{BenchError, Stop, measure_bursts};
use stepping::{ROOMY, SteppingEngine};
use virtual_time::VirtualClock;

const SECOND: Duration = Duration::from_secs(1);

fn burst(users: u32, prompt_tokens: u32, output_tokens: u32) -> Burst {
    Burst {
        users,
        prompt_tokens,
        output_tokens,
    }
}

fn measured(
    bursts: &[Burst],
    stop: &Stop,
    progress: impl FnMut(Duration),
) -> Result<Vec<ObservedBurst>, BenchError> {
    let clock = VirtualClock::default();
    let target = SteppingEngine::new(&clock, ROOMY);
    clock.run(measure_bursts(
        &target, &clock, bursts, SECOND, stop, progress,
    ))
}

#[test]
fn prompts_and_answers_have_the_times_of_their_steps() {
    let bursts = [burst(1, 100, 1), burst(4, 10, 11)];
    let found = measured(&bursts, &Stop::default(), |_| {}).unwrap();
    assert_eq!(found.iter().map(|it| it.burst).collect::<Vec<_>>(), bursts);
    // 2 + 0.25 + 100 x 0.01 ms.
    assert!(
        (found[0].first_tokens_seconds - 3.25e-3).abs() < 0.3e-3,
        "{found:?}"
    );
    assert_eq!(found[0].answers_seconds, 0.0);
    // 2 + 4 x 0.25 + 40 x 0.01 ms, and ten steps of 3 ms.
    assert!(
        (found[1].first_tokens_seconds - 3.4e-3).abs() < 0.5e-3,
        "{found:?}"
    );
    assert!((found[1].answers_seconds - 30e-3).abs() < 3e-3, "{found:?}");
}

#[test]
fn what_was_measured_before_an_end_is_kept_and_no_bursts_are_refused() {
    let refused = measured(&[], &Stop::default(), |_| {});
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .contains("the number of bursts is 0")
    );
    let (stop, bursts) = (Stop::default(), [burst(1, 10, 5), burst(2, 10, 5)]);
    let mut looks = 0;
    let found = measured(&bursts, &stop, |_| {
        looks += 1;
        if looks == 3 {
            stop.stop();
        }
    });
    assert_eq!(found.unwrap().len(), 2, "all of the first pass");
    let stop = Stop::default();
    stop.stop();
    let nothing = measured(&bursts, &stop, |_| {});
    assert!(
        matches!(nothing, Err(BenchError::Interrupted)),
        "{nothing:?}"
    );
    let long = measured(&[burst(1, 4_000_000, 1)], &Stop::default(), |_| {});
    assert!(matches!(long, Err(BenchError::TooLong { .. })), "{long:?}");
}
