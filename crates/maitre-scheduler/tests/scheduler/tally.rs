//! How often what happened in random runs.

/// How often the rare things happened: a property proves nothing about what it never meets.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    pub(crate) steps: u64,
    pub(crate) preempted: u64,
    pub(crate) reserved: u64,
    pub(crate) expired: u64,
    pub(crate) failed: u64,
    pub(crate) cancelled_in_flight: u64,
    pub(crate) stalled: u64,
    pub(crate) reordered: u64,
    pub(crate) hits: u64,
    pub(crate) forked: u64,
    pub(crate) resets: u64,
    pub(crate) swapped_in: u64,
    pub(crate) copied: u64,
    pub(crate) merged: u64,
    pub(crate) drafted: u64,
    pub(crate) drafted_behind_a_step: u64,
    pub(crate) short_of_tokens: u64,
    pub(crate) short_of_blocks: u64,
    pub(crate) accepted: u64,
    pub(crate) rejected: u64,
    pub(crate) ended_in_a_run: u64,
    pub(crate) ahead: u64,
    pub(crate) retracted: u64,
    pub(crate) moved_again: u64,
    pub(crate) forgone: u64,
    pub(crate) replaced_in_flight: u64,
    pub(crate) queue_full: u64,
    pub(crate) queue_tokens_full: u64,
    pub(crate) tenant_queue_full: u64,
    pub(crate) wait_too_long: u64,
    pub(crate) deferred: u64,
    pub(crate) transfers: u64,
    pub(crate) lost: u64,
    pub(crate) partly_lost: u64,
    /// Transfers that ended after their requests.
    pub(crate) transfers_without_request: u64,
    /// Admissions before a prompt in progress.
    pub(crate) went_before: u64,
    /// Admissions that went on from a recurrent state in the cache.
    pub(crate) hits_of_state: u64,
    /// Forks that share one.
    pub(crate) forks_of_state: u64,
    /// Tokens that were not taken of a request that has one.
    pub(crate) deferred_with_state: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Self) {
        self.steps += other.steps;
        self.preempted += other.preempted;
        self.reserved += other.reserved;
        self.expired += other.expired;
        self.failed += other.failed;
        self.cancelled_in_flight += other.cancelled_in_flight;
        self.stalled += other.stalled;
        self.reordered += other.reordered;
        self.hits += other.hits;
        self.forked += other.forked;
        self.resets += other.resets;
        self.swapped_in += other.swapped_in;
        self.copied += other.copied;
        self.merged += other.merged;
        self.drafted += other.drafted;
        self.drafted_behind_a_step += other.drafted_behind_a_step;
        self.short_of_tokens += other.short_of_tokens;
        self.short_of_blocks += other.short_of_blocks;
        self.accepted += other.accepted;
        self.rejected += other.rejected;
        self.ended_in_a_run += other.ended_in_a_run;
        self.ahead += other.ahead;
        self.retracted += other.retracted;
        self.moved_again += other.moved_again;
        self.forgone += other.forgone;
        self.replaced_in_flight += other.replaced_in_flight;
        self.queue_full += other.queue_full;
        self.queue_tokens_full += other.queue_tokens_full;
        self.tenant_queue_full += other.tenant_queue_full;
        self.wait_too_long += other.wait_too_long;
        self.deferred += other.deferred;
        self.went_before += other.went_before;
        self.transfers += other.transfers;
        self.lost += other.lost;
        self.partly_lost += other.partly_lost;
        self.transfers_without_request += other.transfers_without_request;
        self.hits_of_state += other.hits_of_state;
        self.forks_of_state += other.forks_of_state;
        self.deferred_with_state += other.deferred_with_state;
    }
}
