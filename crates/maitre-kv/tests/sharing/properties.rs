//! Random calls.

use maitre_kv::KvConfig;
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

fn live(config: KvConfig, calls: &[Call]) -> World {
    let mut world = World::new(config);
    calls.iter().for_each(|call| make(&mut world, call));
    for sequence in 0..5 {
        world.release(sequence);
    }
    world
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Hits are the longest kept prefix, of the same namespace; idle blocks go least recently used first, a
    /// block before the one it depends on; events tell exactly what is there; nothing is read that is not what
    /// the tokens say.
    #[test]
    fn it_does_what_the_model_does(
        num_blocks in 2..14u32,
        block_size in 1..5u32,
        num_host_blocks in 0..5u32,
        calls in calls(),
    ) {
        let config = KvConfig { num_host_blocks, ..KvConfig::new(num_blocks, block_size) };
        let world = live(config, &calls);
        prop_assert_eq!(world.kv.used_blocks(), 0);
        prop_assert_eq!(world.kv.free_blocks(), num_blocks as usize);
    }

    /// Behind a window blocks are given back, and a prefix is found if all that is read of it is kept.
    #[test]
    fn a_window_reads_only_what_it_sees(
        num_blocks in 2..14u32,
        block_size in 1..5u32,
        window in 2..12u32,
        calls in calls(),
        text in 0..2u32,
        len in 1..14u32,
    ) {
        let config = KvConfig { window: Some(window), ..KvConfig::new(num_blocks, block_size) };
        let mut world = World::new(config);
        for call in &calls {
            make(&mut world, call);
            let tokens: Vec<u32> = (0..len).map(|i| text * 100 + i).collect();
            let chain = world.chain(0, &tokens);
            let is_enough = |blocks: usize| {
                let next = (blocks * block_size as usize).min(tokens.len() - 1);
                let first = config.first_read(next) / block_size as usize;
                chain.hashes()[first..blocks].iter().all(|&hash| world.finds(hash))
            };
            let longest = (1..=chain.hashes().len()).rev().find(|&blocks| is_enough(blocks));
            let hit = world.kv.find_prefix(&chain, &tokens, true);
            prop_assert_eq!(hit.pool_blocks, longest.unwrap_or(0));
        }
        (0..5).for_each(|sequence| world.release(sequence));
        prop_assert_eq!(world.kv.used_blocks(), 0);
    }
}
