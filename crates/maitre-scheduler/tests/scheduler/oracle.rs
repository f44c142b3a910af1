//! What every plan must satisfy, said a second time and independently of the scheduler: from the books
//! of the [`World`], by brute force.

use std::collections::{BTreeMap, HashSet};

use maitre_scheduler::{
    Admitted, BlockId, Expired, ExpiredWhy, NO_SLOT, PlannedSpan, RequestId, StepPlan, Time,
};

use crate::model::Table;
use crate::policies::ranks;
use crate::states::{check_states, next_states, read_states, written_states};
use crate::world::{Entry, World};

impl World {
    /// Checks a plan and enters it into the books.
    pub(crate) fn check_plan(&mut self, plan: &StepPlan) {
        self.check_expired(&plan.expired);
        self.check_preempted(plan);
        self.check_limits(plan);
        self.check_stalled(plan);
        self.check_transfers(plan);
        self.check_order(plan);
        self.check_progress(plan);
        self.check_grants(plan);
        for span in &plan.spans {
            self.check_span(span);
        }
        self.check_writes(plan);
    }

    fn check_expired(&mut self, expired: &[Expired]) {
        let mut due: Vec<(Time, (Time, u64), ExpiredWhy, RequestId)> = Vec::new();
        for (&id, entry) in &self.live {
            let queued = !entry.was_admitted && !entry.transferred;
            let queue = entry.request.queue_deadline.filter(|_| queued);
            let times = [
                (entry.request.deadline, ExpiredWhy::Deadline),
                (queue, ExpiredWhy::QueueTimeout),
            ];
            due.extend(
                times
                    .into_iter()
                    .filter_map(|(at, why)| {
                        Some((at.filter(|&at| at <= self.now)?, entry.order, why, id))
                    })
                    .min(),
            );
        }
        due.sort();
        let due: Vec<Expired> = due
            .into_iter()
            .map(|(_, _, why, request)| Expired { request, why })
            .collect();
        assert_eq!(expired, due, "whose time is up");
        self.tally.expired += expired.len() as u64;
        for expired in expired {
            self.end(expired.request);
        }
    }

    /// Victims have the lowest priority (under the deadline policy, the latest deadline) and, within it, least to lose. A request with a reservation stays as
    /// long as others have none. A request that holds all blocks it may need always stays.
    fn check_preempted(&mut self, plan: &StepPlan) {
        assert!(
            plan.preempted.is_empty() || self.in_flight.is_empty(),
            "preempted with a step in flight"
        );
        for preemption in &plan.preempted {
            assert!(self.live[&preemption.needed_by].running);
            let victim = &self.live[&preemption.request];
            let (least, _) = self.loss_of(victim);
            let holds = |entry: &Entry| entry.running || entry.arrived.is_some();
            assert!(holds(victim));
            for other in self.live.values().filter(|entry| holds(entry)) {
                let policy = self.scheduler.config().policy;
                let rank = |entry: &Entry| (self.reservation(entry), ranks(policy, entry).keep);
                let (victim_id, id) = (victim.request.id, other.request.id);
                assert!(
                    rank(victim) <= rank(other),
                    "{policy}: {victim_id} was preempted in place of {id}, which ranks lower by policies.rs"
                );
                let spared = rank(victim) == rank(other) && least > self.loss_of(other).1;
                assert!(
                    !spared,
                    "{policy}: {victim_id} was preempted, but {id} had less to lose"
                );
            }
            let victim = self.live.get_mut(&preemption.request).unwrap();
            victim.preemptions += 1;
            self.tally.preempted += 1;
            self.tally.reserved += u64::from(victim.preemptions == 2);
            assert_eq!(preemption.times, victim.preemptions);
            let full = victim.full_len();
            assert!(
                preemption.times <= 3 + (full as u32).ilog2(),
                "preempted in spite of its reservation"
            );
            let computed = victim.arrived.take().unwrap_or(victim.scheduled);
            assert_eq!(preemption.lost_tokens, computed);
            victim.running = false;
            victim.scheduled = 0;
            victim.tables.fill(Table::default());
            victim.states.fill(BTreeMap::new());
        }
    }

    /// 0 before the second preemption, 2 if the blocks taken at the last admission suffice to the end, else 1.
    fn reservation(&self, entry: &Entry) -> u32 {
        if entry.preemptions < 2 {
            return 0;
        }
        1 + u32::from(self.reserved(entry) >= entry.full_len())
    }

