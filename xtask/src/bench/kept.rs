//! The pairs of a comparison in a file, as they are measured: an interrupted run goes on where it was.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::pairs::{Pair, Record};

/// A file with a line for the flags, then one for each pair.
pub(super) struct Kept {
    file: File,
    path: PathBuf,
}

impl Kept {
    /// An empty file, or with `resume` that of an earlier run with the same flags, whose pairs are added to the records.
    pub(super) fn open(
        path: &Path,
        flags: &str,
        resume: bool,
        records: &mut [Record],
    ) -> Result<Self> {
        let naming = || format!("in {}", path.display());
        let mut options = OpenOptions::new();
        if resume && path.exists() {
            let text = fs::read_to_string(path).with_context(naming)?;
            read(&text, flags, records).with_context(naming)?;
            options.append(true);
        } else {
            options.create(true).write(true).truncate(true);
        }
        let mut kept = Self {
            file: options.open(path).with_context(naming)?,
            path: path.to_path_buf(),
        };
        if records.iter().all(|record| record.pairs.is_empty()) {
            kept.file.set_len(0).with_context(naming)?;
            kept.line(&json!({ "flags": flags }))?;
        }
        Ok(kept)
    }

    pub(super) fn add(&mut self, workload: &str, pair: Pair) -> Result<()> {
        self.line(&pair.to_json(workload))
    }

    fn line(&mut self, value: &Value) -> Result<()> {
        let written = writeln!(self.file, "{value}");
        written.with_context(|| format!("writing {}", self.path.display()))
    }
}

/// Adds the pairs of a file to the records. A line that was cut off when the run ended is passed over.
fn read(text: &str, flags: &str, records: &mut [Record]) -> Result<()> {
    let mut lines = text.lines().map(serde_json::from_str::<Value>);
    let first = lines.next().context("it is empty")??;
    ensure!(
        first["flags"] == flags,
        "the pairs are of other flags than these; run without --resume"
    );
    for line in lines.map_while(Result::ok) {
        let (workload, pair) = Pair::of_json(&line).context("a line is no pair")?;
        let record = records
            .iter_mut()
            .find(|record| record.workload.name() == workload);
        record
            .with_context(|| format!("no workload is `{workload}`"))?
            .pairs
            .push(pair);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::contestant::Measured;
    use super::super::peers::Workload;
    use super::*;

    fn records() -> Vec<Record> {
        let workload = |users| Workload {
            users,
            input: 4,
            output: 2,
            is_apart: false,
        };
        vec![Record::new(workload(1)), Record::new(workload(2))]
    }

    fn pair(seconds: f64) -> Pair {
        let measured = Measured {
            seconds,
            prompts: None,
        };
        Pair {
            ours: measured,
            theirs: measured,
        }
    }

    #[test]
    fn an_interrupted_run_goes_on_where_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pairs.jsonl");
        let open = |flags: &str, resume| {
            let mut records = records();
            Kept::open(&path, flags, resume, &mut records).map(|kept| (kept, records))
        };
        let (mut kept, _) = open("a", false).unwrap();
        for (workload, seconds) in [
            ("1 x 4 -> 2", 1.0),
            ("2 x 4 -> 2", 2.0),
            ("1 x 4 -> 2", 3.0),
        ] {
            kept.add(workload, pair(seconds)).unwrap();
        }
        drop(kept);
        // The last line was not written whole.
        fs::write(
            &path,
            fs::read_to_string(&path).unwrap() + "{\"workload\": \"2 x",
        )
        .unwrap();
        let (_, records) = open("a", true).unwrap();
        assert_eq!(records[0].pairs, [pair(1.0), pair(3.0)]);
        assert_eq!(records[1].pairs, [pair(2.0)]);

        let message = format!("{:#}", open("b", true).err().unwrap());
        assert!(message.contains("run without --resume"), "{message}");
        let (_, records) = open("b", false).unwrap();
        assert!(records.iter().all(|record| record.pairs.is_empty()));
        assert!(open("b", true).is_ok());
    }
}
