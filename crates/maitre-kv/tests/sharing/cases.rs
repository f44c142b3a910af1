//! The single facts that the random calls build on, one by one.

use maitre_kv::{Ahead, ForkStart, HashChain, KvConfig, KvManager, KvSpec, SeqId, SequenceStart};

use crate::world::World;

fn counted(len: u32) -> Vec<u32> {
    (0..len).collect()
}

#[test]
fn the_beginning_of_a_block_is_copied_and_the_source_stays() {
    let mut world = World::new(KvConfig::new(8, 4));
    world.admit(1, 0, &counted(8), true, 0);
    world.compute(1, &[], true);
    let source = world.kv.block_table(SeqId(1), 0)[1];
    let prompt = [0, 1, 2, 3, 4, 5, 9, 9];
    assert_eq!(world.admit(2, 0, &prompt, true, 0), Some(6));
    let table = world.kv.block_table(SeqId(2), 0).to_vec();
    assert_eq!(table[0], world.kv.block_table(SeqId(1), 0)[0]);
    assert_ne!(table[1], source);
    // Both go on, and each reads its own.
    assert!(world.compute(2, &[7], true));
    assert!(world.compute(1, &[8], true));
    assert_eq!(world.kv.counts().copied, 1);
}

#[test]
fn a_full_hit_shares_all_blocks_and_takes_one_for_the_next_token() {
    let mut world = World::new(KvConfig::new(4, 4));
    world.admit(1, 0, &counted(8), true, 0);
    world.compute(1, &[], true);
    world.release(1);
    assert_eq!(world.admit(2, 0, &counted(8), true, 0), Some(8));
    assert_eq!((world.kv.used_pages(), world.kv.idle_pages()), (3, 0));
}

#[test]
fn equal_blocks_computed_apart_become_one() {
    let mut world = World::new(KvConfig::new(8, 4));
    world.admit(1, 0, &counted(8), true, 0);
    world.admit(2, 0, &counted(8), true, 0);
    world.compute(1, &[], true);
    world.compute(2, &[], true);
    assert_eq!(world.kv.counts().merged, 2);
    assert_eq!(
        world.kv.block_table(SeqId(1), 0)[..2],
        world.kv.block_table(SeqId(2), 0)[..2]
    );
    let delta = world.kv.take_deltas(SeqId(2), 8, 0..0).next().unwrap().0;
    assert_eq!((delta.keep, delta.blocks.len()), (0, 2));
}

#[test]
fn namespaces_never_meet() {
    let mut world = World::new(KvConfig::new(8, 4));
    world.admit(1, 0, &counted(8), true, 0);
    world.compute(1, &[], true);
    assert_eq!(world.admit(2, 1, &counted(8), true, 0), Some(0));
}

#[test]
fn after_a_reset_nobody_names_what_was_computed_before() {
    let mut world = World::new(KvConfig::new(8, 4));
    world.admit(1, 0, &counted(5), true, 0);
    world.compute(1, &[], true);
    world.reset();
    world.compute(1, &[5, 6, 7, 8], true);
    assert_eq!(world.kv.named_pages(), 0);
    assert_eq!(world.admit(2, 0, &counted(9), true, 0), Some(0));
}

#[test]
fn what_is_evicted_waits_in_the_host_tier_and_comes_back() {
    let host = KvConfig {
        num_host_pages: 4,
        ..KvConfig::new(3, 4)
    };
    let mut world = World::new(host);
    world.admit(1, 0, &counted(8), true, 0);
    world.compute(1, &[], true);
    world.release(1);
    world.admit(2, 0, &[50; 11], true, 0);
    world.compute(2, &[], true);
    assert_eq!(
        (world.kv.host_pages(), world.kv.counts().swapped_out),
        (2, 2)
    );
    world.release(2);
    assert_eq!(
        world.admit(3, 0, &counted(8), false, 0),
        Some(0),
        "not asked for"
    );
    world.release(3);
    assert_eq!(world.admit(4, 0, &counted(8), true, 0), Some(8));
    assert_eq!(world.kv.counts().swapped_in, 2);
    assert!(world.compute(4, &[8], true));
}

#[test]
fn a_window_gives_back_what_lies_behind_it() {
    let window = KvConfig {
        groups: vec![KvSpec::Window(4)],
        ..KvConfig::new(4, 2)
    };
    let mut world = World::new(window);
    world.admit(1, 0, &counted(4), true, 0);
    for token in 4..40 {
        assert!(world.compute(1, &[token], true), "{token}");
    }
    assert!(world.kv.block_table(SeqId(1), 0).len() <= 3);
    assert_eq!(world.kv.first_block(SeqId(1), 0), 18);
    assert_eq!(world.kv.covered(SeqId(1)), 40);
}

