//! The server under attack: a process of its own, and what the system says about it (Linux).

use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result, bail, ensure};

use super::budget;

/// Lines of the server's log that are kept, to show how it ended.
const KEPT_LINES: usize = 20;

/// A server process; killed with this value.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    log: Arc<Mutex<Log>>,
    pub(crate) grpc: SocketAddr,
    pub(crate) http: SocketAddr,
}

/// What the server has said so far.
#[derive(Debug, Default)]
struct Log {
    last_lines: VecDeque<String>,
    /// What its banner promised, in bytes.
    budget: u64,
    /// Why a part of that could not be read.
    unreadable: Option<String>,
}

impl Server {
    /// Starts `maitre serve` on free ports of the loopback interface.
    pub(crate) fn start(maitre: &Path, flags: &[&str]) -> Result<Self> {
        let mut child = with_many_files(&[])
            .arg(maitre)
            .args(["serve", "--grpc-addr", "127.0.0.1:0"])
            .args(["--http-addr", "127.0.0.1:0"])
            .args(flags)
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {}", maitre.display()))?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let log = Arc::default();
        read_log(stderr.context("the server's log")?, Arc::clone(&log));
        let mut ready = String::new();
        BufReader::new(stdout.context("the server's output")?).read_line(&mut ready)?;
        let address = |key: &str| {
            let word = ready
                .split_whitespace()
                .find_map(|word| word.strip_prefix(key)?.parse().ok());
            word.with_context(|| format!("no {key}ADDRESS in {ready:?}"))
        };
        let addresses = address("grpc=").and_then(|grpc| Ok((grpc, address("http=")?)));
        let mut server = Self {
            child,
            log,
            grpc: ([127, 0, 0, 1], 0).into(),
            http: ([127, 0, 0, 1], 0).into(),
        };
        (server.grpc, server.http) = addresses
            .with_context(|| format!("the server did not start:\n{}", server.last_lines()))?;
        Ok(server)
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The status it ended with, if it did.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    pub(crate) fn last_lines(&self) -> String {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let lines: Vec<&str> = log.last_lines.iter().map(String::as_str).collect();
        lines.join("\n")
    }

    /// Bytes that its banner promised to stay within, as far as it has been printed.
    pub(crate) fn budget(&self) -> Result<u64> {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(unreadable) = &log.unreadable {
            bail!("{unreadable}");
        }
        ensure!(log.budget > 0, "the server printed no memory budget");
        Ok(log.budget)
    }

    /// What it holds of the system now.
    pub(crate) fn usage(&self) -> Result<Usage> {
        let status = self.status()?;
        let open_files = fs::read_dir(self.path("fd"))?.count();
        Ok(Usage {
            open_files,
            threads: field(&status, "Threads:")?,
            peak_rss: peak_rss(&status)?,
            anonymous: field(&status, "RssAnon:")? << 10,
            tasks: 0,
        })
    }

    /// Lets the peak of its memory begin anew, at what it uses now.
    pub(crate) fn reset_peak(&self) -> Result<()> {
        // proc(5), clear_refs: 5 resets the peak resident set size.
        let path = self.path("clear_refs");
        fs::write(&path, "5").with_context(|| format!("writing {path}"))
    }

    fn status(&self) -> Result<String> {
        let path = self.path("status");
        fs::read_to_string(&path).with_context(|| format!("reading {path}: this needs Linux"))
    }

    fn path(&self, file: &str) -> String {
        format!("/proc/{}/{file}", self.id())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Errors mean that it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a process holds of the system.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Open files and sockets.
    pub open_files: usize,
    /// Threads.
    pub threads: u64,
    /// The most resident memory since the peak was reset, in bytes, without the pages of the program's own file:
    /// those are no part of a budget, and the system takes them back when it needs them.
    pub peak_rss: u64,
    /// Resident memory now that is no file's, in bytes.
    pub anonymous: u64,
    /// Asynchronous tasks, as the server counts them.
    pub tasks: u64,
}

/// From `/proc/PID/status`, which counts in KiB.
fn peak_rss(status: &str) -> Result<u64> {
    let peak = field(status, "VmHWM:")?;
    Ok(peak.saturating_sub(field(status, "RssFile:")?) << 10)
}

fn field(status: &str, name: &str) -> Result<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.with_context(|| format!("no {name} in the process's status"))
}

/// Reads the log to its end, so that the server never waits for a reader.
fn read_log(stderr: ChildStderr, log: Arc<Mutex<Log>>) {
    thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            let bytes = budget::bytes_in_line(&line);
            let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
            match bytes {
                Ok(bytes) => log.budget += bytes,
                Err(error) => log.unreadable = Some(format!("{error:#}")),
            }
            if log.last_lines.len() == KEPT_LINES {
                log.last_lines.pop_front();
            }
            log.last_lines.push_back(line);
        }
    });
}

/// A command that starts the program named by its next argument, after `before`, with as many open files as the
/// system allows.
pub(crate) fn with_many_files(before: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -S -n $(ulimit -H -n); exec \"$@\"", "sh"]);
    command.args(before);
    command
}

/// Seconds of processor time of this process so far: fields 14 and 15 of proc(5)'s `stat`, in ticks of 10 ms. Its
/// second field is the program's name in parentheses, which may hold anything.
pub(crate) fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks = fields.split_whitespace().skip(11).take(2);
    ticks
        .filter_map(|field| field.parse::<f64>().ok())
        .sum::<f64>()
        / 100.0
}

/// How many files this process may open.
pub(crate) fn open_files_limit() -> usize {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    soft.unwrap_or(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_leaves_the_programs_file_out() {
        let status =
            "VmHWM:\t  118000 kB\nVmRSS:\t   99000 kB\nRssAnon:\t 70000 kB\nRssFile:\t  18000 kB\n";
        assert_eq!(peak_rss(status).unwrap(), 100_000 << 10);
        let error = peak_rss("VmRSS:\t 1 kB\n").unwrap_err().to_string();
        assert!(error.contains("VmHWM"), "{error}");
    }
}
