//! `cargo xtask bench speculation`: what drafts gain for one user, beside what they should.
//!
//! The example `speculation` of the benchmarks measures, in pairs; here the pairs become tables.

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::Value;

use super::bootstrap::{bounds, median};
use crate::cargo::{cargo, finish, target_directory};

/// Speculation with a drafter of known acceptance and cost, and on recorded text, for one user on one model.
#[derive(Debug, clap::Parser)]
#[command(name = "cargo xtask bench speculation")]
pub(crate) struct Arguments {
    /// `large` (the shape of Qwen3-0.6B, random weights), `tiny`, `bundled`, or a directory in Hugging Face's
    /// layout.
    #[arg(long, default_value = "large", value_name = "MODEL")]
    model: String,
    /// Dtype of the weights.
    #[arg(long, default_value = "bf16")]
    dtype: String,
    /// Threads.
    #[arg(long, value_name = "N", default_value_t = 2)]
    threads: usize,
    /// Pairs of measurements of each acceptance, cost and number of drafts; 0 leaves the speed model out.
    #[arg(long, value_name = "N", default_value_t = 5)]
    pairs: usize,
    /// Passages of each kind of recorded text; 0 leaves recorded text out.
    #[arg(long, value_name = "N", default_value_t = 10)]
    passages: usize,
    /// A little of everything on the tiny shape: whether it works, not how fast it is.
    #[arg(long)]
    quick: bool,
    /// Where to write speculation.json and speculation.md [default: a folder of the build's].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let folder = arguments
        .out
        .clone()
        .unwrap_or_else(|| target_directory().join("bench-speculation"));
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let json = std::path::absolute(folder.join("speculation.json"))?;
    let mut measure = cargo(&["run", "--locked", "--release", "--package"]);
    measure.args(["maitre-benches", "--example", "speculation", "--"]);
    if arguments.quick {
        measure.arg("--quick");
    } else {
        measure.args(["--model", &arguments.model(), "--dtype", &arguments.dtype]);
        measure.args(["--pairs", &arguments.pairs.to_string()]);
        measure.args(["--passages", &arguments.passages.to_string()]);
    }
    measure.args(["--threads", &arguments.threads.to_string()]);
    measure.arg("--out").arg(&json);
    finish(&mut measure)?;
    let report = report(&fs::read_to_string(&json)?)
        .with_context(|| format!("reading {}", json.display()))?;
    println!("{report}");
    let path = folder.join("speculation.md");
    fs::write(&path, report).with_context(|| format!("writing {}", path.display()))
}

impl Arguments {
    /// A folder is meant as seen from here, not from the root of the workspace.
    fn model(&self) -> String {
        match std::path::absolute(&self.model) {
            Ok(path) if path.is_dir() => path.to_string_lossy().into_owned(),
            _ => self.model.clone(),
        }
    }
}

/// All tables of a record.
fn report(json: &str) -> Result<String> {
    let record: Value = serde_json::from_str(json)?;
    let text = |name: &str| record[name].as_str().unwrap_or_default();
    let mut report = format!(
        "# Speculation: {}, {}, {} threads, {} kernels\n",
        text("model"),
        text("dtype"),
        record["threads"],
        text("kernels"),
    );
    speed(&mut report, samples(&record, "speed")?)?;
    auto(&mut report, samples(&record, "auto")?)?;
    recorded(&mut report, samples(&record, "recorded")?)?;
    Ok(report)
}

fn samples<'a>(record: &'a Value, name: &str) -> Result<&'a [Value]> {
    let samples = record[name].as_array();
    Ok(samples.with_context(|| format!("no list `{name}`"))?)
}

/// Samples that agree in `keys`, in the order of their first.
fn groups<'a>(samples: &'a [Value], keys: &[&str]) -> Vec<Group<'a>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for sample in samples {
        let agrees = |group: &&mut Group<'_>| {
            let first = group.0[0];
            keys.iter().all(|&key| first[key] == sample[key])
        };
        match groups.iter_mut().find(agrees) {
            Some(group) => group.0.push(sample),
            None => groups.push(Group(vec![sample])),
        }
    }
    groups
}

