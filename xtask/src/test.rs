//! `cargo xtask test`: every test of the workspace, documentation examples included.

use anyhow::Result;

use crate::cargo::{WHOLE_WORKSPACE, cargo, finish};

/// Names the folder with models and reference data that are too large for the repository.
const TEST_DATA: &str = "MAITRE_TEST_DATA";

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Passed to `cargo test`, for example `-p maitre-kv` or a test's name.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    further: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    test(&arguments.further)
}

/// All tests are run, the ones after a failure too.
pub(crate) fn test(further: &[String]) -> Result<()> {
    match std::env::var(TEST_DATA) {
        Ok(path) => println!("test data: {path}"),
        Err(_) => {
            println!("no test data: tests that compare large models say `skipped`; set {TEST_DATA}")
        }
    }
    // Cargo would take the whole workspace to mean more than the packages named after it.
    let named = further
        .iter()
        .any(|word| word.starts_with("-p") || word.starts_with("--package"));
    let packages: &[&str] = if named { &[] } else { &WHOLE_WORKSPACE };
    finish(
        cargo(&["test", "--locked", "--no-fail-fast"])
            .args(packages)
            .args(further),
    )
}
