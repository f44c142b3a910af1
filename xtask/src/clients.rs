//! `cargo xtask clients`: what the packages that people use make of a running server.
//!
//! Serves the bundled model on a free port and runs the programs in `xtask/clients` against it: those in Python with the
//! packages of `requirements.txt`, those in JavaScript with the packages of `package.json`, both installed under the target
//! directory (needs Python and Node.js, and their registries the first time).

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Stdio};

use anyhow::{Context, Result};

use crate::cargo::{cargo, finish, program, root, target_directory};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Talk to this server instead, such as http://127.0.0.1:8080.
    #[arg(long)]
    url: Option<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let python = python()?;
    let node_programs = node_programs()?;
    let own = match &arguments.url {
        Some(_) => None,
        None => Some(Server::start()?),
    };
    let url = own.as_ref().map(|server| &server.url);
    let url = url.or(arguments.url.as_ref()).context("no server")?;
    let url = format!("{url}/v1");
    for name in ["openai_api.py", "langchain_chat.py"] {
        finish(program(&python).arg(sources().join(name)).arg(&url))?;
    }
    for name in NODE_PROGRAMS {
        finish(program("node").arg(node_programs.join(name)).arg(&url))?;
    }
    Ok(())
}

const NODE_PROGRAMS: [&str; 2] = ["openai_node.mjs", "vercel_ai.mjs"];

fn sources() -> PathBuf {
    root().join("xtask").join("clients")
}

/// A Python with the packages.
fn python() -> Result<PathBuf> {
    let environment = target_directory().join("clients");
    let python = environment.join("bin").join("python");
    if !python.exists() {
        finish(program("python3").args(["-m", "venv"]).arg(&environment))?;
    }
    let install = ["-m", "pip", "install", "--quiet", "--requirement"];
    finish(
        program(&python)
            .args(install)
            .arg(sources().join("requirements.txt")),
    )?;
    Ok(python)
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

/// A server process; killed with this value.
struct Server {
    child: Child,
    url: String,
}

impl Server {
    fn start() -> Result<Self> {
        finish(&mut cargo(&["build", "--locked", "--bin", "maitre"]))?;
        let maitre = target_directory().join("debug").join("maitre");
        let any_port = ["--grpc-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0"];
        let mut child = program(maitre)
            .arg("serve")
            .args(any_port)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("starting the server")?;
        let stdout = child.stdout.take().context("the server has no output")?;
        let mut server = Self {
            child,
            url: String::new(),
        };
        // `ready grpc=ADDR http=ADDR`
        let mut ready = String::new();
        BufReader::new(stdout).read_line(&mut ready)?;
        let address = ready
            .split_whitespace()
            .find_map(|it| it.strip_prefix("http="));
        let address = address.with_context(|| format!("the server said {ready:?}"))?;
        server.url = format!("http://{address}");
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
