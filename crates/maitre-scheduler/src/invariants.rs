//! The oracle: what must hold between any two calls, checked from scratch.

use std::collections::{BTreeMap, HashSet};

use crate::request::{Place, Request};
use crate::{InvariantViolation, Scheduler};

impl Scheduler {
    /// Checks the whole bookkeeping, the KV manager's included, in O(requests + blocks). Debug builds
    /// run it after every plan and every commit.
    ///
    /// # Errors
    ///
    /// The first violation found.
    pub fn check_invariants(&self) -> Result<(), InvariantViolation> {
        self.kv.check_invariants()?;
        self.check_limits_and_index()?;
        let in_flight = self.tokens_in_flight();
        for (place, request) in &self.running {
            self.check_running(*place, request, in_flight.get(place).copied().unwrap_or(0))?;
        }
        for request in self.waiting.values() {
            let computed = request.scheduled + request.committed;
            ensure(computed == 0, || wrong_counts(request, 0))?;
        }
        self.check_block_owners()?;
        self.check_timers()
    }

    fn check_limits_and_index(&self) -> Result<(), InvariantViolation> {
        let (running, max_seqs) = (self.running.len(), self.config.max_seqs);
        ensure(running <= max_seqs, || InvariantViolation::TooManyRunning {
            running,
            max_seqs,
        })?;
        for (place, request) in self.running.iter().chain(&self.waiting) {
            let request_id = request.id;
            ensure(self.places.get(&request_id) == Some(place), || {
                InvariantViolation::NotIndexed {
                    request: request_id,
                }
            })?;
        }
        let (indexed, live) = (self.places.len(), running + self.waiting.len());
        ensure(indexed == live, || InvariantViolation::StaleIndex {
            indexed,
            live,
        })
    }

    fn tokens_in_flight(&self) -> BTreeMap<Place, usize> {
        let mut tokens = BTreeMap::new();
        for span in self.in_flight.iter().flat_map(|step| &step.spans) {
            *tokens.entry(span.place).or_default() += span.num_tokens;
        }
        tokens
    }

    fn check_running(
        &self,
        place: Place,
        request: &Request,
        in_flight: usize,
    ) -> Result<(), InvariantViolation> {
        let consistent = request.scheduled == request.committed + in_flight
            && request.scheduled <= request.tokens.len()
            && request.tokens.len() < request.full_len;
        ensure(consistent, || wrong_counts(request, in_flight))?;
        let blocks = self.kv.block_table(place.sequence()).len();
        ensure(blocks >= self.kv.blocks_for(request.scheduled), || {
            InvariantViolation::TableTooShort {
                request: request.id,
                blocks,
                scheduled: request.scheduled,
            }
        })
    }

    /// Blocks belong to running requests and to those that leave with a step in flight, to nobody else.
    fn check_block_owners(&self) -> Result<(), InvariantViolation> {
        let leaving = self
            .in_flight
            .iter()
            .flat_map(|step| &step.release_after)
            .copied();
        let owners: HashSet<_> = self
            .running
            .keys()
            .map(|place| place.sequence())
            .chain(leaving)
            .collect();
        let holding = self.kv.num_sequences();
        let known = owners
            .iter()
            .filter(|&&owner| !self.kv.block_table(owner).is_empty())
            .count();
        ensure(known == owners.len() && holding == known, || {
            InvariantViolation::BlocksLeaked {
                holding,
                expected: owners.len(),
            }
        })
    }

    fn check_timers(&self) -> Result<(), InvariantViolation> {
        let deadlines = |request: &Request| {
            usize::from(request.deadline.is_some()) + usize::from(request.queue_deadline.is_some())
        };
        let expected = self
            .running
            .values()
            .chain(self.waiting.values())
            .map(deadlines)
            .sum();
        let watched = self.timers.len();
        ensure(watched == expected, || InvariantViolation::WrongTimers {
            watched,
            expected,
        })
    }
}

fn wrong_counts(request: &Request, in_flight: usize) -> InvariantViolation {
    InvariantViolation::WrongCounts {
        request: request.id,
        known: request.tokens.len(),
        scheduled: request.scheduled,
        committed: request.committed,
        in_flight,
    }
}

fn ensure(
    holds: bool,
    violation: impl FnOnce() -> InvariantViolation,
) -> Result<(), InvariantViolation> {
    if holds { Ok(()) } else { Err(violation()) }
}
