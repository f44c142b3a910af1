//! Repeating a step: many commits and plans in a row at once, as long as nothing but positions changes.
//!
//! While all requests decode, each step is the one before it, one position further on. The few things that do happen are blocks
//! that are begun and blocks that are filled, and it is known beforehand in which step each of them is. So only these
//! are looked for, and everything that is counted is counted up once.
//!
//! This is for simulations, which need no plan to know what a step takes. Whatever computes steps has to see each plan.

use crate::commit::remember;
use crate::policy::{QueueOrder, Service};
use crate::request::{Place, Request};
use crate::{Outcome, Scheduler, SchedulerError, StepId};

/// A request on its way through the repeated steps. Commits and plans are counted from 1.
struct Decode<'a> {
    place: Place,
    request: &'a mut Request,
    token: u32,
    /// Commits whose tokens are not known to the request yet.
    behind: usize,
    /// The commit that fills its next block, if that is to have a name.
    fills_at: usize,
    /// The plan that begins its next block.
    begins_at: usize,
}

impl Scheduler {
    /// How often the step in flight can be [repeated](Self::repeat): so many times, and `most` at most, what comes next is a
    /// step with the same spans one position further on, and nothing else is decided. 0 unless a single step is in flight, in
    /// which every running request decodes without drafts.
    ///
    /// Only as long as no request is added or cancelled and no transfer settled meanwhile, and no plan is made as late as the
    /// [next timer](Self::next_timer).
    pub fn repeatable_steps(&self, most: usize) -> usize {
        let most = most
            .min(self.steps_until_an_end())
            .min(self.steps_until_admission());
        if most == 0 || self.has_pages_for(most) {
            return most;
        }
        // The largest number for which there are pages.
        let (mut enough, mut lacking) = (0, most);
        while lacking - enough > 1 {
            let middle = enough + (lacking - enough) / 2;
            match self.has_pages_for(middle) {
                true => enough = middle,
                false => lacking = middle,
            }
        }
        enough
    }

    /// Steps behind the one in flight in which the same requests decode and none of them ends before.
    fn steps_until_an_end(&self) -> usize {
        let Some(step) = self.in_flight.oldest() else {
            return 0;
        };
        let changes_tables =
            self.kv.forgets() || self.kv.has_state() || self.config.kv.num_host_pages > 0;
        let stands_alone = self.in_flight.len() == 1 && step.leaves_nothing_behind();
        let arrived = self.awaiting.values().any(|it| it.received.is_some());
        if changes_tables || arrived || !stands_alone || step.spans.len() != self.running.len() {
            return 0;
        }
        let mut steps = usize::MAX;
        for (span, (place, request)) in step.spans.iter().zip(&self.running) {
            let decodes = span.place == *place
                && span.samples
                && (span.num_tokens, span.drafts) == (1, 0)
                && request.committed >= request.prefill_len
                && request.scheduled == request.tokens.len();
            if !decodes {
                return 0;
            }
            steps = steps.min(request.full_len - request.tokens.len() - 1);
        }
        steps
    }

    /// Steps behind the one in flight that admit no request, as long as the same requests run.
    fn steps_until_admission(&self) -> usize {
        let running = self.num_admitted();
        let is_full =
            running >= self.config.max_seqs || self.running.len() >= self.config.max_batched_tokens;
        if self.waiting.is_empty() || is_full {
            return usize::MAX;
        }
        let next = self.policy.next(1);
        let Some(next) = next.first() else {
            return usize::MAX;
        };
        let waits_for_blocks = self
            .blocked
            .is_some_and(|blocked| blocked.holds(*next, self.kv.free_pages(), running));
        // Where service changes who is next, another may be tried.
        if !waits_for_blocks || self.policy.queue_order() != QueueOrder::Arrival {
            return 0;
        }
        self.steps_until_a_block_may_be_free()
    }

    /// Decodes only take blocks, but one that is full may be given back for an equal one.
    fn steps_until_a_block_may_be_free(&self) -> usize {
        if !self.config.kv.prefix_cache {
            return usize::MAX;
        }
        let block_size = self.config.kv.block_size as usize;
        let remembering = self.running.values().filter(|it| it.write_cache);
        let commits = remembering.map(|it| block_size - it.committed % block_size);
        commits.min().map_or(usize::MAX, |commits| commits - 1)
    }

    /// Whether every running request finds the blocks for so many further steps.
    fn has_pages_for(&self, steps: usize) -> bool {
        let kv = &self.config.kv;
        let (block_size, free) = (kv.block_size as usize, self.kv.free_pages());
        let most = self
            .running
            .len()
            .saturating_mul(steps.div_ceil(block_size) + 1);
        if most.saturating_mul(kv.num_block_groups()) <= free {
            return true;
        }
        let missing = self.running.iter().map(|(place, request)| {
            let blocks = self.kv.blocks_for(request.scheduled.saturating_add(steps));
            blocks.saturating_sub(self.kv.covered(place.sequence()) / block_size)
        });
        let missing = missing.fold(0, usize::saturating_add);
        missing.saturating_mul(kv.num_block_groups()) <= free
    }

