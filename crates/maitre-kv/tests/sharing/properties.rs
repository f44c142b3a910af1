//! Random calls.

use maitre_kv::{Ahead, KvConfig, KvSpec};
use proptest::prelude::*;

use crate::world::World;

#[derive(Debug, Clone)]
enum Call {
    /// A prompt that begins with so many tokens of one of few texts.
    Admit {
        sequence: u64,
        namespace: usize,
        text: u32,
        shared: usize,
        tail: Vec<u32>,
        host: bool,
        headroom: usize,
    },
    Fork {
        parent: u64,
        child: u64,
    },
    Compute {
        sequence: u64,
        new: Vec<u32>,
        commit: bool,
    },
    Release {
        sequence: u64,
    },
    Settle,
    Reset,
    Offload(bool),
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let tail = || prop::collection::vec(0..3u32, 1..5);
    let admit = (0..5u64, 0..8usize, 0..2u32, 0..14usize, tail(), 0..8usize).prop_map(
        |(sequence, namespace, text, shared, tail, luck)| Call::Admit {
            sequence,
            namespace: usize::from(namespace == 0),
            text,
            shared,
            tail,
            host: luck != 0,
            headroom: luck % 3,
        },
    );
    let fork = (0..5u64, 0..5u64).prop_map(|(parent, child)| Call::Fork { parent, child });
    let compute = (0..5u64, prop::collection::vec(0..3u32, 0..4), 0..8usize).prop_map(
        |(sequence, new, luck)| Call::Compute {
            sequence,
            new,
            commit: luck != 0,
        },
    );
    let release = (0..5u64).prop_map(|sequence| Call::Release { sequence });
    let call = prop_oneof![
        6 => admit,
        1 => fork,
        8 => compute,
        5 => release,
        2 => Just(Call::Settle),
        1 => (0..8usize).prop_map(|luck| match luck {
            0 => Call::Reset,
            luck => Call::Offload(luck % 4 != 1),
        }),
    ];
    prop::collection::vec(call, 1..120)
}

fn make(world: &mut World, call: &Call) {
    match call.clone() {
        Call::Admit {
            sequence,
            namespace,
            text,
            shared,
            tail,
            host,
            headroom,
        } => {
            let text = (0..shared as u32).map(|i| text * 100 + i);
            let tokens: Vec<u32> = text.chain(tail).collect();
            if !world.live.contains_key(&sequence) {
                world.admit(sequence, namespace, &tokens, host, headroom);
            }
        }
        Call::Fork { parent, child } => {
            if world.live.contains_key(&parent) && !world.live.contains_key(&child) {
                world.fork(parent, child);
            }
        }
        Call::Compute {
            sequence,
            new,
            commit,
        } => {
            world.compute(sequence, &new, commit);
        }
        Call::Release { sequence } => world.release(sequence),
        Call::Settle => world.settle(),
        Call::Reset => world.reset(),
        Call::Offload(offload) => world.set_offload(offload),
    }
}

fn live(config: KvConfig, ahead: Ahead, calls: &[Call]) -> World {
    let mut world = World::new(config);
    world.ahead = ahead;
    calls.iter().for_each(|call| make(&mut world, call));
    for sequence in 0..5 {
        world.release(sequence);
    }
    world
}

fn groups(block_size: u32) -> impl Strategy<Value = Vec<KvSpec>> {
    let state = (1..4u32, 1..4u32).prop_map(move |(pages, blocks)| KvSpec::State {
        pages,
        checkpoint_every: blocks * block_size,
    });
    let spec = prop_oneof![
        2 => Just(KvSpec::Full),
        2 => (1..12u32).prop_map(KvSpec::Window),
        1 => (1..12u32).prop_map(KvSpec::Chunked),
        1 => state,
    ];
    prop::collection::vec(spec, 1..5)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    /// Hits are the longest prefix of which every group keeps what is read, in the same namespace; idle pages go least
    /// recently used first, under full attention a block before the one it depends on; events tell exactly what every
    /// group has; nothing is read that is not what the tokens say.
    #[test]
    fn it_does_what_the_model_does(
        num_pages in 2..14u32,
        (block_size, groups) in (1..5u32).prop_flat_map(|size| (Just(size), groups(size))),
        num_host_pages in 0..8u32,
        positions in 1..16usize,
        steps in 1..4usize,
        calls in calls(),
    ) {
        // The more groups, the more pages it takes to do anything.
        let pages = groups.iter().map(|spec| match spec {
            KvSpec::State { pages, .. } => *pages,
            _ => 1,
        });
        let num_pages = num_pages * pages.sum::<u32>();
        let ahead = Ahead { positions, steps };
        let config = KvConfig { num_host_pages, groups, ..KvConfig::new(num_pages, block_size) };
        let world = live(config, ahead, &calls);
        prop_assert_eq!(world.kv.used_pages(), 0);
        prop_assert_eq!(world.kv.free_pages(), num_pages as usize);
    }
}
