//! Blocks from elsewhere: a carrier that delivers all, a part or nothing, sooner or later, and what must hold.
//!
//! The carrier writes garbage to the blocks of a transfer when it begins and again when it ends, and only then what has
//! come, even if the request has left meanwhile. So it shows any block that is read too early or given away too soon.

use std::collections::HashSet;

use maitre_scheduler::{
    BlockId, BlockSource, Call, KvConfig, NewRequest, Phase, PlannedTransfer, PolicyKind,
    RequestId, SchedulerConfig, SchedulerError, StepPlan, TransferId,
};

use crate::world::{Mishaps, World, request};

/// A transfer that is not settled.
pub(crate) struct UnderWay {
    pub(crate) planned: PlannedTransfer,
    /// What belongs in each group at all positions up to the last of its own.
    cells: Vec<Vec<u64>>,
}

impl World {
    /// Checks the transfers of a plan, begins them, and enters them into the books.
    pub(crate) fn check_transfers(&mut self, plan: &StepPlan) {
        for planned in &plan.transfers {
            let config = &self.scheduler.config().kv;
            let block_size = config.block_size as usize;
            let forgets = config.forgets();
            assert!(!config.has_state(), "a state would have to come too");
            // The prompt that a fork waits for may be there since its parent was admitted in this plan.
            let mut admitted = plan.admitted.iter().map(|it| self.live[&it.request].order);
            let parked_by = self.live[&planned.request].parked_by;
            assert!(parked_by.is_none_or(|parent| admitted.any(|order| order == parent)));
            let entry = self.live.get_mut(&planned.request);
            let entry = entry.expect("blocks are asked for a live request");
            assert!(!entry.running && !entry.transferred);
            let source = entry.request.source.expect("they are elsewhere");
            assert_eq!(planned.source, source.source);
            let (start, end) = (planned.positions.start, planned.positions.end);
            let all = source.tokens.min(entry.request.prompt.len() - 1);
            // A windowed group may not have the space for all of it.
            assert!(end == all || forgets && end < all);
            assert!(start < end && start.is_multiple_of(block_size));
            let blocks = end.div_ceil(block_size) - start / block_size;
            for group in &planned.blocks {
                assert_eq!(group.len(), blocks);
            }
            assert_eq!(planned.blocks.len(), entry.tables.len());
            entry.transferred = true;
            entry.awaits = Some(planned.id);
            let phase = self.scheduler.phase(planned.request);
            assert_eq!(phase, Some(Phase::AwaitingBlocks(planned.id)));
            let cells = self.live[&planned.request].cells.iter();
            let cells = cells.map(|cells| cells[..end].to_vec()).collect();
            for group in &planned.blocks {
                self.memory.fill(group, &[]);
            }
            let planned = planned.clone();
            let request = planned.request;
            self.transfers.push(UnderWay { planned, cells });
            self.start_in_queue(request, self.now);
            self.tally.transfers += 1;
        }
        self.check_filled_blocks(plan);
    }

    /// A block that a transfer fills is filled by no other one, and no copy of a step reads or writes it. That no span
    /// does is seen in the memory.
    fn check_filled_blocks(&self, plan: &StepPlan) {
        let filled = self.transfers.iter().flat_map(|it| &it.planned.blocks);
        let filled: Vec<BlockId> = filled.flatten().copied().collect();
        let distinct: HashSet<&BlockId> = filled.iter().collect();
        assert_eq!(distinct.len(), filled.len(), "filled twice");
        let in_flight = self.in_flight.iter().map(|step| &step.plan);
        for moves in in_flight.chain([plan]).map(|plan| &plan.moves) {
            let out = moves.swap_out.iter().map(|moved| moved.from);
            let into = moves.swap_in.iter().map(|moved| moved.to);
            let copies = moves.copies.iter().flat_map(|moved| [moved.from, moved.to]);
            let mut moved = out.chain(into).chain(copies);
            assert!(
                !moved.any(|block| distinct.contains(&BlockId(block))),
                "copied"
            );
        }
    }

