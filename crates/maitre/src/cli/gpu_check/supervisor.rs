//! The process that was started: it starts workers, gathers what they say, and reports.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use maitre::StartError;

use super::GpuCheckArgs;
use super::item::{Item, Outcome, items};
use super::report::Report;
use super::speeds::rates;
use super::worker::Message;

/// Opening a device and loading its kernels takes seconds; a driver that takes longer hangs.
const OPENING: Duration = Duration::from_secs(90);

/// Looks at a process that was ended, 50 ms apart, before it is left to itself.
const LAST_LOOKS: usize = 200;

/// Workers that may die one after the other before they have done anything.
const MOST_USELESS: usize = 3;

/// Does everything, prints the table.
pub(super) fn run(args: &GpuCheckArgs) -> Result<()> {
    let began = Instant::now();
    let items = items(args);
    let mut report = Report::new(&items);
    let (mut next, mut useless) = (0, 0);
    while next < items.len() && useless < MOST_USELESS {
        let left = args.time_limit - began.elapsed().as_secs_f64();
        let worker = Worker::start(args, next, left.max(0.0), &report)?;
        let before = next;
        let end = worker.follow(&items, &mut next, &mut report, args)?;
        useless = if next == before { useless + 1 } else { 0 };
        match end {
            End::Done => break,
            End::Refused { device, reason } => {
                return Err(StartError::Setting {
                    setting: "--device",
                    found: device,
                    expected: format!("a device that can be checked: {reason}"),
                }
                .into());
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
        save(&report, args)?;
    }
    report.conclude(began.elapsed().as_secs_f64());
    save(&report, args)?;
    write!(std::io::stdout().lock(), "{report}").context("printing the table")?;
    match report.failures() {
        0 => Ok(()),
        failures => bail!("{failures} of {} rows failed; see the table", report.len()),
    }
}

fn save(report: &Report, args: &GpuCheckArgs) -> Result<()> {
    let Some(folder) = &args.out else {
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
    write().with_context(|| format!("writing the report into {}", folder.display()))
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
    /// Starts this program again, from item `first` on.
    fn start(args: &GpuCheckArgs, first: usize, time_limit: f64, report: &Report) -> Result<Self> {
        let program = std::env::current_exe().context("finding this program")?;
        let mut command = Command::new(program);
        command
            .args(std::env::args_os().skip(1))
            .args(["--from", &first.to_string()])
            .args(["--time-limit", &time_limit.to_string()])
            .args(["--threads", &args.threads().to_string()]);
        for (flag, id, factor) in [
            ("--copy-rate", rates::COPY_RATE, 1e9),
            ("--matmul-rate", rates::MATMUL_RATE, 1e12),
        ] {
            if let Some(rate) = report.measured(id) {
                command.args([flag, &(rate * factor).to_string()]);
            }
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting a worker")?;
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
                return Err(error).context("starting the thread that reads a worker's rows");
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
        args: &GpuCheckArgs,
    ) -> Result<End> {
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
                    let status = self.child.wait().context("waiting for a worker")?;
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
                    save(report, args)?;
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
