//! A program of kernels and a `main` in C++, compiled as a build script would, and what it says.
//!
//! Calls into a compiled library are `unsafe` in Rust; a process of its own needs none. Where there is no C++ compiler
//! the tests say so and pass.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, missing_docs)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use maitre_gpu_emulator::{Compilation, CompileError, Compiled};
use tempfile::TempDir;

/// The program, and the folder that goes with it.
struct Program {
    _folder: TempDir,
    path: PathBuf,
}

/// Made once for all tests; `None` where there is no compiler.
static PROGRAM: LazyLock<Option<Program>> = LazyLock::new(build);

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/program")
        .join(name)
}

/// The triple of this machine.
fn target() -> String {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("-vV").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("host: "));
    line.unwrap().to_owned()
}

fn build() -> Option<Program> {
    let folder = TempDir::new().unwrap();
    let compilation = Compilation::in_folder(folder.path(), &target());
    let compiled = compilation.compile("kernels", &[source("kernels.cu")]);
    if compiled.unwrap() != Compiled::Library {
        return None;
    }
    let path = folder.path().join("program");
    let output = Command::new(std::env::var_os("CXX").unwrap_or_else(|| "c++".into()))
        .arg("-std=c++17")
        .arg("-I")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("cpp"))
        .arg(source("main.cpp"))
        .args(["-Wl,--whole-archive", "-L"])
        .arg(folder.path())
        .args(["-lkernels", "-Wl,--no-whole-archive", "-o"])
        .arg(&path)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    Some(Program {
        _folder: folder,
        path,
    })
}

/// What it says first, and then under each of so many seeds; `None` after saying that there is no compiler.
fn launch(words: &str) -> Option<(String, Vec<String>)> {
    let Some(program) = &*PROGRAM else {
        println!("skipped: there is no C++ compiler");
        return None;
    };
    let output = Command::new(&program.path)
        .args(words.split(' '))
        .output()
        .unwrap();
    assert!(output.status.success(), "{words}: {output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines = text.lines().map(str::to_owned);
    Some((lines.next().unwrap(), lines.collect()))
}

fn numbers(range: impl Iterator<Item = u32>) -> String {
    range.map(|it| it.to_string()).collect::<Vec<_>>().join(" ")
}

#[test]
fn every_thread_of_every_block_runs_once() {
    let Some((signature, said)) = launch("count_threads 3 64 0 192 4") else {
        return;
    };
    assert_eq!(signature, "p");
    assert_eq!(said, vec![numbers(1..=192); 4]);
}

#[test]
fn a_missing_barrier_shows_under_some_seed() {
    let right = numbers((1..64).chain([0]));
    let Some((signature, with)) = launch("turn 1 64 256 64 8 1") else {
        return;
    };
    assert_eq!(signature, "pu");
    assert!(with.iter().all(|it| *it == right), "{with:?}");
    let (_, without) = launch("turn 1 64 256 64 8 0").unwrap();
    assert!(without.iter().any(|it| *it != right), "{without:?}");
}

#[test]
fn what_is_wrong_is_said_with_kernel_and_line() {
    let cases: [(&str, &[&str]); 5] = [
        (
            "swap_neighbours 1 32 0 32 2 31",
            &["kernel swap_neighbours", "__shfl_xor_sync", "kernels.cu:"],
        ),
        (
            "meet 2 64 0 64 2 32",
            &["kernel meet", "__syncthreads", "kernels.cu:"],
        ),
        (
            "write 1 32 0 10 2 10",
            &["wrote near byte 40 of an allocation of 40 bytes"],
        ),
        ("hurry 1 32 0 32 2", &["kernel hurry"]),
        ("absent 1 32 0 32 2", &["there is no kernel absent"]),
    ];
    for (words, parts) in cases {
        let Some((_, said)) = launch(words) else {
            return;
        };
        assert_eq!(said.len(), 2, "{words}");
        for line in &said {
            for part in parts {
                assert!(line.contains(part), "{words}: {line}");
            }
        }
    }
    // The same kernels in the right way.
    for words in ["swap_neighbours 1 32 0 32 1 32", "meet 1 64 0 64 1 64"] {
        let (_, said) = launch(words).unwrap();
        assert!(!said[0].contains("kernel"), "{said:?}");
    }
}

#[test]
fn launches_that_no_gpu_would_take_are_refused() {
    for (words, part) in [
        ("count_threads 0 32 0 32 1", "a grid of (0, 1, 1) blocks"),
        ("count_threads 1 33 0 33 1", "a multiple of 32"),
        ("count_threads 1 2048 0 2048 1", "a multiple of 32"),
        ("count_threads 1 32 999999 32 1", "bytes of shared memory"),
        ("count_threads 1 32 0 32 1 5", "takes 1 arguments"),
    ] {
        let Some((_, said)) = launch(words) else {
            return;
        };
        assert!(said[0].contains(part), "{words}: {said:?}");
    }
}

#[test]
fn what_the_compiler_refuses_is_an_error() {
    let folder = TempDir::new().unwrap();
    let wrong = folder.path().join("wrong.cu");
    std::fs::write(&wrong, "KERNEL wrong(u32* out) { out[0] = absent; }\n").unwrap();
    let compiled = Compilation::in_folder(folder.path(), &target()).compile("wrong", &[wrong]);
    match compiled {
        Err(CompileError::Compiler(_)) | Ok(Compiled::NoCompiler | Compiled::NoFibers) => {}
        other => panic!("{other:?}"),
    }
}