    /// The least and the most that a running request has to lose: all that is computed, but for the blocks that
    /// another admitted request may hold too, because it begins with the same tokens.
    fn loss_of(&self, entry: &Entry) -> (usize, usize) {
        let block_size = self.scheduler.config().kv.block_size as usize;
        let holds = |other: &&Entry| other.running || other.arrived.is_some();
        let others = self.live.values().filter(holds);
        let others = others.filter(|other| other.order != entry.order);
        let cells = others.map(|other| &other.cells[0]);
        let agree = cells.chain(self.awaited_cells()).map(|other| {
            let pairs = entry.cells[0].iter().zip(other);
            pairs.take_while(|(a, b)| a == b).count()
        });
        let shared = agree.max().unwrap_or(0) / block_size * block_size;
        let computed = entry.arrived.unwrap_or(entry.scheduled);
        (computed.saturating_sub(shared), computed)
    }

    fn check_limits(&self, plan: &StepPlan) {
        let config = self.scheduler.config();
        assert!(
            plan.num_tokens() + plan.num_drafts() <= config.max_batched_tokens,
            "token budget"
        );
        assert!(plan.spans.len() <= config.max_seqs, "max_seqs");
        assert!(self.scheduler.num_running() <= config.max_seqs, "max_seqs");
        let requests: HashSet<RequestId> = plan.spans.iter().map(|span| span.request).collect();
        assert_eq!(requests.len(), plan.spans.len(), "one span per request");
        assert!(
            !plan.is_empty() || plan.moves.is_empty(),
            "an empty plan has moves, which no step makes"
        );
    }

    /// With nothing in flight the first running request moves on, by rank and arrival, unless one of a smaller rank is
    /// admitted; and so does every decode.
    fn check_progress(&self, plan: &StepPlan) {
        if !self.in_flight.is_empty() {
            return;
        }
        assert!(
            plan.is_empty() == self.live.is_empty() || !self.transfers.is_empty(),
            "work is left, but nothing runs"
        );
        let planned: HashSet<RequestId> = plan.spans.iter().map(|span| span.request).collect();
        let running: Vec<&Entry> = self.live.values().filter(|entry| entry.running).collect();
        let decodes = |entry: &Entry| entry.scheduled >= entry.prefill_len;
        let place = |entry: &Entry| (!decodes(entry), self.prompt_rank(entry), entry.order);
        let admitted = plan.admitted.iter();
        let admitted = admitted.map(|admitted| place(&self.live[&admitted.request]));
        let first = running
            .iter()
            .map(|entry| place(entry))
            .chain(admitted)
            .min();
        for entry in running {
            let must_run = Some(place(entry)) == first || decodes(entry);
            assert!(
                !must_run || planned.contains(&entry.request.id),
                "{} stands still",
                entry.request.id
            );
        }
    }

    /// If a decode finds no block while a step is in flight, nothing is planned until it is back.
    fn check_stalled(&mut self, plan: &StepPlan) {
        if self.in_flight.len() == self.scheduler.config().steps_in_flight {
            assert!(plan.is_empty(), "too many steps in flight");
            return;
        }
        let planned: HashSet<RequestId> = plan.spans.iter().map(|span| span.request).collect();
        let mut stalled = self.live.values().filter(|entry| {
            entry.running
                && entry.scheduled >= entry.prefill_len
                && (entry.scheduled < entry.known || self.may_go_ahead(entry))
                && !planned.contains(&entry.request.id)
        });
        if let Some(stalled) = stalled.next() {
            let id = stalled.request.id;
            assert!(plan.is_empty(), "others go on while {id} stalls");
            self.tally.stalled += 1;
        }
    }

