//! `cargo xtask bench streams`: what many streams over HTTP cost beside the model.
//!
//! The example `streams` of the benchmarks measures; here the server is built for it.

use anyhow::Result;

use super::build_maitre;
use crate::cargo::{cargo, finish};

/// `words`: what the example is told, such as `delivery --streams 16,256`; see its `--help`.
pub(super) fn run(words: &[String]) -> Result<()> {
    let mut measure = cargo(&["run", "--locked", "--release", "--package"]);
    measure.args(["maitre-benches", "--example", "streams", "--"]);
    measure.arg("--maitre").arg(build_maitre()?);
    finish(measure.args(words))
}
