//! lm-evaluation-harness: the perplexity of the held-out text over HTTP is the one computed without a server.
//!
//! It cuts a text into rolling windows of `max_length` less the one token that it has generated behind each, and
//! predicts all but the first token of a window. The example cuts the same way, so both sum over the same predictions.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::row::{Row, Told, aligned};
use super::session::{Session, count, empty_folder, json, model_folder, number, sources};
use crate::cargo::program;

/// Computes the perplexity in a process of its own.
pub(super) const EXAMPLE: &str = "heldout_perplexity";

/// By how much the two perplexities of a token may differ; results do not depend on how a server batches.
const ALLOWED: f64 = 1e-6;

/// The longest prompt and answer of the bundled model, in tokens.
const CONTEXT: u64 = 2048;

/// The id of the token that separates documents, which each text is predicted after.
const SEPARATOR: u32 = 0;

/// One way of asking.
struct Way {
    name: &'static str,
    part: Part,
    /// Whether prompts are lists of ids, or texts.
    tokenized: bool,
}

/// What is predicted at once.
#[derive(Clone, Copy)]
enum Part {
    /// A document, which fits into one window.
    Documents,
    /// All of them as one text, in windows.
    Whole,
}

impl Part {
    /// As the example calls it, and our tasks behind `heldout_`.
    fn name(self) -> &'static str {
        match self {
            Self::Documents => "documents",
            Self::Whole => "whole",
        }
    }
}

const WAYS: [Way; 3] = [
    Way {
        name: "lm-eval documents, as token ids",
        part: Part::Documents,
        tokenized: true,
    },
    Way {
        name: "lm-eval documents, as text",
        part: Part::Documents,
        tokenized: false,
    },
    Way {
        name: "lm-eval one text in windows",
        part: Part::Whole,
        tokenized: true,
    },
];

/// What the example has computed.
struct Reference {
    all: Value,
    /// Tokens of a window of the whole text.
    window: u64,
    documents: u64,
}

impl Reference {
    fn compute(session: &Session) -> Result<Self> {
        println!("{EXAMPLE}");
        let output = session.example(EXAMPLE).arg("--json").output()?;
        ensure!(output.status.success(), "{EXAMPLE} failed");
        let all: Value = serde_json::from_slice(&output.stdout)?;
        let documents = all["nats"].as_array().context("no documents")?;
        Ok(Self {
            window: count(&all, "/window")?,
            documents: documents.len() as u64,
            all,
        })
    }

    fn tokens(&self, part: Part) -> Result<u64> {
        count(&self.all, &format!("/{}/tokens", part.name()))
    }

    fn number(&self, part: Part, of: &str) -> Result<f64> {
        number(&self.all, &format!("/{}/{of}", part.name()))
    }

    /// Tokens that a window may have.
    fn window(&self, part: Part) -> u64 {
        match part {
            Part::Documents => CONTEXT - 1,
            Part::Whole => self.window,
        }
    }

    /// The requests that the harness sends, and the tokens of all their prompts. Each begins with a token that is not
    /// predicted; the last window of the whole text is filled up with context.
    fn requests(&self, part: Part) -> Result<(u64, u64)> {
        let tokens = self.tokens(part)?;
        Ok(match part {
            Part::Documents => (self.documents, tokens + self.documents),
            Part::Whole => {
                let windows = tokens.div_ceil(self.window - 1);
                (windows, windows * self.window)
            }
        })
    }
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
        let wrong = self.0.iter().filter(|it| !agree(it.ours, it.theirs));
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

/// Whether two perplexities are numbers, and the same.
fn agree(ours: f64, theirs: f64) -> bool {
    (ours - theirs).abs() < ALLOWED
}

pub(super) fn run(session: &Session) -> Result<Evaluated> {
    let python = Session::python("lm-eval")?;
    let reference = Reference::compute(session)?;
    let evaluate = |way| evaluate(session, &python, way, &reference);
    Ok(Evaluated(WAYS.iter().map(evaluate).collect::<Result<_>>()?))
}

fn evaluate(session: &Session, python: &Path, way: &Way, reference: &Reference) -> Result<Found> {
    let folder = empty_folder(way.name)?;
    let task = format!("heldout_{}", way.part.name());
    let mut command = program(python.with_file_name("lm-eval"));
    command
        .envs([("HF_HUB_OFFLINE", "1"), ("HF_DATASETS_OFFLINE", "1")])
        .args(["run", "--model", "local-completions", "--model_args"])
        .arg(model(session.url(), way, reference))
        .args(["--tasks", &task, "--log_samples", "--include_path"])
        .arg(sources("lm-eval"))
        .arg("--output_path")
        .arg(&folder);
    // It tells no counts: these are what it has to send.
    let (requests, prompt_tokens) = reference.requests(way.part)?;
    let told = Told {
        answered: requests,
        failed: 0,
        prompt_tokens,
        generated_tokens: requests,
        speed: None,
    };
    let row = session.measure(way.name, requests, &folder, &mut command, || Ok(told))?;
    let results = json(&results(&folder)?)?;
    let per_byte = number(&results, &format!("/results/{task}/byte_perplexity,none"))?;
    let tokens = reference.tokens(way.part)?;
    let bytes_per_token = reference.number(way.part, "bytes")? / tokens as f64;
    let nats = reference.number(way.part, "nats")?;
    Ok(Found {
        row,
        tokens,
        ours: (nats / tokens as f64).exp(),
        theirs: per_byte.powf(bytes_per_token),
    })
}

/// The model, as the harness takes it on its command line.
fn model(url: &str, way: &Way, reference: &Reference) -> String {
    let tokenizer = model_folder();
    let fields = [
        "model=bundled".to_owned(),
        format!("base_url={url}/v1/completions"),
        format!("tokenizer={}", tokenizer.display()),
        format!("custom_prefix_token_id={SEPARATOR}"),
        format!("max_length={}", reference.window(way.part) + 1),
        "num_concurrent=4".to_owned(),
        format!(
            "tokenized_requests={}",
            if way.tokenized { "True" } else { "False" }
        ),
    ];
    fields.join(",")
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
    bail!("no results in {}", folder.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sixth_decimal_counts() {
        assert!(agree(3.765_976, 3.765_976_04));
        assert!(!agree(3.765_976, 3.765_978));
        assert!(!agree(3.765_976, f64::NAN));
    }
}
