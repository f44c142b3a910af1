//! The world around a scheduler: requests, a clock, steps in flight, and independent books.
//!
//! [`World`] knows every right answer beforehand, since the toy model's depend on the request alone.
//! It forwards each call, has the plan checked (`oracle.rs`) and computed (`model.rs`), and records it.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::fmt::Write as _;

use maitre_scheduler::{
    BlockHash, BlockMove, BlockMoves, CacheEvent, Call, NewRequest, Outcome, PlannedSpan, Refusal,
    RequestId, Scheduler, SchedulerConfig, StateRef, StepPlan, Time, TransferId,
};

use crate::drafting::Drafting;
use crate::front::Front;
use crate::model::{Memory, Table, cells, is_end, undisturbed};
use crate::tally::Tally;
use crate::transfers::UnderWay;

pub(crate) fn request(id: u64, prompt: &[u32], max_tokens: usize) -> NewRequest {
    NewRequest::new(id, prompt.to_vec(), max_tokens)
}

/// How often one token is not taken at most, where that happens at all.
pub(crate) const MOST_DEFERRALS: usize = 2;

/// What the books say about a live request.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) request: NewRequest,
    /// Place in the order of service: arrival, then order of the `add` calls.
    pub(crate) order: (Time, u64),
    /// Prompt and right answer; the first `known` of them are known by now.
    pub(crate) answer: Vec<u32>,
    /// What each group of the KV memory should have at each position of the answer.
    pub(crate) cells: Vec<Vec<u64>>,
    pub(crate) known: usize,
    pub(crate) prefill_len: usize,
    pub(crate) scheduled: usize,
    pub(crate) in_flight: usize,
    pub(crate) running: bool,
    pub(crate) was_admitted: bool,
    pub(crate) preemptions: u32,
    /// What its last outcome said.
    pub(crate) next_drafts: usize,
    /// How often its next token was not taken.
    pub(crate) deferrals: usize,
    pub(crate) delivered: BTreeSet<usize>,
    /// The transfer that it waits for.
    pub(crate) awaits: Option<TransferId>,
    /// The positions that are there since one ended, before it runs.
    pub(crate) arrived: Option<usize>,
    /// Whether one was asked for.
    pub(crate) transferred: bool,
    /// Whose prompt it waits for.
    pub(crate) parked_by: Option<(Time, u64)>,
    /// Its block table in each group, as far as plans have told it.
    pub(crate) tables: Vec<Table>,
    /// In each group, the states that plans have told since its admission, by the tokens that they are behind.
    pub(crate) states: Vec<BTreeMap<usize, StateRef>>,
}

impl Entry {
    pub(crate) fn root(&self) -> u64 {
        self.request.namespace.root().0 as u64
    }

    /// Prompt and longest answer.
    pub(crate) fn full_len(&self) -> usize {
        self.request.prompt.len() + self.request.max_tokens
    }

    /// Its tables end here, if they reach so far.
    pub(crate) fn truncate(&mut self, end: usize) {
        self.tables.iter_mut().for_each(|table| table.truncate(end));
    }

    fn has_computed_prompt(&self) -> bool {
        self.running && self.scheduled - self.in_flight >= self.request.prompt.len()
    }
}

/// A plan that waits for its commit, with what has to be known of its spans even if they are cancelled.
pub(crate) struct StepInFlight {
    pub(crate) plan: StepPlan,
    /// Per span, its block tables and the root of its namespace.
    pub(crate) tables: Vec<(Vec<Table>, u64)>,
    /// Copies that are not made yet.
    pub(crate) to_make: BlockMoves,
    /// Of its copies to the host tier, those that are made.
    pub(crate) skipped: Vec<BlockMove>,
    /// Requests that had left when it was planned.
    pub(crate) left_before: u64,
}

/// What goes wrong with the outcomes of one commit.
#[derive(Debug, Clone, Default)]
pub(crate) struct Mishaps {
    /// Index of a span that fails.
    pub(crate) fail: Option<usize>,
    /// Every span fails.
    pub(crate) fail_all: bool,
    /// Index of a span whose request ends early, with some of its tokens if the index is large.
    pub(crate) finish: Option<usize>,
    /// Outcomes come in reverse, and those of cancelled requests not at all.
    pub(crate) reversed: bool,
}

