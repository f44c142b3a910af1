//! Deterministic simulation: life after life, each from its seed, with all invariants checked after each call.
//!
//! By itself a few seconds' worth; `cargo xtask simulate-faults` runs it for minutes in the release build, by
//! way of the environment: `MAITRE_SIMULATE_SECONDS` for so long, `MAITRE_SIMULATE_SEED` from this seed on,
//! `MAITRE_SIMULATE_REPLAY` for a file with a case as a failure prints it.

use std::time::{Duration, Instant};

use maitre_scheduler::{Call, KvSpec};

use crate::life::{Case, message_of};
use crate::tally::Tally;

/// Lives that the ordinary test run sees.
const LIVES: u64 = 600;

/// Events of the longest life.
const EVENTS: usize = 120;

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is {text:?}, not a number")),
    )
}

#[test]
fn any_life_keeps_the_invariants_and_comes_to_rest() {
    if let Ok(path) = std::env::var("MAITRE_SIMULATE_REPLAY") {
        return replay_case(&std::fs::read_to_string(path).unwrap());
    }
    let time = setting("MAITRE_SIMULATE_SECONDS").map(Duration::from_secs);
    let first = setting("MAITRE_SIMULATE_SEED").unwrap_or(0);
    let (started, mut total, mut events, mut lives) = (Instant::now(), Tally::default(), 0, 0);
    let goes_on = |lives| match time {
        Some(time) => started.elapsed() < time,
        None => lives < LIVES,
    };
    while goes_on(lives) {
        let case = Case::random(first + lives, EVENTS);
        events += case.events.len() as u64;
        match message_of(|| total.add(&case.run().tally)) {
            None => lives += 1,
            Some(_) => report(first + lives, case),
        }
    }
    println!("{lives} lives of {events} events: {total:?}");
    let met = [
        total.preempted,
        total.reserved,
        total.expired,
        total.failed,
        total.cancelled_in_flight,
        total.stalled,
        total.reordered,
        total.hits,
        total.forked,
        total.resets,
        total.swapped_in,
        total.copied,
        total.merged,
        total.drafted,
        total.drafted_behind_a_step,
        total.short_of_tokens,
        total.short_of_blocks,
        total.accepted,
        total.rejected,
        total.ended_in_a_run,
        total.ahead,
        total.retracted,
        total.moved_again,
        total.forgone,
        total.replaced_in_flight,
        total.queue_full,
        total.queue_tokens_full,
        total.tenant_queue_full,
        total.wait_too_long,
        total.deferred,
        total.went_before,
        total.transfers,
        total.lost,
        total.partly_lost,
        total.transfers_without_request,
        total.hits_of_state,
        total.forks_of_state,
        total.deferred_with_state,
    ];
    assert!(met.iter().all(|&times| times > 3), "{total:?}");
}

/// A life that found a fault once and that the ordinary run is too short to meet: a transfer into a block that a copy of
/// a step in flight still read.
#[test]
fn a_life_that_found_a_fault_is_lived_again() {
    let case = Case::random(107_898, EVENTS);
    assert_eq!(case.config.kv.groups, [KvSpec::Full]);
    case.run();
}

/// Shrinks a case that fails and ends the test with it.
fn report(seed: u64, case: Case) {
    let config = case.config.clone();
    // It fails hundreds of times on the way; the last message is the one that counts.
    std::panic::set_hook(Box::new(|_| {}));
    let failure = case.shrunk_failure();
    drop(std::panic::take_hook());
    let Some(failure) = failure else {
        panic!("seed {seed} failed once, but not again: something in it is not deterministic");
    };
    let (message, calls) = (failure.message, failure.calls);
    panic!(
        "{message}\n# {config:?}\n# To see it again, give the lines from here on as a file to\n\
         # cargo xtask simulate-faults --replay FILE\n# seed {seed}\n{calls}"
    );
}

/// Makes the calls of a failure again, on the configuration of its seed.
fn replay_case(text: &str) {
    let seed = text.lines().find_map(|line| line.strip_prefix("# seed "));
    let seed = seed.and_then(|seed| seed.parse().ok());
    let case = Case::random(seed.expect("a line `# seed NUMBER`"), EVENTS);
    let mut world = case.world();
    let calls = text.lines().filter(|line| !line.starts_with('#'));
    for line in calls.take_while(|line| !line.is_empty()) {
        world.make(line.parse::<Call>().unwrap());
    }
    println!("{}", world.log);
    world.run_to_quiescence();
}
