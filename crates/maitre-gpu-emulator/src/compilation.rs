//! From kernels to a static library that holds them and the emulator.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

use thiserror::Error;

/// Why sources could not be compiled.
#[derive(Debug, Error)]
pub enum CompileError {
    /// The emulator's own sources are not where this crate was built from.
    #[error("the emulator's sources in {} can't be listed", folder.display())]
    Sources {
        /// Where they are looked for.
        folder: PathBuf,
        /// What the file system says.
        source: io::Error,
    },
    /// The C++ compiler refused them.
    #[error("the kernels can't be compiled for the emulator")]
    Compiler(#[from] cc::Error),
}

/// What came of a compilation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "there may be no library"]
pub enum Compiled {
    /// The library is there.
    Library,
    /// This system has no C++ compiler.
    NoCompiler,
    /// The target's C library has no `makecontext`, by which threads of a block take turns.
    NoFibers,
}

/// How to compile for one target.
#[derive(Debug, Clone)]
pub struct Compilation {
    build: cc::Build,
    has_fibers: bool,
}

impl Compilation {
    /// For what the calling build script builds for. Cargo is told to link the library, and when to run the script
    /// again.
    #[must_use]
    pub fn of_build_script() -> Self {
        let target = |name: &str| env::var(format!("CARGO_CFG_TARGET_{name}")).unwrap_or_default();
        let mut build = cc::Build::new();
        // Kernels enter a list before `main`, and are asked for by name only.
        build.link_lib_modifier("+whole-archive");
        tell_cargo(&format!("rerun-if-changed={}", headers().display()));
        Self {
            build,
            has_fibers: has_fibers(&target("FAMILY"), &target("ENV")),
        }
    }

    /// Outside of a build script: for `target`, a triple as rustc has them, on the machine that is that target. The
    /// library is written into `folder`, as `lib` and its name and `.a`; who links it has to take all of it
    /// (`--whole-archive`), because kernels enter a list before `main`.
    #[must_use]
    pub fn in_folder(folder: &Path, target: &str) -> Self {
        let mut build = cc::Build::new();
        build
            .target(target)
            .host(target)
            .out_dir(folder)
            .cargo_metadata(false);
        Self {
            build,
            has_fibers: cfg!(unix) && !target.contains("musl"),
        }
    }

    /// Compiles `sources` and the emulator into the static library `library`.
    ///
    /// # Errors
    /// [`CompileError::Compiler`] with what the compiler said.
    pub fn compile(&self, library: &str, sources: &[PathBuf]) -> Result<Compiled, CompileError> {
        if !self.has_fibers {
            return Ok(Compiled::NoFibers);
        }
        let mut build = self.build.clone();
        build
            .cpp(true)
            .std("c++17")
            .opt_level(2)
            .include(headers())
            .define("MAITRE_EMULATOR", None)
            // As nvcc is told: what is to be fused says `fmaf`.
            .flag("-ffp-contract=off")
            // Kernels read words as pairs of halves, which nvcc takes as it is meant.
            .flag("-fno-strict-aliasing")
            // Jumps to another stack look like an attack to it.
            .flag("-U_FORTIFY_SOURCE")
            .flag("-Wno-unknown-pragmas");
        if !has_compiler(&build) {
            return Ok(Compiled::NoCompiler);
        }
        build
            // The name of a `.cu` file does not say that it is C++.
            .flag("-xc++")
            .files(sources)
            .files(own_sources()?)
            .try_compile(library)?;
        Ok(Compiled::Library)
    }
}

/// The folder whose headers kernels include, as `<emulator/device.h>`.
fn headers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("cpp")
}

/// The emulator itself.
fn own_sources() -> Result<Vec<PathBuf>, CompileError> {
    let folder = headers().join("emulator");
    let list = || {
        let entries = fs::read_dir(&folder)?;
        entries
            .map(|entry| Ok(entry?.path()))
            .collect::<io::Result<Vec<_>>>()
    };
    let mut found = list().map_err(|source| CompileError::Sources {
        folder: folder.clone(),
        source,
    })?;
    found.retain(|path| path.extension().is_some_and(|it| it == "cpp"));
    found.sort();
    Ok(found)
}

/// Whether the target's C library has `makecontext`.
fn has_fibers(family: &str, env: &str) -> bool {
    family == "unix" && env != "musl"
}

fn has_compiler(build: &cc::Build) -> bool {
    build.try_get_compiler().is_ok_and(|compiler| {
        let version = compiler.to_command().arg("--version").output();
        version.is_ok_and(|output| output.status.success())
    })
}

#[allow(
    clippy::print_stdout,
    reason = "a build script talks to cargo on stdout"
)]
fn tell_cargo(what: &str) {
    println!("cargo::{what}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fibers_are_what_unix_has_except_for_musl() {
        for (family, env, expected) in [
            ("unix", "gnu", true),
            ("unix", "", true),
            ("unix", "musl", false),
            ("windows", "msvc", false),
            ("", "", false),
        ] {
            assert_eq!(has_fibers(family, env), expected, "{family} {env}");
        }
    }

    #[test]
    fn the_emulator_s_own_sources_are_found() {
        let found = own_sources().unwrap();
        assert!(found.iter().any(|path| path.ends_with("launch.cpp")));
        assert!(headers().join("emulator/device.h").is_file());
    }
}