    /// What is or will be in the blocks of each request whose transfer is under way.
    pub(crate) fn awaited_cells(&self) -> impl Iterator<Item = &Vec<u64>> {
        self.transfers.iter().filter_map(|it| it.cells.first())
    }

    /// Whether a request's blocks are on their way, or have come and it has not started yet.
    pub(crate) fn is_awaiting(&self, id: RequestId) -> bool {
        let entry = &self.live[&id];
        entry.awaits.is_some() || entry.arrived.is_some()
    }

    /// Ends a transfer, of which so many tokens have come.
    pub(crate) fn settle(&mut self, id: TransferId, tokens: usize) {
        let index = self.transfers.iter().position(|it| it.planned.id == id);
        let Some(index) = index else {
            return;
        };
        let UnderWay { planned, cells } = self.transfers.remove(index);
        for (group, cells) in planned.blocks.iter().zip(&cells) {
            let arriving = &cells[planned.positions.start..][..tokens];
            self.memory.fill(group, arriving);
        }
        self.calls.push(Call::Settle {
            transfer: id,
            tokens,
        });
        self.scheduler.settle_transfer(id, tokens).unwrap();
        let live = self.live.get_mut(&planned.request);
        match live.filter(|entry| entry.awaits == Some(id)) {
            Some(entry) => {
                entry.awaits = None;
                entry.arrived = Some(planned.positions.start + tokens);
            }
            None => self.tally.transfers_without_request += 1,
        }
        self.tally.lost += u64::from(tokens == 0);
        self.tally.partly_lost += u64::from(tokens > 0 && tokens < planned.positions.len());
        self.check_books();
    }

    /// Ends one of the transfers under way, of which `share` of 100 tokens have come.
    pub(crate) fn settle_some(&mut self, index: usize, share: usize) {
        let index = index % self.transfers.len().max(1);
        if let Some(it) = self.transfers.get(index) {
            self.settle(it.planned.id, it.planned.positions.len() * share / 100);
        }
    }

    /// Ends the oldest transfer: all, a part or nothing has come.
    pub(crate) fn settle_oldest(&mut self) {
        if let Some(oldest) = self.transfers.first() {
            self.settle_some(0, [100, 50, 0][oldest.planned.id.0 as usize % 3]);
        }
    }
}

/// A request whose prompt of `len` tokens can be had from place 5, as far as its first `tokens`.
fn elsewhere(id: u64, len: u32, tokens: usize) -> NewRequest {
    let prompt: Vec<u32> = (0..len).map(|i| i * 10).collect();
    NewRequest {
        source: Some(BlockSource { source: 5, tokens }),
        ..request(id, &prompt, 4)
    }
}

fn world(max_seqs: usize, num_blocks: u32) -> World {
    World::new(SchedulerConfig::new(
        max_seqs,
        32,
        64,
        KvConfig::new(num_blocks, 4),
    ))
}

#[test]
fn a_request_awaits_its_blocks_while_others_run_and_computes_only_the_rest() {
    let mut world = world(4, 16);
    world.add(elsewhere(1, 10, 9)).unwrap();
    world.add(request(2, &[7, 8, 9], 6)).unwrap();
    let plan = world.schedule();
    let text = plan.to_string();
    assert!(
        text.contains("transfer 0 for request 1: positions 0..9 from 5 to blocks [0..3]"),
        "{text}"
    );
    let ran: Vec<u64> = plan.spans.iter().map(|span| span.request.0).collect();
    assert_eq!(ran, [2]);
    world.commit(&Mishaps::default());
    world.schedule();
    world.commit(&Mishaps::default());
    let phase = |world: &World, id| world.scheduler.phase(RequestId(id));
    assert_eq!(phase(&world, 2), Some(Phase::Running));
    assert_eq!(phase(&world, 3), None);
    world.settle(TransferId(0), 9);
    assert_eq!(phase(&world, 1), Some(Phase::Running));
    let plan = world.schedule();
    let text = plan.to_string();
    assert!(
        text.contains("request 1: cached 0 of 10 received 9"),
        "{text}"
    );
    let last = plan.spans.last().unwrap();
    assert_eq!((last.request.0, last.first_position), (1, 9));
    world.run_to_quiescence();
}

