//! A server and a client of it as one contestant: what its users see, over HTTP.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::contestant::{Measured, Warm, signal};
use super::peers::Workload;

/// Time for a server to load its model.
const PATIENCE: Duration = Duration::from_secs(300);
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// A server that runs only while it is measured, if it was started here, and `maitre bench` as its client.
pub(super) struct Served {
    server: Option<Server>,
    client: Warm,
}

impl Served {
    /// Starts a server on `port`, waits until it is ready, and stops it. `client` makes a client of an address.
    pub(super) fn start(
        server: Command,
        port: u16,
        log: &Path,
        client: impl FnOnce(&str) -> Result<Command>,
    ) -> Result<Self> {
        let server = Server::start(server, port, log.with_extension("server.log"))?;
        let address = format!("http://{}:{port}/v1", Ipv4Addr::LOCALHOST);
        let client = Warm::start(client(&address)?, log.to_path_buf())?;
        server.signal("STOP")?;
        Ok(Self {
            server: Some(server),
            client,
        })
    }

    /// A client of a server that runs already, and goes on running.
    pub(super) fn running(client: Command, log: PathBuf) -> Result<Self> {
        Ok(Self {
            server: None,
            client: Warm::start(client, log)?,
        })
    }

    /// As [`Contestant::measure`](super::contestant::Contestant::measure).
    pub(super) fn measure(&mut self, workload: Workload) -> Result<Measured> {
        self.signal("CONT")?;
        let measured = self.client.measure(workload)?;
        self.signal("STOP")?;
        Ok(measured)
    }

    /// Asks the client.
    pub(super) fn ask(&mut self, request: &str) -> Result<String> {
        self.client.ask(request)
    }

    fn signal(&self, name: &str) -> Result<()> {
        self.server.as_ref().map_or(Ok(()), |it| it.signal(name))
    }
}

/// A port that was free a moment ago.
pub(super) fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port is free")?;
    Ok(listener.local_addr()?.port())
}

struct Server {
    child: Child,
    log: PathBuf,
}

impl Server {
    fn start(mut command: Command, port: u16, log: PathBuf) -> Result<Self> {
        let file = File::create(&log).with_context(|| format!("making {}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        let mut server = Self { child, log };
        let begun = Instant::now();
        while !lists_models(port) {
            if let Some(status) = server.child.try_wait()? {
                bail!(
                    "the server ended ({status}); its log is {}",
                    server.log.display()
                );
            }
            ensure!(
                begun.elapsed() < PATIENCE,
                "the server is not ready after {} s; its log is {}",
                PATIENCE.as_secs(),
                server.log.display()
            );
            std::thread::sleep(LOOK_AGAIN);
        }
        Ok(server)
    }

    fn signal(&self, name: &str) -> Result<()> {
        let sent = signal(self.child.id(), name);
        sent.with_context(|| format!("the server ended; its log is {}", self.log.display()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A process that is gone already is what this is for.
        let _ = self.signal("KILL");
        let _ = self.child.wait();
    }
}

/// Whether a server says what it serves: some answer with an error while they load.
fn lists_models(port: u16) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.write_all(
            b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        )?;
        let mut status = [0; 12];
        stream.read_exact(&mut status)?;
        Ok(status.ends_with(b" 200"))
    };
    ask().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_ends_is_told_of() {
        let mut command = Command::new("sh");
        command.args(["-c", "exit 3"]);
        let log = tempfile::NamedTempFile::new().unwrap();
        let port = free_port().unwrap();
        let error = Server::start(command, port, log.path().to_path_buf());
        let message = error.err().unwrap().to_string();
        assert!(message.contains("exit status: 3"), "{message}");
    }

    #[test]
    fn a_server_is_ready_when_it_answers_with_models() {
        for (answer, ready) in [("200 OK", true), ("503 Loading", false)] {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let port = listener.local_addr().unwrap().port();
            let server = std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                // What is left unread would reset the connection.
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    stream.read_exact(&mut byte).unwrap();
                    request.extend(byte);
                }
                // In one piece: the other side may close when it has seen enough.
                let answer = format!("HTTP/1.1 {answer}\r\n\r\n");
                stream.write_all(answer.as_bytes()).unwrap();
                request
            });
            assert_eq!(lists_models(port), ready);
            let request = server.join().unwrap();
            assert!(request.starts_with(b"GET /v1/models "));
            assert!(!lists_models(port));
        }
    }
}
