//! What every plan must satisfy, said a second time and independently of the scheduler: from the books
//! of the [`World`], by brute force.

use std::collections::HashSet;

use maitre_scheduler::{
    Expired, ExpiredWhy, MAX_STEPS_IN_FLIGHT, PlannedSpan, RequestId, StepPlan, Time,
};

use crate::world::{Entry, World};

impl World {
    /// Checks a plan and enters it into the books.
    pub(crate) fn check_plan(&mut self, plan: &StepPlan) {
        self.check_expired(&plan.expired);
        self.check_preempted(plan);
        self.check_limits(plan);
        self.check_progress(plan);
        self.check_stalled(plan);
        self.check_order(plan);
        let mut blocks = HashSet::new();
        for span in &plan.spans {
            self.check_span(span);
            let unshared = span.block_table.iter().all(|block| blocks.insert(*block));
            assert!(unshared, "a block in two tables");
        }
        self.check_blocks_of_steps_in_flight(plan);
    }

    fn check_expired(&mut self, expired: &[Expired]) {
        let mut due: Vec<(Time, (Time, u64), ExpiredWhy, RequestId)> = Vec::new();
        for (&id, entry) in &self.live {
            let queue = entry.request.queue_deadline.filter(|_| !entry.was_admitted);
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
        self.tally.expired += expired.len();
        for expired in expired {
            self.end(expired.request);
        }
    }

    /// Victims are always the latest arrival among the running, and never the earliest.
    fn check_preempted(&mut self, plan: &StepPlan) {
        assert!(
            plan.preempted.is_empty() || self.in_flight.is_empty(),
            "preempted with a step in flight"
        );
        self.tally.preempted += plan.preempted.len();
        for preemption in &plan.preempted {
            let running = self.live.values().filter(|entry| entry.running);
            let latest = running.clone().map(|entry| entry.order).max();
            let earliest = running.map(|entry| entry.order).min();
            assert!(self.live[&preemption.needed_by].order <= self.live[&preemption.request].order);
            let victim = self.live.get_mut(&preemption.request).unwrap();
            assert_eq!(Some(victim.order), latest, "the latest arrival goes first");
            assert_ne!(Some(victim.order), earliest, "the earliest always stays");
            assert_eq!(preemption.lost_tokens, victim.scheduled);
            victim.running = false;
            victim.scheduled = 0;
        }
    }

    fn check_limits(&self, plan: &StepPlan) {
        let config = self.scheduler.config();
        assert!(
            plan.num_tokens() <= config.max_batched_tokens,
            "token budget"
        );
        assert!(plan.spans.len() <= config.max_seqs, "max_seqs");
        assert!(self.scheduler.num_running() <= config.max_seqs, "max_seqs");
        assert!(
            self.scheduler.num_waiting() <= config.max_queue + config.max_seqs,
            "bounded queue"
        );
        let requests: HashSet<RequestId> = plan.spans.iter().map(|span| span.request).collect();
        assert_eq!(requests.len(), plan.spans.len(), "one span per request");
    }

    /// With nothing in flight the earliest running request moves on, as does every decode.
    fn check_progress(&self, plan: &StepPlan) {
        if !self.in_flight.is_empty() {
            return;
        }
        assert_eq!(
            plan.is_empty(),
            self.live.is_empty(),
            "work is left, but nothing runs"
        );
        let planned: HashSet<RequestId> = plan.spans.iter().map(|span| span.request).collect();
        let running: Vec<&Entry> = self.live.values().filter(|entry| entry.running).collect();
        let earliest = running.iter().map(|entry| entry.order).min();
        for entry in running {
            let must_run = Some(entry.order) == earliest || entry.scheduled >= entry.prefill_len;
            assert!(
                !must_run || planned.contains(&entry.request.id),
                "{} stands still",
                entry.request.id
            );
        }
    }

    /// A decode that finds no block waits for the step in flight, and nobody overtakes it meanwhile.
    fn check_stalled(&mut self, plan: &StepPlan) {
        if self.in_flight.len() == MAX_STEPS_IN_FLIGHT {
            assert!(plan.is_empty(), "too many steps in flight");
            return;
        }
        let planned: HashSet<RequestId> = plan.spans.iter().map(|span| span.request).collect();
        let ready = |entry: &&Entry| {
            entry.running && (entry.prefill_len..entry.known).contains(&entry.scheduled)
        };
        let stalled = self
            .live
            .values()
            .filter(ready)
            .filter(|e| !planned.contains(&e.request.id));
        let Some(first) = stalled.map(|entry| entry.order).min() else {
            return;
        };
        self.tally.stalled += 1;
        for entry in plan.spans.iter().map(|span| &self.live[&span.request]) {
            let overtakes = ready(&entry) && entry.order > first;
            assert!(
                entry.running && !overtakes,
                "{} overtook a stalled decode",
                entry.request.id
            );
        }
    }

    /// Decodes, then prefills in progress, then admissions; each by arrival; nobody overtakes.
    fn check_order(&mut self, plan: &StepPlan) {
        let mut keys = Vec::new();
        for span in &plan.spans {
            let entry = &self.live[&span.request];
            let group = match (entry.running, entry.scheduled >= entry.prefill_len) {
                (true, true) => 0,
                (true, false) => 1,
                (false, _) => 2,
            };
            keys.push((group, entry.order));
            if group == 2 {
                let mut waiting = self.live.values().filter(|entry| !entry.running);
                assert!(
                    waiting.all(|other| other.order >= entry.order),
                    "somebody was overtaken"
                );
                let entry = self.live.get_mut(&span.request).unwrap();
                entry.running = true;
                entry.was_admitted = true;
                entry.prefill_len = entry.known;
            }
        }
        assert!(keys.is_sorted(), "groups and arrivals in order: {keys:?}");
    }

    fn check_span(&mut self, span: &PlannedSpan) {
        let block_size = self.scheduler.config().kv.block_size as usize;
        let entry = self
            .live
            .get_mut(&span.request)
            .expect("a planned request is live");
        assert_eq!(
            span.first_position, entry.scheduled,
            "each token is computed once"
        );
        assert!(!span.tokens.is_empty());
        assert_eq!(span.context_len, span.first_position + span.tokens.len());
        assert!(
            span.context_len <= entry.known,
            "only known tokens are computed"
        );
        assert_eq!(
            span.tokens,
            entry.answer[span.first_position..span.context_len]
        );
        assert_eq!(
            span.block_table.len(),
            span.context_len.div_ceil(block_size)
        );
        let slots: Vec<u32> = (span.first_position..span.context_len)
            .map(|p| {
                span.block_table[p / block_size].0 * block_size as u32 + (p % block_size) as u32
            })
            .collect();
        assert_eq!(span.slots, slots, "slots follow the block table");
        assert_eq!(span.samples, span.context_len == entry.known);
        let asked: Vec<usize> = span
            .output_positions
            .clone()
            .map(|o| span.first_position + o)
            .collect();
        let wanted: Vec<usize> = if entry.request.prompt_logits {
            let positions = span.first_position..span.context_len;
            positions
                .filter(|position| !entry.delivered.contains(position))
                .collect()
        } else {
            span.samples
                .then(|| span.context_len - 1)
                .into_iter()
                .collect()
        };
        assert_eq!(asked, wanted, "logits that are still wanted");
        entry.scheduled = span.context_len;
        entry.in_flight += span.tokens.len();
    }

    /// A step in flight still writes and reads its blocks: nobody else may get them.
    fn check_blocks_of_steps_in_flight(&self, plan: &StepPlan) {
        for before in self.in_flight.iter().flat_map(|step| &step.spans) {
            for span in plan
                .spans
                .iter()
                .filter(|span| span.request != before.request)
            {
                let shared = span
                    .block_table
                    .iter()
                    .any(|block| before.block_table.contains(block));
                assert!(
                    !shared,
                    "{} gets blocks that {} still uses",
                    span.request, before.request
                );
            }
        }
    }

    /// What the scheduler says about itself agrees with the books.
    pub(crate) fn check_books(&self) {
        assert_eq!(self.scheduler.check_invariants(), Ok(()));
        let running = self.live.values().filter(|entry| entry.running).count();
        assert_eq!(self.scheduler.num_running(), running);
        assert_eq!(self.scheduler.num_waiting(), self.live.len() - running);
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
                entry.request.queue_deadline.filter(|_| !entry.was_admitted),
            ]
        });
        assert_eq!(self.scheduler.next_timer(), timers.flatten().min());
    }
}
