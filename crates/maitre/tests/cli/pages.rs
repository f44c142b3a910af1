//! What the pages show of the program is what it prints: flags, policies, the banner, a model's needs. Figures that
//! depend on the machine are left out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::{maitre, stderr, stdout};

/// Flags on the pages that are other programs'.
const OF_OTHERS: [&str; 75] = [
    // cargo
    "--example",
    "--features",
    "--ignored",
    "--nocapture",
    "--package",
    "--release",
    "--test",
    "--test-threads",
    // pip, podman, cmake, converters of models, profilers, numactl
    "--build",
    "--cpunodebind",
    "--membind",
    "--no-deps",
    "--outfile",
    "--outtype",
    "--pure",
    "--rm",
    "--stop-timeout",
    "--target-processes",
    "--tool",
    // cargo xtask
    "--against",
    "--against-program",
    "--azure",
    "--azure-scale",
    "--context-users",
    "--contexts",
    "--cost",
    "--full",
    "--generations",
    "--gguf",
    "--hostile",
    "--list",
    "--llama-batched-bench",
    "--llama-server",
    "--loads",
    "--mooncake",
    "--mooncake-scale",
    "--peer-url",
    "--minutes",
    "--only-contexts",
    "--pairs",
    "--prefill-tokens",
    "--quick",
    "--resume",
    "--rounds",
    "--seconds",
    "--slack",
    "--target",
    "--times",
    "--users",
    "--vllm-python",
    "--with",
    // GuideLLM, AIPerf, vLLM's benchmark, lm-evaluation-harness
    "--backend",
    "--base-url",
    "--constraint",
    "--data",
    "--dataset-name",
    "--endpoint",
    "--endpoint-type",
    "--extra-inputs",
    "--ignore-eos",
    "--include",
    "--max-concurrency",
    "--num-prompts",
    "--output-tokens-mean",
    "--profile",
    "--random-input-len",
    "--random-output-len",
    "--request-count",
    "--streaming",
    "--synthetic-input-tokens-mean",
    "--tasks",
    "--tokenizer",
    "--ui",
    "--url",
    "--use-server-token-count",
];

const COMMANDS: [&str; 9] = [
    "serve",
    "chat",
    "generate",
    "bench",
    "simulate",
    "plan",
    "inspect",
    "list",
    "gpu-check",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(page: &str) -> String {
    std::fs::read_to_string(root().join(page)).unwrap()
}

/// Every page of the book, and those at the root of the repository, but for the one that tells what was.
fn pages() -> Vec<(String, String)> {
    let mut folders = vec![root().join("docs/src")];
    let mut paths = ["README.md", "CONTRIBUTING.md", "deploy/README.md"]
        .map(|page| root().join(page))
        .to_vec();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == "md") {
                paths.push(path);
            }
        }
    }
    let pages = paths.into_iter().map(|path| {
        let text = std::fs::read_to_string(&path).unwrap();
        (path.display().to_string(), text)
    });
    pages.collect()
}

/// The words of a text that look like flags.
fn flags(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
    let is_flag = |word: &&str| {
        let name = word.strip_prefix("--").unwrap_or_default();
        name.starts_with(|c: char| c.is_ascii_lowercase())
    };
    words.filter(is_flag).map(str::to_owned).collect()
}

/// The flags of each command, as its help lists them.
fn known() -> BTreeMap<&'static str, BTreeSet<String>> {
    COMMANDS
        .into_iter()
        .map(|command| {
            let help = stdout(&maitre(&[command, "--help"]));
            let listed = help.lines().filter(|line| {
                let line = line.trim_start();
                line.starts_with("--") || line.starts_with("-h,") || line.starts_with("-V,")
            });
            (command, listed.flat_map(flags).collect())
        })
        .collect()
}

