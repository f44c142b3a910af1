//! `cargo xtask lint`: what can be said about the code without running it.

use anyhow::Result;

use crate::cargo::{cargo, finish};
use crate::phases::Phases;

pub(crate) fn run() -> Result<()> {
    let mut phases = Phases::new();
    add_phases(&mut phases);
    phases.finish()
}

/// Clippy and rustdoc share the metadata that `cargo check` makes of the dependencies.
pub(crate) fn add_phases(phases: &mut Phases) {
    phases.run("format", || {
        // The names of the files are enough: `cargo fmt` shows and mends the rest.
        finish(&mut cargo(&[
            "fmt",
            "--all",
            "--",
            "--check",
            "--files-with-diff",
        ]))
    });
    phases.run("clippy", || {
        let flags = [
            "clippy",
            "--locked",
            "--workspace",
            "--all-targets",
            "--keep-going",
            "--",
            "-D",
            "warnings",
        ];
        finish(&mut cargo(&flags))
    });
    phases.run("rustdoc", || {
        let flags = [
            "doc",
            "--locked",
            "--workspace",
            "--no-deps",
            "--keep-going",
            "--document-private-items",
        ];
        finish(cargo(&flags).env("RUSTDOCFLAGS", "-D warnings"))
    });
}
