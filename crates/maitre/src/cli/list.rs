//! `maitre list`: the models that are in the Hub's cache, or those that have a short name.

use std::io::Write;

use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::short_names::{REVISION, SHORT_NAMES};

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// List the short names that `--model` takes, with what each downloads, in place of what is downloaded.
    #[arg(long)]
    available: bool,
    /// Print a JSON array instead of a table.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &ListArgs) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let text = match (args.available, args.json) {
        (true, true) => available_json(),
        (true, false) => available(),
        (false, as_json) => downloaded(as_json)?,
    };
    Ok(out.write_all(text.as_bytes())?)
}

fn available() -> String {
    let line = |name: &str, licence: &str, file: &str| format!("{name:<14}{licence:<29}{file}\n");
    let mut table = line("--model", "licence", "on the Hub");
    for short in SHORT_NAMES {
        let file = format!("{}:{}", short.repository, short.file);
        table += &line(short.name, short.licence, &file);
    }
    table
}

fn available_json() -> String {
    let all: Vec<_> = SHORT_NAMES
        .iter()
        .map(|short| {
            json!({
                "name": short.name,
                "repository": short.repository,
                "file": short.file,
                "revision": REVISION,
                "licence": short.licence,
            })
        })
        .collect();
    format!("{}\n", serde_json::Value::from(all))
}

#[cfg(feature = "hub")]
fn downloaded(as_json: bool) -> Result<String> {
    use indicatif::HumanBytes;

    let models = maitre::hub::downloaded()?;
    if as_json {
        let all: Vec<_> = models
            .iter()
            .map(|model| json!({ "model": model.name, "bytes": model.bytes, "path": model.path }))
            .collect();
        return Ok(format!("{}\n", serde_json::Value::from(all)));
    }
    let width = models.iter().map(|model| model.name.len()).max();
    let width = width.unwrap_or(0).max(7) + 2;
    let mut table = format!("{:<width$}{}\n", "--model", "size");
    for model in &models {
        let size = HumanBytes(model.bytes);
        table += &format!("{:<width$}{size}\n", model.name);
    }
    Ok(table)
}

#[cfg(not(feature = "hub"))]
fn downloaded(_as_json: bool) -> Result<String> {
    anyhow::bail!("this build has no Hub, so it has downloaded no model")
}
