//! The stable text of plans: one page that shows every kind of decision.

use expect_test::expect;
use maitre_kv::KvConfig;
use maitre_scheduler::{NewRequest, RequestId, SchedulerConfig, Time};

use crate::drafting::Drafting;
use crate::world::{Mishaps, World, request};

/// Six blocks of four tokens and a budget of eight: requests 1 and 2 are admitted, 2 in chunks; both
/// decode until the blocks run out and 2 has to go; 3 waits too long, 4 runs out of time, and 2
/// computes what it lost.
#[test]
fn admit_chunk_decode_preempt_expire() {
    let mut world = World::new(SchedulerConfig::new(3, 8, 24, KvConfig::new(6, 4)));
    world
        .add(request(1, &[11, 12, 13, 14, 15, 16], 12))
        .unwrap();
    world
        .add(NewRequest {
            prompt_logits: true,
            ..request(2, &[21, 22, 23, 24, 25, 26, 27], 9)
        })
        .unwrap();
    world
        .add(NewRequest {
            queue_deadline: Some(Time::from_millis(40)),
            ..request(3, &[30; 12], 4)
        })
        .unwrap();
    for _ in 0..9 {
        world.schedule();
        world.commit(&Mishaps::default());
        world.now += Time::from_millis(10);
    }
    let deadline = Some(world.now + Time::from_millis(10));
    world
        .add(NewRequest {
            deadline,
            ..request(4, &[40, 41], 4)
        })
        .unwrap();
    while world.scheduler.has_work() {
        world.schedule();
        world.commit(&Mishaps::default());
        world.now += Time::from_millis(10);
    }
    assert!(world.ended_otherwise.contains(&RequestId(3)));
    expect![[r#"
        step 0: tokens 8
          admitted request 1: cached 0 of 6
          admitted request 2: cached 0 of 7
          run request 1 positions 0..6 tokens [11, 12, 13, 14, 15, 16] blocks 0+[0..2] slots [0..6] output 5..6 samples
          run request 2 positions 0..2 tokens [21, 22] blocks 0+[2] slots [8..10] output 0..2
        step 1: tokens 6
          run request 1 positions 6..7 tokens [833] blocks 2+[] slots [6] output 0..1 samples
          run request 2 positions 2..7 tokens [23, 24, 25, 26, 27] blocks 1+[3] slots [10..15] output 0..5 samples
        step 2: tokens 2
          run request 1 positions 7..8 tokens [976] blocks 2+[] slots [7] output 0..1 samples
          run request 2 positions 7..8 tokens [957] blocks 2+[] slots [15] output 0..1 samples
        step 3: tokens 2
          run request 1 positions 8..9 tokens [74] blocks 2+[4] slots [16] output 0..1 samples
          run request 2 positions 8..9 tokens [910] blocks 2+[5] slots [20] output 0..1 samples
        step 4: tokens 2
          expired request 3: queue timeout
          run request 1 positions 9..10 tokens [743] blocks 3+[] slots [17] output 0..1 samples
          run request 2 positions 9..10 tokens [826] blocks 3+[] slots [21] output 0..1 samples
        step 5: tokens 2
          run request 1 positions 10..11 tokens [955] blocks 3+[] slots [18] output 0..1 samples
          run request 2 positions 10..11 tokens [212] blocks 3+[] slots [22] output 0..1 samples
        step 6: tokens 2
          run request 1 positions 11..12 tokens [796] blocks 3+[] slots [19] output 0..1 samples
          run request 2 positions 11..12 tokens [447] blocks 3+[] slots [23] output 0..1 samples
        step 7: tokens 1
          preempted request 2 for request 1: lost tokens 12, freed blocks 3, times 1
          run request 1 positions 12..13 tokens [764] blocks 3+[5] slots [20] output 0..1 samples
        step 8: tokens 1
          run request 1 positions 13..14 tokens [602] blocks 4+[] slots [21] output 0..1 samples
        step 9: tokens 1
          run request 1 positions 14..15 tokens [156] blocks 4+[] slots [22] output 0..1 samples
        step 10: tokens 1
          expired request 4: deadline
          run request 1 positions 15..16 tokens [272] blocks 4+[] slots [23] output 0..1 samples
        step 11: tokens 1
          run request 1 positions 16..17 tokens [23] blocks 4+[3] slots [12] output 0..1 samples
        step 12: tokens 8
          admitted request 2 again: cached 0 of 13
          run request 2 positions 0..8 tokens [21, 22, 23, 24, 25, 26, 27, 957] blocks 0+[3 2] slots [12..16 8..12] output 0..0
        step 13: tokens 5
          run request 2 positions 8..13 tokens [910, 826, 212, 447, 617] blocks 2+[5 4] slots [20..24 16] output 4..5 samples
        step 14: tokens 1
          run request 2 positions 13..14 tokens [572] blocks 4+[] slots [17] output 0..1 samples
        step 15: tokens 1
          run request 2 positions 14..15 tokens [739] blocks 4+[] slots [18] output 0..1 samples
    "#]]
    .assert_eq(&world.log);
}

/// Request 1 holds two of four blocks and may want more. Request 2 with its first output would
/// take the last two, and lose them, with all its work, as soon as request 1 goes on.
#[test]
fn a_newcomer_leaves_a_free_block_for_everybody_who_runs() {
    let mut world = World::new(SchedulerConfig::new(2, 8, 16, KvConfig::new(4, 4)));
    world.add(request(1, &[10, 11, 12, 13, 14], 10)).unwrap();
    world.schedule();
    world.commit(&Mishaps::default());
    world.add(request(2, &[20, 21, 22, 23], 2)).unwrap();
    assert_eq!(world.schedule().spans.len(), 1, "request 2 waits");
    world.add(request(3, &[30], 2)).unwrap();
    world.commit(&Mishaps::default());
    assert_eq!(
        world.schedule().spans.len(),
        1,
        "request 3 does not overtake it"
    );
    world.cancel(RequestId(2));
    world.commit(&Mishaps::default());
    assert_eq!(
        world.schedule().spans.len(),
        2,
        "request 3 leaves a block free"
    );
    world.run_to_quiescence();
    assert_eq!(world.scheduler.counts().preemptions, 0);
}

/// Request 2 finds a block and a half of request 1's prompt: the block is shared, the half is copied; its
/// fork shares all but the block that both write to. Request 4 needs everything: what is remembered moves to
/// the host tier, and back for request 5, which begins as 1 did, with nothing left to compute but one token.
#[test]
fn share_copy_fork_swap() {
    let kv = KvConfig {
        num_host_pages: 3,
        ..KvConfig::new(8, 4)
    };
    let mut world = World::new(SchedulerConfig::new(3, 32, 32, kv));
    let lives = [
        vec![request(1, &[21, 22, 23, 24, 25, 26, 27, 28], 1)],
        vec![
            request(2, &[21, 22, 23, 24, 25, 26, 31], 3),
            NewRequest {
                fork_of: Some(RequestId(2)),
                ..request(3, &[21, 22, 23, 24, 25, 26, 31], 3)
            },
        ],
        vec![request(4, &[40; 31], 1)],
        vec![request(5, &[21, 22, 23, 24, 25, 26, 27, 28], 1)],
    ];
    for requests in lives {
        for request in requests {
            world.add(request).unwrap();
        }
        world.run_to_quiescence();
    }
    expect![[r#"
        step 0: tokens 8
          admitted request 1: cached 0 of 8
          run request 1 positions 0..8 tokens [21, 22, 23, 24, 25, 26, 27, 28] blocks 0+[0..2] slots [0..8] output 7..8 samples
        step 1: tokens 1
          copy block 1 to 2
          admitted request 2: cached 6 of 7
          run request 2 positions 6..7 tokens [31] blocks 0+[0 2] slots [10] output 0..1 samples
        step 2: tokens 2
          copy block 2 to 3
          admitted request 3: forked 6 of 7
          run request 2 positions 7..8 tokens [862] blocks 2+[] slots [11] output 0..1 samples
          run request 3 positions 6..7 tokens [31] blocks 0+[0 3] slots [none] output 0..1 samples
        step 3: tokens 2
          run request 2 positions 8..9 tokens [149] blocks 2+[4] slots [16] output 0..1 samples
          run request 3 positions 7..8 tokens [862] blocks 2+[] slots [15] output 0..1 samples
        step 4: tokens 1
          run request 3 positions 8..9 tokens [149] blocks 1+[2..4] slots [12] output 0..1 samples
        step 5: tokens 31
          out block 1 to 0
          out block 2 to 1
          out block 0 to 2
          admitted request 4: cached 0 of 31
          run request 4 positions 0..31 tokens [40, 40, 40, 40, 40, 40, 40, 40, 40, 40, 40, 40, 40, 40, 40, 40, 40, 40, 40, 40, 40, 40, 40, 40, 40, 40, 40, 40, 40, 40, 40] blocks 0+[3..8 1..3 0] slots [12..32 4..12 0..3] output 30..31 samples
        step 6: tokens 1
          out block 1 to 1
          in block 2 to 0
          in block 0 to 2
          admitted request 5: cached 7 of 8
          run request 5 positions 7..8 tokens [28] blocks 0+[0 2] slots [none] output 0..1 samples
    "#]]
    .assert_eq(&world.log);
    let counts = world.scheduler.counts();
    // The fork found nothing: it shares.
    assert_eq!(counts.prefix_hits, 6 + 7);
}

/// Blocks run out for request 1. Requests 2 and 3 have the lowest priority, and 3 has less to lose although it
/// has computed more: most of that is in blocks that 4 holds too.
#[test]
fn the_victim_has_the_lowest_priority_and_least_to_lose() {
    let mut world = World::new(SchedulerConfig::new(4, 64, 64, KvConfig::new(17, 4)));
    let shared: Vec<u32> = (320..337).collect();
    let with_priority = |id, prompt: &[u32], priority| NewRequest {
        priority,
        ..request(id, prompt, 40)
    };
    world.add(with_priority(1, &[23; 9], 1)).unwrap();
    world.add(with_priority(2, &[32; 5], 0)).unwrap();
    world.add(with_priority(3, &shared, 0)).unwrap();
    world.schedule();
    world.commit(&Mishaps::default());
    world
        .add(NewRequest {
            fork_of: Some(RequestId(3)),
            ..with_priority(4, &shared, 1)
        })
        .unwrap();
    let mut victims = Vec::new();
    for _ in 0..30 {
        let plan = world.schedule();
        victims.extend(plan.preempted.iter().map(|it| it.request));
        world.commit(&Mishaps::default());
    }
    assert_eq!(victims.first(), Some(&RequestId(3)));
    world.run_to_quiescence();
}

/// In step 1 all drafts are rejected, so the next plan tells of a new block again. In step 2 a budget of nine leaves
/// seven drafts, dealt in turn; request 1 has all of its own accepted. In step 5 no block is free: both want
/// more than their own blocks hold.
#[test]
fn draft_accept_reject() {
    let mut world = World::new(SchedulerConfig::new(2, 9, 24, KvConfig::new(6, 4)));
    world.drafting = Some(Drafting {
        seed: 8,
        lucky: true,
    });
    world
        .add(request(1, &[11, 12, 13, 14, 15, 16], 12))
        .unwrap();
    world.add(request(2, &[21, 22, 23], 8)).unwrap();
    world.run_to_quiescence();
    expect![[r#"
        step 0: tokens 9
          admitted request 1: cached 0 of 6
          admitted request 2: cached 0 of 3
          run request 1 positions 0..6 tokens [11, 12, 13, 14, 15, 16] blocks 0+[0..2] slots [0..6] output 5..6 samples
          run request 2 positions 0..3 tokens [21, 22, 23] blocks 0+[2] slots [8..11] output 2..3 samples
        step 1: tokens 2 drafts 5
          run request 1 positions 6..7 tokens [833] blocks 2+[3] slots [6..8 12..16] output 0..1 samples drafts 5
          run request 2 positions 3..4 tokens [308] blocks 1+[] slots [11] output 0..1 samples
        step 2: tokens 2 drafts 7
          run request 1 positions 7..8 tokens [976] blocks 2+[4] slots [7 16..20] output 0..1 samples drafts 4
          run request 2 positions 4..5 tokens [727] blocks 1+[3] slots [12..16] output 0..1 samples drafts 3
        step 3: tokens 2 drafts 3
          run request 1 positions 12..13 tokens [764] blocks 3+[5] slots [20..24] output 0..1 samples drafts 3
          run request 2 positions 5..6 tokens [527] blocks 2+[] slots [13] output 0..1 samples
        step 4: tokens 2 drafts 1
          run request 1 positions 13..14 tokens [602] blocks 4+[] slots [21] output 0..1 samples
          run request 2 positions 6..7 tokens [35] blocks 2+[] slots [14..16] output 0..1 samples drafts 1
        step 5: tokens 2 drafts 1
          run request 1 positions 14..15 tokens [156] blocks 4+[] slots [22..24] output 0..1 samples drafts 1
          run request 2 positions 7..8 tokens [875] blocks 2+[] slots [15] output 0..1 samples
        step 6: tokens 1
          preempted request 2 for request 2: lost tokens 8, freed blocks 2, times 1
          run request 1 positions 15..16 tokens [272] blocks 4+[] slots [23] output 0..1 samples
        step 7: tokens 1
          run request 1 positions 16..17 tokens [23] blocks 4+[3] slots [12] output 0..1 samples
        step 8: tokens 5
          admitted request 2 again: cached 4 of 9
          run request 2 positions 4..9 tokens [727, 527, 35, 875, 488] blocks 0+[2..4 5] slots [12..16 20] output 4..5 samples
        step 9: tokens 1
          run request 2 positions 9..10 tokens [578] blocks 3+[] slots [21] output 0..1 samples
    "#]]
    .assert_eq(&world.log);
    let commits = world.calls.iter().map(|call| format!("{call}\n"));
    let commits: String = commits.filter(|call| call.starts_with("commit")).collect();
    expect![[r#"
        commit 0 1=833,drafts=5 2=308
        commit 1 1=976,drafts=6 2=727,drafts=6
        commit 2 1=74,743,955,796,764,drafts=3 2=527
        commit 3 1=602 2=35,drafts=6
        commit 4 1=156,drafts=2 2=875,drafts=18446744073709551615
        commit 5 1=272 2=488,drafts=3
        commit 6 1=23,drafts=2
        commit 7 1=204,drafts=2
        commit 8 2=578,drafts=3
        commit 9 2=699,drafts=5
    "#]]
    .assert_eq(&commits);
}
