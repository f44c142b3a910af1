//! The scheduler's state, and how requests enter and leave it.
//!
//! A live request is in exactly one of three maps, waiting, awaiting blocks or running, under its place by arrival. The
//! policy knows the waiting requests and says which is next; only a fork that waits for the prompt it shares is kept
//! apart. A preempted request goes back to its old place. Every move is O(log n).

use std::collections::{BTreeMap, HashMap};

use maitre_kv::{CacheEvent, KvCounts, KvManager};

use crate::admit::Blocked;
use crate::cost::{Returns, StepCost};
use crate::forks::Forks;
use crate::in_flight::StepsInFlight;
use crate::policy::Policy;
use crate::request::{Place, Request};
use crate::timers::Timers;
use crate::transfers::{Awaiting, Transfers};
use crate::{NewRequest, Refusal, RequestId, SchedulerConfig, SchedulerError, StepId, Time};

/// How full the KV pool is, in pages. A block of a request is a page in each KV group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KvUsage {
    /// Pages that requests hold.
    pub used: usize,
    /// Pages that no request holds, kept for later requests that begin with the same tokens.
    pub cached: usize,
    /// Pages in the pool.
    pub total: usize,
    /// Pages in the host tier.
    pub host: usize,
}

/// What the scheduler has done since it was made. Nothing of it decides anything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SchedulerCounts {
    /// Requests that lost their blocks to others.
    pub preemptions: u64,
    /// Computed tokens they lost.
    pub preempted_tokens: u64,
    /// Known tokens of admitted requests that could have been in the prefix cache.
    pub prefix_queries: u64,
    /// Of them, tokens that were.
    pub prefix_hits: u64,
    /// What the KV manager did.
    pub kv: KvCounts,
}

/// Decides which requests run in the next step. See the [crate root](crate) for the cycle of its calls.
#[derive(Debug)]
pub struct Scheduler {
    pub(crate) config: SchedulerConfig,
    pub(crate) kv: KvManager,
    pub(crate) policy: Box<dyn Policy>,
    pub(crate) waiting: BTreeMap<Place, Request>,
    pub(crate) running: BTreeMap<Place, Request>,
    /// Requests that were admitted and that a transfer keeps from running.
    pub(crate) awaiting: BTreeMap<Place, Awaiting>,
    pub(crate) transfers: Transfers,
    /// Where each live request is. Only looked up, never iterated: its order is random.
    pub(crate) places: HashMap<RequestId, Place>,
    pub(crate) timers: Timers,
    pub(crate) forks: Forks,
    pub(crate) in_flight: StepsInFlight,
    /// How many of the waiting requests have run before.
    preempted: usize,
    pub(crate) cost: StepCost,
    pub(crate) move_cost: StepCost,
    returns: Returns,
    pub(crate) blocked: Option<Blocked>,
    next_serial: u64,
    next_step: u64,
    pub(crate) counts: SchedulerCounts,
}

impl Scheduler {
    /// An idle scheduler.
    ///
    /// # Errors
    ///
    /// What [`SchedulerConfig::validate`] refuses.
    pub fn new(config: SchedulerConfig) -> Result<Self, SchedulerError> {
        let policy = config.policy.build();
        Self::with_policy(config, policy)
    }

    /// An idle scheduler with the caller's policy, which must not know a request yet.
    ///
    /// # Errors
    ///
    /// What [`SchedulerConfig::validate`] refuses.
    pub fn with_policy(
        config: SchedulerConfig,
        policy: Box<dyn Policy>,
    ) -> Result<Self, SchedulerError> {
        config.validate()?;
        Ok(Self {
            kv: KvManager::new(config.kv.clone())?,
            config,
            policy,
            waiting: BTreeMap::new(),
            running: BTreeMap::new(),
            awaiting: BTreeMap::new(),
            transfers: Transfers::default(),
            places: HashMap::new(),
            timers: Timers::default(),
            forks: Forks::default(),
            in_flight: StepsInFlight::default(),
            preempted: 0,
            cost: StepCost::default(),
            move_cost: StepCost::default(),
            returns: Returns::default(),
            blocked: None,
            next_serial: 0,
            next_step: 0,
            counts: SchedulerCounts::default(),
        })
    }

    /// Queues a request, or refuses it at once if it could never run to its end.
    ///
    /// # Errors
    ///
    /// A [`Refusal`]. That too many wait is none: a [`BoundedQueue`](crate::queue::BoundedQueue) says so before.
    pub fn add(&mut self, request: NewRequest) -> Result<(), Refusal> {
        self.admissible(&request)?;
        let place = Place::new(request.arrival, self.next_serial);
        self.next_serial += 1;
        self.places.insert(request.id, place);
        let fork_of = self.parent_of(&request);
        let mut request = Request::new(request, fork_of);
        if request.read_cache || request.write_cache {
            self.kv.extend_chain(&mut request.chain, &request.tokens);
        }
        self.timers.watch(place, &request);
        self.enqueue(place, request);
        Ok(())
    }

