//! The largest load of a box whose answers keep to the SLO.
//!
//! The idea: more load never makes answers sooner, so there is one load up to which the SLO is kept. It is bracketed by doubling or halving,
//! and then the bracket is halved. Each load is tried with the same seed, so a search finds the same each time.

use super::Question;
use super::trial::Trial;
use crate::SimError;

/// How far the search goes on: until the load that fails is at most so much above the one that keeps.
pub(super) const RESOLUTION: f64 = 0.02;

/// The smallest load at a rate that is tried, in answers under way.
const LEAST_UNDER_WAY: f64 = 0.02;

/// Times that a load is doubled.
const DOUBLINGS: u32 = 24;

/// How much a box serves.
#[derive(Debug, Clone)]
pub(super) struct Capacity {
    /// The largest load that was tried and kept to the SLO.
    pub(super) keeps: Trial,
    /// The smallest that was tried and did not; `None` if the search met none.
    pub(super) fails: Option<Trial>,
}

impl Question {
    /// Searches from a load on.
    ///
    /// # Errors
    ///
    /// [`SimError::SloUnmet`] if the least load does not keep to the SLO.
    pub(super) fn capacity(&self, start: f64) -> Result<Capacity, SimError> {
        let first = self.try_load(self.rounded(start))?;
        let (mut keeps, mut fails) = match self.is_kept(&first) {
            true => self.double(first)?,
            false => self.halve(first)?,
        };
        while let Some(failing) = &fails {
            let between = self.rounded((keeps.load * failing.load).sqrt());
            let is_narrow = failing.load <= keeps.load * (1.0 + RESOLUTION);
            if is_narrow || between <= keeps.load || between >= failing.load {
                break;
            }
            let trial = self.try_load(between)?;
            match self.is_kept(&trial) {
                true => keeps = trial,
                false => fails = Some(trial),
            }
        }
        Ok(Capacity { keeps, fails })
    }

    /// A load from which a search may begin: half of what fits into the KV cache at once.
    pub(super) fn start(&self) -> Result<f64, SimError> {
        let (prompt, output) = self.traffic.mean_lengths();
        let bytes = self.model.kv_bytes_of(prompt + output).max(1.0);
        let pool_bytes =
            f64::from(self.engine()?.kv_blocks) * self.model.page_bytes(self.block_size);
        let sequences = (pool_bytes / bytes / 2.0).clamp(1.0, self.max_seqs as f64 / 2.0);
        match self.traffic.is_counted() {
            true => Ok(sequences),
            false => {
                let answer = self.answer_alone()?;
                Ok(self.traffic.requests_per_second(1.0 / answer, answer))
            }
        }
    }

    /// Whether a load keeps to the SLO.
    pub(super) fn keeps(&self, load: f64) -> Result<bool, SimError> {
        Ok(self.is_kept(&self.try_load(load)?))
    }

    fn is_kept(&self, trial: &Trial) -> bool {
        trial.kept >= self.slo_share
    }

    /// Users are whole, and one of them is the least.
    pub(super) fn rounded(&self, load: f64) -> f64 {
        match self.traffic.is_counted() {
            true => load.round().max(1.0),
            false => load,
        }
    }

    fn double(&self, mut keeps: Trial) -> Result<(Trial, Option<Trial>), SimError> {
        for _ in 0..DOUBLINGS {
            let trial = self.try_load(2.0 * keeps.load)?;
            if !self.is_kept(&trial) {
                return Ok((keeps, Some(trial)));
            }
            // Steps that are never busy get no busier: a trace that is over in no time.
            if trial.load > 1e9 {
                break;
            }
            keeps = trial;
        }
        Ok((keeps, None))
    }

    fn halve(&self, mut fails: Trial) -> Result<(Trial, Option<Trial>), SimError> {
        let least = match self.traffic.is_counted() {
            true => 1.0,
            false => LEAST_UNDER_WAY / self.answer_alone()?,
        };
        loop {
            if fails.load <= least {
                return Err(self.unmet(fails.load)?);
            }
            let trial = self.try_load(self.rounded((fails.load / 2.0).max(least)))?;
            match self.is_kept(&trial) {
                true => return Ok((trial, Some(fails))),
                false => fails = trial,
            }
        }
    }

    /// Seconds of an answer when the box has nothing else to do.
    fn answer_alone(&self) -> Result<f64, SimError> {
        let (prompt, output) = self.traffic.mean_lengths();
        let pricer = self.pricer()?;
        let window = self.model.window.map(|it| it.tokens);
        let length = (prompt + output / 2.0) as u64;
        let step = crate::StepWork::mixed(1, length, 0, window);
        let prefill = crate::StepWork::mixed(0, 0, prompt as u64, window);
        let steps = output / self.tokens_per_step();
        Ok(pricer.price(&prefill).total() + steps * pricer.price(&step).total())
    }

    fn unmet(&self, load: f64) -> Result<SimError, SimError> {
        let least = self.try_whole(load)?;
        let [ttft, tpot, e2e] = least.reached;
        let mut best = Vec::new();
        for (name, bound, time) in [
            ("ttft", self.slo.ttft, ttft),
            ("tpot", self.slo.tpot, tpot),
            ("e2e", self.slo.e2e, e2e),
        ] {
            if bound.is_some() {
                best.push(format!("{name}={:.4}ms", time.as_secs_f64() * 1e3));
            }
        }
        Ok(SimError::SloUnmet {
            slo: self.slo.to_string(),
            share: self.slo_share * 100.0,
            load: super::figure::number(least.load),
            unit: self.traffic.unit(),
            best: best.join(","),
        })
    }
}
