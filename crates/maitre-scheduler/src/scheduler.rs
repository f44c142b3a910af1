//! The scheduler's state, and how requests enter and leave it.
//!
//! A live request is in exactly one of two maps, waiting or running, both ordered by its place in the
//! order of service. So the next to be admitted is the first of one map, the next to be preempted the
//! last of the other, a preempted request is in front again by itself, and every move is O(log n).

use std::collections::{BTreeMap, HashMap};

use maitre_kv::KvManager;

use crate::in_flight::StepsInFlight;
use crate::request::{Place, Request};
use crate::timers::Timers;
use crate::{NewRequest, Refusal, RequestId, SchedulerConfig, SchedulerError, StepId, Time};

/// How full the KV pool is, in blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvUsage {
    /// Blocks that requests hold.
    pub used: usize,
    /// Blocks in the pool.
    pub total: usize,
}

/// Decides who runs in the next step. See the [crate root](crate) for the cycle of its calls.
#[derive(Debug, Clone)]
pub struct Scheduler {
    pub(crate) config: SchedulerConfig,
    pub(crate) kv: KvManager,
    pub(crate) waiting: BTreeMap<Place, Request>,
    pub(crate) running: BTreeMap<Place, Request>,
    /// Where each live request is. Only looked up, never iterated: its order is random.
    pub(crate) places: HashMap<RequestId, Place>,
    pub(crate) timers: Timers,
    pub(crate) in_flight: StepsInFlight,
    next_serial: u64,
    next_step: u64,
    pub(crate) preemptions: u64,
}

impl Scheduler {
    /// An idle scheduler.
    ///
    /// # Errors
    ///
    /// What [`SchedulerConfig::validate`] refuses.
    pub fn new(config: SchedulerConfig) -> Result<Self, SchedulerError> {
        config.validate()?;
        Ok(Self {
            config,
            kv: KvManager::new(config.kv)?,
            waiting: BTreeMap::new(),
            running: BTreeMap::new(),
            places: HashMap::new(),
            timers: Timers::default(),
            in_flight: StepsInFlight::default(),
            next_serial: 0,
            next_step: 0,
            preemptions: 0,
        })
    }

    /// Queues a request, or refuses it at once if it could never run to its end.
    ///
    /// # Errors
    ///
    /// A [`Refusal`]. [`Refusal::QueueFull`] comes last, so it says that nothing else is wrong.
    pub fn add(&mut self, request: NewRequest) -> Result<(), Refusal> {
        self.admissible(&request)?;
        let place = Place::new(request.arrival, self.next_serial);
        self.next_serial += 1;
        self.places.insert(request.id, place);
        let request = Request::new(request);
        self.timers.watch(place, &request);
        self.waiting.insert(place, request);
        Ok(())
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
        let capacity_tokens = self.kv.capacity_tokens();
        if needed_tokens > capacity_tokens {
            return Err(Refusal::NeverFits {
                needed_tokens,
                capacity_tokens,
            });
        }
        if self.waiting.len() >= self.config.max_queue {
            return Err(Refusal::QueueFull {
                limit: self.config.max_queue,
            });
        }
        Ok(())
    }

    /// Ends a request. Its blocks are free at once or, if a step in flight uses them, with that step's
    /// commit; its outcome in that commit is ignored and may be left out.
    ///
    /// Returns whether the request was waiting or running.
    pub fn cancel(&mut self, request: RequestId) -> bool {
        match self.places.get(&request) {
            Some(&place) => self.remove(place).is_some(),
            None => false,
        }
    }

    /// Takes a request out of everything but the steps in flight.
    pub(crate) fn remove(&mut self, place: Place) -> Option<Request> {
        let request = self
            .running
            .remove(&place)
            .or_else(|| self.waiting.remove(&place))?;
        self.places.remove(&request.id);
        self.timers.forget(place, &request);
        let sequence = place.sequence();
        if !(request.is_in_flight() && self.in_flight.release_after_newest(sequence)) {
            self.kv.release(sequence);
        }
        Some(request)
    }

    pub(crate) fn next_step_id(&mut self) -> StepId {
        let step = StepId(self.next_step);
        self.next_step += 1;
        step
    }

    /// The limits it lives within.
    pub fn config(&self) -> &SchedulerConfig {
        &self.config
    }

    /// Whether any request is waiting or running.
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

    /// How full the KV pool is.
    pub fn kv_usage(&self) -> KvUsage {
        KvUsage {
            used: self.kv.used_blocks(),
            total: self.config.kv.num_blocks as usize,
        }
    }

    /// The known tokens of a live request: its prompt, then what was committed as its output.
    pub fn tokens(&self, request: RequestId) -> Option<&[u32]> {
        let place = self.places.get(&request)?;
        let request = self
            .running
            .get(place)
            .or_else(|| self.waiting.get(place))?;
        Some(&request.tokens)
    }

    /// Preemptions since the start.
    pub fn preemptions(&self) -> u64 {
        self.preemptions
    }

    /// When the next deadline of a live request is up: a caller with nothing to run sleeps until then.
    pub fn next_timer(&self) -> Option<Time> {
        self.timers.next()
    }
}