    /// The live request whose prompt a new one shares. What is shared must be visible to both, and
    /// remembered for others by both or by none.
    fn parent_of(&self, request: &NewRequest) -> Option<Place> {
        let place = *self.places.get(&request.fork_of?)?;
        let parent = self.live(place)?;
        let same = parent.tokens.get(..parent.prompt_len) == Some(request.prompt.as_slice())
            && parent.chain.namespace() == request.namespace
            && parent.write_cache == request.write_cache;
        (same && !request.prompt_logits).then_some(place)
    }

    pub(crate) fn enqueue(&mut self, place: Place, request: Request) {
        self.preempted += usize::from(request.preemptions > 0);
        match request.fork_of {
            Some(parent) if !self.has_computed_prompt(parent) => self.forks.park(parent, place),
            _ => self.policy.enter(&request.waiting(place)),
        }
        self.waiting.insert(place, request);
    }

    pub(crate) fn dequeue(&mut self, place: Place) -> Option<Request> {
        let request = self.waiting.remove(&place)?;
        if !request
            .fork_of
            .is_some_and(|parent| self.forks.unpark(parent, place))
        {
            self.policy.leave(&request.waiting(place));
        }
        self.preempted -= usize::from(request.preemptions > 0);
        Some(request)
    }

    /// Whether `parent` runs and everything that its forks share with it is there.
    pub(crate) fn has_computed_prompt(&self, parent: Place) -> bool {
        let parent = self.running.get(&parent);
        parent.is_some_and(|parent| parent.committed >= parent.prompt_len)
    }

    /// Forks that waited for `parent`'s prompt are in the queue from now on.
    pub(crate) fn release_forks(&mut self, parent: Place) {
        // Asked for each span of each commit, mostly in vain.
        if self.forks.is_empty() {
            return;
        }
        for place in self.forks.take(parent) {
            if let Some(request) = self.waiting.get(&place) {
                self.policy.enter(&request.waiting(place));
            }
        }
    }

    fn live(&self, place: Place) -> Option<&Request> {
        let awaiting = || Some(&self.awaiting.get(&place)?.request);
        let running = self.running.get(&place).or_else(awaiting);
        running.or_else(|| self.waiting.get(&place))
    }

    fn admissible(&self, request: &NewRequest) -> Result<(), Refusal> {
        if request.prompt.is_empty() {
            return Err(Refusal::EmptyPrompt);
        }
        if request.max_tokens == 0 {
            return Err(Refusal::ZeroMaxTokens);
        }
        if self.places.contains_key(&request.id) {
            return Err(Refusal::DuplicateId {
                request: request.id,
            });
        }
        let needed_tokens = request.prompt.len().saturating_add(request.max_tokens);
        let max_model_len = self.config.max_model_len;
        if needed_tokens > max_model_len {
            return Err(Refusal::TooLong {
                needed_tokens,
                max_model_len,
            });
        }
        let needed_pages = self.config.kv.pages_for(needed_tokens, self.config.ahead());
        if needed_pages > self.config.kv.num_pages as usize {
            return Err(Refusal::NeverFits {
                needed_tokens,
                capacity_tokens: self.config.capacity_tokens(),
            });
        }
        Ok(())
    }

    /// Ends a request. Its blocks are free at once or, if steps in flight use them, with the commit of the newest
    /// step, or if a transfer fills them, when that is settled; its outcomes in those commits are ignored and may be left out.
    ///
    /// Returns whether the request was live.
    pub fn cancel(&mut self, request: RequestId) -> bool {
        match self.places.get(&request) {
            Some(&place) => self.remove(place).is_some(),
            None => false,
        }
    }

    /// Takes a request out of everything but the steps in flight.
    pub(crate) fn remove(&mut self, place: Place) -> Option<Request> {
        let awaiting = self.awaiting.remove(&place);
        let is_filled = awaiting.as_ref().is_some_and(|it| it.received.is_none());
        let request = awaiting
            .map(|awaiting| awaiting.request)
            .or_else(|| self.running.remove(&place))
            .or_else(|| self.dequeue(place))?;
        self.places.remove(&request.id);
        self.timers.forget(place, &request);
        self.release_forks(place);
        if !is_filled {
            self.release(place, request.is_in_flight());
        }
        Some(request)
    }

    /// Gives the blocks of a request back that has ended, now or when the steps in flight do not need them any more.
    pub(crate) fn release(&mut self, place: Place, is_in_flight: bool) {
        let sequence = place.sequence();
        // A step may copy blocks for a request that it does not run: after one was taken back, or as blocks arrive.
        let in_use = is_in_flight || self.kv.awaits_moves(sequence);
        if !(in_use && self.in_flight.release_after_newest(place)) {
            self.kv.release(sequence);
        }
    }