    /// Commits the step in flight with `outcomes` and plans the next one, so many `times`, with the same outcomes each time.
    /// Returns the step that is in flight then. Everything is as after as many calls of [`commit`](Self::commit) and
    /// [`schedule`](Self::schedule). The plans are not told, but for the pages that requests hold with each of them: `planned` is called with that.
    ///
    /// # Errors
    ///
    /// What [`commit`](Self::commit) refuses, and [`SchedulerError::NotRepeatable`] if an outcome is not one token of a request that
    /// goes on without drafts, or `times` is more than [`repeatable_steps`](Self::repeatable_steps). Nothing has changed then.
    pub fn repeat(
        &mut self,
        step: StepId,
        outcomes: &[Outcome],
        times: usize,
        planned: &mut dyn FnMut(usize),
    ) -> Result<StepId, SchedulerError> {
        let tokens = self.tokens_to_repeat(step, outcomes, times)?;
        if times == 0 {
            return Ok(step);
        }
        self.repeat_decodes(tokens, times, planned);
        let newest = self.next_step_ids(times);
        let before = if times == 1 {
            step
        } else {
            StepId(newest.0 - 1)
        };
        self.in_flight.renew(newest, before);
        for request in self.running.values_mut() {
            request.sampled_in = Some(newest);
        }
        debug_assert_eq!(self.check_invariants(), Ok(()));
        Ok(newest)
    }

    /// The token of each running request, if the step can be repeated.
    fn tokens_to_repeat(
        &self,
        step: StepId,
        outcomes: &[Outcome],
        times: usize,
    ) -> Result<Vec<u32>, SchedulerError> {
        let expected = self.in_flight.oldest().map(|oldest| oldest.step);
        let Some(planned) = self.in_flight.oldest().filter(|oldest| oldest.step == step) else {
            return Err(SchedulerError::UnexpectedStep { step, expected });
        };
        let answers = self.match_outcomes(planned, outcomes)?;
        let goes_on =
            |outcome: &Outcome| !outcome.ends() && !outcome.deferred && outcome.next_drafts == 0;
        let tokens: Vec<u32> = answers
            .iter()
            .filter(|(_, outcome)| goes_on(outcome))
            .filter_map(|(_, outcome)| outcome.tokens.first().copied())
            .collect();
        let most = match tokens.len() == self.running.len() {
            true => self.repeatable_steps(times),
            false => 0,
        };
        match times <= most {
            true => Ok(tokens),
            false => Err(SchedulerError::NotRepeatable { step, times, most }),
        }
    }

    fn repeat_decodes(&mut self, tokens: Vec<u32>, times: usize, planned: &mut dyn FnMut(usize)) {
        let block_size = self.config.kv.block_size as usize;
        let (kv, policy) = (&mut self.kv, &mut self.policy);
        let running = self.running.iter_mut().zip(tokens);
        let decodes = running.map(|((&place, request), token)| Decode {
            fills_at: match request.write_cache {
                true => block_size - request.committed % block_size,
                false => usize::MAX,
            },
            begins_at: kv.covered(place.sequence()) - request.scheduled + 1,
            place,
            request,
            token,
            behind: 0,
        });
        let mut decodes: Vec<Decode<'_>> = decodes.collect();
        for time in 1..=times {
            for decode in &mut decodes {
                policy.served(decode.service());
                decode.behind += 1;
                if decode.fills_at == time {
                    decode.catch_up();
                    let (place, computed) = (decode.place, decode.request.committed);
                    // None is replaced by another while it is read: no step is in flight between a commit and a plan.
                    let _ = remember(kv, place, decode.request, computed);
                    decode.fills_at += block_size;
                }
            }
            for decode in &mut decodes {
                if decode.begins_at == time {
                    let next = decode.request.tokens.len() + decode.behind;
                    // There are enough pages by the count of them.
                    let _ = kv.grow(decode.place.sequence(), next);
                    decode.begins_at += block_size;
                }
            }
            planned(kv.used_pages());
        }
        for mut decode in decodes {
            decode.catch_up();
            let request = decode.request;
            request.delivered = request.delivered.max(request.committed);
            request.next_drafts = 0;
            request.scheduled += 1;
            let newest = request.scheduled - 1..request.scheduled;
            kv.take_deltas(decode.place.sequence(), request.scheduled, newest)
                .for_each(drop);
        }
    }
}

impl Decode<'_> {
    fn service(&self) -> Service {
        Service {
            tenant: self.request.tenant,
            weight: self.request.weight,
            prompt_tokens: 0,
            output_tokens: 1,
        }
    }

    /// Tells the request what was committed since, with no step in flight.
    fn catch_up(&mut self) {
        let (request, tokens) = (&mut *self.request, self.behind);
        let known = request.tokens.len() + tokens;
        request.tokens.resize(known, self.token);
        request.paid += tokens;
        request.committed += tokens;
        request.scheduled = request.committed;
        self.behind = 0;
    }
}

#[cfg(test)]
mod tests;
