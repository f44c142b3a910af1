//! `cargo xtask ci`: everything that must pass before a change lands.
//!
//! Cheap checks come first and the tests last, so that a reader finds their summary at the end.
//! Nothing is built twice: clippy and rustdoc share one set of metadata, the examples and the tests
//! one set of binaries.

use anyhow::Result;

use crate::phases::Phases;
use crate::{examples, lint, test};

pub(crate) fn run() -> Result<()> {
    let mut phases = Phases::new();
    lint::add_phases(&mut phases);
    phases.run("examples", examples::run);
    phases.run("test", || test::test(&[]));
    phases.finish()
}
