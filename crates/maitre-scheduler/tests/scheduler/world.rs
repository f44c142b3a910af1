//! The world around a scheduler: requests, a clock, steps in flight, and independent books.
//!
//! [`World`] knows every right answer beforehand, since the toy model's depend on the request alone.
//! It forwards each call, has the plan checked (`oracle.rs`) and computed (`model.rs`), and records it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;

use maitre_scheduler::{
    NewRequest, Outcome, PlannedSpan, Refusal, RequestId, Scheduler, SchedulerConfig, StepId,
    StepPlan, Time,
};

use crate::model::{Memory, undisturbed};

pub(crate) fn request(id: u64, prompt: &[u32], max_tokens: usize) -> NewRequest {
    NewRequest {
        id: RequestId(id),
        prompt: prompt.to_vec(),
        max_tokens,
        priority: 0,
        arrival: Time::ZERO,
        deadline: None,
        queue_deadline: None,
        prompt_logits: false,
    }
}

/// One call of the scheduler's interface, to be replayed.
#[derive(Debug, Clone)]
pub(crate) enum Call {
    Add(NewRequest),
    Cancel(RequestId),
    Schedule(Time),
    Commit(StepId, Vec<Outcome>),
}

/// What the books say about a live request.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) request: NewRequest,
    /// Place in the order of service: arrival, then order of the `add` calls.
    pub(crate) order: (Time, u64),
    /// Prompt and right answer; the first `known` of them are known by now.
    pub(crate) answer: Vec<u32>,
    pub(crate) known: usize,
    pub(crate) prefill_len: usize,
    pub(crate) scheduled: usize,
    pub(crate) in_flight: usize,
    pub(crate) running: bool,
    pub(crate) was_admitted: bool,
    pub(crate) delivered: BTreeSet<usize>,
}

/// What goes wrong with the outcomes of one commit.
#[derive(Debug, Clone, Default)]
pub(crate) struct Mishaps {
    /// Index of a span that fails.
    pub(crate) fail: Option<usize>,
    /// Index of a span whose request ends early.
    pub(crate) finish: Option<usize>,
    /// Outcomes come in reverse, and those of cancelled requests not at all.
    pub(crate) reversed: bool,
}

/// How often the rare things happened: a property proves nothing about what it never meets.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    pub(crate) preempted: usize,
    pub(crate) expired: usize,
    pub(crate) failed: usize,
    pub(crate) cancelled_in_flight: usize,
    pub(crate) stalled: usize,
}

pub(crate) struct World {
    pub(crate) tally: Tally,
    pub(crate) scheduler: Scheduler,
    pub(crate) now: Time,
    pub(crate) live: BTreeMap<RequestId, Entry>,
    pub(crate) calls: Vec<Call>,
    /// The text of all plans.
    pub(crate) log: String,
    /// Requests that came to their natural end.
    pub(crate) completed: BTreeMap<RequestId, Vec<u32>>,
    pub(crate) ended_otherwise: BTreeSet<RequestId>,
    pub(crate) in_flight: VecDeque<StepPlan>,
    memory: Memory,
    num_added: u64,
}

impl World {
    pub(crate) fn new(config: SchedulerConfig) -> Self {
        Self {
            tally: Tally::default(),
            scheduler: Scheduler::new(config).unwrap(),
            now: Time::ZERO,
            live: BTreeMap::new(),
            calls: Vec::new(),
            log: String::new(),
            completed: BTreeMap::new(),
            ended_otherwise: BTreeSet::new(),
            in_flight: VecDeque::new(),
            memory: Memory::new(&config),
            num_added: 0,
        }
    }

    pub(crate) fn add(&mut self, request: NewRequest) -> Result<(), Refusal> {
        self.calls.push(Call::Add(request.clone()));
        self.scheduler.add(request.clone())?;
        let entry = Entry {
            order: (request.arrival, self.num_added),
            answer: undisturbed(&request.prompt, request.max_tokens),
            known: request.prompt.len(),
            prefill_len: 0,
            scheduled: 0,
            in_flight: 0,
            running: false,
            was_admitted: false,
            delivered: BTreeSet::new(),
            request,
        };
        self.num_added += 1;
        self.live.insert(entry.request.id, entry);
        self.check_books();
        Ok(())
    }

