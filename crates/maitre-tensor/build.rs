//! Compiles the kernels of `cuda/*.cu`, if a feature asks for them.
#![allow(
    clippy::print_stdout,
    reason = "a build script talks to cargo on stdout"
)]

#[path = "build/fatbin.rs"]
mod fatbin;

use std::process::ExitCode;

fn main() -> ExitCode {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build");
    let mut outcome = Ok(());
    if std::env::var_os("CARGO_FEATURE_CUDA").is_some() {
        outcome = fatbin::compile();
    }
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            // A message to cargo is one line.
            println!("cargo::error={}", message.replace('\n', " | "));
            ExitCode::FAILURE
        }
    }
}
