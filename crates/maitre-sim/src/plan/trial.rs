//! A box under some load, simulated by the scheduler that serves: how many of the answers keep to the SLO.

use std::rc::Rc;

use maitre_scheduler::Time;

use super::Question;
use super::traffic::{GivenUp, Load};
use crate::{Answered, Report, SimError, Simulation, Slo, StepPricer, StepWork};

/// What came of a trial.
#[derive(Debug, Clone)]
pub(super) struct Trial {
    /// The load, in the unit of the traffic.
    pub(super) load: f64,
    /// The share of the requests that count whose answers kept to the SLO. Where it is too small, later requests may not have come
    /// at all, and it is smaller than it had to be.
    pub(super) kept: f64,
    /// The answers that count missed these bounds: so many of TTFT, TPOT and end to end.
    pub(super) missed: [u64; 3],
    /// What the share of answers that has to keep to the SLO keeps to: TTFT, TPOT and end to end.
    pub(super) reached: [Time; 3],
    /// Mean seconds of an answer.
    pub(super) answer: f64,
    /// The report of the whole simulation, its beginning and its end included.
    pub(super) report: Report,
}

/// The times of answers, and which bounds they missed.
#[derive(Default)]
struct Times {
    times: [Vec<Time>; 3],
    missed: [u64; 3],
    kept: u64,
    answers: u64,
}

impl Times {
    fn add(&mut self, answered: &Answered, slo: &Slo) {
        let found = [Some(answered.ttft()), answered.tpot(), Some(answered.e2e())];
        let bounds = [slo.ttft, slo.tpot, slo.e2e];
        for (index, (time, bound)) in found.into_iter().zip(bounds).enumerate() {
            let Some(time) = time else { continue };
            self.times[index].push(time);
            self.missed[index] += u64::from(bound.is_some_and(|bound| time > bound));
        }
        self.answers += 1;
        self.kept += u64::from(slo.is_met_by(answered.ttft(), answered.tpot(), answered.e2e()));
    }

    /// The smallest times to which such a share of the answers keeps, each of them by itself.
    fn reached(&mut self, share: f64) -> [Time; 3] {
        self.times.each_mut().map(|times| {
            times.sort_unstable();
            let rank = (share * times.len() as f64).ceil() as usize;
            let last = times.len().saturating_sub(1);
            times
                .get(rank.saturating_sub(1).min(last))
                .copied()
                .unwrap_or_default()
        })
    }
}

impl Question {
    /// Simulates a box under a load, until it is clear that too few answers keep to the SLO.
    pub(super) fn try_load(&self, load: f64) -> Result<Trial, SimError> {
        self.trial(load, true)
    }

    /// Simulates a box under a load to the end.
    pub(super) fn try_whole(&self, load: f64) -> Result<Trial, SimError> {
        self.trial(load, false)
    }

    fn trial(&self, load: f64, gives_up: bool) -> Result<Trial, SimError> {
        let given_up = Rc::new(GivenUp::default());
        let answer = self.estimated_answer(load)?;
        let Load {
            mut arrivals,
            measured,
        } = self.traffic.at(load, answer, self, &given_up)?;
        let simulation = self.simulation()?;
        let counted = measured.end - measured.start;
        let allowed = ((1.0 - self.slo_share) * counted as f64) as u64;
        let mut times = Times::default();
        let router = simulation.routing.build();
        let report = simulation.run_with(&mut *arrivals, router, &mut |answered| {
            if measured.contains(&answered.number) {
                times.add(answered, &self.slo);
                if gives_up && times.answers - times.kept > allowed {
                    given_up.set();
                }
            }
        })?;
        let mean = times.times[2].iter().map(Time::as_secs_f64).sum::<f64>();
        Ok(Trial {
            load,
            kept: times.kept as f64 / counted as f64,
            missed: times.missed,
            answer: mean / (times.answers.max(1) as f64),
            reached: times.reached(self.slo_share),
            report,
        })
    }

    fn simulation(&self) -> Result<Simulation, SimError> {
        let cost = self.cost()?;
        let mut engine = self.engine()?;
        let is_trace = matches!(self.traffic, super::Traffic::Trace(_));
        // Without prompts that begin alike the cache finds nothing, and simulating it takes as long as all else.
        engine.prefix_cache = is_trace || self.shared_prefix > 0;
        let name = self.hardware.name.clone();
        let mut simulation = Simulation::with_cost(&self.model, name, cost, engine)?;
        simulation.seed = self.seed;
        simulation.speculation = self.speculation.clone();
        simulation.split = self.split;
        Ok(simulation)
    }

    /// How long an answer takes at a load, about: by steps that have each user's token and the prompts of as many users as end.
    fn estimated_answer(&self, load: f64) -> Result<Time, SimError> {
        let (prompt, output) = self.traffic.mean_lengths();
        let steps = output / self.tokens_per_step();
        let step = |under_way: f64| -> Result<f64, SimError> {
            let sequences = under_way / self.boxes_of_trial();
            let sequences = sequences.clamp(1.0, self.max_seqs as f64);
            let prompts = (sequences * prompt / steps).min(self.max_batched_tokens as f64);
            let work = StepWork::mixed(
                sequences.round() as u64,
                (prompt + output / 2.0) as u64,
                prompts as u64,
                self.model.window.map(|it| it.tokens),
            );
            Ok(self.pricer()?.price(&work).total())
        };
        // The number under way and the time of an answer follow from each other.
        let mut under_way = if self.traffic.is_counted() { load } else { 1.0 };
        let mut answer = steps * step(under_way)?;
        for _ in 0..8 {
            under_way = self.traffic.requests_per_second(load, answer) * answer;
            answer = steps * step(under_way)?;
        }
        Ok(Time::try_from_secs_f64(answer).unwrap_or(Time::ZERO))
    }

    pub(super) fn pricer(&self) -> Result<StepPricer, SimError> {
        StepPricer::new(&self.model, self.cost()?, self.block_size)
    }
}
