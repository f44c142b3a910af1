//! Pythons with packages of their own, one for each purpose, under the target directory.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::cargo::{finish, program};

/// A Python in `folder`, made there if it is missing, with the packages that `sources` asks for: those in
/// `requirements.txt` with all that they need, and those in `alone.txt`, where there is such a file, without.
pub(crate) fn environment(folder: &Path, sources: &Path) -> Result<PathBuf> {
    let python = folder.join("bin").join("python");
    if !python.exists() {
        finish(program("python3").args(["-m", "venv"]).arg(folder))?;
    }
    let install = ["-m", "pip", "install", "--quiet", "--requirement"];
    let packages = sources.join("requirements.txt");
    finish(program(&python).args(install).arg(packages))?;
    let alone = sources.join("alone.txt");
    if alone.exists() {
        finish(program(&python).args(install).arg(alone).arg("--no-deps"))?;
    }
    Ok(python)
}
