//! Recurrent states: what every plan must satisfy of them, and single cases.
//!
//! That a state is the right one is seen in the memory (`model.rs`), which goes on from what is read.

use std::collections::{BTreeMap, HashSet};

use expect_test::expect;
use maitre_scheduler::{
    BlockId, GroupSpan, KvConfig, KvSpec, NewRequest, PlannedSpan, RequestId, SchedulerConfig,
    StateRef,
};

use crate::world::{Entry, Mishaps, World, request};

/// A state of a request: its group, and the tokens that it is behind.
type Part = (usize, usize);

/// A span reads what an earlier one of its request wrote, unless it is the first since the admission, and writes the state
/// behind its last token, behind each place for a draft, and at checkpoints.
pub(crate) fn check_states(
    span: &PlannedSpan,
    group: &GroupSpan,
    spec: KvSpec,
    told: &mut BTreeMap<usize, StateRef>,
) {
    let KvSpec::State {
        pages,
        checkpoint_every,
    } = spec
    else {
        assert_eq!(group.state, None);
        return;
    };
    let state = group.state.as_ref().expect("a recurrent group has states");
    let first = span.first_position;
    assert!(group.slots.is_empty() && group.table.blocks.is_empty());
    assert_eq!(state.read.is_some(), first > 0);
    if let Some(earlier) = told.get(&first) {
        assert_eq!(
            state.read.as_ref(),
            Some(earlier),
            "the state that was written"
        );
    }
    let last = span.tokens.len() - 1;
    let rows: Vec<usize> = state.writes.iter().map(|write| write.row).collect();
    assert!(rows.is_sorted_by(|a, b| a < b), "{rows:?}");
    let needed = last..=last + span.drafts;
    assert!(needed.clone().all(|row| rows.contains(&row)), "{rows:?}");
    for row in rows.into_iter().filter(|row| !needed.contains(row)) {
        let is_checkpoint = (first + row + 1).is_multiple_of(checkpoint_every as usize);
        let may_come_again = span.samples && row + 1 == last;
        assert!(
            row < last && (is_checkpoint || may_come_again),
            "{row} of {last}"
        );
    }
    let written = state.writes.iter().map(|write| &write.to);
    let all: Vec<&StateRef> = state.read.iter().chain(written).collect();
    let distinct: HashSet<&BlockId> = all.iter().flat_map(|it| it.pages()).collect();
    assert_eq!(distinct.len(), all.len() * pages as usize, "a page twice");
    for write in &state.writes {
        told.insert(first + write.row + 1, write.to.clone());
    }
}

/// The pages of the states that a span reads.
pub(crate) fn read_states(span: &PlannedSpan) -> impl Iterator<Item = (Part, BlockId)> {
    let groups = span.groups.iter().enumerate();
    let read = groups.filter_map(|(group, it)| Some((group, it.state.as_ref()?.read.as_ref()?)));
    read.flat_map(|(group, state)| pages((group, span.first_position), state))
}

/// The pages of the states that a span writes.
pub(crate) fn written_states(span: &PlannedSpan) -> impl Iterator<Item = (Part, BlockId)> {
    let groups = span.groups.iter().enumerate();
    let states = groups.filter_map(|(group, it)| Some((group, it.state.as_ref()?)));
    states.flat_map(move |(group, state)| {
        let writes = state.writes.iter();
        writes.flat_map(move |write| pages((group, span.first_position + write.row + 1), &write.to))
    })
}

/// The pages of the states that the next span of a request reads, as far as plans have told them.
pub(crate) fn next_states(entry: &Entry) -> impl Iterator<Item = (Part, BlockId)> {
    let groups = entry.states.iter().enumerate();
    let next = groups.filter_map(|(group, told)| Some((group, told.get(&entry.scheduled)?)));
    next.flat_map(|(group, state)| pages((group, entry.scheduled), state))
}

fn pages(part: Part, state: &StateRef) -> impl Iterator<Item = (Part, BlockId)> {
    state.pages().iter().map(move |page| (part, *page))
}

/// One group under full attention, and a recurrent one: a state takes two pages, a checkpoint comes every 8 tokens.
fn config(num_pages: u32, prefix_cache: bool) -> SchedulerConfig {
    let state = KvSpec::State {
        pages: 2,
        checkpoint_every: 8,
    };
    let kv = KvConfig {
        groups: vec![KvSpec::Full, state],
        prefix_cache,
        ..KvConfig::new(num_pages, 4)
    };
    SchedulerConfig::new(4, 32, 64, kv)
}

