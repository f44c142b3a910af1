use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::*;
use crate::tiles::RowBlocks;

/// Tiles are counted where they are executed: once each, whatever the number of members.
fn count_tiles(team: &Team, tiles: usize) {
    let counts: Vec<AtomicU32> = (0..tiles).map(|_| AtomicU32::new(0)).collect();
    team.lead("count")
        .run(tiles, &|tile, _: &mut Scratch| {
            counts[tile].fetch_add(1, Ordering::Relaxed);
        })
        .unwrap();
    assert!(
        counts
            .iter()
            .all(|count| count.load(Ordering::Relaxed) == 1)
    );
}

/// Waits for a state that is reached soon but at no known time.
fn eventually(what: &str, mut reached: impl FnMut() -> bool) {
    let start = Instant::now();
    while !reached() {
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "{what}: not within a minute"
        );
        thread::yield_now();
    }
}

#[test]
fn every_tile_runs_once_in_and_out_of_steps() {
    for threads in [1, 2, 3, 8] {
        let team = Team::start(threads).unwrap();
        assert_eq!(team.threads(), threads);
        for tiles in [0, 1, 2, 7, 100] {
            count_tiles(&team, tiles);
            team.step(|| (0..50).for_each(|_| count_tiles(&team, tiles)));
        }
    }
}

#[test]
fn no_threads_is_an_error() {
    let message = Team::start(0).unwrap_err().to_string();
    assert_eq!(
        message,
        "a CPU backend was asked to run on 0 threads; it needs at least 1"
    );
}

#[test]
fn a_panicking_tile_is_an_error_and_the_team_goes_on() {
    for threads in [1, 3] {
        let team = Team::start(threads).unwrap();
        for round in 0..20 {
            let error = team
                .lead("doomed")
                .run(8, &|tile, _: &mut Scratch| {
                    assert!(tile != round % 8, "tile {tile} is bad")
                })
                .unwrap_err();
            let expected = format!("doomed panicked: tile {} is bad", round % 8);
            assert_eq!(error.to_string(), expected);
            count_tiles(&team, 16);
        }
    }
}

#[test]
fn panics_of_all_members_at_once_hang_nothing() {
    let team = Team::start(3).unwrap();
    for _ in 0..20 {
        team.lead("doomed")
            .run(64, &|_, _: &mut Scratch| panic!("all"))
            .unwrap_err();
        count_tiles(&team, 64);
    }
}

#[test]
fn several_threads_take_turns() {
    let team = Team::start(3).unwrap();
    let mut cells = vec![vec![0_u32; 64]; 4];
    thread::scope(|scope| {
        for cells in &mut cells {
            scope.spawn(|| {
                for _ in 0..100 {
                    let blocks = RowBlocks::new(cells, 1, 5);
                    team.step(|| {
                        team.lead("add").for_each(blocks, |block, _| {
                            block.data.iter_mut().for_each(|cell| *cell += 1);
                        })
                    })
                    .unwrap();
                }
            });
        }
    });
    assert_eq!(cells, vec![vec![100; 64]; 4]);
}

#[test]
fn an_idle_team_sleeps_and_wakes_for_the_next_operator() {
    let team = Team::start(3).unwrap();
    for _ in 0..20 {
        eventually("sleep outside a step", || team.is_asleep());
        count_tiles(&team, 9);
    }
    // A step that computes nothing for long does not keep the team awake either.
    team.step(|| eventually("sleep inside a step", || team.is_asleep()));
}

#[test]
fn sleeping_members_are_woken_for_an_operator() {
    let team = Team::start(2).unwrap();
    for _ in 0..20 {
        eventually("sleep", || team.is_asleep());
        // Each tile waits for the other, so one member alone would never finish.
        let started = AtomicU32::new(0);
        team.lead("meet")
            .run(2, &|_, _: &mut Scratch| {
                started.fetch_add(1, Ordering::SeqCst);
                eventually("two members", || started.load(Ordering::SeqCst) == 2);
            })
            .unwrap();
    }
}

#[test]
fn the_leader_waits_for_the_last_tile() {
    let team = Team::start(2).unwrap();
    let leader = thread::current().id();
    // Shorter and longer than a leader waits awake.
    for held in [Duration::ZERO, Duration::from_millis(1)] {
        let (started, finished) = (AtomicU32::new(0), AtomicU32::new(0));
        team.lead("wait")
            .run(2, &|_, _: &mut Scratch| {
                if thread::current().id() == leader {
                    eventually("the worker's tile", || started.load(Ordering::SeqCst) == 1);
                } else {
                    started.store(1, Ordering::SeqCst);
                    let start = Instant::now();
                    (0..1000).for_each(|_| thread::yield_now());
                    eventually("the time is over", || start.elapsed() >= held);
                    finished.store(1, Ordering::SeqCst);
                }
            })
            .unwrap();
        assert_eq!(finished.load(Ordering::SeqCst), 1);
    }
}

#[test]
fn scratch_grows_and_keeps_its_memory() {
    let mut scratch = Scratch::default();
    assert_eq!(scratch.floats(3).len(), 3);
    scratch.floats(100)[99] = 1.0;
    let address = scratch.floats(100).as_ptr();
    assert_eq!(scratch.floats(2).len(), 2);
    assert_eq!(scratch.floats(100).as_ptr(), address);
}

#[test]
fn scratch_stays_where_it_was_reserved() {
    let mut scratch = Scratch::default();
    let need = Need {
        floats: 100,
        words: 50,
        integers: 0,
        records: 9,
    };
    scratch.reserve(need).unwrap();
    let start = scratch.floats(1).as_ptr();
    let (floats, words, integers) = scratch.aligned(100, 50, 0);
    assert_eq!((floats.len(), words.len(), integers.len()), (100, 50, 0));
    assert_eq!(scratch.floats(100).as_ptr(), start);
    assert!(scratch.take_records().capacity() >= 9);

    let too_much = Need {
        words: usize::MAX,
        ..need
    };
    assert_eq!(
        scratch.reserve(too_much).unwrap_err().to_string(),
        format!(
            "cannot reserve {} bytes for the memory of a compute thread: out of memory",
            usize::MAX
        )
    );
    assert_eq!(scratch.floats(100).as_ptr(), start);
}
