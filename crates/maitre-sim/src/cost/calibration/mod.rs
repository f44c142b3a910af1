//! From how long a server took for some bursts of requests to the parameters of a step's time.
//!
//! A burst is a number of requests that come at once to an idle server. The scheduler that serves says which steps there were, and
//! the [`StepPricer`] what each of them takes by some parameters. The parameters are those by which bursts take as long as
//! measured: a sum over the logarithms of foreseen to measured times is least, in which small errors count by their squares and large
//! ones by their size (Nelder and Mead 1965, "A simplex method for function minimization"). What is left at each number of rows that decoded together goes into
//! [`CostModel::product_factors`]: kernels compute rows in tiles, so their speed is no smooth function of the rows.

mod burst;
mod fit;

use std::fmt;

use maitre_workload::{Burst, ObservedBurst};
use serde::Serialize;

use self::burst::BurstWork;
use self::fit::Fit;
use super::{CostModel, Hardware, ModelShape, ProductFormat, StepPricer};
use crate::{EngineSettings, SimError};

/// A machine as it was measured, and how well that describes the measurement.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Calibrated {
    /// What a file of hardware holds.
    pub hardware: Hardware,
    /// What products with weights were computed in.
    pub products: ProductFormat,
    /// What was measured, and what these figures foresee of it, each without the factor that was made from that very burst.
    pub bursts: Vec<Foreseen>,
}

/// A burst, measured and foreseen.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Foreseen {
    /// What was measured.
    pub observed: ObservedBurst,
    /// Foreseen seconds to the last of the first tokens.
    pub first_tokens_seconds: f64,
    /// Foreseen seconds from there to the end.
    pub answers_seconds: f64,
}

impl Calibrated {
    /// Bursts that tell the terms of a step's time apart, for an engine with these bounds: answers of more and more users, prompts of
    /// more and more tokens, and answers behind long prompts.
    #[must_use]
    pub fn ladder(engine: &EngineSettings) -> Vec<Burst> {
        burst::ladder(engine)
    }

    /// Finds the figures of a machine called `name` with so many bytes of memory. The more the bursts differ in users, in prompts and
    /// in contexts, the better: [`Calibrated::ladder`] has some of each.
    ///
    /// # Errors
    ///
    /// [`SimError::Setting`] for a burst that this engine does not take as a whole, for times that are not above 0, and for fewer
    /// than two bursts.
    pub fn fit(
        (name, memory_bytes): (String, f64),
        shape: &ModelShape,
        engine: &EngineSettings,
        format: ProductFormat,
        observed: &[ObservedBurst],
    ) -> Result<Self, SimError> {
        if observed.len() < 2 {
            return Err(SimError::setting(
                "the number of bursts",
                observed.len(),
                "at least 2, with different users and prompts",
            ));
        }
        let mut bursts = Vec::with_capacity(observed.len());
        for burst in observed {
            burst::validate(burst)?;
            let window = shape.window.map(|window| window.tokens);
            bursts.push((*burst, BurstWork::of(&burst.burst, engine, window)?));
        }
        let fit = Fit::new(shape, engine.block_size, format, bursts)?;
        let (fit, cost) = fit.run()?;
        let mut foreseen = Vec::with_capacity(observed.len());
        for (observed, work) in fit.bursts() {
            // A burst with a factor of its own would be foreseen without an error, so it is done without that.
            let mut others = cost.clone();
            if let Some(tokens) = work.even_tokens(observed) {
                others.product_factors.retain(|(at, _)| *at != tokens);
            }
            let pricer = StepPricer::new(shape, others, engine.block_size)?;
            foreseen.push(Foreseen {
                observed: *observed,
                first_tokens_seconds: work.first_tokens_seconds(&pricer),
                answers_seconds: work.answers_seconds(&pricer),
            });
        }
        Ok(Self {
            bursts: foreseen,
            products: format,
            hardware: hardware(name, memory_bytes, &cost, shape, observed.len()),
        })
    }

