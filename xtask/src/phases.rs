//! Several checks in a row: all of them run even if one fails, and each is timed.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Runs named checks and remembers how they went.
#[derive(Debug)]
pub(crate) struct Phases {
    started: Instant,
    done: Vec<(&'static str, Duration, bool)>,
}

impl Phases {
    pub(crate) fn new() -> Self {
        Self {
            started: Instant::now(),
            done: Vec::new(),
        }
    }

    /// Runs one check. What goes wrong is printed where it happens and counted at the end.
    pub(crate) fn run(&mut self, name: &'static str, check: impl FnOnce() -> Result<()>) {
        println!("\n=== {name}");
        let started = Instant::now();
        let outcome = check();
        let took = started.elapsed();
        let verdict = if outcome.is_ok() { "passed" } else { "FAILED" };
        if let Err(error) = &outcome {
            println!("{error:#}");
        }
        println!("=== {name}: {verdict} in {:.1} s", took.as_secs_f64());
        self.done.push((name, took, outcome.is_ok()));
    }

    /// Prints the times of all checks and fails if one of them did.
    pub(crate) fn finish(self) -> Result<()> {
        println!();
        for (name, took, passed) in &self.done {
            let verdict = if *passed { "passed" } else { "FAILED" };
            println!("{name:<10} {verdict} {:>8.1} s", took.as_secs_f64());
        }
        println!(
            "{:<10} {:>15.1} s",
            "all",
            self.started.elapsed().as_secs_f64()
        );
        let failed: Vec<_> = self
            .done
            .iter()
            .filter(|(.., passed)| !passed)
            .map(|(name, ..)| *name)
            .collect();
        if !failed.is_empty() {
            bail!("failed: {}", failed.join(", "));
        }
        Ok(())
    }
}