    pub(crate) fn cancel(&mut self, id: RequestId) {
        self.calls.push(Call::Cancel(id));
        assert!(self.scheduler.cancel(id));
        self.tally.cancelled_in_flight += usize::from(self.live[&id].in_flight > 0);
        assert!(!self.scheduler.cancel(id), "a cancelled request is gone");
        self.end(id);
        self.check_books();
    }

    pub(crate) fn end(&mut self, id: RequestId) {
        self.live.remove(&id).expect("an ended request was live");
        self.ended_otherwise.insert(id);
    }

    /// Plans one step and checks the plan.
    pub(crate) fn schedule(&mut self) -> StepPlan {
        self.calls.push(Call::Schedule(self.now));
        let plan = self.scheduler.schedule(self.now);
        write!(self.log, "{plan}").unwrap();
        self.check_plan(&plan);
        if !plan.is_empty() {
            self.in_flight.push_back(plan.clone());
        }
        self.check_books();
        plan
    }

    /// Computes and commits the oldest step in flight, if there is one.
    pub(crate) fn commit(&mut self, mishaps: &Mishaps) {
        let Some(plan) = self.in_flight.pop_front() else {
            return;
        };
        let mut outcomes = self.memory.compute(&plan);
        if let Some(index) = mishaps.fail {
            self.tally.failed += 1;
            let index = index % outcomes.len();
            outcomes[index] = Outcome {
                request: outcomes[index].request,
                tokens: vec![],
                finished: false,
                failed: true,
            };
        }
        if let Some(index) = mishaps.finish {
            let index = index % outcomes.len();
            outcomes[index].finished = true;
        }
        for (span, outcome) in plan.spans.iter().zip(&outcomes) {
            self.account(span, outcome);
        }
        if mishaps.reversed {
            outcomes.reverse();
            outcomes.retain(|outcome| self.scheduler.tokens(outcome.request).is_some());
        }
        self.calls
            .push(Call::Commit(plan.step_id, outcomes.clone()));
        self.scheduler.commit(plan.step_id, &outcomes).unwrap();
        self.check_books();
    }

    fn account(&mut self, span: &PlannedSpan, outcome: &Outcome) {
        let Some(entry) = self.live.get_mut(&span.request) else {
            return;
        };
        entry.in_flight -= span.tokens.len();
        if entry.request.prompt_logits {
            for offset in span.output_positions.clone() {
                assert!(
                    entry.delivered.insert(span.first_position + offset),
                    "logits delivered twice"
                );
            }
        }
        entry.known += outcome.tokens.len();
        if let Some(token) = outcome.tokens.first() {
            assert_eq!(
                *token,
                entry.answer[entry.known - 1],
                "the answer depends on the request alone"
            );
        }
        if !outcome.failed && entry.known == entry.answer.len() {
            self.completed.insert(span.request, entry.answer.clone());
            self.live.remove(&span.request);
        } else if outcome.failed || outcome.finished {
            self.end(span.request);
        }
    }

    /// Lets everything that is left run to its end. Nothing may be lost, stuck or leaked.
    pub(crate) fn run_to_quiescence(&mut self) {
        let left: usize = self.live.values().map(|entry| entry.answer.len()).sum();
        // The earliest arrival gains a token in each step, so this many steps always suffice.
        for _ in 0..=left {
            self.schedule();
            while !self.in_flight.is_empty() {
                self.commit(&Mishaps::default());
            }
            if !self.scheduler.has_work() {
                break;
            }
        }
        assert!(!self.scheduler.has_work(), "not quiet after {left} steps");
        assert_eq!(self.scheduler.kv_usage().used, 0, "blocks leaked");
        let ended = self.completed.len() + self.ended_otherwise.len();
        assert_eq!(ended as u64, self.num_added, "every request ends once");
    }
}