#[test]
fn every_flag_on_a_page_is_one_of_the_program() {
    let known = known();
    assert!(known["serve"].len() > 20, "{known:?}");
    let others = OF_OTHERS.map(str::to_owned);
    let all: BTreeSet<String> = known.values().flatten().cloned().chain(others).collect();
    let mut wrong = Vec::new();
    for (page, text) in pages() {
        let unknown = flags(&text).into_iter().filter(|flag| !all.contains(flag));
        wrong.extend(unknown.map(|flag| format!("{page}: {flag}")));
        // A command is on a line, or on several that end in a backslash.
        for line in text.replace("\\\n", " ").lines() {
            let ours = line.split_once("cargo run --release -- ");
            let ours = ours.or_else(|| line.trim_start_matches("$ ").split_once("maitre "));
            let Some((before, rest)) = ours else { continue };
            let command = rest.split_whitespace().next().unwrap_or_default();
            let is_command = before.chars().all(char::is_whitespace) || before.ends_with("$ ");
            if let Some(known) = known.get(command).filter(|_| is_command) {
                let unknown = flags(rest).into_iter().filter(|flag| !known.contains(flag));
                wrong.extend(unknown.map(|flag| format!("{page}: {command} {flag}")));
            }
        }
    }
    assert!(wrong.is_empty(), "no such flag:\n  {}", wrong.join("\n  "));
}

/// A line without what depends on the machine: time stamps, kernels and threads, the memory that happens to be
/// free.
fn machine_independent(line: &str) -> String {
    let line = line.split_once(" INFO ").map_or(line, |(_, rest)| rest);
    let line = line.strip_prefix("INFO ").unwrap_or(line);
    let end = [", available ", ", cpu ("]
        .iter()
        .filter_map(|it| line.find(it))
        .min();
    line[..end.unwrap_or(line.len())].to_owned()
}

/// The lines of a text that a banner has.
fn banner(text: &str) -> Vec<String> {
    let lines = text.lines().map(machine_independent);
    let begins = [
        "model ",
        "memory: ",
        "limits: ",
        "scheduling: ",
        "speculation: ",
    ];
    lines
        .filter(|line| begins.iter().any(|it| line.starts_with(it)))
        .collect()
}

#[test]
fn the_banner_on_the_pages_is_the_one_of_the_program() {
    let output = maitre(&[
        "generate",
        "--verbose",
        "--prompt",
        "Once",
        "--max-tokens",
        "1",
        "--device",
        "cpu",
        // What it is by default, where there is memory enough for it.
        "--kv-cache-bytes",
        "939524096",
    ]);
    let printed = banner(&stderr(&output));
    assert_eq!(printed.len(), 5, "{printed:?}");
    for page in ["README.md", "docs/src/guide/serve.md"] {
        assert_eq!(banner(&read(page)), printed, "{page}");
    }
}

#[test]
fn the_short_names_on_the_page_are_those_of_the_program() {
    let guide = read("docs/src/guide/serve.md");
    let (_, block) = guide.split_once("$ maitre list --available\n").unwrap();
    let (shown, _) = block.split_once("```").unwrap();
    assert_eq!(shown, stdout(&maitre(&["list", "--available"])));
}

#[test]
fn what_inspect_shows_on_the_page_is_what_it_prints() {
    let guide = read("docs/src/guide/serve.md");
    let (_, block) = guide
        .split_once("$ cargo run --release -- inspect\n")
        .unwrap();
    let (shown, _) = block.split_once("```").unwrap();
    let printed = stdout(&maitre(&["inspect"]));
    // The last column follows from the memory that is free.
    let lines = |text: &str| -> Vec<String> {
        let lines = text
            .lines()
            .filter(|line| !line.starts_with("memory available"));
        let is_row = |line: &str| line.contains(" MiB ");
        let without = |line: &str| {
            line.rsplit_once(' ')
                .map_or("", |(row, _)| row.trim_end())
                .to_owned()
        };
        lines
            .map(|line| {
                if is_row(line) {
                    without(line)
                } else {
                    line.to_owned()
                }
            })
            .collect()
    };
    assert_eq!(lines(shown), lines(&printed));
}
