//! `cargo xtask golden`: the fixtures that independent implementations compute, made again.
//!
//! Each `xtask/golden/*.py` writes its own files into the crate that tests against them; its head
//! says which Python packages it needs. The files are committed, so the tests need no Python.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::cargo::{finish, program, root};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The Python to use, for example that of a virtual environment.
    #[arg(long, default_value = "python3")]
    python: String,
    /// Only scripts whose name contains this.
    only: Option<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let folder = root().join("xtask").join("golden");
    let entries =
        std::fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))?;
    let mut scripts = Vec::new();
    for entry in entries {
        let path: PathBuf = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if name.ends_with(".py")
            && arguments
                .only
                .as_ref()
                .is_none_or(|part| name.contains(part))
        {
            scripts.push(path);
        }
    }
    if scripts.is_empty() {
        bail!("no script in {} has that name", folder.display());
    }
    scripts.sort();
    for script in scripts {
        println!("--- {}", script.display());
        finish(program(&arguments.python).arg(&script))?;
    }
    Ok(())
}
