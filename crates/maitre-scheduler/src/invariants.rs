//! The oracle: what must hold between any two calls, checked from scratch.

use std::collections::{BTreeMap, HashSet};

use crate::request::{Place, Request};
use crate::{InvariantViolation, Scheduler};

impl Scheduler {
    /// Checks the whole bookkeeping, the KV manager's included, in O(requests + blocks). Debug builds
    /// run it after every commit.
    ///
    /// # Errors
    ///
    /// The first violation found.
    pub fn check_invariants(&self) -> Result<(), InvariantViolation> {
        self.kv.check_invariants()?;
        self.check_limits_and_index()?;
        let in_flight = self.tokens_in_flight();
        for (place, request) in &self.running {
            let (tokens, drafts) = in_flight.get(place).copied().unwrap_or_default();
            self.check_running(request, tokens)?;
            self.check_table(*place, request, drafts)?;
            self.check_states(*place, request)?;
        }
        for awaiting in self.awaiting.values() {
            let request = &awaiting.request;
            let computed = request.scheduled + request.committed;
            ensure(computed == 0, || wrong_counts(request, 0))?;
        }
        for request in self.waiting.values() {
            let computed = request.scheduled + request.committed;
            ensure(computed == 0, || wrong_counts(request, 0))?;
        }
        self.check_queue()?;
        self.check_forks()?;
        self.check_block_owners()?;
        self.check_timers()
    }

