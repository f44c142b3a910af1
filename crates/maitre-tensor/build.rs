//! Compiles the kernels of `cuda/`, for GPUs and for the emulator, as far as features ask for them.
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
    println!("cargo::rerun-if-changed=cuda");
    println!("cargo::rustc-check-cfg=cfg(emulator_built)");
    match compile() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            // A message to cargo is one line.
            println!("cargo::error={}", message.replace('\n', " | "));
            ExitCode::FAILURE
        }
    }
}

fn compile() -> Result<(), String> {
    #[cfg(feature = "cuda-emulator")]
    emulator::build().map_err(|error| error.to_string())?;
    if std::env::var_os("CARGO_FEATURE_CUDA").is_some() {
        fatbin::compile()?;
    }
    Ok(())
}
