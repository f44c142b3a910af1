//! This crate verifies and times a GPU in one run, and prints one table that tells all.
//!
//! ```text
//! supervise    starts a worker, gathers its rows, writes the report after each
//!     │            a worker that dies or hangs costs the item it was at; the next worker goes on behind it
//! work         a process of its own: items N, N + 1, ... of one fixed list, each a row
//!     │
//! checks/      is every result right?      speeds/   how fast, beside what bytes and operations allow
//! ```
//!
//! A device error can leave a GPU's context unusable for the rest of a process; hence the two processes. The program
//! that calls [`supervise`] also says how it is started once more to call [`work`].
//!
//! This crate must never know the server, nor the command line: whether models are compiled in, how a worker is
//! started and how an error is told are arguments.
//!
//! # Example
//!
//! ```no_run
//! use std::process::Command;
//!
//! use maitre_gpu_check::{Options, ShapeChoice, supervise};
//! use maitre_tensor::DeviceName;
//!
//! let options = Options {
//!     device: DeviceName::Cuda(0),
//!     only: None,
//!     rows: Vec::new(),
//!     time_limit_s: 460.0,
//!     shape: ShapeChoice::Large,
//!     models: Vec::new(),
//!     bundled: None,
//!     threads: 8,
//! };
//! // That program calls `work` with equal options and what this closure is told.
//! supervise(&options, None, &|resume| {
//!     let mut worker = Command::new("worker");
//!     worker.arg(resume.first.to_string()).arg(resume.time_limit_s.to_string());
//!     Ok(worker)
//! })?;
//! # Ok::<(), maitre_gpu_check::GpuCheckError>(())
//! ```

mod checks;
mod error;
mod item;
mod numbers;
mod options;
mod prediction;
mod report;
mod sequences;
mod service;
mod shape;
mod site;
mod sizes;
mod speeds;
mod supervisor;
mod table;
mod worker;

pub use error::GpuCheckError;
pub use options::{BundledModels, Half, Options, Resume, ShapeChoice};
pub use supervisor::supervise;
pub use worker::work;