    /// Decodes by arrival, then prompts by their rank: of equals those in progress by arrival, then admissions, in the
    /// policy's order.
    fn check_order(&mut self, plan: &StepPlan) {
        let is_new = |id| plan.admitted.iter().any(|admitted| admitted.request == id);
        // A fork may enter the queue as late as in this plan, when its parent was admitted.
        let is_fork = |span: &&PlannedSpan| {
            is_new(span.request) && self.live[&span.request].request.fork_of.is_some()
        };
        let keys = plan.spans.iter().filter(|span| !is_fork(span)).map(|span| {
            let (new, entry) = (is_new(span.request), &self.live[&span.request]);
            assert!(entry.running || new, "{} was not admitted", span.request);
            let decodes = !new && entry.scheduled >= entry.prefill_len;
            let rank = if decodes { 0 } else { self.prompt_rank(entry) };
            let new = new && entry.arrived.is_none();
            let order = if new { (Time::ZERO, 0) } else { entry.order };
            (!decodes, rank, new, order)
        });
        let keys: Vec<_> = keys.collect();
        assert!(keys.is_sorted(), "ranks and arrivals in order");
        let urgent = keys.windows(2).filter(|pair| pair[0].2 && !pair[1].2);
        self.tally.went_before += urgent.count() as u64;
        let new = plan.spans.iter().filter(|span| is_new(span.request));
        assert_eq!(new.clone().count(), plan.admitted.len());
        for (admitted, span) in plan.admitted.iter().zip(new) {
            assert_eq!(admitted.request, span.request);
            if !self.is_awaiting(admitted.request) {
                self.check_turn(admitted.request);
            }
            self.enter_admission(admitted);
        }
    }

    /// Whose prompt gets tokens first.
    fn prompt_rank(&self, entry: &Entry) -> i128 {
        ranks(self.scheduler.config().policy, entry).prompt
    }

    /// Whether it is a request's turn to be admitted.
    fn check_turn(&mut self, id: RequestId) {
        let config = self.scheduler.config().clone();
        let entry = &self.live[&id];
        assert!(!entry.running && entry.parked_by.is_none());
        let rank = |entry: &Entry| ranks(config.policy, entry).turn;
        let queued = || {
            let waiting = self.live.values();
            let queued = waiting.filter(|entry| !entry.running && entry.parked_by.is_none());
            queued.filter(|entry| entry.awaits.is_none() && entry.arrived.is_none())
        };
        let best = queued().filter_map(rank).min();
        if best.is_some() {
            let policy = config.policy;
            assert_eq!(best, rank(entry), "{policy}: {id} is not of the best rank");
        }
        // Under fair service equals are those of one tenant.
        let group = |entry: &Entry| {
            rank(entry).map_or((None, entry.request.tenant.0), |rank| (Some(rank), 0))
        };
        let equals = queued().filter(|other| group(other) == group(entry));
        let mut earlier: Vec<(Time, u64)> = equals
            .map(|other| other.order)
            .filter(|&order| order < entry.order)
            .collect();
        earlier.sort();
        if let Some(first) = earlier.first() {
            let waited = self.now.saturating_sub(first.0);
            assert!(waited < config.reorder_within, "overtaken for too long");
            assert!(earlier.len() < 16, "overtook too many");
            self.tally.reordered += 1;
        }
    }

    fn enter_admission(&mut self, admitted: &Admitted) {
        let entry = self.live.get_mut(&admitted.request).unwrap();
        assert_eq!(admitted.known_tokens, entry.known);
        assert_eq!(admitted.again, entry.preemptions > 0);
        let found = admitted.cached_tokens + admitted.forked_tokens + admitted.received_tokens;
        match entry.arrived.take() {
            Some(arrived) => assert_eq!(found, arrived),
            None => assert_eq!(admitted.received_tokens, 0),
        }
        assert_eq!(entry.awaits, None);
        assert!(found < entry.known, "something is left to compute");
        let shares = entry.request.read_cache && !entry.request.prompt_logits;
        let forks = entry.request.fork_of.is_some();
        assert!(
            admitted.cached_tokens == 0 || shares,
            "a hit without asking"
        );
        assert!(
            admitted.forked_tokens == 0 || forks,
            "a fork without a parent"
        );
        self.tally.hits += u64::from(found > 0);
        self.tally.forked += u64::from(admitted.forked_tokens > 0);
        entry.running = true;
        let first = !std::mem::replace(&mut entry.was_admitted, true);
        entry.prefill_len = entry.known;
        entry.scheduled = found;
        entry.tables.fill(Table::default());
        entry.states.fill(BTreeMap::new());
        if self.scheduler.config().kv.has_state() {
            self.tally.hits_of_state += u64::from(admitted.cached_tokens > 0);
            self.tally.forks_of_state += u64::from(admitted.forked_tokens > 0);
        }
        if entry.scheduled >= entry.request.prompt.len() {
            let order = entry.order;
            self.unpark(order);
        }
        if first {
            self.start_in_queue(admitted.request, self.now);
        }
    }

