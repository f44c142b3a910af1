//! The rules of `docs/src/architecture.md` that a program can check: which crate may use which, where
//! `unsafe` may stand, how large a file may grow, how it must begin.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// What each library may use of the others. An arrow too many is a layer that leaks; one too few
/// means that this table, and with it the architecture page, describes another program.
const MAY_USE: [(&str, &[&str]); 17] = [
    ("maitre-tensor", &[]),
    ("maitre-gguf", &[]),
    ("maitre-kv", &[]),
    ("maitre-gpu-emulator", &[]),
    ("maitre-sampling", &[]),
    ("maitre-text", &["maitre-gguf", "maitre-sampling"]),
    ("maitre-proto", &[]),
    ("maitre-bundled", &[]),
    ("maitre-model", &["maitre-gguf", "maitre-tensor"]),
    ("maitre-scheduler", &["maitre-kv"]),
    ("maitre-workload", &[]),
    ("maitre-sim", &["maitre-scheduler", "maitre-workload"]),
    ("maitre-speculative", &["maitre-model", "maitre-sampling"]),
    (
        "maitre-engine",
        &[
            "maitre-model",
            "maitre-sampling",
            "maitre-scheduler",
            "maitre-speculative",
            "maitre-tensor",
            "maitre-text",
        ],
    ),
    ("maitre-server", &["maitre-engine", "maitre-proto"]),
    // The engine's public handle, as its in-process target; what the engine is made of stays unseen.
    (
        "maitre-bench",
        &["maitre-engine", "maitre-proto", "maitre-workload"],
    ),
    // A GPU is checked from the operators up to the engine under load, and without a server.
    (
        "maitre-gpu-check",
        &[
            "maitre-bench",
            "maitre-engine",
            "maitre-model",
            "maitre-tensor",
            "maitre-text",
        ],
    ),
];

/// What build scripts may use of ours: the kernels of `maitre-tensor` are compiled with the emulator that runs them, in
/// builds that have it.
const MAY_BUILD_WITH: [(&str, &[&str]); 1] = [("maitre-tensor", &["maitre-gpu-emulator"])];

/// Pure crates: time, randomness and data are arguments. These are all they may use from elsewhere;
/// `libm` has the same results on every platform, and `pulp` compiles plain code for several widths of vector.
const PURE: [(&str, &[&str]); 6] = [
    ("maitre-gguf", &["thiserror"]),
    ("maitre-kv", &["blake3", "smallvec", "thiserror"]),
    ("maitre-scheduler", &["maitre-kv", "smallvec", "thiserror"]),
    ("maitre-sampling", &["libm", "pulp", "thiserror"]),
    // They read traces and write reports, but files and streams are the caller's.
    (
        "maitre-workload",
        &["libm", "serde", "serde_json", "thiserror"],
    ),
    (
        "maitre-sim",
        &[
            "argmin",
            "argmin-math",
            "hdrhistogram",
            "libm",
            "maitre-scheduler",
            "maitre-workload",
            "serde",
            "serde_json",
            "thiserror",
        ],
    ),
];

const MOST_LINES: usize = 500;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_path_buf()
}

/// What `cargo build` with these arguments would compile: packages, targets, features, profiles.
fn units(arguments: &[&str]) -> BTreeSet<String> {
    // Only a nightly cargo says so by itself.
    let asked = ["build", "--offline", "-Zunstable-options", "--unit-graph"];
    let graph = cargo(&[&asked[..], arguments].concat());
    let graph: Value = serde_json::from_str(&graph).unwrap();
    let units = graph["units"].as_array().unwrap().iter();
    let told = ["pkg_id", "target", "mode", "features", "profile"];
    let about = |unit: &Value| told.map(|part| unit[part].to_string()).join(" ");
    units.map(about).collect()
}

fn cargo(arguments: &[&str]) -> String {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(arguments)
        .env("RUSTC_BOOTSTRAP", "1")
        // Where a developer's settings build everything with the same features, there is nothing to see.
        .env_remove("CARGO_RESOLVER_FEATURE_UNIFICATION")
        .current_dir(root())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    String::from_utf8(output.stdout).unwrap()
}

/// Each workspace member's dependencies of one kind: none is the one that its users inherit.
fn dependencies(kind: Option<&str>) -> BTreeMap<String, BTreeSet<String>> {
    let text = cargo(&[
        "metadata",
        "--no-deps",
        "--offline",
        "--format-version",
        "1",
    ]);
    let metadata: Value = serde_json::from_str(&text).unwrap();
    let name = |value: &Value| value["name"].as_str().unwrap().to_string();
    let packages = metadata["packages"].as_array().unwrap().iter();
    packages
        .map(|package| {
            let all = package["dependencies"].as_array().unwrap().iter();
            (
                name(package),
                all.filter(|dep| dep["kind"].as_str() == kind)
                    .map(name)
                    .collect(),
            )
        })
        .collect()
}

/// Every Rust file of the libraries, with its text.
fn library_files() -> Vec<(PathBuf, String)> {
    let mut folders: Vec<PathBuf> = crate_folders()
        .into_iter()
        .map(|path| path.join("src"))
        .collect();
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                files.push((path.strip_prefix(root()).unwrap().to_path_buf(), text));
            }
        }
    }
    assert!(
        files.len() > 50,
        "only {} files found: looking in the wrong place",
        files.len()
    );
    files
}

fn crate_folders() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join("crates")).unwrap();
    entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect()
}

/// Fails with all offenders at once.
#[track_caller]
fn assert_none(offenders: &[String], rule: &str) {
    assert!(
        offenders.is_empty(),
        "{rule}:\n  {}",
        offenders.join("\n  ")
    );
}

