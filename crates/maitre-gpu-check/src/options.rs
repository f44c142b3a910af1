//! What a run is to do, and what a worker takes over from the one before it.

use std::path::PathBuf;

use maitre_model::ModelSource;
use maitre_tensor::DeviceName;

/// What a run is to do. Supervisor and workers have equal ones: items are known by their places in the list that
/// follows from these.
#[derive(Debug, Clone)]
pub struct Options {
    /// What to check. [`DeviceName::Auto`] is the first GPU and no less.
    pub device: DeviceName,
    /// Do one half of the work.
    pub only: Option<Half>,
    /// Do only rows whose id contains one of these; all, if there are none.
    pub rows: Vec<String>,
    /// What might take longer than is left of these seconds is listed as not run.
    pub time_limit_s: f64,
    /// What to time.
    pub shape: ShapeChoice,
    /// Directories of models whose greedy tokens are compared, beside the bundled one.
    pub models: Vec<PathBuf>,
    /// The models that are compiled into the program, if there are any.
    pub bundled: Option<BundledModels>,
    /// Threads that compute what is right, and pack weights.
    pub threads: usize,
}

/// A model that every program has at hand, and one that an emulator can run.
#[derive(Debug, Clone)]
pub struct BundledModels {
    /// The larger one.
    pub chat: ModelSource,
    /// The smaller one.
    pub draft: ModelSource,
}

/// A half of the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Half {
    /// Is every result right?
    Checks,
    /// How fast is it?
    Speeds,
}

/// What is timed. Checks take sizes to match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShapeChoice {
    /// Qwen3-8B, and after it Qwen3-0.6B, with made-up weights.
    Large,
    /// Qwen3-0.6B.
    Small,
    /// Two layers of width 32, for the emulator.
    Tiny,
}

/// Where a worker goes on, and what the ones before it have measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Resume {
    /// The item it begins with, counted from 0.
    pub first: usize,
    /// Seconds that are left.
    pub time_limit_s: f64,
    /// Bytes a second that the device copies, if known.
    pub copy_bytes_per_s: Option<f64>,
    /// Operations a second of the device's largest products, if known.
    pub matmul_flop_per_s: Option<f64>,
}

impl Options {
    pub(crate) fn wants(&self, half: Half) -> bool {
        self.only.is_none_or(|only| only == half)
    }

    pub(crate) fn wants_row(&self, id: &str) -> bool {
        self.rows.is_empty() || self.rows.iter().any(|part| id.contains(part.as_str()))
    }
}