    fn check_span(&mut self, span: &PlannedSpan) {
        let config = self.scheduler.config();
        let (block_size, reach) = (config.kv.block_size as usize, config.ahead().positions);
        let specs = config.kv.groups.clone();
        let entry = self.live.get(&span.request);
        let entry = entry.expect("a planned request is live");
        assert_eq!(span.tokens, self.expected_tokens(entry, span));
        let ahead = span.context_len > entry.known;
        assert!(!ahead || self.may_go_ahead(entry), "too far ahead");
        let replaced = entry.tables.iter().zip(&span.groups).any(|(table, group)| {
            let mut new = (group.table.keep..).zip(&group.table.blocks);
            new.any(|(index, block)| table.get(index).is_some_and(|known| known != *block))
        });
        self.tally.replaced_in_flight += u64::from(replaced && entry.in_flight > 0);
        let entry = self.live.get_mut(&span.request).unwrap();
        assert_eq!(
            span.first_position, entry.scheduled,
            "each token is computed once"
        );
        assert!(!span.tokens.is_empty());
        assert_eq!(span.context_len, span.first_position + span.tokens.len());
        let positions = span.first_position..span.context_len;
        let written = span.first_position..span.context_len + span.drafts;
        assert_eq!(span.groups.len(), entry.tables.len());
        for ((group, spec), states) in span.groups.iter().zip(&specs).zip(&mut entry.states) {
            check_states(span, group, *spec, states);
        }
        let groups = span.groups.iter().zip(&specs).zip(&mut entry.tables);
        for ((group, spec), table) in groups.filter(|((_, spec), _)| !spec.is_state()) {
            assert!(group.table.keep <= table.end().max(group.table.first_block));
            assert!(group.table.first_block * block_size <= spec.first_read(span.first_position));
            table.apply(&group.table);
            assert_eq!(table.end(), written.end.div_ceil(block_size));
            if let Some(read) = spec.most_read() {
                let most = (read as usize + reach).div_ceil(block_size) + 1;
                let held = entry.transferred || table.blocks.len() <= most;
                assert!(held, "a windowed table is longer than it has to be");
            }
            assert_eq!(group.slots.len(), written.len());
            for (position, &slot) in written.clone().zip(&group.slots) {
                let block = table.get(position / block_size).expect("it is written").0;
                let expected = block * block_size as u32 + (position % block_size) as u32;
                // Only the last token of a prefix that is there as a whole is computed again.
                let may_skip = span.tokens.len() == 1 && position + 1 == entry.prefill_len;
                let skips = slot == NO_SLOT && may_skip;
                assert!(skips || slot == expected, "slots follow the block table");
            }
        }
        assert_eq!(span.samples, span.context_len >= entry.known);
        let decodes = span.samples && span.tokens.len() == 1;
        assert!(span.drafts == 0 || decodes, "only decodes draft");
        let asked = span.output_positions.clone();
        let asked: Vec<usize> = asked.map(|offset| span.first_position + offset).collect();
        let wanted: Vec<usize> = if entry.request.prompt_logits {
            let undelivered = |position: &usize| !entry.delivered.contains(position);
            positions.filter(undelivered).collect()
        } else {
            let last = span.samples.then(|| span.context_len - 1);
            last.into_iter().collect()
        };
        assert_eq!(asked, wanted, "logits that are still wanted");
        entry.scheduled = span.context_len;
        entry.in_flight += span.tokens.len();
    }