/// Computed again while the host tier had it, a block is in both tiers; that one of them forgets it is no event.
#[test]
fn what_is_in_both_tiers_is_not_gone_with_one() {
    let host = KvConfig {
        num_host_pages: 1,
        ..KvConfig::new(6, 4)
    };
    let mut world = World::new(host);
    let remember = |world: &mut World, sequence, tokens: &[u32]| {
        world.admit(sequence, 0, tokens, false, 0);
        world.compute(sequence, &[], true);
    };
    remember(&mut world, 1, &counted(4));
    world.release(1);
    world.admit(2, 0, &[50; 23], false, 0);
    assert_eq!(world.kv.host_pages(), 1);
    world.release(2);
    remember(&mut world, 3, &counted(4));
    remember(&mut world, 4, &[60; 4]);
    world.release(4);
    assert_eq!(world.admit(5, 0, &[70; 15], false, 0), Some(0));
    assert_eq!(world.kv.counts().swapped_out, 2);
    assert!(world.finds(world.chain(0, &counted(4)).hashes()[0]));
}

/// The parent moves over to equal blocks, and the fork, which has not, still holds its own: what both share
/// behind them must not be remembered as the continuation of what only one of them holds.
#[test]
fn who_moved_over_leaves_it_to_its_fork_to_name_what_both_hold() {
    let mut world = World::new(KvConfig::new(12, 2));
    world.admit(1, 0, &counted(4), true, 0);
    world.compute(1, &[], false);
    world.admit(2, 0, &counted(2), true, 0);
    world.compute(2, &[], true);
    assert!(world.fork(1, 3));
    world.compute(1, &[7], true);
    assert_eq!(world.kv.named_pages(), 1);
    world.release(2);
    world.release(1);
    world.compute(3, &[8], true);
    assert_eq!(world.kv.named_pages(), 2);
}

/// Sequence 2 computes what sequence 1 has, and a step in flight reads its own block.
#[test]
fn a_block_that_is_replaced_in_flight_stays_until_it_is_let_go() {
    let mut kv = KvManager::new(KvConfig::new(4, 4)).unwrap();
    let tokens = [1, 2, 3, 4, 5];
    let mut chain = HashChain::new(kv.namespace(&[]));
    kv.extend_chain(&mut chain, &tokens);
    for sequence in [SeqId(1), SeqId(2)] {
        kv.grow(sequence, 4).unwrap();
    }
    kv.commit(SeqId(1), &chain, &tokens, 4);
    let own = kv.block_table(SeqId(2), 0).to_vec();
    let replaced = kv.commit_in_flight(SeqId(2), &chain, &tokens, 4);
    assert_eq!(replaced, own);
    assert_eq!(kv.block_table(SeqId(2), 0), kv.block_table(SeqId(1), 0));
    assert_eq!((kv.free_pages(), kv.check_invariants()), (2, Ok(())));
    kv.let_go_replaced(&replaced);
    assert_eq!((kv.free_pages(), kv.check_invariants()), (3, Ok(())));
}

/// Of two evicted blocks the second takes the place of the first in the host tier, in a later step.
#[test]
fn moves_that_are_given_back_come_first_and_only_once_for_a_place() {
    let config = KvConfig {
        num_host_pages: 1,
        ..KvConfig::new(2, 2)
    };
    let mut kv = KvManager::new(config).unwrap();
    let mut compute = |sequence: u64, tokens: &[u32]| {
        let mut chain = HashChain::new(kv.namespace(&[]));
        kv.extend_chain(&mut chain, tokens);
        kv.grow(SeqId(sequence), tokens.len()).unwrap();
        kv.commit(SeqId(sequence), &chain, tokens, tokens.len());
        kv.release(SeqId(sequence));
        kv.check_invariants().unwrap();
        kv.take_moves()
    };
    compute(1, &[1, 2]);
    compute(2, &[3, 4]);
    let first = compute(3, &[5, 6]);
    let second = compute(4, &[7, 8]);
    assert_eq!((first.swap_out.len(), second.swap_out.len()), (1, 1));
    kv.give_back(second.clone());
    kv.give_back(first);
    assert_eq!(kv.take_moves(), second);
}

