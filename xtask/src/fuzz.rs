//! `cargo xtask fuzz`: bytes that a fuzzer makes, against what reads bytes from outside. The targets are in `fuzz/`, a workspace of
//! its own, for it takes a nightly compiler.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::cargo::{program, root, target_directory};

/// The targets, and the longest input of each in bytes: a request has many fields, a template many statements.
const TARGETS: [(&str, u32); 6] = [
    ("request", 4096),
    ("parts", 1024),
    ("grammar", 1024),
    ("template", 4096),
    ("tokenizer", 4096),
    ("gguf", 8192),
];
/// The one that needs the server, which takes most of the time of a build.
const OF_SERVER: &str = "request";
/// Seconds for one input and megabytes for all, past which an input is a finding.
const LIMITS: [&str; 2] = ["-timeout=120", "-rss_limit_mb=4096"];

/// What is fuzzed, and how long.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// One target: request, parts, grammar, template, tokenizer or gguf. All of them, one after another, if none is named.
    #[arg(long, value_parser = TARGETS.map(|(name, _)| name))]
    target: Option<String>,
    /// How long each target runs, in minutes.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    minutes: u64,
}

/// Runs the targets. A finding ends its target; the others run all the same.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    check_tools()?;
    let chosen = TARGETS
        .iter()
        .filter(|(name, _)| arguments.target.as_ref().is_none_or(|it| it == name));
    let mut failed = Vec::new();
    for &(name, longest) in chosen {
        println!("fuzz {name}: {} min", arguments.minutes);
        if !fuzz(name, longest, arguments.minutes)? {
            failed.push(name);
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    bail!(
        "{} failed; an input that was found lies in fuzz/artifacts, and `cargo +nightly fuzz run --sanitizer none TARGET FILE` \
         runs it again",
        failed.join(", ")
    )
}

fn check_tools() -> Result<()> {
    let works = |command: &mut Command| {
        let quiet = command.stdout(Stdio::null()).stderr(Stdio::null());
        quiet.status().is_ok_and(|status| status.success())
    };
    if !works(program("rustup").args(["run", "nightly", "rustc", "--version"])) {
        bail!(
            "fuzzing takes a nightly compiler; install it: rustup toolchain install nightly --profile minimal"
        );
    }
    if !works(nightly_cargo().args(["fuzz", "--version"])) {
        bail!("fuzzing takes cargo-fuzz; install it: cargo install cargo-fuzz --locked");
    }
    Ok(())
}

/// A nightly cargo, whatever toolchain this program was started with.
fn nightly_cargo() -> Command {
    let mut command = program("rustup");
    command.args(["run", "nightly", "cargo"]);
    for variable in ["CARGO", "RUSTC", "RUSTDOC", "RUSTUP_TOOLCHAIN"] {
        command.env_remove(variable);
    }
    command
}

/// Whether a target ran its time without a finding.
fn fuzz(name: &str, longest: u32, minutes: u64) -> Result<bool> {
    let folder = target_directory().join("fuzz");
    let corpus = folder.join("corpus").join(name);
    std::fs::create_dir_all(&corpus)
        .with_context(|| format!("cannot make the folder {}", corpus.display()))?;
    let mut command = nightly_cargo();
    // Our own code has unsafe blocks in the kernels alone, which no target reaches with bytes from outside; without a sanitizer
    // an input takes a fifth of the time.
    command.args(["fuzz", "run", "--sanitizer", "none", "--target-dir"]);
    command.arg(&folder);
    if name == OF_SERVER {
        command.args(["--features", "server"]);
    }
    command.arg(name).arg(corpus).arg(beside("seeds", name));
    let dictionary = beside("dictionaries", &format!("{name}.dict"));
    command.arg("--").args(LIMITS);
    command.arg(format!("-dict={}", dictionary.display()));
    command.arg(format!("-max_len={longest}"));
    command.arg(format!("-max_total_time={}", minutes * 60));
    command.args(["-print_final_stats=1", "-verbosity=1"]);
    let status = command.status().context("cannot start rustup")?;
    Ok(status.success())
}

fn beside(folder: &str, name: &str) -> PathBuf {
    root().join(Path::new("fuzz")).join(folder).join(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_has_a_program_seeds_and_words() {
        let manifest = std::fs::read_to_string(root().join("fuzz/Cargo.toml")).unwrap();
        assert_eq!(manifest.matches("[[bin]]").count(), TARGETS.len());
        for (name, _) in TARGETS {
            assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
            let program = beside("fuzz_targets", &format!("{name}.rs"));
            let words = beside("dictionaries", &format!("{name}.dict"));
            for path in [program, words, beside("seeds", name)] {
                assert!(path.exists(), "{}", path.display());
            }
        }
    }
}
