//! A server of the bundled model on free ports, for the time of a chore.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

use crate::cargo::program;

/// A server process; killed with this value.
pub(crate) struct Server {
    child: Child,
    url: String,
}

impl Server {
    /// Starts the program `maitre` and waits until it answers.
    pub(crate) fn start(maitre: &Path) -> Result<Self> {
        let any_port = ["--grpc-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0"];
        Self::spawn(program(maitre).arg("serve").args(any_port))
    }

    /// Starts a program that says where it answers as `maitre serve` does, and waits for that.
    pub(crate) fn spawn(command: &mut Command) -> Result<Self> {
        let mut child = command
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

    /// Where it answers, such as `http://127.0.0.1:8080`.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
