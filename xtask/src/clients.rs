//! `cargo xtask clients`: what the packages that people use make of a running server.
//!
//! Serves the bundled model on a free port and runs the programs in `xtask/clients` against it: those in Python with the
//! packages of `requirements.txt`, those in JavaScript with the packages of `package.json`, both installed under the target
//! directory (needs Python and Node.js, and their registries the first time).

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::cargo::{cargo, finish, program, root, target_directory};
use crate::python::environment;
use crate::server::Server;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Talk to this server instead, such as http://127.0.0.1:8080.
    #[arg(long)]
    url: Option<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let python = environment(&target_directory().join("clients"), &sources())?;
    let node_programs = node_programs()?;
    let own = match &arguments.url {
        Some(_) => None,
        None => Some(start()?),
    };
    let url = own.as_ref().map(Server::url);
    let url = url.or(arguments.url.as_deref()).context("no server")?;
    let url = format!("{url}/v1");
    for name in ["openai_api.py", "langchain_chat.py"] {
        finish(program(&python).arg(sources().join(name)).arg(&url))?;
    }
    for name in NODE_PROGRAMS {
        finish(program("node").arg(node_programs.join(name)).arg(&url))?;
    }
    Ok(())
}

fn start() -> Result<Server> {
    finish(&mut cargo(&["build", "--locked", "--bin", "maitre"]))?;
    Server::start(&target_directory().join("debug").join("maitre"))
}

const NODE_PROGRAMS: [&str; 2] = ["openai_node.mjs", "vercel_ai.mjs"];

fn sources() -> PathBuf {
    root().join("xtask").join("clients")
}

/// Where the programs in JavaScript are, beside their packages: Node.js looks for packages from there.
fn node_programs() -> Result<PathBuf> {
    let folder = target_directory().join("clients-node");
    std::fs::create_dir_all(&folder)?;
    for name in ["package.json"].into_iter().chain(NODE_PROGRAMS) {
        std::fs::copy(sources().join(name), folder.join(name))
            .with_context(|| format!("copying {name}"))?;
    }
    let install = ["install", "--silent", "--no-fund", "--no-audit"];
    finish(program("npm").args(install).current_dir(&folder))?;
    Ok(folder)
}