    fn check_limits_and_index(&self) -> Result<(), InvariantViolation> {
        let (running, max_seqs) = (self.num_admitted(), self.config.max_seqs);
        ensure(running <= max_seqs, || InvariantViolation::TooManyRunning {
            running,
            max_seqs,
        })?;
        let awaiting = self.awaiting.iter().map(|(place, it)| (place, &it.request));
        let live = self.running.iter().chain(&self.waiting);
        for (place, request) in live.chain(awaiting) {
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

    /// The policy may order the waiting as it likes, but it must name one of them if there are any.
    fn check_queue(&self) -> Result<(), InvariantViolation> {
        let parked: HashSet<Place> = self
            .forks
            .iter()
            .flat_map(|(_, forks)| forks)
            .copied()
            .collect();
        let mut queued = self
            .waiting
            .iter()
            .filter(|(place, _)| !parked.contains(place));
        let Some(request) = queued.next().map(|(_, request)| request.id) else {
            return Ok(());
        };
        let named = self.policy.next(1);
        let known = named
            .iter()
            .all(|place| self.waiting.contains_key(place) && !parked.contains(place));
        ensure(known && !named.is_empty(), || {
            InvariantViolation::NotQueued { request }
        })
    }

    /// A fork that waits for its parent's prompt has a live parent that has not computed it yet.
    fn check_forks(&self) -> Result<(), InvariantViolation> {
        for (&parent, forks) in self.forks.iter() {
            let live = self.running.contains_key(&parent)
                || self.awaiting.contains_key(&parent)
                || self.waiting.contains_key(&parent);
            let comes = live && !self.has_computed_prompt(parent);
            for place in forks {
                let request = self.waiting.get(place);
                let fork_of = request.and_then(|request| request.fork_of);
                ensure(comes && fork_of == Some(parent), || {
                    InvariantViolation::WronglyParked {
                        request: request.map(|request| request.id),
                    }
                })?;
            }
        }
        Ok(())
    }

    /// Tokens and places for drafts.
    fn tokens_in_flight(&self) -> BTreeMap<Place, (usize, usize)> {
        let mut in_flight: BTreeMap<_, (usize, usize)> = BTreeMap::new();
        for span in self.in_flight.iter().flat_map(|step| &step.spans) {
            let (tokens, drafts) = in_flight.entry(span.place).or_default();
            *tokens += span.num_tokens;
            *drafts += span.drafts;
        }
        in_flight
    }

    fn check_running(&self, request: &Request, in_flight: usize) -> Result<(), InvariantViolation> {
        // Only what may be planned ahead goes beyond the known tokens, and not to what would be too many.
        let most = match request.plan_ahead {
            true => request.full_len - 1,
            false => request.tokens.len(),
        };
        let consistent = request.scheduled == request.committed + in_flight
            && request.scheduled <= most
            && request.committed <= request.tokens.len()
            && request.tokens.len() < request.full_len;
        ensure(consistent, || wrong_counts(request, in_flight))
    }

    /// Tables cover what is planned, and but for what its admission took no more than that and the next token:
    /// what drafts took is given back.
    fn check_table(
        &self,
        place: Place,
        request: &Request,
        drafts: usize,
    ) -> Result<(), InvariantViolation> {
        let (id, scheduled) = (request.id, request.scheduled);
        let sequence = place.sequence();
        let covered = self.kv.covered(sequence);
        ensure(covered >= scheduled + drafts, || {
            InvariantViolation::TableTooShort {
                request: id,
                covered,
                scheduled,
                drafts,
            }
        })?;
        let most = scheduled + drafts.max(1);
        let reserved = request.reserved(self.config.kv.block_size as usize);
        let expected = self.kv.blocks_for(most.max(reserved));
        for group in 0..self.kv.num_groups() {
            let table = self.kv.block_table(sequence, group);
            let blocks = self.kv.first_block(sequence, group) + table.len();
            ensure(blocks <= expected, || InvariantViolation::TableTooLong {
                request: id,
                group,
                blocks,
                expected,
            })?;
        }
        Ok(())
    }

    /// The states are there that the oldest step in flight and the next one read.
    fn check_states(&self, place: Place, request: &Request) -> Result<(), InvariantViolation> {
        let mut read = [request.committed, request.scheduled].into_iter();
        let missing = read.find(|&tokens| !self.kv.has_state_behind(place.sequence(), tokens));
        match missing {
            Some(tokens) => Err(InvariantViolation::StateMissing {
                request: request.id,
                tokens,
            }),
            None => Ok(()),
        }
    }

    /// Only admitted requests, and requests that leave with a step in flight or a transfer, hold blocks.
    fn check_block_owners(&self) -> Result<(), InvariantViolation> {
        let leaving = self.in_flight.iter().flat_map(|step| &step.release_after);
        let owners: HashSet<_> = self
            .running
            .keys()
            .chain(self.awaiting.keys())
            .chain(leaving)
            .copied()
            .chain(self.transfers.places())
            .map(|place| place.sequence())
            .collect();
        let holding = self.kv.num_sequences();
        let known = owners
            .iter()
            .filter(|&&owner| self.kv.covered(owner) > 0)
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
            .chain(self.awaiting.values().map(|it| &it.request))
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

#[cfg(test)]
mod tests {
    use maitre_kv::KvConfig;

    use super::*;
    use crate::{NewRequest, RequestId, SchedulerConfig, Time};

    fn request(id: u64) -> NewRequest {
        NewRequest {
            deadline: Some(Time::from_secs(1)),
            ..NewRequest::new(id, vec![7; 5], 3)
        }
    }

    /// Request 1 runs with a step in flight, request 2 waits.
    fn one_running_one_waiting() -> Scheduler {
        let config = SchedulerConfig::new(1, 8, 16, KvConfig::new(8, 4));
        let mut scheduler = Scheduler::new(config).unwrap();
        scheduler.add(request(1)).unwrap();
        scheduler.add(request(2)).unwrap();
        assert_eq!(scheduler.schedule(Time::ZERO).spans.len(), 1);
        assert_eq!(scheduler.check_invariants(), Ok(()));
        scheduler
    }

    fn running(scheduler: &mut Scheduler) -> (Place, &mut Request) {
        let (place, request) = scheduler.running.iter_mut().next().unwrap();
        (*place, request)
    }

    #[test]
    fn each_way_to_break_the_books_is_found() {
        let check = |damage: fn(&mut Scheduler), expected: InvariantViolation| {
            let mut scheduler = one_running_one_waiting();
            damage(&mut scheduler);
            assert_eq!(scheduler.check_invariants(), Err(expected));
        };
        let (first, second) = (RequestId(1), RequestId(2));
        check(
            |s| s.config.max_seqs = 0,
            InvariantViolation::TooManyRunning {
                running: 1,
                max_seqs: 0,
            },
        );
        check(
            |s| s.places.retain(|id, _| id.0 != 2),
            InvariantViolation::NotIndexed { request: second },
        );
        check(
            |s| drop(s.waiting.pop_first()),
            InvariantViolation::StaleIndex {
                indexed: 2,
                live: 1,
            },
        );
        check(
            |s| running(s).1.committed = 5,
            InvariantViolation::WrongCounts {
                request: first,
                known: 5,
                scheduled: 5,
                committed: 5,
                in_flight: 5,
            },
        );
        check(
            |s| drop(s.in_flight.complete_oldest()),
            InvariantViolation::WrongCounts {
                request: first,
                known: 5,
                scheduled: 5,
                committed: 0,
                in_flight: 0,
            },
        );
        check(
            |s| s.waiting.values_mut().for_each(|r| r.scheduled = 1),
            InvariantViolation::WrongCounts {
                request: second,
                known: 5,
                scheduled: 1,
                committed: 0,
                in_flight: 0,
            },
        );
        check(
            |s| {
                let sequence = running(s).0.sequence();
                s.kv.release(sequence);
            },
            InvariantViolation::TableTooShort {
                request: first,
                covered: 0,
                scheduled: 5,
                drafts: 0,
            },
        );
        check(
            |s| {
                let sequence = running(s).0.sequence();
                s.kv.grow(sequence, 9).unwrap();
            },
            InvariantViolation::TableTooLong {
                request: first,
                group: 0,
                blocks: 3,
                expected: 2,
            },
        );
        check(
            |s| {
                let sequence = s.waiting.keys().next().unwrap().sequence();
                s.kv.grow(sequence, 1).unwrap();
            },
            InvariantViolation::BlocksLeaked {
                holding: 2,
                expected: 1,
            },
        );
        check(
            |s| {
                let (&place, request) = s.waiting.first_key_value().unwrap();
                s.policy.leave(&request.waiting(place));
            },
            InvariantViolation::NotQueued { request: second },
        );
        check(
            |s| {
                let waiting = *s.waiting.keys().next().unwrap();
                let parent = running(s).0;
                s.forks.park(parent, waiting);
            },
            InvariantViolation::WronglyParked {
                request: Some(second),
            },
        );
        check(
            |s| running(s).1.deadline = None,
            InvariantViolation::WrongTimers {
                watched: 2,
                expected: 1,
            },
        );
    }
}
