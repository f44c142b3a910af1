//! `cargo xtask ci`: everything that must pass before a change lands.
//!
//! Cheap checks come first and the tests last, so that a reader finds their summary at the end.
//! Nothing is built twice: clippy and rustdoc share one set of metadata, the examples and the tests
//! one set of binaries. Only the simulation has a release build, of two small crates.

use anyhow::Result;

use crate::cargo::target_directory;
use crate::phases::Phases;
use crate::simulate_faults::{self, CI_SECONDS};
use crate::{examples, inlined, lint, test};

pub(crate) fn run() -> Result<()> {
    let mut phases = Phases::new();
    lint::add_phases(&mut phases);
    phases.run("examples", examples::run);
    phases.run("simulate", || simulate_faults::simulate(CI_SECONDS, 0));
    phases.run("inlined", || {
        inlined::check(&target_directory().join("debug"))
    });
    phases.run("test", || test::test(&[]));
    phases.finish()
}
