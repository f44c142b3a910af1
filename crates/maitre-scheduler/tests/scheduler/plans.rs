//! The stable text of plans: one page that shows every kind of decision.

use expect_test::expect;
use maitre_kv::KvConfig;
use maitre_scheduler::{NewRequest, RequestId, SchedulerConfig, Time};

use crate::world::{Mishaps, World, request};

/// Six blocks of four tokens and a budget of eight: requests 1 and 2 are admitted, 2 in chunks; both
/// decode until the blocks run out and 2 has to go; 3 waits too long, 4 runs out of time, and 2
/// computes what it lost.
#[test]
fn admit_chunk_decode_preempt_expire() {
    let mut world = World::new(SchedulerConfig {
        max_seqs: 3,
        max_batched_tokens: 8,
        max_queue: 8,
        max_model_len: 24,
        kv: KvConfig {
            num_blocks: 6,
            block_size: 4,
        },
    });
    world
        .add(request(1, &[10, 11, 12, 13, 14, 15], 12))
        .unwrap();
    world
        .add(NewRequest {
            prompt_logits: true,
            ..request(2, &[20, 21, 22, 23, 24, 25, 26], 9)
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
          run request 1 positions 0..6 tokens [10, 11, 12, 13, 14, 15] blocks [0..2] slots [0..6] output 5..6 samples
          run request 2 positions 0..2 tokens [20, 21] blocks [2] slots [8..10] output 0..2
        step 1: tokens 6
          run request 1 positions 6..7 tokens [670] blocks [0..2] slots [6] output 0..1 samples
          run request 2 positions 2..7 tokens [22, 23, 24, 25, 26] blocks [2..4] slots [10..15] output 0..5 samples
        step 2: tokens 2
          run request 1 positions 7..8 tokens [933] blocks [0..2] slots [7] output 0..1 samples
          run request 2 positions 7..8 tokens [469] blocks [2..4] slots [15] output 0..1 samples
        step 3: tokens 2
          run request 1 positions 8..9 tokens [103] blocks [0..2 4] slots [16] output 0..1 samples
          run request 2 positions 8..9 tokens [680] blocks [2..4 5] slots [20] output 0..1 samples
        step 4: tokens 2
          expired request 3: queue timeout
          run request 1 positions 9..10 tokens [802] blocks [0..2 4] slots [17] output 0..1 samples
          run request 2 positions 9..10 tokens [427] blocks [2..4 5] slots [21] output 0..1 samples
        step 5: tokens 2
          run request 1 positions 10..11 tokens [585] blocks [0..2 4] slots [18] output 0..1 samples
          run request 2 positions 10..11 tokens [578] blocks [2..4 5] slots [22] output 0..1 samples
        step 6: tokens 2
          run request 1 positions 11..12 tokens [462] blocks [0..2 4] slots [19] output 0..1 samples
          run request 2 positions 11..12 tokens [488] blocks [2..4 5] slots [23] output 0..1 samples
        step 7: tokens 1
          preempted request 2 for request 1: lost tokens 12, freed blocks 3
          run request 1 positions 12..13 tokens [872] blocks [0..2 4 2] slots [8] output 0..1 samples
        step 8: tokens 1
          run request 1 positions 13..14 tokens [392] blocks [0..2 4 2] slots [9] output 0..1 samples
        step 9: tokens 1
          run request 1 positions 14..15 tokens [987] blocks [0..2 4 2] slots [10] output 0..1 samples
        step 10: tokens 1
          expired request 4: deadline
          run request 1 positions 15..16 tokens [846] blocks [0..2 4 2] slots [11] output 0..1 samples
        step 11: tokens 1
          run request 1 positions 16..17 tokens [400] blocks [0..2 4 2..4] slots [12] output 0..1 samples
        step 12: tokens 8
          run request 2 positions 0..8 tokens [20, 21, 22, 23, 24, 25, 26, 469] blocks [0..2] slots [0..8] output 0..0
        step 13: tokens 5
          run request 2 positions 8..13 tokens [680, 427, 578, 488, 714] blocks [0..2 4 2] slots [16..20 8] output 4..5 samples
        step 14: tokens 1
          run request 2 positions 13..14 tokens [474] blocks [0..2 4 2] slots [9] output 0..1 samples
        step 15: tokens 1
          run request 2 positions 14..15 tokens [706] blocks [0..2 4 2] slots [10] output 0..1 samples
    "#]].assert_eq(&world.log);
}

/// Request 1 holds two of four blocks and may want more. Request 2 with its first output would
/// take the last two, and lose them, with all its work, as soon as request 1 goes on.
#[test]
fn a_newcomer_leaves_a_free_block_for_everybody_who_runs() {
    let mut world = World::new(SchedulerConfig {
        max_seqs: 2,
        max_batched_tokens: 8,
        max_queue: 2,
        max_model_len: 16,
        kv: KvConfig {
            num_blocks: 4,
            block_size: 4,
        },
    });
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
    assert_eq!(world.scheduler.preemptions(), 0);
}
