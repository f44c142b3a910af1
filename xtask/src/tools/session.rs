//! A server, and runs of tools against it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::counts::Counts;
use super::row::{Row, Told};
use crate::cargo::{program, root, target_directory};
use crate::python::environment;
use crate::server::Server;

/// What the tools have in common.
pub(super) struct Session {
    server: Server,
    /// Where `maitre` and `examples` are.
    built: PathBuf,
}

impl Session {
    pub(super) fn start(built: PathBuf) -> Result<Self> {
        Ok(Self {
            server: Server::start(&built.join("maitre"))?,
            built,
        })
    }

    pub(super) fn url(&self) -> &str {
        self.server.url()
    }

    /// An example that was built.
    pub(super) fn example(&self, name: &str) -> Command {
        program(self.built.join("examples").join(name))
    }

    /// A Python with a tool and what the tool needs.
    pub(super) fn python(tool: &str) -> Result<PathBuf> {
        println!("{tool}: installing");
        let folder = target_directory().join("tools").join(tool);
        environment(&folder, &sources(tool))
    }

    /// Runs a tool that sends `asked` requests and leaves its output in `folder`, has its results read, and sets them
    /// beside what the server counted meanwhile.
    pub(super) fn measure(
        &self,
        name: &str,
        asked: u64,
        folder: &Path,
        command: &mut Command,
        read: impl FnOnce() -> Result<Told>,
    ) -> Result<Row> {
        println!("{name}");
        let before = Counts::read(self.url())?;
        silently(command, &folder.join("output.txt")).with_context(|| name.to_owned())?;
        let counted = Counts::read(self.url())? - before;
        let told = read().with_context(|| format!("reading the results of {name}"))?;
        Ok(Row {
            name: name.to_owned(),
            asked,
            told,
            counted,
        })
    }
}

/// An empty folder for the results of a run.
pub(super) fn empty_folder(run: &str) -> Result<PathBuf> {
    let results = target_directory().join("tools").join("results");
    let folder = results.join(run.replace([' ', ','], "-"));
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    Ok(folder)
}

/// What a tool is given of the repository's.
pub(super) fn sources(tool: &str) -> PathBuf {
    root().join("xtask").join("tools").join(tool)
}

/// The folder of the bundled model, whose tokenizer tools load.
pub(super) fn model_folder() -> PathBuf {
    root().join("crates/maitre-bundled/model/target")
}

/// Runs a command whose output goes to a file; the error of one that fails shows its end.
pub(super) fn silently(command: &mut Command, output: &Path) -> Result<()> {
    let file = File::create(output)?;
    command.stdin(Stdio::null()).stderr(file.try_clone()?);
    let status = command.stdout(file).status()?;
    if status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&fs::read(output)?).into_owned();
    let lines: Vec<&str> = said.lines().collect();
    let end = &lines[lines.len().saturating_sub(20)..];
    bail!("{status}: …\n{}", end.join("\n"))
}

/// A file of JSON.
pub(super) fn json(path: &Path) -> Result<Value> {
    let text = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    Ok(serde_json::from_slice(&text)?)
}

/// The number at a JSON pointer.
pub(super) fn number(value: &Value, pointer: &str) -> Result<f64> {
    let found = value.pointer(pointer).and_then(Value::as_f64);
    found.with_context(|| format!("no number at {pointer}"))
}

/// The count at a JSON pointer.
pub(super) fn count(value: &Value, pointer: &str) -> Result<u64> {
    Ok(number(value, pointer)?.round() as u64)
}
