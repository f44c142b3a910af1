//! `cargo xtask examples`: every lesson still runs from beginning to end.

use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::cargo::{WHOLE_WORKSPACE, cargo, finish, program, root, target_directory};

/// Builds all examples once and runs each in a folder of its own, where it may leave its pictures.
pub(crate) fn run() -> Result<()> {
    // With the whole workspace, so that this build and that of the tests are one.
    finish(cargo(&["build", "--locked", "--examples"]).args(WHOLE_WORKSPACE))?;
    let names = names(&root().join("examples"))?;
    if names.is_empty() {
        bail!("the folder `examples` holds no example");
    }
    let built = target_directory().join("debug").join("examples");
    for name in &names {
        println!("\n--- {name}");
        let folder = target_directory().join("example-output").join(name);
        std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        finish(
            program(built.join(name))
                .current_dir(&folder)
                .env("MAITRE_QUICK", "1"),
        )?;
    }
    println!("\n{} examples ran", names.len());
    Ok(())
}

/// Names of the Rust files in the folder, and of its folders with a `main.rs`, in order.
fn names(folder: &Path) -> Result<Vec<String>> {
    let entries =
        std::fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let is_file = path.extension().is_some_and(|extension| extension == "rs");
        if is_file || path.join("main.rs").is_file() {
            names.extend(
                path.file_stem()
                    .map(|stem| stem.to_string_lossy().into_owned()),
            );
        }
    }
    names.sort();
    Ok(names)
}