pub(crate) struct World {
    pub(crate) tally: Tally,
    pub(crate) scheduler: Scheduler,
    /// The queue in front of it; without one, no request is refused a place.
    pub(crate) front: Option<Front>,
    pub(crate) now: Time,
    pub(crate) live: BTreeMap<RequestId, Entry>,
    pub(crate) calls: Vec<Call>,
    /// The text of all plans.
    pub(crate) log: String,
    /// Requests that came to their natural end.
    pub(crate) completed: BTreeMap<RequestId, Vec<u32>>,
    pub(crate) ended_otherwise: BTreeSet<RequestId>,
    pub(crate) in_flight: VecDeque<StepInFlight>,
    pub(crate) memory: Memory,
    /// The transfers under way, oldest first.
    pub(crate) transfers: Vec<UnderWay>,
    /// Without it, no request drafts.
    pub(crate) drafting: Option<Drafting>,
    /// Whether tokens of requests that are not planned ahead are not taken now and then, up to [`MOST_DEFERRALS`]
    /// times each.
    pub(crate) deferring: bool,
    /// Whether steps run as soon as they are planned, and once more at their commit.
    pub(crate) eager: bool,
    /// Whether as many steps as may be are in flight when it comes to rest, or one.
    pub(crate) pipelined: bool,
    /// The copies of steps that were taken back since the last plan with spans.
    pub(crate) taken_back: BlockMoves,
    /// Requests that had left when the oldest of these steps was planned.
    pub(crate) left_before_taken_back: u64,
    /// Of these, those to the host tier that are made.
    pub(crate) swapped_out: Vec<BlockMove>,
    /// The names in the prefix cache, by its events.
    mirror: HashSet<BlockHash>,
    pub(crate) num_added: u64,
}

impl World {
    pub(crate) fn new(config: SchedulerConfig) -> Self {
        Self {
            tally: Tally::default(),
            memory: Memory::new(&config),
            scheduler: Scheduler::new(config).unwrap(),
            front: None,
            now: Time::ZERO,
            live: BTreeMap::new(),
            calls: Vec::new(),
            log: String::new(),
            completed: BTreeMap::new(),
            ended_otherwise: BTreeSet::new(),
            in_flight: VecDeque::new(),
            transfers: Vec::new(),
            drafting: None,
            deferring: false,
            eager: false,
            pipelined: false,
            taken_back: BlockMoves::default(),
            left_before_taken_back: 0,
            swapped_out: Vec::new(),
            mirror: HashSet::new(),
            num_added: 0,
        }
    }

    pub(crate) fn num_groups(&self) -> usize {
        self.scheduler.config().kv.groups.len()
    }

    /// Makes a recorded call again, with everything checked.
    pub(crate) fn make(&mut self, call: Call) {
        match call {
            Call::Add(request) => self.submit(request),
            Call::Cancel(request) => self.cancel(request),
            Call::Schedule { now } => {
                self.now = now;
                self.schedule();
            }
            Call::Commit { outcomes, .. } => self.commit_with(|_, _| outcomes),
            Call::Retract { .. } => self.retract(),
            Call::Settle { transfer, tokens } => self.settle(transfer, tokens),
            Call::Observe {
                tokens,
                took,
                moved_blocks,
                moving,
            } => self.observe(tokens, took, moved_blocks, moving),
            Call::ResetPrefixCache => self.reset_prefix_cache(),
        }
    }

    pub(crate) fn add(&mut self, request: NewRequest) -> Result<(), Refusal> {
        self.calls.push(Call::Add(request.clone()));
        self.scheduler.add(request.clone())?;
        let answer = undisturbed(&request.prompt, request.max_tokens);
        let root = request.namespace.root().0 as u64;
        let groups = 0..self.num_groups();
        let entry = Entry {
            order: (request.arrival, self.num_added),
            cells: groups.map(|group| cells(root, group, &answer)).collect(),
            answer,
            known: request.prompt.len(),
            prefill_len: 0,
            scheduled: 0,
            in_flight: 0,
            running: false,
            was_admitted: false,
            preemptions: 0,
            next_drafts: 0,
            deferrals: 0,
            delivered: BTreeSet::new(),
            awaits: None,
            arrived: None,
            transferred: false,
            parked_by: self.parent_to_wait_for(&request),
            tables: vec![Table::default(); self.num_groups()],
            states: vec![BTreeMap::new(); self.num_groups()],
            request,
        };
        self.num_added += 1;
        self.live.insert(entry.request.id, entry);
        self.check_books();
        Ok(())
    }

    fn parent_to_wait_for(&self, request: &NewRequest) -> Option<(Time, u64)> {
        let parent = self.live.get(&request.fork_of?)?;
        let same = parent.request.prompt == request.prompt
            && parent.request.namespace == request.namespace
            && parent.request.write_cache == request.write_cache
            && !request.prompt_logits;
        (same && !parent.has_computed_prompt()).then_some(parent.order)
    }

    /// Forks that waited for the prompt of `parent` do not any more.
    pub(crate) fn unpark(&mut self, parent: (Time, u64)) {
        for entry in self.live.values_mut() {
            if entry.parked_by == Some(parent) {
                entry.parked_by = None;
            }
        }
    }

