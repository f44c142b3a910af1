//! A cause is told once: an error whose text quotes its cause must not give it as its source too, for what prints an
//! error prints the chain of its sources behind it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

/// The messages of `#[error("…")]` that quote what thiserror makes the source: a field of the name `source`, or one
/// with the attribute `#[source]` or `#[from]`.
fn quoted_twice(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for part in text.split("#[error(").skip(1) {
        let (message, rest) = part.split_once(")]").unwrap_or((part, ""));
        // Up to the next variant or item.
        let fields = rest.split("#[error(").next().unwrap_or_default();
        let fields = fields.split("\n}").next().unwrap_or_default();
        let is_marked = fields.contains("#[source]") || fields.contains("#[from]");
        let quotes = message.contains("{source") || message.contains(".source");
        if quotes || (is_marked && message.contains("{0")) {
            found.push(message.trim().to_owned());
        }
    }
    found
}

#[test]
fn no_error_quotes_its_source() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates");
    let mut files = Vec::new();
    for entry in fs::read_dir(&crates).unwrap() {
        let folder = entry.unwrap().path().join("src");
        if folder.is_dir() {
            sources(&folder, &mut files);
        }
    }
    assert!(files.len() > 100, "{} files", files.len());
    let found: Vec<String> = files
        .iter()
        .flat_map(|file| {
            let text = fs::read_to_string(file).unwrap();
            // Unit tests have errors of other libraries' kind.
            let text = text.split("#[cfg(test)]").next().unwrap().to_owned();
            let name = file.strip_prefix(&crates).unwrap().display().to_string();
            quoted_twice(&text)
                .into_iter()
                .map(move |message| format!("{name}: {message}"))
        })
        .collect();
    assert!(
        found.is_empty(),
        "name the field `error` instead of `source`: {found:#?}"
    );
}

#[test]
fn a_message_that_quotes_its_source_is_found() {
    let quoting =
        "#[error(\"no: {source}\")]\nA { source: E },\n#[error(\"b {0}\")]\nB(#[source] E),";
    assert_eq!(quoted_twice(quoting), ["\"no: {source}\"", "\"b {0}\""]);
    let plain = "#[error(transparent)]\nA(#[from] E),\n#[error(\"b {error}\")]\nB { error: E },\n#[error(\"c {0}\")]\nC(u8),";
    assert!(quoted_twice(plain).is_empty());
}
