//! The search for the parameters.

use argmin::core::{CostFunction, Error, Executor, State};
use argmin::solver::neldermead::NelderMead;

use maitre_workload::ObservedBurst;

use super::burst::{BurstWork, seconds};
use crate::{CostModel, ModelShape, ProductFormat, SimError, StepPricer};

/// Steps of the search, at most. It ends before, where its simplex has become a point.
const STEPS: u64 = 4000;

/// The search starts again from where it ended, with a simplex of the first size and new factors.
const ROUNDS: usize = 4;

/// How far from its start a parameter is tried at first: by this power of e.
const SIMPLEX: f64 = 1.0;

/// Errors up to this count by their squares, and larger ones less: a burst may have been disturbed.
const USUAL: f64 = 0.05;

/// How much a parameter that the measurement says nothing of is held where it started.
const HOLD: f64 = 1e-3;

/// The limits of a factor: a measurement that strays from the rest by more is a disturbed one.
const FACTORS: std::ops::RangeInclusive<f64> = 0.25..=4.0;

/// Where the search starts: a processor of today.
const START: [f64; PARAMETERS] = [
    100e-6, // a step
    10e-6,  // a sequence
    50e-6,  // a chunk
    30e9,   // bytes read a second
    200e9,  // operations of products
    150e9,  // of the output matrix
    50e9,   // of attention
    0.5,    // what is not hidden, over what is
    20e9,   // bytes of keys and values read a second
];

const PARAMETERS: usize = 9;

pub(super) struct Fit {
    shape: ModelShape,
    block_size: u32,
    format: ProductFormat,
    bursts: Vec<(ObservedBurst, BurstWork)>,
    factors: Vec<(f64, f64)>,
}

impl Fit {
    pub(super) fn new(
        shape: &ModelShape,
        block_size: u32,
        format: ProductFormat,
        bursts: Vec<(ObservedBurst, BurstWork)>,
    ) -> Result<Self, SimError> {
        let fit = Self {
            shape: shape.clone(),
            block_size,
            format,
            bursts,
            factors: Vec::new(),
        };
        // Afterwards every point of the search has a pricer.
        fit.pricer(&[0.0; PARAMETERS])?;
        Ok(fit)
    }

    pub(super) fn bursts(&self) -> impl Iterator<Item = &(ObservedBurst, BurstWork)> {
        self.bursts.iter()
    }

    /// Parameters and factors in turn: what the factors explain need not bend the parameters.
    pub(super) fn run(mut self) -> Result<(Self, CostModel), SimError> {
        let mut best = vec![0.0; PARAMETERS];
        for _ in 0..ROUNDS {
            best = self.search(best).map_err(|error| {
                SimError::setting("the search for parameters", error, "bursts that some fit")
            })?;
            let plain = CostModel {
                product_factors: Vec::new(),
                ..self.cost(&best)
            };
            let pricer = StepPricer::new(&self.shape, plain, self.block_size)?;
            self.factors = self.factors(&pricer);
        }
        let cost = self.cost(&best);
        Ok((self, cost))
    }

    fn search(&self, from: Vec<f64>) -> Result<Vec<f64>, Error> {
        let mut simplex = vec![from.clone()];
        for parameter in 0..PARAMETERS {
            let mut corner = from.clone();
            corner[parameter] += SIMPLEX;
            simplex.push(corner);
        }
        let solver = NelderMead::new(simplex).with_sd_tolerance(1e-9)?;
        let found = Executor::new(self, solver)
            .configure(|state| state.max_iters(STEPS))
            // This crate knows no clock.
            .timer(false)
            .run()?;
        Ok(found.state().get_best_param().cloned().unwrap_or(from))
    }

    /// The parameters at a point: each is its start times a power of e.
    fn cost(&self, point: &[f64]) -> CostModel {
        let of = |index: usize| START[index] * libm::exp(point[index].clamp(-30.0, 30.0));
        let odds = of(7);
        CostModel {
            step_seconds: of(0),
            sequence_seconds: of(1),
            chunk_seconds: of(2),
            products: self.format,
            kv_bytes_per_second: of(8),
            product_factors: self.factors.clone(),
            output_ops_per_second: of(5),
            unhidden_share: odds / (1.0 + odds),
            ..CostModel::limits(of(3), of(4), of(6))
        }
    }

    fn pricer(&self, point: &[f64]) -> Result<StepPricer, SimError> {
        StepPricer::new(&self.shape, self.cost(point), self.block_size)
    }

    /// By what the products with the layers' weights have to be multiplied, so that answers behind short prompts take as long as
    /// measured; and, for more tokens than so many users have, prompts that are one step.
    fn factors(&self, pricer: &StepPricer) -> Vec<(f64, f64)> {
        let mut factors: Vec<(f64, f64)> = Vec::new();
        for (observed, work) in &self.bursts {
            let Some((steps, took)) = work.even_steps(observed) else {
                continue;
            };
            let tokens = steps.first().map_or(1.0, |step| step.tokens as f64);
            if factors.iter().any(|(known, _)| *known >= tokens) {
                // The first burst with so many tokens, or with more, is the one to go by.
                continue;
            }
            let layers: f64 = steps.iter().map(|step| pricer.layer_seconds(step)).sum();
            let rest = seconds(steps, pricer) - layers;
            let factor = (took - rest) / layers;
            factors.push((tokens, factor.clamp(*FACTORS.start(), *FACTORS.end())));
        }
        factors
    }

    fn loss(&self, point: &[f64]) -> f64 {
        let Ok(pricer) = self.pricer(point) else {
            return f64::INFINITY;
        };
        let mut loss = 0.0;
        for (observed, work) in &self.bursts {
            let first = work.first_tokens_seconds(&pricer);
            loss += loss_of(first / observed.first_tokens_seconds);
            if observed.burst.output_tokens > 1 {
                let answers = work.answers_seconds(&pricer);
                loss += loss_of(answers / observed.answers_seconds);
            }
        }
        loss + HOLD * point.iter().map(|x| x * x).sum::<f64>()
    }
}

/// A square for small errors, and a line for large ones (Charbonnier et al. 1994).
fn loss_of(times: f64) -> f64 {
    let error = libm::log(times) / USUAL;
    libm::sqrt(1.0 + error * error) - 1.0
}

impl CostFunction for &Fit {
    type Param = Vec<f64>;
    type Output = f64;

    fn cost(&self, point: &Self::Param) -> Result<f64, Error> {
        Ok(self.loss(point))
    }
}