#[test]
fn what_is_cached_is_not_asked_for_and_what_is_lost_is_computed() {
    let mut world = world(4, 16);
    world.add(elsewhere(1, 12, 0)).unwrap();
    world.run_to_quiescence();
    world.add(elsewhere(2, 12, 11)).unwrap();
    let plan = world.schedule();
    assert!(plan.transfers.is_empty(), "all whole blocks are cached");
    world.run_to_quiescence();
    world.reset_prefix_cache();
    world.add(elsewhere(3, 12, 12)).unwrap();
    assert_eq!(world.schedule().transfers.len(), 1);
    world.settle(TransferId(0), 0);
    let plan = world.schedule();
    assert_eq!(plan.spans[0].tokens.len(), 12, "nothing came");
    world.run_to_quiescence();
}

#[test]
fn blocks_of_a_cancelled_request_are_free_when_its_transfer_is_settled() {
    let mut world = world(4, 4);
    world.add(elsewhere(1, 12, 12)).unwrap();
    world.schedule();
    world.cancel(RequestId(1));
    assert_eq!(world.scheduler.kv_usage().used, 4);
    assert!(!world.scheduler.has_work());
    world.add(request(2, &[1, 2, 3], 2)).unwrap();
    assert!(world.schedule().is_empty(), "there is no block for it");
    world.settle(TransferId(0), 11);
    assert_eq!(world.scheduler.kv_usage().used, 0);
    assert_eq!(world.schedule().spans.len(), 1);
    world.run_to_quiescence();
}

#[test]
fn who_awaits_blocks_counts_among_the_admitted_and_in_what_stays_free() {
    let mut one = world(1, 16);
    one.add(elsewhere(1, 8, 8)).unwrap();
    one.add(request(2, &[1, 2, 3], 2)).unwrap();
    assert!(one.schedule().is_empty(), "max_seqs");
    one.run_to_quiescence();
    let mut two = world(2, 4);
    two.add(elsewhere(1, 8, 8)).unwrap();
    two.add(request(2, &[1, 2, 3], 2)).unwrap();
    assert!(
        two.schedule().is_empty(),
        "the last block stays free for request 1"
    );
    two.run_to_quiescence();
}

#[test]
fn a_transfer_is_settled_once_and_with_what_it_was_for() {
    let mut world = world(1, 16);
    world.add(elsewhere(1, 9, 8)).unwrap();
    world.schedule();
    let transfer = TransferId(0);
    let error = world.scheduler.settle_transfer(transfer, 9).unwrap_err();
    let expected = "transfer 0 is settled with 9 tokens; expected at most 8";
    assert_eq!(error.to_string(), expected);
    world.settle(transfer, 8);
    let error = world.scheduler.settle_transfer(transfer, 8);
    assert_eq!(error, Err(SchedulerError::UnknownTransfer { transfer }));
    world.run_to_quiescence();
}

#[test]
fn an_urgent_request_goes_before_one_whose_blocks_have_come() {
    let mut world = World::new(SchedulerConfig {
        policy: PolicyKind::Priority,
        ..SchedulerConfig::new(4, 4, 64, KvConfig::new(32, 4))
    });
    world.add(elsewhere(1, 20, 4)).unwrap();
    world.schedule();
    world.settle(TransferId(0), 4);
    let urgent = NewRequest {
        priority: 1,
        ..request(2, &[1; 4], 2)
    };
    world.add(urgent).unwrap();
    assert_eq!(world.schedule().admitted[0].request, RequestId(2));
    world.run_to_quiescence();
}