#[test]
fn crates_use_each_other_exactly_as_the_architecture_says() {
    let found = dependencies(None);
    let ours = |used: &BTreeSet<String>| -> BTreeSet<String> {
        used.iter()
            .filter(|name| found.contains_key(*name))
            .cloned()
            .collect()
    };
    for (name, allowed) in MAY_USE {
        let allowed: BTreeSet<String> = allowed.iter().map(ToString::to_string).collect();
        assert_eq!(ours(&found[name]), allowed, "{name}");
    }
    for (name, used) in dependencies(Some("build")) {
        let allowed = MAY_BUILD_WITH.iter().find(|(user, _)| *user == name);
        let allowed = allowed.map_or(&[][..], |(_, allowed)| *allowed);
        let allowed: BTreeSet<String> = allowed.iter().map(ToString::to_string).collect();
        assert_eq!(ours(&used), allowed, "{name}, its build script");
    }
    let known: BTreeSet<&str> = MAY_USE
        .iter()
        .map(|(name, _)| *name)
        .chain(["maitre"])
        .collect();
    for folder in crate_folders() {
        let name = folder.file_name().unwrap().to_str().unwrap();
        assert!(
            known.contains(name),
            "crates/{name} has no row in this test"
        );
        assert!(
            found.contains_key(name),
            "the package in crates/{name} has another name"
        );
    }
}

/// `cargo run -- serve` builds without the dependencies of tests, `cargo run --example` with them. If one of these
/// switches on a feature of something that both need, the second builds it and all that stands on it again.
#[test]
fn a_lesson_reuses_what_was_built_for_the_program() {
    let program = units(&["--bin", "maitre"]);
    let lessons = units(&["--examples"]);
    assert!(program.len() > 100 && lessons.len() > program.len());
    let rebuilt: Vec<String> = lessons
        .difference(&program)
        .filter(|unit| !unit.contains("#maitre-examples@"))
        .cloned()
        .collect();
    assert_none(
        &rebuilt,
        "a dependency of tests switches on no feature of what the program is built of",
    );
}

/// What users build has no emulator, which would need a C++ compiler, and no failures on demand.
#[test]
fn a_plain_build_has_nothing_that_only_tests_need() {
    for arguments in [&["--bin", "maitre"][..], &["--bin", "maitre", "--release"]] {
        let mut found: Vec<String> = units(arguments).into_iter().collect();
        assert!(found.len() > 100);
        let of_tests = ["cuda-emulator", "gpu-emulator", "fault-injection"];
        found.retain(|unit| of_tests.iter().any(|word| unit.contains(word)));
        assert_none(&found, "only tests need this");
    }
    let with = units(&["--bin", "maitre", "--features", "maitre/cuda-emulator"]);
    assert!(with.iter().any(|unit| unit.contains("gpu-emulator")));
}

#[test]
fn pure_crates_use_nothing_impure() {
    let found = dependencies(None);
    for (name, allowed) in PURE {
        let extra: Vec<_> = found[name]
            .iter()
            .filter(|used| !allowed.contains(&used.as_str()))
            .collect();
        assert!(
            extra.is_empty(),
            "{name} must stay pure, but uses {extra:?}"
        );
    }
}

#[test]
fn only_the_tensor_crate_may_allow_unsafe_code() {
    // The lint table denies it, so what is not allowed somewhere does not compile. Written in two
    // parts so that this file does not contain what it looks for.
    let words = ["allow(", "expect("].map(|level| format!("{level}{}", "unsafe_code"));
    let offenders: Vec<String> = library_files()
        .into_iter()
        .filter(|(path, _)| !path.starts_with("crates/maitre-tensor"))
        .filter(|(_, text)| words.iter().any(|word| text.contains(word)))
        .map(|(path, _)| path.display().to_string())
        .collect();
    assert_none(&offenders, "`unsafe` belongs into maitre-tensor");
}

#[test]
fn every_crate_takes_its_lints_and_versions_from_the_workspace() {
    let mut offenders = Vec::new();
    for folder in crate_folders() {
        let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap();
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        if !manifest.contains("[lints]\nworkspace = true") {
            offenders.push(format!("{name}: no `[lints] workspace = true`"));
        }
        let (_, tables) = manifest.split_once("dependencies]").unwrap_or_default();
        for line in tables
            .lines()
            .filter(|line| line.contains("version = ") || line.contains("path = "))
        {
            offenders.push(format!("{name}: {line}"));
        }
    }
    assert_none(
        &offenders,
        "lints and versions stand in the root Cargo.toml only",
    );
}

#[test]
fn every_library_file_opens_with_its_subject_and_has_only_one() {
    let mut offenders = Vec::new();
    for (path, text) in library_files() {
        let lines = text.lines().count();
        if lines > MOST_LINES {
            offenders.push(format!(
                "{}: {lines} lines, at most {MOST_LINES}",
                path.display()
            ));
        }
        // A module of tests has the subject of the module it tests.
        if !text.starts_with("//! ") && !path.ends_with("tests.rs") {
            offenders.push(format!("{}: does not open with `//! `", path.display()));
        }
        let stem = path.file_stem().unwrap().to_str().unwrap();
        if ["utils", "util", "common", "helpers", "misc"].contains(&stem) {
            offenders.push(format!("{}: a name that says nothing", path.display()));
        }
    }
    assert_none(
        &offenders,
        "a file has one subject and opens by saying what it is",
    );
}

#[test]
fn the_list_of_crates_is_complete() {
    let list = std::fs::read_to_string(root().join("crates/README.md")).unwrap();
    let missing: Vec<String> = crate_folders()
        .iter()
        .map(|folder| folder.file_name().unwrap().to_string_lossy().into_owned())
        .filter(|name| !list.contains(&format!("**`{name}`**")))
        .collect();
    assert_none(&missing, "crates/README.md has a paragraph for each crate");
}