    pub(crate) fn cancel(&mut self, id: RequestId) {
        self.calls.push(Call::Cancel(id));
        assert!(self.scheduler.cancel(id));
        self.tally.cancelled_in_flight += u64::from(self.live[&id].in_flight > 0);
        assert!(!self.scheduler.cancel(id), "a cancelled request is gone");
        self.end(id);
        self.check_books();
    }

    pub(crate) fn end(&mut self, id: RequestId) {
        let entry = self.live.remove(&id).expect("an ended request was live");
        self.leave_queue(id);
        self.unpark(entry.order);
        self.ended_otherwise.insert(id);
    }

    pub(crate) fn reset_prefix_cache(&mut self) {
        self.calls.push(Call::ResetPrefixCache);
        self.scheduler.reset_prefix_cache();
        assert_eq!(self.scheduler.kv_usage().cached, 0);
        assert_eq!(self.scheduler.kv_usage().host, 0);
        self.tally.resets += 1;
        self.check_books();
    }

    pub(crate) fn observe(&mut self, tokens: usize, took: Time, moved_blocks: usize, moving: Time) {
        self.calls.push(Call::Observe {
            tokens,
            took,
            moved_blocks,
            moving,
        });
        self.scheduler.observe(tokens, took, moved_blocks, moving);
    }

    /// Plans one step and checks the plan.
    pub(crate) fn schedule(&mut self) -> StepPlan {
        self.calls.push(Call::Schedule { now: self.now });
        let plan = self.scheduler.schedule(self.now);
        write!(self.log, "{plan}").unwrap();
        self.tally.steps += 1;
        self.check_plan(&plan);
        self.launch(&plan);
        self.check_books();
        plan
    }

    /// Computes and commits the oldest step in flight, if there is one.
    pub(crate) fn commit(&mut self, mishaps: &Mishaps) {
        self.commit_with(|world, mut outcomes| {
            let count = outcomes.len();
            for (index, outcome) in outcomes.iter_mut().enumerate() {
                if mishaps.fail_all || mishaps.fail.is_some_and(|fail| fail % count == index) {
                    world.tally.failed += 1;
                    outcome.tokens.clear();
                    outcome.finished = false;
                    outcome.failed = true;
                }
                if let Some(finish) = mishaps.finish.filter(|finish| finish % count == index) {
                    outcome.finished = true;
                    if finish >= count {
                        outcome.tokens.truncate(finish / count - 1);
                    }
                }
            }
            if mishaps.reversed {
                outcomes.reverse();
                outcomes.retain(|outcome| world.live.contains_key(&outcome.request));
            }
            outcomes
        });
    }

    /// Computes and commits the oldest step in flight with what `change` makes of its outcomes.
    fn commit_with(&mut self, change: impl FnOnce(&mut Self, Vec<Outcome>) -> Vec<Outcome>) {
        let Some(step) = self.in_flight.pop_front() else {
            return;
        };
        let StepInFlight { plan, tables, .. } = step;
        self.memory.make(&step.to_make);
        for (span, (tables, root)) in plan.spans.iter().zip(&tables) {
            let tokens = self.resolve(span);
            let entry = self.live.get(&span.request);
            let expected = entry.map(|entry| entry.cells.as_slice());
            self.memory.write(span, &tokens, tables, *root, expected);
        }
        for (span, (tables, _)) in plan.spans.iter().zip(&tables) {
            if let Some(entry) = self.live.get(&span.request) {
                self.memory.check_reads(span, tables, &entry.cells);
            }
        }
        let computed = plan.spans.iter().map(|span| self.outcome(span)).collect();
        let outcomes = change(self, computed);
        for span in &plan.spans {
            let mut of_span = outcomes.iter();
            let outcome = of_span.find(|outcome| outcome.request == span.request);
            if let Some(outcome) = outcome {
                if outcome.failed {
                    self.memory.spoil(span);
                }
                self.account(span, outcome);
            }
        }
        let step = plan.step_id;
        self.calls.push(Call::Commit {
            step,
            outcomes: outcomes.clone(),
        });
        self.scheduler.commit(step, &outcomes).unwrap();
        self.check_books();
    }

