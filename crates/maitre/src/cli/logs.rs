//! What is logged: a server tells what it does, a command that runs once tells what went wrong.
//!
//! | | default | `-v` | `-vv` |
//! |---|---|---|---|
//! | `serve`, `gpu-check` | info | debug | trace |
//! | the other commands | warn, without times | info | debug |
//!
//! `RUST_LOG` overrides all of it.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use super::Command;

const LEVELS: [&str; 4] = ["warn", "info", "debug", "trace"];

/// How much is logged by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Verbosity(usize);

impl Verbosity {
    /// For a process that has not understood its arguments.
    pub(crate) const QUIET: Self = Self(0);

    /// What the command logs by itself, and `-v` for each of `verbose`.
    pub(crate) fn of(command: &Command, verbose: u8) -> Self {
        let runs_long = matches!(command, Command::Serve(_) | Command::GpuCheck(_));
        Self(usize::from(runs_long) + usize::from(verbose))
    }

    fn level(self) -> &'static str {
        LEVELS[self.0.min(LEVELS.len() - 1)]
    }
}

/// Begins to log on stderr.
pub(crate) fn begin(verbosity: Verbosity) {
    let wanted = std::env::var(EnvFilter::DEFAULT_ENV).ok();
    let logs = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_env_filter(filter(wanted, verbosity))
        .with_target(false);
    if verbosity == Verbosity::QUIET {
        // What is warned of has just happened: a time would tell nothing.
        logs.without_time().init();
    } else {
        logs.init();
    }
}

/// What `RUST_LOG` says, else the level.
fn filter(wanted: Option<String>, verbosity: Verbosity) -> EnvFilter {
    let wanted = wanted.and_then(|wanted| wanted.parse().ok());
    wanted.unwrap_or_else(|| EnvFilter::new(verbosity.level()))
}
