//! The files in `deploy/` fit the program: a dashboard that asks for numbers that the server does not export
//! shows empty panels, and no error.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_path_buf()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

/// Every word of the text that looks like one of our metrics.
fn metrics_in(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("maitre_")).collect()
}

#[test]
fn the_dashboard_asks_for_metrics_that_are_exported() {
    let sources = read("crates/maitre-engine/src/observe/metrics.rs")
        + &read("crates/maitre-server/src/metrics.rs");
    let exported = metrics_in(&sources);
    let dashboard = read("deploy/grafana/maitre.json");
    serde_json::from_str::<serde_json::Value>(&dashboard).unwrap();
    let asked = metrics_in(&dashboard);
    assert!(
        asked.len() > 10,
        "only {} metrics found: the dashboard is not read",
        asked.len()
    );
    let unknown: Vec<_> = asked
        .iter()
        .filter(|name| {
            let histogram = ["_bucket", "_count"]
                .iter()
                .find_map(|part| name.strip_suffix(part));
            !exported.contains(histogram.unwrap_or(name))
        })
        .collect();
    assert!(unknown.is_empty(), "no crate exports {unknown:?}");
}

#[test]
fn the_image_is_built_by_the_pinned_compiler() {
    let toolchain = read("rust-toolchain.toml");
    let channel = toolchain
        .lines()
        .find_map(|line| line.strip_prefix("channel = "))
        .unwrap();
    let image = format!("FROM rust:{}-slim", channel.trim_matches('"'));
    assert!(
        read("deploy/Containerfile").contains(&image),
        "expected `{image}`"
    );
}
