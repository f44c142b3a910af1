//! Compiles the kernels of `cuda/*.cu`, if a feature asks for them.
#![allow(
    clippy::print_stdout,
    reason = "a build script talks to cargo on stdout"
)]

#[cfg(feature = "cuda-emulator")]
#[path = "build/emulator.rs"]
mod emulator;
#[path = "build/fatbin.rs"]
mod fatbin;

use std::process::ExitCode;

fn main() -> ExitCode {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build");
    println!("cargo::rustc-check-cfg=cfg(emulator_built)");
    let mut outcome = Ok(());
    if std::env::var_os("CARGO_FEATURE_CUDA").is_some() {
        outcome = fatbin::compile();
    }
    // A feature of its own in source, too, as it is the only one that needs a build dependency.
    #[cfg(feature = "cuda-emulator")]
    {
        outcome = outcome.and_then(|()| emulator::compile());
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