    /// What comes of a span: the tokens that were drafted right, and the one behind them.
    fn outcome(&self, span: &PlannedSpan) -> Outcome {
        let mut outcome = Outcome {
            request: span.request,
            tokens: Vec::new(),
            next_drafts: 0,
            finished: false,
            failed: false,
            deferred: false,
        };
        let Some(entry) = self.live.get(&span.request) else {
            // The outcome of a cancelled request is not compared.
            outcome.tokens.extend(span.samples.then_some(0));
            return outcome;
        };
        let (id, known) = (span.request, entry.known);
        if span.samples {
            let right = self
                .drafting
                .map_or(0, |drafting| drafting.right(id, known, span.drafts));
            let answer = entry.answer[known..].iter();
            outcome.tokens.extend(answer.take(right + 1));
            outcome.finished = outcome.tokens.last().is_some_and(|&token| is_end(token));
        }
        if self.deferring && span.samples && self.defers(entry) {
            (outcome.deferred, outcome.finished) = (true, false);
            outcome.tokens.clear();
        }
        // Some requests that may be planned ahead never draft.
        let drafts = !(entry.request.plan_ahead && id.0.is_multiple_of(2));
        if let Some(drafting) = self.drafting.filter(|_| drafts) {
            outcome.next_drafts = drafting.wish(id, known);
        }
        outcome
    }

    /// Whether the next token of a request is not taken. It depends on the request and how far it is, like drafts.
    fn defers(&self, entry: &Entry) -> bool {
        let place = entry.request.id.0 + 3 * entry.known as u64;
        let times = (place % 5) as usize;
        let times = if times <= MOST_DEFERRALS { times } else { 0 };
        !entry.request.plan_ahead && entry.deferrals < times
    }

    fn account(&mut self, span: &PlannedSpan, outcome: &Outcome) {
        let accepted = outcome.tokens.len().saturating_sub(1);
        let Some(entry) = self.live.get(&span.request) else {
            return;
        };
        let deferred = outcome.deferred && !outcome.ends();
        let computed = entry.scheduled + accepted;
        let kept = self.blocks_for(self.reserved(entry).max(computed));
        let Some(entry) = self.live.get_mut(&span.request) else {
            return;
        };
        entry.in_flight -= span.tokens.len();
        entry.next_drafts = outcome.next_drafts;
        if !outcome.failed {
            self.memory.accept(span, accepted, &entry.cells);
            self.tally.accepted += accepted as u64;
            self.tally.rejected += (span.drafts - accepted) as u64;
            self.tally.ended_in_a_run += u64::from(outcome.finished && accepted < span.drafts);
        }
        if entry.request.prompt_logits {
            let drafted = span.context_len..span.context_len + accepted;
            let outputs = span.output_positions.clone();
            let outputs = outputs.map(|offset| span.first_position + offset);
            // The row that was not used comes again.
            let unused = deferred.then(|| span.context_len - 1);
            let outputs = outputs.filter(|position| Some(*position) != unused);
            for position in outputs.chain(drafted) {
                let new = entry.delivered.insert(position);
                assert!(new, "logits delivered twice");
            }
        }
        let expected = &entry.answer[entry.known..][..outcome.tokens.len()];
        let tokens = &outcome.tokens;
        assert_eq!(tokens, expected, "the answer depends on the request alone");
        entry.known += outcome.tokens.len();
        entry.scheduled = computed - usize::from(deferred);
        if deferred {
            entry.deferrals += 1;
            self.tally.deferred += 1;
            self.tally.deferred_with_state += u64::from(self.scheduler.config().kv.has_state());
        } else if span.samples {
            entry.deferrals = 0;
        }
        if span.drafts > 0 {
            // What only rejected drafts needed is given back.
            entry.truncate(kept);
        }
        let (order, has_prompt) = (entry.order, entry.has_computed_prompt());
        if !outcome.failed && entry.known == entry.answer.len() {
            self.completed.insert(span.request, entry.answer.clone());
            self.live.remove(&span.request);
            self.unpark(order);
        } else if outcome.failed || outcome.finished {
            self.end(span.request);
        } else if has_prompt {
            self.unpark(order);
        }
    }

    /// Replays the events of the prefix cache: nothing is stored twice, and nothing removed that is not there.
    pub(crate) fn check_events(&mut self) {
        for event in self.scheduler.take_cache_events() {
            match event {
                CacheEvent::Stored {
                    hash,
                    parent,
                    tokens,
                } => {
                    let config = &self.scheduler.config().kv;
                    assert!(self.mirror.insert(hash), "stored twice");
                    assert_eq!(tokens.len(), config.block_size as usize);
                    let reachable = parent.is_none_or(|parent| self.mirror.contains(&parent));
                    // Another group may have it in the host tier, which may have lost the parent.
                    let is_mixed = config.groups.len() > 1 && config.num_host_pages > 0;
                    let may_lack = config.forgets() || is_mixed;
                    assert!(reachable || may_lack, "stored without parent");
                }
                CacheEvent::Removed { hash } => {
                    assert!(self.mirror.remove(&hash), "removed, but not there");
                }
                CacheEvent::Cleared => self.mirror.clear(),
            }
        }
    }
}
