//! `cargo xtask bench kernels`: every kernel's speed beside the limit of the machine.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::cargo::{cargo, finish};

/// Kernels by operator and shapes, and what their shapes begin with: a product of one row, which waits for the weights, and one of
/// 64 rows, which computes, in each format; attention of a step that decodes, and of a prompt.
const HELD: [(&str, &[&str], &str); 5] = [
    ("linear/bf16", &PRODUCTS, "1024 to 6144, m"),
    ("linear/int8", &PRODUCTS, "1024 to 6144, m"),
    ("linear/int4", &PRODUCTS, "1024 to 6144, m"),
    ("attention/bf16", &["64 x 1 at 1024"], "64 x 1 at 1024"),
    ("attention/bf16", &["1 x 1024 at 1024"], "1 x 1024 at 1024"),
];

const PRODUCTS: [&str; 2] = ["1024 to 6144, m 1", "1024 to 6144, m 64"];

/// The kernels, held against the limits of this machine.
#[derive(Debug, clap::Parser)]
#[command(name = "cargo xtask bench kernels")]
pub(crate) struct Arguments {
    /// All shapes and longer measurements: several minutes instead of one.
    #[arg(long)]
    full: bool,
    /// Only kernels whose name contains this, for example `linear/bf16`.
    filter: Option<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let mut bench = command();
    bench.args(&arguments.filter);
    if arguments.full {
        // Criterion owns the command line of a benchmark.
        bench.env("MAITRE_BENCH", "full");
    }
    finish(&mut bench)
}

fn command() -> Command {
    let mut bench = cargo(&["bench", "--locked", "--package", "maitre-benches"]);
    bench.args(["--bench", "kernels", "--"]);
    bench
}

/// The kernels that `bench regression` holds, in turn, over and over: of each a ratio for each round, by its operator and shape.
pub(super) fn ratios(rounds: usize) -> Result<BTreeMap<String, Vec<f64>>> {
    let mut ratios: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for _ in 0..rounds {
        for (operator, shapes, filter) in HELD {
            let measured = shares(&format!("{operator}/{filter}"))?;
            for shape in shapes {
                let name = format!("{operator} {shape}");
                let share = measured.iter().find(|it| it.0 == name);
                let (_, share) = share.with_context(|| format!("{name} was not measured"))?;
                ratios.entry(name).or_default().push(*share);
            }
        }
    }
    Ok(ratios)
}

/// How near to the limit of the machine kernels come, whose operator and shape begin with `filter`: of each its name, such as
/// `linear/bf16 1024 to 6144, m 1`, and the time of its fastest sample at the limit over the time that it took. Both are measured
/// by one process: first and between the kernels what the machine can do, of which the best counts, then the kernels.
fn shares(filter: &str) -> Result<Vec<(String, f64)>> {
    let mut bench = command();
    bench.arg(filter).stdin(Stdio::null());
    let output = bench.stderr(Stdio::inherit()).output();
    let output = output.context("cannot start cargo")?;
    ensure!(
        output.status.success(),
        "the kernels' benchmark failed: {}",
        output.status
    );
    let text = String::from_utf8_lossy(&output.stdout);
    let shares: Vec<(String, f64)> = text.lines().filter_map(share).collect();
    ensure!(
        !shares.is_empty(),
        "the kernels' benchmark told no shares of {filter}:\n{text}"
    );
    Ok(shares)
}

/// What a line of the table says: `OPERATOR SHAPE MEASURED LIMIT UNIT SHARE % BEST %`.
fn share(line: &str) -> Option<(String, f64)> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let [name @ .., _, _, unit, _, "%", best, "%"] = &words[..] else {
        return None;
    };
    let best: f64 = best.parse().ok()?;
    let is_kernel = name.first().is_some_and(|operator| operator.contains('/'));
    (is_kernel && unit.ends_with("/s")).then(|| (name.join(" "), best / 100.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_of_the_fastest_sample_is_read() {
        let line =
            "linear/bf16    1024 to 4096, m 1            20.0       40.0 GB/s      50.0 %  80.0 %";
        let name = "linear/bf16 1024 to 4096, m 1".to_owned();
        assert_eq!(share(line), Some((name, 0.8)));
        for other in [
            "operator       shape                    measured      limit            share    best",
            "linear/bf16/1024 to 4096, m 1",
            "                        time:   [1.0 ms 1.1 ms 1.2 ms]",
            "                        change: [-1.0 % +0.1 % +1.0 %] (p = 0.50 > 0.05)",
            "share: of the limit, at the median; best: at the fastest sample. Above 100 %: the data",
            "",
        ] {
            assert_eq!(share(other), None, "{other}");
        }
    }
}
