//! The kernels for the processor, together with the emulator that runs them. Without a C++ compiler there
//! is no emulator (`emulator_built` is not set), and opening one is an error that says so.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

pub(crate) fn build() -> Result<(), Box<dyn Error>> {
    let mut build = cc::Build::new();
    build
        .cpp(true)
        .std("c++17")
        .opt_level(2)
        .define("MAITRE_EMULATOR", None)
        // As nvcc is told: what is to be fused says `fmaf`.
        .flag("-ffp-contract=off")
        // Kernels read words as pairs of halves, which nvcc takes as it is meant.
        .flag("-fno-strict-aliasing")
        // Jumps to another stack look like an attack to it.
        .flag("-U_FORTIFY_SOURCE")
        .flag("-Wno-unknown-pragmas")
        // Kernels enter a list before `main`, and are asked for by name only.
        .link_lib_modifier("+whole-archive");
    if !has_fibers() || !has_compiler(&build) {
        return Ok(());
    }
    build
        // The name of a `.cu` file does not say that it is C++.
        .flag("-xc++")
        .files(with_extension("cuda", "cu")?)
        .files(with_extension("cuda/emulator", "cpp")?)
        .files(with_extension("cuda/emulator", "cu")?)
        .try_compile("maitre_emulator")?;
    println!("cargo::rustc-cfg=emulator_built");
    Ok(())
}

/// Whether the target's C library has `makecontext`.
fn has_fibers() -> bool {
    let target = |name: &str| env::var(format!("CARGO_CFG_TARGET_{name}")).unwrap_or_default();
    target("FAMILY") == "unix" && target("ENV") != "musl"
}

fn has_compiler(build: &cc::Build) -> bool {
    build.try_get_compiler().is_ok_and(|compiler| {
        let version = compiler.to_command().arg("--version").output();
        version.is_ok_and(|output| output.status.success())
    })
}

fn with_extension(folder: &str, extension: &str) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(Path::new(folder))? {
        let path = entry?.path();
        if path.extension().is_some_and(|it| it == extension) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
