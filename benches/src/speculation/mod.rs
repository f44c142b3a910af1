//! What speculation gains for one user, through the whole engine, where the answer is known beforehand.
//!
//! The target is a real model that does its real work, but its logits are overruled ([`Scripted`]), so that the
//! answer is a text chosen beforehand. So a drafter may know it, and be right as often as it is told to be, at a cost it is told
//! ([`Synthetic`]): the *speed model*. Or the answer is a real text that repeats its prompt, and the engine's own
//! proposers find what they can: *recorded text*. Times are those between steps, as the target sees them.

mod bed;
mod recorded;
mod scripted;
mod speed;
mod synthetic;

use std::path::PathBuf;

use anyhow::Result;
use maitre_engine::WeightFormat;
use serde::Serialize;

pub use bed::{Subject, TestBed};
pub use recorded::RecordedSample;
pub use scripted::{Script, Scripted, Step};
pub use speed::{AutoSample, SpeedSample};
pub use synthetic::{Synthetic, Temper};

/// Which model does the work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shape {
    /// That of Qwen3-0.6B, with random weights.
    Large,
    /// Two layers with random weights, for a look at the harness itself.
    Tiny,
    /// The bundled model.
    Bundled,
    /// A directory in Hugging Face's layout.
    Directory(PathBuf),
}

/// What to measure.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Which model does the work.
    pub shape: Shape,
    /// Format of its weights; `None` = as they are.
    pub dtype: Option<WeightFormat>,
    /// Threads of the compute team.
    pub threads: usize,
    /// Shares of the synthetic drafter's tokens that are right, given that those before are.
    pub acceptances: Vec<f64>,
    /// Times of its rounds, as shares of a step with one row.
    pub costs: Vec<f64>,
    /// The most tokens drafted in a step; all from 1 to this are measured.
    pub most_drafts: usize,
    /// Tokens of an answer that are measured.
    pub tokens: usize,
    /// Pairs of measurements with the synthetic drafter; 0 leaves that part out.
    pub pairs: usize,
    /// Passages of recorded text, each measured once; 0 leaves that part out.
    pub passages: usize,
    /// Tokens of an answer from recorded text, at most.
    pub recorded_tokens: usize,
}

impl Settings {
    /// The whole of it on the large shape.
    #[must_use]
    pub fn full(threads: usize) -> Self {
        Self {
            shape: Shape::Large,
            dtype: Some(WeightFormat::Bf16),
            threads,
            acceptances: vec![0.6, 0.8, 0.9],
            costs: vec![0.0, 0.1],
            most_drafts: 8,
            tokens: 64,
            pairs: 5,
            passages: 10,
            recorded_tokens: 96,
        }
    }

    /// A little of everything on a tiny model: seconds, and numbers that mean nothing.
    #[must_use]
    pub fn quick(threads: usize) -> Self {
        Self {
            shape: Shape::Tiny,
            acceptances: vec![0.8],
            most_drafts: 2,
            pairs: 2,
            passages: 2,
            ..Self::full(threads)
        }
    }
}

/// What was measured: raw pairs, of which `xtask` takes medians and bounds.
#[derive(Debug, Clone, Serialize)]
pub struct Record {
    /// Names this form.
    pub schema: &'static str,
    /// The model that did the work.
    pub model: String,
    /// Format of its weights.
    pub dtype: String,
    /// Its kernels.
    pub kernels: String,
    /// Threads of the compute team.
    pub threads: usize,
    /// Fixed numbers of drafts by the synthetic drafter.
    pub speed: Vec<SpeedSample>,
    /// The controller beside the best fixed number.
    pub auto: Vec<AutoSample>,
    /// Recorded text.
    pub recorded: Vec<RecordedSample>,
}

/// Measures all of it; `progress` hears what is being measured.
///
/// # Errors
///
/// A model that can't be loaded, or an answer that is not the one that was written.
pub fn measure(settings: &Settings, progress: &dyn Fn(&str)) -> Result<Record> {
    let bed = TestBed::new(settings)?;
    let (mut speed, mut auto) = (Vec::new(), Vec::new());
    if settings.pairs > 0 {
        speed = speed::fixed(&bed, settings, progress)?;
        auto = speed::automatic(&bed, settings, &speed, progress)?;
    }
    let recorded = recorded::measure(&bed, settings, progress)?;
    let (dtype, kernels) = bed.description();
    Ok(Record {
        schema: "maitre.speculation/1",
        model: bed.name().to_owned(),
        dtype,
        kernels,
        threads: settings.threads,
        speed,
        auto,
        recorded,
    })
}