/// Sequence 2 waits for a block from the host tier that sequence 3 has computed itself. If 2 leaves, the block goes
/// back.
#[test]
fn no_sequence_moves_over_to_a_block_that_is_still_to_be_copied() {
    let config = KvConfig {
        num_host_pages: 4,
        ..KvConfig::new(4, 2)
    };
    let mut kv = KvManager::new(config).unwrap();
    let tokens = [1, 2, 3];
    let mut chain = HashChain::new(kv.namespace(&[]));
    kv.extend_chain(&mut chain, &tokens);
    kv.grow(SeqId(1), 2).unwrap();
    kv.commit(SeqId(1), &chain, &tokens, 2);
    kv.release(SeqId(1));
    kv.grow(SeqId(1), 8).unwrap();
    kv.release(SeqId(1));
    assert_eq!((kv.host_pages(), kv.take_moves().len()), (1, 1));

    kv.grow(SeqId(3), 2).unwrap();
    let hit = kv.find_prefix(&chain, &tokens, true);
    let start = SequenceStart {
        tokens: &tokens,
        chain: &chain,
        hit,
        reserve: 3,
        ahead: Ahead::ONE_STEP,
        headroom: 0,
    };
    assert_eq!(kv.admit(SeqId(2), &start), Ok(2));
    kv.commit(SeqId(3), &chain, &tokens, 2);
    assert_eq!(kv.counts().merged, 0);
    kv.release(SeqId(2));
    assert_eq!(kv.check_invariants(), Ok(()));
    assert_eq!((kv.host_pages(), kv.named_pages()), (1, 0));
    assert!(kv.take_moves().is_empty());
    kv.commit(SeqId(3), &chain, &tokens, 2);
    assert_eq!(kv.named_pages(), 1);
}

#[test]
fn a_copy_is_not_copied_on_before_it_is_settled() {
    let mut kv = KvManager::new(KvConfig::new(4, 4)).unwrap();
    kv.grow(SeqId(1), 3).unwrap();
    let start = ForkStart {
        tokens: 3,
        reserve: 3,
        ahead: Ahead::ONE_STEP,
        headroom: 0,
    };
    kv.fork(SeqId(1), SeqId(2), start).unwrap();
    assert!(!kv.can_fork(SeqId(2), 3), "planned");
    let moves = kv.take_moves();
    assert!(kv.awaits_moves(SeqId(2)) && !kv.awaits_moves(SeqId(1)));
    assert!(!kv.can_fork(SeqId(2), 3), "taken");
    kv.settle(&moves);
    assert!(kv.can_fork(SeqId(2), 3));
}

fn mixed(num_pages: u32, num_host_pages: u32) -> KvConfig {
    KvConfig {
        groups: vec![KvSpec::Window(4), KvSpec::Full],
        num_host_pages,
        ..KvConfig::new(num_pages, 2)
    }
}

/// Full attention has all of it, and the window only the end: behind the middle nothing can go on.
#[test]
fn a_prefix_is_as_long_as_it_is_in_every_group() {
    let mut world = World::new(mixed(16, 0));
    world.admit(1, 0, &counted(8), true, 0);
    world.compute(1, &counted(4), true);
    world.release(1);
    // Takes the four blocks that lay behind the window first.
    world.admit(2, 0, &[90; 7], true, 0);
    let tokens: Vec<u32> = counted(8).into_iter().chain(counted(4)).collect();
    let chain = world.chain(0, &tokens);
    let found = |len: usize| world.kv.find_blocks(&chain, &tokens[..len], true).blocks;
    assert_eq!((found(12), found(8)), (6, 0));
    assert!(!world.finds(chain.hashes()[0]), "gone for the window");
    assert!(world.finds(chain.hashes()[5]));
}

/// What a windowed group needs may be in the pool, in the host tier, or in both by turns.
#[test]
fn a_window_comes_back_from_the_host_tier() {
    let mut world = World::new(mixed(12, 12));
    world.admit(1, 0, &counted(8), true, 0);
    world.compute(1, &[8, 9], true);
    world.release(1);
    world.admit(2, 0, &[90; 9], true, 0);
    world.compute(2, &[], true);
    assert!(world.kv.counts().swapped_out > 4);
    world.release(2);
    assert_eq!(world.admit(3, 0, &counted(11), true, 0), Some(10));
    assert!(world.kv.counts().swapped_in > 4);
    // Of the windowed group no more than is read.
    assert_eq!(world.kv.first_block(SeqId(3), 0), 3);
    assert!(world.compute(3, &[12], true));
}

/// A long prompt takes no more pages in a windowed group than its window and what is computed at a time.
#[test]
fn a_windowed_table_moves_on_with_its_sequence() {
    let mut world = World::new(mixed(64, 0));
    world.ahead.positions = 4;
    world.admit(1, 0, &counted(40), true, 0);
    let table = |world: &World, group| world.kv.block_table(SeqId(1), group).len();
    assert_eq!((table(&world, 0), table(&world, 1)), (5, 21));
    assert_eq!(world.kv.covered(SeqId(1)), 10);
    world.kv.release_behind(SeqId(1), 8);
    world.model.release_behind(1, 8);
    assert_eq!(
        (table(&world, 0), world.kv.first_block(SeqId(1), 0)),
        (3, 2)
    );
}
