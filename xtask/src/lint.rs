//! `cargo xtask lint`: what can be said about the code without running it.

use std::env;
use std::path::PathBuf;

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
    phases.run("cuda", || {
        if !has_nvcc() {
            println!("skipped: no nvcc in $CUDA_HOME/bin, $CUDA_PATH/bin or PATH");
            return Ok(());
        }
        let flags = [
            "clippy",
            "--locked",
            "--package",
            "maitre-tensor",
            "--package",
            "maitre",
            "--features",
            "cuda",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ];
        finish(&mut cargo(&flags))
    });
}

/// Whether the GPU's kernels can be compiled here; looks where the build does. No GPU is needed.
fn has_nvcc() -> bool {
    let homes = ["CUDA_HOME", "CUDA_PATH"]
        .into_iter()
        .filter_map(env::var_os)
        .map(|home| PathBuf::from(home).join("bin"));
    let path = env::var_os("PATH").unwrap_or_default();
    let name = format!("nvcc{}", env::consts::EXE_SUFFIX);
    homes
        .chain(env::split_paths(&path))
        .any(|folder| folder.join(&name).is_file())
}
