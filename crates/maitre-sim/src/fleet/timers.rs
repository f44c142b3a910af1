//! What happens to replicas by itself: they fail and are repaired, and are started and stopped as the load asks for.

use std::cmp::Reverse;

use maitre_scheduler::Time;

use super::autoscaling::{Autoscaling, Look, ScaleBy};
use super::failures::OnFailure;
use super::members::State;
use super::together::Fleet;
use crate::SimError;
use crate::replica::Live;
use crate::workload::Arrivals;

/// What is due at some time. Of a replica that has had another life since, nothing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// A replica has started or is repaired.
    Ready { replica: usize, life: u64 },
    /// A replica fails.
    Failure { replica: usize, life: u64 },
    /// The autoscaler looks.
    Look,
}

impl Fleet<'_> {
    pub(super) fn set_first_timers(&mut self) {
        for replica in self.members.all(State::Ready).collect::<Vec<_>>() {
            self.expect_failure(replica, Time::ZERO);
        }
        if let Some(scaling) = &self.simulation.autoscaling {
            self.timers.push(Reverse((scaling.every, Timer::Look)));
        }
    }

    fn expect_failure(&mut self, replica: usize, now: Time) {
        let Some(failures) = &self.simulation.failures else {
            return;
        };
        let life = self.members.life(replica);
        let after = failures.time_to_failure(self.simulation.seed, replica, life);
        let at = now.saturating_add(after);
        self.timers
            .push(Reverse((at, Timer::Failure { replica, life })));
    }

    /// Does what the next timer is for.
    pub(super) fn fire(&mut self, arrivals: &mut dyn Arrivals) -> Result<(), SimError> {
        let Some(Reverse((now, timer))) = self.timers.pop() else {
            return Ok(());
        };
        match timer {
            Timer::Ready { replica, life } if self.members.life(replica) == life => {
                self.members.become_(replica, State::Ready, now);
                self.expect_failure(replica, now);
                Ok(())
            }
            Timer::Failure { replica, life } if self.members.life(replica) == life => {
                self.fail(replica, now, arrivals)
            }
            Timer::Look => match self.simulation.autoscaling {
                Some(scaling) => self.look(&scaling, now),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    fn fail(
        &mut self,
        index: usize,
        now: Time,
        arrivals: &mut dyn Arrivals,
    ) -> Result<(), SimError> {
        let Some(failures) = self.simulation.failures else {
            return Ok(());
        };
        self.counts.failures += 1;
        self.replicas[index].catch_up(now, &mut self.statistics)?;
        let lost = self.renew(index)?;
        match self.members.state(index) {
            State::Draining => {
                self.members.become_(index, State::Off, now);
            }
            _ => self.ready_after(failures.repair, index, State::Down, now),
        }
        for mut live in lost {
            self.counts.lost_tokens += u64::from(live.restart());
            match failures.on_failure {
                OnFailure::Reroute => {
                    self.statistics.rerouted += 1;
                    self.send(live, now, arrivals)?;
                }
                OnFailure::Fail => {
                    self.statistics.failed(now);
                    if let Some(user) = live.request.user {
                        arrivals.ended(user, now);
                    }
                }
            }
        }
        Ok(())
    }

    /// A fresh replica takes the place of another, whose requests are returned.
    fn renew(&mut self, index: usize) -> Result<Vec<Live>, SimError> {
        let fresh = self.simulation.replica(index, &self.simulation.engine)?;
        Ok(self.replicas[index].fail(fresh))
    }

    /// A replica is `state` for so long, and ready then.
    fn ready_after(&mut self, time: Time, replica: usize, state: State, now: Time) {
        let life = self.members.become_(replica, state, now);
        let at = now.saturating_add(time);
        self.timers
            .push(Reverse((at, Timer::Ready { replica, life })));
    }

    fn look(&mut self, scaling: &Autoscaling, now: Time) -> Result<(), SimError> {
        let next = now.saturating_add(scaling.every);
        self.timers.push(Reverse((next, Timer::Look)));
        let ready: Vec<usize> = self.members.all(State::Ready).collect();
        let mut kv_blocks = 0;
        if matches!(scaling.by, ScaleBy::KvUse(_)) {
            for &replica in &ready {
                self.replicas[replica].catch_up(now, &mut self.statistics)?;
                kv_blocks += self.replicas[replica].load().kv_used;
            }
        }
        let (ended, missed) = self.statistics.ended_and_missed();
        let seen = std::mem::replace(&mut self.seen, (ended, missed));
        let all_blocks = ready.len() * self.simulation.engine.kv_blocks as usize;
        let look = Look {
            ready: ready.len(),
            starting: self.members.count(State::Starting),
            waiting: ready.iter().map(|&it| self.replicas[it].waiting()).sum(),
            kv_used: kv_blocks as f64 / all_blocks.max(1) as f64,
            ended: ended - seen.0,
            missed: missed - seen.1,
            is_calm: now.saturating_sub(self.members.last_scaled) >= scaling.cooldown,
        };
        let (there, wanted) = (look.ready + look.starting, scaling.wanted(&look));
        for _ in there..wanted {
            self.start_one(scaling, now)?;
        }
        for _ in wanted..there {
            self.stop_one(now);
        }
        Ok(())
    }

    /// One that is about to stop goes on, or another one starts, if there is a place for it.
    fn start_one(&mut self, scaling: &Autoscaling, now: Time) -> Result<(), SimError> {
        let draining = self.members.all(State::Draining).next();
        let off = self.members.all(State::Off).next();
        if let Some(replica) = draining {
            self.members.become_(replica, State::Ready, now);
        } else if let Some(replica) = off {
            self.renew(replica)?;
            self.ready_after(scaling.cold_start, replica, State::Starting, now);
        } else {
            return Ok(());
        }
        self.members.last_scaled = now;
        self.counts.started += 1;
        Ok(())
    }

    /// One that is not ready yet stops at once; of those that are, the one with the fewest requests, when it has answered them.
    fn stop_one(&mut self, now: Time) {
        let outstanding = |&replica: &usize| self.replicas[replica].outstanding();
        let starting = self.members.all(State::Starting).last();
        let ready = || self.members.all(State::Ready);
        // Of several the last one.
        let least = ready().map(|it| (outstanding(&it), Reverse(it))).min();
        let (replica, state) = match (starting, least) {
            (Some(replica), _) => (replica, State::Off),
            (None, Some((0, replica))) => (replica.0, State::Off),
            (None, Some((_, replica))) => (replica.0, State::Draining),
            (None, None) => return,
        };
        self.members.become_(replica, state, now);
        self.members.last_scaled = now;
        self.counts.stopped += 1;
    }
}
