//! The oracle for drafts: how many each decode of a plan may verify, said independently of how they are dealt.
//!
//! For each decode that got fewer drafts than it wanted, a finished plan shows that nothing was left for it, and
//! that no other decode got ahead of it.

use maitre_scheduler::{PlannedSpan, StepPlan};

use crate::world::{Entry, World};

/// A decode of a plan, in numbers of drafts.
struct Grant {
    granted: usize,
    /// What it could have used.
    most: usize,
    /// Blocks that it took for drafts alone.
    taken: usize,
    /// The first of its drafts that is in the last one of them.
    opened: usize,
    /// Whether one more would take a block.
    is_full: bool,
}

impl World {
    /// Checks what a plan grants, before its spans are entered into the books.
    pub(crate) fn check_grants(&mut self, plan: &StepPlan) {
        let config = self.scheduler.config();
        let usage = self.scheduler.kv_usage();
        // A block takes a page in each group, and a draft the pages of a state.
        let free_pages = usage.total - usage.used;
        let free = free_pages / config.kv.num_block_groups().max(1);
        let awaiting = self.live.keys().filter(|id| self.is_awaiting(**id)).count();
        let others = (self.scheduler.num_running() + awaiting).saturating_sub(1);
        let decodes: Vec<Grant> = plan.spans.iter().map(|span| self.grant(span)).collect();
        let taken: usize = decodes.iter().map(|grant| grant.taken).sum();
        assert!(
            taken == 0 || free >= others || config.kv.num_block_groups() == 0,
            "drafts took blocks that others need: {free} free, {others} others"
        );
        self.check_prompts_come_first(plan);
        // How far the tables of groups that forget reach is not known here: only that plenty of pages is enough.
        let most: usize = decodes.iter().map(|grant| grant.most).sum();
        let blocks = (others + most + decodes.len()) * config.kv.num_block_groups();
        let plenty = blocks + most * config.kv.pages_per_state();
        let is_scarce = config.kv.forgets() && free_pages <= plenty;
        let all_tokens = plan.num_tokens() + plan.num_drafts() == config.max_batched_tokens;
        for (index, short) in decodes.iter().enumerate() {
            if short.granted == short.most || is_scarce {
                continue;
            }
            // Whose turn was before the one that it missed.
            let before =
                |other: usize, turn: usize| turn <= short.granted + usize::from(other < index);
            if short.is_full && free <= others {
                let mut grants = decodes.iter().enumerate();
                assert!(
                    grants.all(|(other, it)| it.taken == 0 || before(other, it.opened)),
                    "blocks are taken in turn"
                );
                self.tally.short_of_blocks += 1;
                continue;
            }
            // What a latency target leaves of the budget is not known here.
            assert!(
                all_tokens || config.itl_target.is_some(),
                "{} of {} drafts, but there are tokens and blocks",
                short.granted,
                short.most
            );
            let mut grants = decodes.iter().enumerate();
            assert!(
                grants.all(|(other, it)| before(other, it.granted)),
                "drafts are granted in turn"
            );
            self.tally.short_of_tokens += 1;
        }
        self.tally.drafted += plan.num_drafts() as u64;
        if !self.in_flight.is_empty() {
            self.tally.drafted_behind_a_step += plan.num_drafts() as u64;
        }
    }

    /// If a request of the plan drafts, each running request computes all tokens that it knows.
    fn check_prompts_come_first(&self, plan: &StepPlan) {
        let running = self.live.values().filter(|entry| entry.running);
        for entry in running.filter(|_| plan.num_drafts() > 0) {
            let id = entry.request.id;
            let span = plan.spans.iter().find(|span| span.request == id);
            let end = span.map_or(entry.scheduled, |span| span.context_len);
            // A group that forgets may have no page for more.
            let forgets = self.scheduler.config().kv.forgets();
            let computes = end >= entry.known || forgets && end > entry.scheduled;
            assert!(computes, "drafts take tokens from {id}");
        }
    }

    fn grant(&self, span: &PlannedSpan) -> Grant {
        let entry = &self.live[&span.request];
        let granted = span.drafts;
        let decodes = entry.scheduled >= entry.prefill_len;
        let left = entry.full_len() - entry.known - 1;
        let most = if decodes {
            entry.next_drafts.min(left)
        } else {
            0
        };
        assert!(granted <= most, "{granted} drafts, but {most} at most");
        let blocks = |positions: usize| self.blocks_for(positions);
        let held = blocks(span.context_len.max(self.reserved(entry)));
        let holds = blocks(span.context_len + granted).max(held);
        Grant {
            granted,
            most,
            taken: holds - held,
            opened: ((holds - 1) * self.block_size() + 1).saturating_sub(span.context_len),
            is_full: blocks(span.context_len + granted + 1) > holds,
        }
    }

    pub(crate) fn blocks_for(&self, positions: usize) -> usize {
        positions.div_ceil(self.block_size())
    }

    /// Positions that a running request's blocks cover whatever it has computed of them: those known at its
    /// admission, one more, and since its second preemption some blocks more.
    pub(crate) fn reserved(&self, entry: &Entry) -> usize {
        let next = entry.prefill_len + 1;
        match entry.preemptions {
            0 | 1 => next,
            times => {
                let more = (8 << (times - 2)) * self.block_size();
                (next + more).min(entry.full_len().max(next))
            }
        }
    }

    fn block_size(&self) -> usize {
        self.scheduler.config().kv.block_size as usize
    }
}
