//! This crate runs CUDA sources on the processor, for tests: it compiles them with a C++ compiler, against headers that
//! stand in for CUDA's (`cpp/emulator/device.h`), into one static library with the emulator that runs them.
//!
//! ```text
//! cpp/emulator/device.h     what CUDA's words mean here: kernels include it where nvcc is not their compiler
//! cpp/emulator/emulator.h   the library's C interface: memory with guard zones, launches by name, signatures
//! cpp/emulator/*.cpp        blocks of threads as fibers, barriers, copies, tensor cores, and what is wrong with a use of them
//! src/                      the compilation, for build scripts
//! ```
//!
//! This crate must never know the kernels, nor who launches them: sources are an argument, and calls into a compiled
//! library are `unsafe`, which is `maitre-tensor`'s alone. It is a development crate: a build without an emulator does
//! not contain it.
//!
//! # Example
//!
//! A build script makes a library of its kernels, and a `cfg` that says whether it could:
//!
//! ```no_run
//! use std::path::PathBuf;
//!
//! use maitre_gpu_emulator::{Compilation, Compiled};
//!
//! let sources = [PathBuf::from("cuda/rows.cu")];
//! if Compilation::of_build_script().compile("kernels", &sources)? == Compiled::Library {
//!     println!("cargo::rustc-cfg=emulator_built");
//! }
//! # Ok::<(), maitre_gpu_emulator::CompileError>(())
//! ```

mod compilation;

pub use compilation::{Compilation, CompileError, Compiled};
