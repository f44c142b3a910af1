//! The kernels for the processor, together with the emulator that runs them. Without a C++ compiler there
//! is no emulator (`emulator_built` is not set), and opening one is an error that says so.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{fs, io};

use maitre_gpu_emulator::{Compilation, Compiled};

/// Compiles the kernels, and those of the emulator's tests.
pub(crate) fn build() -> Result<(), Box<dyn Error>> {
    let sources = [sources("cuda")?, sources("cuda/tests")?].concat();
    match Compilation::of_build_script().compile("maitre_emulator", &sources)? {
        Compiled::Library => println!("cargo::rustc-cfg=emulator_built"),
        Compiled::NoCompiler | Compiled::NoFibers => {}
    }
    Ok(())
}

fn sources(folder: &str) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(Path::new(folder))? {
        let path = entry?.path();
        if path.extension().is_some_and(|it| it == "cu") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
