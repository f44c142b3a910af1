//! lm-evaluation-harness: the perplexity of the held-out text over HTTP is the one computed without a server.
//!
//! It cuts a text into rolling windows of `max_length` less the one token that it has generated behind each, and
//! predicts all but the first token of a window. The example cuts the same way, so both sum over the same predictions.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::row::{Row, Told, aligned};
use super::session::{Session, count, json, model_folder, number, sources};
use crate::cargo::program;

/// Computes the perplexity in a process of its own.
pub(super) const EXAMPLE: &str = "heldout_perplexity";

/// By how much the two perplexities of a token may differ: so that four decimals agree.
const ALLOWED: f64 = 5e-5;

/// The id of the token that separates documents, which each text is predicted after.
const SEPARATOR: u32 = 0;

/// One way of asking.
struct Way {
    name: &'static str,
    task: &'static str,
    /// Whether prompts are lists of ids, or texts.
    tokenized: bool,
    /// The tokens that a window may have.
    window: u64,
}

/// What came of it.
struct Found {
    row: Row,
    tokens: u64,
    ours: f64,
    theirs: f64,
}

/// All ways, and what came of them.
pub(super) struct Evaluated(Vec<Found>);

impl Evaluated {
    /// Both perplexities of each way.
    pub(super) fn table(&self) -> String {
        let header = ["perplexity", "tokens", "ours", "lm-eval", "difference"];
        let header = header.map(str::to_owned).to_vec();
        let lines = self.0.iter().map(|it| {
            let perplexities = [it.ours, it.theirs].map(|it| format!("{it:.6}"));
            let mut line = vec![it.row.name.clone(), it.tokens.to_string()];
            line.extend(perplexities);
            line.push(format!("{:.1e}", it.theirs - it.ours));
            line
        });
        aligned(std::iter::once(header).chain(lines))
    }

    /// Perplexities that differ.
    pub(super) fn problems(&self) -> Vec<String> {
        let differ = |it: &&Found| differ(it.ours, it.theirs);
        let wrong = self.0.iter().filter(differ);
        wrong
            .map(|it| {
                let Found {
                    row, ours, theirs, ..
                } = it;
                format!("{}: perplexity {theirs}, ours is {ours}", row.name)
            })
            .collect()
    }

    pub(super) fn into_rows(self) -> impl Iterator<Item = Row> {
        self.0.into_iter().map(|it| it.row)
    }
}

/// Whether two perplexities differ, or one of them is none.
fn differ(ours: f64, theirs: f64) -> bool {
    !((ours - theirs).abs() < ALLOWED)
}

pub(super) fn run(session: &Session) -> Result<Evaluated> {
    let python = Session::python("lm-eval")?;
    println!("{EXAMPLE}");
    let reference = session.example(EXAMPLE).arg("--json").output()?;
    ensure!(reference.status.success(), "{EXAMPLE} failed");
    let reference: Value = serde_json::from_slice(&reference.stdout)?;
    let window = count(&reference, "/window")?;
    let documents = |name, tokenized| Way {
        name,
        task: "documents",
        tokenized,
        window: 2047,
    };
    let ways = [
        documents("lm-eval documents, as token ids", true),
        documents("lm-eval documents, as text", false),
        Way {
            name: "lm-eval one text in windows",
            task: "whole",
            tokenized: true,
            window,
        },
    ];
    let found = ways
        .iter()
        .map(|way| evaluate(session, &python, way, &reference));
    Ok(Evaluated(found.collect::<Result<_>>()?))
}

fn evaluate(session: &Session, python: &Path, way: &Way, reference: &Value) -> Result<Found> {
    let folder = session.folder(way.name)?;
    let model = format!(
        "model=bundled,base_url={}/v1/completions,tokenizer={},custom_prefix_token_id={SEPARATOR},\
         max_length={},num_concurrent=4,tokenized_requests={}",
        session.url(),
        model_folder().display(),
        way.window + 1,
        if way.tokenized { "True" } else { "False" },
    );
    let task = format!("heldout_{}", way.task);
    let mut command = program(python.with_file_name("lm-eval"));
    command
        .envs([("HF_HUB_OFFLINE", "1"), ("HF_DATASETS_OFFLINE", "1")])
        .args([
            "run",
            "--model",
            "local-completions",
            "--model_args",
            &model,
        ])
        .args(["--tasks", &task, "--log_samples", "--include_path"])
        .arg(sources("lm-eval"))
        .arg("--output_path")
        .arg(&folder);
    let tokens = count(reference, &format!("/{}/tokens", way.task))?;
    let bytes = number(reference, &format!("/{}/bytes", way.task))?;
    let nats = number(reference, &format!("/{}/nats", way.task))?;
    // It does not say how many requests it sent and how long they were; all begin with a token that is not predicted,
    // but the last window of a longer text, which is filled up from before.
    let texts = reference["nats"].as_array().context("no documents")?.len() as u64;
    let (requests, prompt_tokens) = match way.task {
        "documents" => (texts, tokens + texts),
        _ => {
            let windows = tokens.div_ceil(way.window - 1);
            (windows, windows * way.window)
        }
    };
    let row = session.measure(way.name, requests, &folder, &mut command, || {
        Ok(Told {
            answered: requests,
            failed: 0,
            prompt_tokens,
            generated_tokens: requests,
            speed: None,
        })
    })?;
    let results = json(&results(&folder)?)?;
    let per_byte = number(&results, &format!("/results/{task}/byte_perplexity,none"))?;
    let per_token = bytes / tokens as f64;
    Ok(Found {
        row,
        tokens,
        ours: (nats / tokens as f64).exp(),
        theirs: per_byte.powf(per_token),
    })
}

/// The file `MODEL/results_TIME.json` in a folder.
fn results(folder: &Path) -> Result<PathBuf> {
    for model in fs::read_dir(folder)? {
        let model = model?.path();
        if !model.is_dir() {
            continue;
        }
        for file in fs::read_dir(model)? {
            let file = file?;
            if file.file_name().to_string_lossy().starts_with("results_") {
                return Ok(file.path());
            }
        }
    }
    anyhow::bail!("no results in {}", folder.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_decimals_count() {
        assert!(!differ(3.765_976, 3.765_980));
        assert!(differ(3.765_976, 3.765_916));
        assert!(differ(3.765_976, f64::NAN));
    }
}