    /// Errors of all foreseen times, as shares of what was measured, the least first.
    #[must_use]
    pub fn errors(&self) -> Vec<f64> {
        let both = self.bursts.iter().flat_map(Foreseen::errors);
        let mut errors: Vec<f64> = both.map(f64::abs).collect();
        errors.sort_by(f64::total_cmp);
        errors
    }
}

impl Foreseen {
    /// How much longer than measured the first tokens, and the answers where there are any, were foreseen to take; shares of what
    /// was measured.
    pub fn errors(&self) -> impl Iterator<Item = f64> + use<> {
        let first = self.first_tokens_seconds / self.observed.first_tokens_seconds - 1.0;
        let answers = self.observed.burst.output_tokens > 1;
        let answers = answers.then(|| self.answers_seconds / self.observed.answers_seconds - 1.0);
        std::iter::once(first).chain(answers)
    }
}

impl fmt::Display for Calibrated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |seconds: f64| format!("{:.3}", seconds * 1e3);
        let percent = |error: f64| format!("{:+.1} %", error * 100.0);
        writeln!(
            f,
            "{:>5} {:>7} {:>7} {:>14} {:>10} {:>8} {:>12} {:>10} {:>8}",
            "users",
            "prompt",
            "answer",
            "first tok. ms",
            "foreseen",
            "error",
            "answers ms",
            "foreseen",
            "error"
        )?;
        for foreseen in &self.bursts {
            let (observed, burst) = (&foreseen.observed, foreseen.observed.burst);
            let mut errors = foreseen.errors().map(percent);
            write!(
                f,
                "{:>5} {:>7} {:>7} {:>14} {:>10} {:>8}",
                burst.users,
                burst.prompt_tokens,
                burst.output_tokens,
                ms(observed.first_tokens_seconds),
                ms(foreseen.first_tokens_seconds),
                errors.next().unwrap_or_default(),
            )?;
            if let Some(error) = errors.next() {
                let (seen, foreseen) = (observed.answers_seconds, foreseen.answers_seconds);
                write!(f, " {:>12} {:>10} {error:>8}", ms(seen), ms(foreseen))?;
            }
            writeln!(f)?;
        }
        let errors = self.errors();
        let at = |share: f64| errors.get((errors.len() as f64 * share) as usize);
        let [median, p95] = [0.5, 0.95].map(|share| at(share).copied().unwrap_or_default());
        writeln!(
            f,
            "\n{}: median error {:.1} %, 95th percentile {:.1} %",
            self.hardware.name,
            median * 100.0,
            p95 * 100.0
        )
    }
}

/// The machine with this cost of a step. Its rates are those that were reached, so that all shares are 1 but that of attention, whose
/// rate is relative to that of products in bf16.
fn hardware(
    name: String,
    memory_bytes: f64,
    cost: &CostModel,
    shape: &ModelShape,
    bursts: usize,
) -> Hardware {
    let bf16 = cost
        .product_ops_per_second
        .max(cost.attention_ops_per_second);
    let of_format = |format| (cost.products == format).then_some(cost.product_ops_per_second);
    Hardware {
        source: format!("{bursts} bursts of requests to {}", shape.name),
        name,
        memory_bytes,
        read_bytes_per_second: cost.read_bytes_per_second,
        kv_bytes_per_second: Some(cost.kv_bytes_per_second),
        bf16_ops_per_second: bf16,
        output_ops_per_second: Some(cost.output_ops_per_second),
        fp8_ops_per_second: of_format(ProductFormat::Fp8),
        int8_ops_per_second: of_format(ProductFormat::Int8),
        link_bytes_per_second: None,
        memory_share: 1.0,
        read_share: 1.0,
        product_share: cost.product_ops_per_second / bf16,
        narrow_product_share: 1.0,
        attention_share: cost.attention_ops_per_second / bf16,
        link_share: 1.0,
        link_seconds: 0.0,
        unhidden_share: cost.unhidden_share,
        kernel_seconds: 0.0,
        step_seconds: cost.step_seconds,
        sequence_seconds: cost.sequence_seconds,
        chunk_seconds: cost.chunk_seconds,
        product_factors: cost.product_factors.clone(),
    }
}