/// Samples of the same thing, at least one.
struct Group<'a>(Vec<&'a Value>);

impl Group<'_> {
    fn key(&self, name: &str) -> &Value {
        &self.0[0][name]
    }

    fn number(&self, name: &str) -> Result<f64> {
        let number = self.key(name).as_f64();
        number.with_context(|| format!("`{name}` is missing or no number"))
    }

    fn column(&self, name: &str) -> Result<Vec<f64>> {
        let numbers = self.0.iter().map(|sample| {
            let number = sample[name].as_f64();
            number.with_context(|| format!("`{name}` is missing or no number"))
        });
        numbers.collect()
    }

    /// The quotient of two columns, pair by pair.
    fn ratios(&self, above: &str, below: &str) -> Result<Vec<f64>> {
        let (above, below) = (self.column(above)?, self.column(below)?);
        Ok(above.iter().zip(below).map(|(a, b)| a / b).collect())
    }

    fn median(&self, name: &str) -> Result<f64> {
        Ok(median(&self.column(name)?))
    }
}

/// What the speed model says for each pair: how many times as fast with drafts as without.
fn predictions(group: &Group<'_>) -> Result<Vec<f64>> {
    let (alpha, drafts) = (group.number("acceptance")?, group.number("drafts")?);
    let (round, step) = (
        group.ratios("round_s", "off_s")?,
        group.ratios("step_s", "off_s")?,
    );
    let tokens = (1.0 - alpha.powf(drafts + 1.0)) / (1.0 - alpha);
    let speed_ups = round.iter().zip(step);
    Ok(speed_ups.map(|(c, v)| tokens / (drafts * c + v)).collect())
}

fn speed(report: &mut String, samples: &[Value]) -> Result<()> {
    if samples.is_empty() {
        return Ok(());
    }
    report.push_str(
        "\n## Speed model: (1 - α^(k+1)) / ((1 - α)(k·c + v))\n\n\
         | α | c set | k | c | v | off tok/s | on tok/s | speed-up | predicted | error |\n\
         |---|---|---|---|---|---|---|---|---|---|\n",
    );
    let (mut worst, mut best) = (0.0_f64, None::<(f64, String)>);
    for group in groups(samples, &["acceptance", "cost", "drafts"]) {
        let speed_ups = group.ratios("off_s", "on_s")?;
        let (measured, predicted) = (median(&speed_ups), median(&predictions(&group)?));
        let error = measured / predicted - 1.0;
        worst = worst.max(error.abs());
        let (alpha, cost, drafts) = (
            group.key("acceptance"),
            group.key("cost"),
            group.key("drafts"),
        );
        writeln!(
            report,
            "| {alpha} | {cost} | {drafts} | {:.3} | {:.3} | {:.2} | {:.2} | {measured:.3} | {predicted:.3} | {:+.1} % |",
            median(&group.ratios("round_s", "off_s")?),
            median(&group.ratios("step_s", "off_s")?),
            1.0 / group.median("off_s")?,
            1.0 / group.median("on_s")?,
            100.0 * error,
        )?;
        if alpha.as_f64() == Some(0.8) && best.as_ref().is_none_or(|it| measured > it.0) {
            let bound = bounds(&speed_ups).lower;
            let text =
                format!("k = {drafts} at c = {cost}: {measured:.2} times, 95 % above {bound:.2}");
            best = Some((measured, text));
        }
    }
    writeln!(report, "\nWorst error {:.1} %.", 100.0 * worst)?;
    if let Some((_, text)) = best {
        writeln!(report, "Best at α = 0.8: {text}.")?;
    }
    Ok(())
}