fn counted(len: u32) -> Vec<u32> {
    (0..len).collect()
}

/// Request 1 leaves a checkpoint on its way, and the state before its last token, with which its fork goes on; request 3 finds
/// the checkpoint. The pages of states that are not read again are written next.
#[test]
fn a_span_reads_one_state_and_writes_others() {
    let mut world = World::new(config(40, true));
    world.add(request(1, &counted(11), 3)).unwrap();
    let fork = NewRequest {
        fork_of: Some(RequestId(1)),
        ..request(2, &counted(11), 1)
    };
    world.add(fork).unwrap();
    world.run_to_quiescence();
    world
        .add(request(3, &[&counted(8)[..], &[3]].concat(), 1))
        .unwrap();
    world.run_to_quiescence();
    expect![[r#"
        step 0: tokens 11
          admitted request 1: cached 0 of 11
          run request 1 positions 0..11 tokens [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10] group 0 blocks 0+[0..3] slots [0..11] group 1 state [] to 7:[9..11] 9:[7..9] 10:[5..7] output 10..11 samples
        step 1: tokens 2
          copy block 2 to 11
          admitted request 2: forked 10 of 11
          run request 1 positions 11..12 tokens [47] group 0 blocks 3+[] slots [11] group 1 state [5..7] to 0:[3..5] output 0..1 samples
          run request 2 positions 10..11 tokens [10] group 0 blocks 0+[0..2 11] slots [none] group 1 state [7..9] to 0:[14..16] output 0..1 samples
        step 2: tokens 1
          run request 1 positions 12..13 tokens [601] group 0 blocks 3+[11] slots [44] group 1 state [3..5] to 0:[5..7] output 0..1 samples
        step 3: tokens 1
          admitted request 3: cached 8 of 9
          run request 3 positions 8..9 tokens [3] group 0 blocks 0+[0..2 11] slots [44] group 1 state [9..11] to 0:[6 5] output 0..1 samples
    "#]].assert_eq(&world.log);
}

/// Under full attention all of a prompt is found. A state is only at checkpoints, and the last token cannot be computed into
/// one that knows it.
#[test]
fn a_prefix_ends_at_a_checkpoint_before_the_last_token() {
    let mut world = World::new(config(60, true));
    world.add(request(1, &counted(19), 1)).unwrap();
    world.run_to_quiescence();
    let cases = [(7, 0), (8, 0), (9, 8), (16, 8), (17, 16), (19, 16)];
    for (id, (len, cached)) in (2..).zip(cases) {
        world.add(request(id, &counted(len), 1)).unwrap();
        let plan = world.schedule();
        assert_eq!(plan.admitted[0].cached_tokens, cached, "of {len}");
        world.commit(&Mishaps::default());
        world.run_to_quiescence();
    }
}

/// A fork that comes too late for the state of its parent's prompt starts as any other request does.
#[test]
fn a_late_fork_starts_from_a_checkpoint_if_there_is_one() {
    for (prefix_cache, found) in [(true, (8, 0)), (false, (0, 0))] {
        let mut world = World::new(config(60, prefix_cache));
        world.add(request(1, &counted(11), 9)).unwrap();
        for _ in 0..3 {
            world.schedule();
            world.commit(&Mishaps::default());
        }
        let fork = NewRequest {
            fork_of: Some(RequestId(1)),
            ..request(2, &counted(11), 1)
        };
        world.add(fork).unwrap();
        let plan = world.schedule();
        let admitted = plan.admitted[0];
        assert_eq!((admitted.cached_tokens, admitted.forked_tokens), found);
        world.commit(&Mishaps::default());
        world.run_to_quiescence();
    }
}

/// As many states as a sequence needs with two steps in flight, and pages for the longest one.
#[test]
fn the_longest_request_fits_with_its_states() {
    let config = config(16 + 3 * 2, true);
    assert_eq!(config.capacity_tokens(), 64);
    let mut world = World::new(config);
    world.pipelined = true;
    let long = NewRequest {
        plan_ahead: true,
        ..request(1, &counted(30), 34)
    };
    world.add(long).unwrap();
    world.run_to_quiescence();
    assert_eq!(world.completed.len(), 1);
    assert_eq!(world.scheduler.counts().preemptions, 0);
}
