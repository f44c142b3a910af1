//! The process that was started: it starts workers, gathers what they say, and reports.

use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::item::{Item, Outcome, items};
use super::report::Report;
use super::speeds::rates;
use super::worker::Message;
use super::{GpuCheckError, Options, Resume};

/// Opening a device and loading its kernels takes seconds; a driver that takes longer hangs.
const OPENING: Duration = Duration::from_secs(90);

/// Looks at a process that was ended, 50 ms apart, before it is left to itself.
const LAST_LOOKS: usize = 200;

/// Workers that may die one after the other before they have done anything.
const MOST_USELESS: usize = 3;

/// Does everything, and prints the table on stdout. `start` makes the command of a process that calls
/// [`work`](crate::work) with equal options. gpu-check.json and gpu-check.md are written into `out` after every row.
///
/// # Errors
/// [`GpuCheckError::NoDevice`] if there is nothing to check, [`GpuCheckError::Failed`] if rows failed, and
/// [`GpuCheckError::Io`] if no worker can be started or the report can't be written.
pub fn supervise(
    options: &Options,
    out: Option<&Path>,
    start: &dyn Fn(&Resume) -> io::Result<Command>,
) -> Result<(), GpuCheckError> {
    let began = Instant::now();
    let items = items(options);
    let mut report = Report::new(&items);
    let (mut next, mut useless) = (0, 0);
    while next < items.len() && useless < MOST_USELESS {
        let left = options.time_limit_s - began.elapsed().as_secs_f64();
        let worker = Worker::start(start(&resume(next, left, &report)))
            .map_err(GpuCheckError::while_doing("starting a worker"))?;
        let before = next;
        let end = worker.follow(&items, &mut next, &mut report, out)?;
        useless = if next == before { useless + 1 } else { 0 };
        match end {
            End::Done => break,
            End::Refused { device, reason } => {
                return Err(GpuCheckError::NoDevice { device, reason });
            }
            End::Died { during, why } => {
                tracing::warn!("{why}; going on with a new process");
                if let Some(item) = during {
                    report.end(item, 0.0, Outcome::Failed { message: why });
                    next = item + 1;
                } else if useless + 1 == MOST_USELESS {
                    report.abandon(next, &why);
                }
            }
        }
        save(&report, out)?;
    }
    report.conclude(began.elapsed().as_secs_f64());
    save(&report, out)?;
    write!(io::stdout().lock(), "{report}")
        .map_err(GpuCheckError::while_doing("printing the table"))?;
    match report.failures() {
        0 => Ok(()),
        failures => Err(GpuCheckError::Failed {
            failures,
            rows: report.len(),
        }),
    }
}

/// Where the next worker goes on.
fn resume(first: usize, seconds_left: f64, report: &Report) -> Resume {
    let measured = |id, factor| Some(report.measured(id)? * factor);
    Resume {
        first,
        time_limit_s: seconds_left.max(0.0),
        copy_bytes_per_s: measured(rates::COPY_RATE, 1e9),
        matmul_flop_per_s: measured(rates::MATMUL_RATE, 1e12),
    }
}

fn save(report: &Report, folder: Option<&Path>) -> Result<(), GpuCheckError> {
    let Some(folder) = folder else {
        return Ok(());
    };
    let write = || {
        std::fs::create_dir_all(folder)?;
        std::fs::write(folder.join("gpu-check.json"), report.to_json())?;
        std::fs::write(
            folder.join("gpu-check.md"),
            format!("```text\n{report}```\n"),
        )
    };
    let doing = format!("writing the report into {}", folder.display());
    write().map_err(GpuCheckError::while_doing(doing))
}

/// How a worker ended.
enum End {
    Done,
    Refused {
        device: String,
        reason: String,
    },
    /// Before it was done, at an item or between two.
    Died {
        during: Option<usize>,
        why: String,
    },
}

struct Worker {
    child: Child,
    messages: Receiver<String>,
}

impl Worker {
    /// Starts a worker and a thread that reads what it says.
    fn start(command: io::Result<Command>) -> io::Result<Self> {
        let mut command = command?;
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let (lines, messages) = channel();
        if let Some(out) = child.stdout.take() {
            // Ends with the worker's output.
            let reader = thread::Builder::new().spawn(move || {
                for line in BufReader::new(out).lines().map_while(Result::ok) {
                    if lines.send(line).is_err() {
                        return;
                    }
                }
            });
            if let Err(error) = reader {
                let _ = child.kill();
                return Err(error);
            }
        }
        Ok(Self { child, messages })
    }

    /// Takes rows until the worker is done, dies, or takes too long; `next` is the first item without a row then.
    fn follow(
        mut self,
        items: &[Item],
        next: &mut usize,
        report: &mut Report,
        folder: Option<&Path>,
    ) -> Result<End, GpuCheckError> {
        let mut during = None;
        let mut patience = OPENING;
        loop {
            let line = match self.messages.recv_timeout(patience) {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout) => {
                    self.stop();
                    let why = format!("no sign of life for {} s", patience.as_secs());
                    return Ok(End::Died { during, why });
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let status = self.child.wait();
                    let status =
                        status.map_err(GpuCheckError::while_doing("waiting for a worker"))?;
                    let why = describe(status);
                    return Ok(End::Died { during, why });
                }
            };
            let message = serde_json::from_str(&line).unwrap_or_else(|error| {
                // A row that can't be read shall not cost the others.
                let outcome = Outcome::Failed {
                    message: format!("the worker said {line:?}: {error}"),
                };
                Message::Ended {
                    item: during.unwrap_or(*next),
                    took_s: 0.0,
                    outcome,
                }
            });
            match message {
                Message::Refused { device, reason } => return Ok(End::Refused { device, reason }),
                Message::Facts(facts) => report.learn(facts),
                Message::Begun { item } => {
                    during = Some(item);
                    if let Some(item) = items.get(item) {
                        tracing::info!("{}", item.title);
                        patience = Duration::from_secs_f64(item.most_s);
                    }
                }
                Message::Ended {
                    item,
                    took_s,
                    outcome,
                } => {
                    during = None;
                    *next = item + 1;
                    patience = OPENING;
                    report.end(item, took_s, outcome);
                    save(report, folder)?;
                }
                Message::GaveUp { why } => return Ok(End::Died { during, why }),
                Message::Done => return Ok(End::Done),
            }
        }
    }

    fn stop(&mut self) {
        // A process that is gone already needs no end, and one that a driver holds has none.
        let _ = self.child.kill();
        for _ in 0..LAST_LOOKS {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop();
    }
}

fn describe(status: ExitStatus) -> String {
    format!("the process ended before it was done ({status})")
}