    pub(crate) fn next_step_id(&mut self) -> StepId {
        let step = StepId(self.next_step);
        self.next_step += 1;
        step
    }

    /// The newest of so many further steps, at least one.
    pub(crate) fn next_step_ids(&mut self, count: usize) -> StepId {
        self.next_step += count as u64;
        StepId(self.next_step - 1)
    }

    /// The limits it lives within.
    pub fn config(&self) -> &SchedulerConfig {
        &self.config
    }

    /// Whether any request is live: waiting, awaiting blocks or running. (Transfers of requests that have ended may be
    /// under way in any case: see [`num_transfers`](Self::num_transfers).)
    pub fn has_work(&self) -> bool {
        !self.places.is_empty()
    }

    /// Requests that hold blocks and take part in steps.
    pub fn num_running(&self) -> usize {
        self.running.len()
    }

    /// Requests in the queue, preempted ones among them.
    pub fn num_waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Requests in the queue that have run before and lost their blocks.
    pub fn num_preempted(&self) -> usize {
        self.preempted
    }

    /// How full the KV pool is.
    pub fn kv_usage(&self) -> KvUsage {
        KvUsage {
            used: self.kv.used_pages(),
            cached: self.kv.idle_pages(),
            total: self.config.kv.num_pages as usize,
            host: self.kv.host_pages(),
        }
    }

    /// The block positions of running requests that have a token, and all that they hold, in each KV group: the
    /// difference is what paging wastes. A block that several requests hold counts for each.
    pub fn filled_positions(&self) -> (usize, usize) {
        let block_size = self.config.kv.block_size as usize;
        let (mut filled, mut positions) = (0, 0);
        for (place, request) in &self.running {
            let sequence = place.sequence();
            for group in 0..self.kv.num_groups() {
                let held = self.kv.block_table(sequence, group).len() * block_size;
                let behind = self.kv.first_block(sequence, group) * block_size;
                // The newest token may have to wait for the block it belongs to.
                filled += request.tokens.len().saturating_sub(behind).min(held);
                positions += held;
            }
        }
        (filled, positions)
    }

    /// The known tokens of a live request: its prompt, then what was committed as its output.
    pub fn tokens(&self, request: RequestId) -> Option<&[u32]> {
        let request = self.live(*self.places.get(&request)?)?;
        Some(&request.tokens)
    }

    /// What has been done since the start.
    pub fn counts(&self) -> SchedulerCounts {
        SchedulerCounts {
            kv: self.kv.counts(),
            ..self.counts
        }
    }

    /// When the next deadline of a live request is up: a caller with nothing to run sleeps until then.
    pub fn next_timer(&self) -> Option<Time> {
        self.timers.next()
    }

    /// Forgets all prefixes. Live requests keep their blocks, but later requests cannot share them. Returns
    /// how many blocks were forgotten.
    pub fn reset_prefix_cache(&mut self) -> usize {
        self.kv.reset_prefix_cache()
    }

    /// What became reusable and what no longer is, since the last call: to be taken after every commit, since
    /// it is kept until then. Nothing unless
    /// [`KvConfig::events`](maitre_kv::KvConfig::events) asks for it.
    pub fn take_cache_events(&mut self) -> Vec<CacheEvent> {
        self.kv.take_events()
    }

    /// Learns how long a step took that computed `tokens`, drafted ones included, and moved so many pages (`moved_blocks`), which
    /// took `moving` of it.
    /// Step sizes under [`SchedulerConfig::itl_target`] and the use of the host tier follow from it.
    pub fn observe(&mut self, tokens: usize, took: Time, moved_blocks: usize, moving: Time) {
        if tokens > 0 {
            self.cost.observe(tokens, took.saturating_sub(moving));
        }
        if moved_blocks > 0 {
            self.move_cost.observe(moved_blocks, moving);
        } else {
            // What is not tried is not learnt: after some steps it is tried again.
            self.move_cost.forget();
        }
        let kv = self.kv.counts();
        self.returns.observe(kv.swapped_out, kv.swapped_in);
        self.kv
            .set_offload(self.host_pays(1.0 + 1.0 / self.returns.share()));
    }

    /// Whether moving a block, all its pages, `ways` times costs less than computing its tokens again.
    pub(crate) fn host_pays(&self, ways: f64) -> bool {
        match (self.cost.line(), self.move_cost.line()) {
            (Some(step), Some(moving)) => {
                let again = step.per_token * f64::from(self.config.kv.block_size);
                ways * moving.per_token * self.config.kv.pages_per_block() < again
            }
            // Nothing known: memory is copied faster than tokens are computed on anything we know.
            _ => true,
        }
    }
}
