//! Files of recorded requests, for commands that send them and commands that simulate them.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use maitre_sim::parse_time;
use maitre_sim::workload::{BadLines, Chats, Trace, TraceError};

/// What is recorded in a file.
pub(crate) enum Recorded {
    /// Requests with their times and lengths.
    Trace(Trace),
    /// Conversations with their texts.
    Chats(Chats),
}

/// Reads a trace of requests.
pub(crate) fn read_trace(path: &Path, skip_bad: bool) -> Result<Trace> {
    let trace = Trace::read(open(path)?, None, bad_lines(skip_bad));
    trace.with_context(|| of_no_use(path, skip_bad))
}

/// Reads a trace, or conversations if the first line is one.
pub(crate) fn read_recorded(path: &Path, skip_bad: bool) -> Result<Recorded> {
    let mut first = String::new();
    let read = open(path)?.read_line(&mut first);
    read.map_err(TraceError::from)
        .with_context(|| of_no_use(path, skip_bad))?;
    if !Chats::begin_with(&first) {
        return read_trace(path, skip_bad).map(Recorded::Trace);
    }
    let chats = Chats::read(open(path)?, bad_lines(skip_bad));
    let chats = chats.with_context(|| of_no_use(path, skip_bad))?;
    Ok(Recorded::Chats(chats))
}

fn open(path: &Path) -> Result<BufReader<File>> {
    let file = File::open(path);
    let file = file.with_context(|| format!("--trace: {} cannot be opened", path.display()))?;
    Ok(BufReader::new(file))
}

fn bad_lines(skip_bad: bool) -> BadLines {
    if skip_bad {
        BadLines::Skip
    } else {
        BadLines::Refuse
    }
}

fn of_no_use(path: &Path, skip_bad: bool) -> String {
    let name = path.display();
    match skip_bad {
        true => format!("--trace: {name} is of no use"),
        false => format!("--trace: {name} is of no use (--skip-bad leaves bad lines out)"),
    }
}

/// A time of the command line.
pub(crate) fn time(text: &str) -> Result<Duration, String> {
    parse_time(text).ok_or_else(|| "expected a time with its unit, such as 500ms or 5s".to_owned())
}