    /// A block that is written, by a span or a copy, is in one table only and at one place there: no other request
    /// reads it, and no step in flight reads it for anything else.
    fn check_writes(&self, plan: &StepPlan) {
        let block_size = self.scheduler.config().kv.block_size;
        // What the plans told last may have been given back behind a window meanwhile.
        let specs = &self.scheduler.config().kv.groups;
        let visible = |tables: &[Table], first_position: usize| {
            let groups = specs.iter().zip(tables).enumerate();
            let blocks = groups.flat_map(|(group, (spec, table))| {
                let first = spec.first_read(first_position) / block_size as usize;
                let seen = table.iter().filter(move |(index, _)| *index >= first);
                seen.map(move |(index, block)| ((group, index), block))
            });
            blocks.collect::<Vec<_>>()
        };
        // A block of a request, by its group and its place in the table.
        type Part = (RequestId, (usize, usize));
        let written = |span: &PlannedSpan| {
            let request = span.request;
            let groups = span.groups.iter().enumerate();
            let slots = groups.flat_map(|(group, of_group)| {
                let slots = (span.first_position..).zip(&of_group.slots);
                slots.map(move |(position, slot)| (group, position, *slot))
            });
            let slots = slots.filter(|(_, _, slot)| *slot != NO_SLOT);
            let blocks = slots.map(|(group, position, slot)| {
                let part = (request, (group, position / block_size as usize));
                (part, BlockId(slot / block_size))
            });
            let states = written_states(span);
            let states = states.map(|(part, page)| ((request, part), page));
            blocks.chain(states).collect::<HashSet<_>>()
        };
        let mut readers: BTreeMap<BlockId, HashSet<Part>> = BTreeMap::new();
        let mut read = |request: RequestId, table: Vec<((usize, usize), BlockId)>| {
            for (index, block) in table {
                readers.entry(block).or_default().insert((request, index));
            }
        };
        let mut writers: Vec<(Part, BlockId)> = Vec::new();
        let mut in_use = HashSet::new();
        for step in &self.in_flight {
            for (span, (tables, _)) in step.plan.spans.iter().zip(&step.tables) {
                let table = visible(tables, span.first_position);
                in_use.extend(table.iter().map(|&(_, block)| block.0));
                read(span.request, table);
                read(span.request, read_states(span).collect());
                writers.extend(written(span));
            }
        }
        // What the others were told last may be outdated: their next span tells the changes first.
        for (&id, entry) in self.live.iter().filter(|(_, entry)| entry.in_flight > 0) {
            read(
                id,
                visible(&entry.tables, entry.scheduled - entry.in_flight),
            );
        }
        for (&id, entry) in self.live.iter().filter(|(_, entry)| entry.running) {
            read(id, next_states(entry).collect());
        }
        for span in &plan.spans {
            read(span.request, read_states(span).collect());
            writers.extend(written(span));
        }
        let mut arrivals = plan.moves.swap_in.iter().chain(&plan.moves.copies);
        let overwritten = arrivals.any(|moved| in_use.contains(&moved.to));
        assert!(
            !overwritten,
            "a copy overwrites what a step in flight reads"
        );
        for moved in &plan.moves.copies {
            let reading = readers.get(&BlockId(moved.to));
            let reading = reading.map_or(0, HashSet::len);
            assert!(reading <= 1, "a copy overwrites what others read");
        }
        for (writer, block) in writers {
            let others = readers.get(&block).into_iter().flatten();
            let others = others.filter(|reader| **reader != writer).count();
            assert_eq!(
                others, 0,
                "{writer:?} writes to {block:?}, which others read"
            );
        }
    }

    /// What the scheduler says about itself agrees with the books.
    pub(crate) fn check_books(&mut self) {
        self.check_events();
        self.check_front();
        assert_eq!(self.scheduler.check_invariants(), Ok(()));
        let running = self.live.values().filter(|entry| entry.running).count();
        assert_eq!(self.scheduler.num_running(), running);
        let awaiting = self.live.keys().filter(|id| self.is_awaiting(**id)).count();
        let waiting = self.live.len() - running - awaiting;
        assert_eq!(self.scheduler.num_waiting(), waiting);
        assert_eq!(self.scheduler.has_work(), !self.live.is_empty());
        for (&id, entry) in &self.live {
            assert_eq!(
                self.scheduler.tokens(id),
                Some(&entry.answer[..entry.known])
            );
        }
        let timers = self.live.values().flat_map(|entry| {
            [
                entry.request.deadline,
                entry
                    .request
                    .queue_deadline
                    .filter(|_| !entry.was_admitted && !entry.transferred),
            ]
        });
        assert_eq!(self.scheduler.next_timer(), timers.flatten().min());
        let usage = self.scheduler.kv_usage();
        assert!(usage.used + usage.cached <= usage.total);
        let (filled, positions) = self.scheduler.filled_positions();
        assert!(filled <= positions);
    }
}
