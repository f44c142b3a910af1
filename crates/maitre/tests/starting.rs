//! A process that waits for its model: probes are answered, and a signal ends it.
#![cfg(all(unix, feature = "hub"))]
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use tempfile::TempDir;

/// A Hub that takes connections and says nothing: a process that asks it for a model waits.
struct SilentHub {
    address: String,
    asked: Receiver<TcpStream>,
}

impl SilentHub {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (sender, asked) = channel();
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if sender.send(stream).is_err() {
                    return;
                }
            }
        });
        Self { address, asked }
    }

    /// The command, which will wait for this Hub; its cache is `cache`.
    fn asked_by(&self, mut command: Command, cache: &Path) -> Command {
        command
            .env("HF_ENDPOINT", &self.address)
            .env("HF_HUB_CACHE", cache)
            .env_remove("HF_HUB_OFFLINE")
            .env_remove("HF_TOKEN")
            .env_remove("RUST_LOG")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }
}

const WAITING: [&str; 7] = [
    "serve",
    "--model",
    "tiny/model",
    "--grpc-addr",
    "127.0.0.1:0",
    "--http-addr",
    "127.0.0.1:0",
];

/// A server that waits for a [`SilentHub`], killed with the test that started it. The last fields are kept
/// for what their drop does.
struct Waiting {
    child: Child,
    grpc: String,
    http: String,
    log: BufReader<ChildStderr>,
    _asking: TcpStream,
    _cache: TempDir,
    _hub: SilentHub,
}

impl Waiting {
    fn start(command: Command) -> Self {
        let hub = SilentHub::start();
        let cache = tempfile::tempdir().unwrap();
        let mut child = hub.asked_by(command, cache.path()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let (mut line, mut grpc, mut http) = (String::new(), String::new(), String::new());
        while http.is_empty() {
            line.clear();
            assert_ne!(log.read_line(&mut line).unwrap(), 0, "it has ended");
            for word in line.split_whitespace() {
                let address = |name| word.strip_prefix(name).map(str::to_owned);
                grpc = address("grpc=").unwrap_or(grpc);
                http = address("http=").unwrap_or(http);
            }
        }
        // From here on it waits.
        let asking = hub.asked.recv().unwrap();
        Self {
            child,
            grpc,
            http,
            log,
            _asking: asking,
            _cache: cache,
            _hub: hub,
        }
    }

    fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(&self.http).unwrap();
        let close = "Host: x\r\nConnection: close";
        write!(stream, "GET {path} HTTP/1.1\r\n{close}\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// The exit code, and what was said on the way.
    fn end(&mut self) -> (Option<i32>, String) {
        let mut said = String::new();
        self.log.read_to_string(&mut said).unwrap();
        (self.child.wait().unwrap().code(), said)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn maitre(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_maitre"));
    command.args(arguments);
    command
}

fn kill(signal: &str, process: &str) {
    let killed = Command::new("kill").args([signal, process]).status();
    assert!(killed.unwrap().success());
}

#[test]
fn probes_are_answered_while_it_waits_for_its_model() {
    let waiting = Waiting::start(maitre(&WAITING));
    let live = waiting.get("/health/live");
    assert!(live.starts_with("HTTP/1.1 200"), "{live}");
    for path in ["/health", "/health/ready"] {
        let ready = waiting.get(path);
        assert!(ready.starts_with("HTTP/1.1 503"), "{ready}");
        assert!(
            ready.ends_with("asking the Hub for tiny/model\n"),
            "{ready}"
        );
    }
    assert!(waiting.get("/metrics").starts_with("HTTP/1.1 200"));
    assert!(TcpStream::connect(&waiting.grpc).is_ok());
}

#[test]
fn a_signal_ends_a_start_and_says_what_it_interrupted() {
    for (signal, code) in [("-TERM", 143), ("-INT", 130)] {
        let mut waiting = Waiting::start(maitre(&WAITING));
        kill(signal, &waiting.child.id().to_string());
        let (ended, said) = waiting.end();
        assert_eq!(ended, Some(code), "{said}");
        let expected = "stopped while asking the Hub for tiny/model";
        assert!(said.contains(expected), "{said}");
    }
}

/// In a container the server has the process id 1, for which a signal without a handler does nothing.
#[test]
#[cfg(target_os = "linux")]
fn a_signal_ends_a_start_of_process_1() {
    let isolated = |program: &str| {
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--kill-child", program]);
        command
    };
    if !isolated("true")
        .output()
        .is_ok_and(|ran| ran.status.success())
    {
        println!("skipped: this user may not have processes with an id space of their own");
        return;
    }
    for (signal, code) in [("-TERM", 143), ("-INT", 130)] {
        let mut command = isolated(env!("CARGO_BIN_EXE_maitre"));
        command.args(WAITING);
        let mut waiting = Waiting::start(command);
        let unshare = waiting.child.id();
        let children = format!("/proc/{unshare}/task/{unshare}/children");
        let children = std::fs::read_to_string(children).unwrap();
        kill(signal, children.trim());
        let (ended, said) = waiting.end();
        assert_eq!(ended, Some(code), "{said}");
    }
}

#[test]
fn a_signal_ends_the_commands_that_load_a_model_too() {
    let commands: [&[&str]; 4] = [
        &["chat", "--model", "tiny/model"],
        &["generate", "--model", "tiny/model", "--prompt", "Hello"],
        &["bench", "--target", "in-process", "--model", "tiny/model"],
        &["inspect", "--model", "tiny/model"],
    ];
    for arguments in commands {
        let hub = SilentHub::start();
        let cache = tempfile::tempdir().unwrap();
        let child = hub.asked_by(maitre(arguments), cache.path()).spawn();
        let child = child.unwrap();
        let _asking = hub.asked.recv().unwrap();
        kill("-TERM", &child.id().to_string());
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(143), "{arguments:?}: {said}");
        assert!(said.contains("SIGTERM: stopped while asking"), "{said}");
    }
}

/// A start that fails ends the server that answered probes meanwhile.
#[test]
fn a_failed_start_ends_the_process_with_its_message() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("no-such-model");
    let mut arguments = WAITING;
    arguments[2] = path.to_str().unwrap();
    let output = maitre(&arguments).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("no-such-model"), "{said}");
    assert!(output.stdout.is_empty(), "no ready line");
}