fn auto(report: &mut String, samples: &[Value]) -> Result<()> {
    if samples.is_empty() {
        return Ok(());
    }
    report.push_str(
        "\n## The controller beside the best fixed k\n\n\
         | α | c set | best k | fixed / off | auto / off | 95 % above | auto / fixed | 95 % above | rounds a step | tokens a step |\n\
         |---|---|---|---|---|---|---|---|---|---|\n",
    );
    for group in groups(samples, &["acceptance", "cost"]) {
        let over_off = group.ratios("off_s", "auto_s")?;
        let over_fixed = group.ratios("fixed_s", "auto_s")?;
        writeln!(
            report,
            "| {} | {} | {} | {:.3} | {:.3} | {:.3} | {:.3} | {:.3} | {:.1} | {:.2} |",
            group.key("acceptance"),
            group.key("cost"),
            group.key("best"),
            median(&group.ratios("off_s", "fixed_s")?),
            median(&over_off),
            bounds(&over_off).lower,
            median(&over_fixed),
            bounds(&over_fixed).lower,
            group.median("rounds_per_step")?,
            group.median("tokens_per_step")?,
        )?;
    }
    Ok(())
}

fn recorded(report: &mut String, samples: &[Value]) -> Result<()> {
    if samples.is_empty() {
        return Ok(());
    }
    report.push_str(
        "\n## Recorded text\n\n\
         Decoding is the time after the first token; whole answers have their prompts in them.\n\n\
         | source | repeat | proposer | drafts | prompt | answer | accepted | decoding speed-up | 95 % above | whole answer | 95 % above |\n\
         |---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    let text = |group: &Group<'_>, name: &str| {
        let text = group.key(name).as_str();
        text.unwrap_or_default().to_owned()
    };
    for group in groups(samples, &["source", "repeat", "proposer", "drafts"]) {
        let decoding = group.ratios("off_s", "on_s")?;
        let whole = group.ratios("off_whole_s", "on_whole_s")?;
        let sum = |name: &str| -> Result<f64> { Ok(group.column(name)?.iter().sum()) };
        writeln!(
            report,
            "| {} | {} | {} | {} | {} | {} | {:.0} of {:.0} | {:.2} | {:.2} | {:.2} | {:.2} |",
            text(&group, "source"),
            text(&group, "repeat"),
            text(&group, "proposer"),
            group.key("drafts"),
            group.median("prompt_tokens")?,
            group.median("tokens")?,
            sum("accepted")?,
            sum("drafted")?,
            median(&decoding),
            bounds(&decoding).lower,
            median(&whole),
            bounds(&whole).lower,
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In the form of what is measured, as the test of the measurement sees to.
    const RECORD: &str = include_str!("speculation_sample.json");

    #[test]
    fn pairs_become_tables() {
        let report = report(RECORD).unwrap();
        let lines = [
            // (1 - 0.8^5) / 0.2 = 3.3616 tokens in 0.4 + 1.1 steps.
            "| 0.8 | 0.1 | 4 | 0.100 | 1.100 | 0.67 | 1.48 | 2.222 | 2.241 | -0.8 % |",
            "| 0.6 | 0.1 | 1 | 0.100 | 1.100 | 1.00 | 1.33 | 1.333 | 1.333 | +0.0 % |",
            "Worst error 0.8 %.",
            "Best at α = 0.8: k = 4 at c = 0.1: 2.22 times, 95 % above 2.22.",
            "| 0.8 | 0.1 | 4 | 2.222 | 2.000 | 2.000 | 0.900 | 0.900 | 3.5 | 3.00 |",
            "| poems | quote | suffix | 8 | 40 | 20 | 15 of 30 | 2.50 | 2.50 | 2.00 | 2.00 |",
        ];
        for line in lines {
            assert!(report.contains(line), "{line}\n{report}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        for (json, expected) in [
            (r#"{"speed": []}"#, "no list `auto`"),
            (
                r#"{"speed": [{"acceptance": 0.8, "cost": 0, "drafts": 1}], "auto": []}"#,
                "`off_s` is missing",
            ),
        ] {
            let error = report(json).unwrap_err();
            assert!(format!("{error:#}").contains(expected), "{error:#}");
        }
    }
}
