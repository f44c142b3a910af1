//! The traffic that a plan is for: users, a rate, or a trace.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use maitre_sim::plan::Traffic;
use maitre_sim::workload::{Length, Lengths};

use crate::cli::trace_file;

/// What is to be served.
#[derive(Debug, Args)]
pub(super) struct TrafficArgs {
    /// People who each send a request, read the answer, think, and send the next one.
    #[arg(long, value_name = "N", required_unless_present_any = ["rate", "trace"])]
    users: Option<u32>,
    /// How long each thinks on average, exponentially distributed [default: not at all].
    #[arg(long, value_name = "TIME", requires = "users", conflicts_with = "rate", value_parser = trace_file::time)]
    think_time: Option<Duration>,
    /// Requests a second, at random (a Poisson process).
    #[arg(long, value_name = "RATE", conflicts_with_all = ["users", "trace"])]
    rate: Option<f64>,
    /// A trace, as `maitre simulate` reads it. A box plays all of it at a part of its speed; with --users only its lengths are
    /// used, a row drawn for each request.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Leave out lines of the trace that are no requests, and say how many in the plan.
    #[arg(long, requires = "trace")]
    skip_bad: bool,
    /// Tokens of each prompt, or a range such as 100..200.
    #[arg(
        long,
        default_value = "512",
        value_name = "N",
        conflicts_with = "trace"
    )]
    input_tokens: Length,
    /// Tokens of each answer, or a range.
    #[arg(
        long,
        default_value = "128",
        value_name = "N",
        conflicts_with = "trace"
    )]
    output_tokens: Length,
    /// Chooses arrivals, lengths and times to think.
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
}

/// Traffic that is read.
pub(super) struct Asked {
    pub(super) traffic: Traffic,
    /// Lines of the trace that were left out.
    pub(super) skipped: usize,
    /// Of them, those that were out of the order of time.
    pub(super) out_of_order: usize,
}

impl TrafficArgs {
    pub(super) fn seed(&self) -> u64 {
        self.seed
    }

    pub(super) fn read(&self) -> Result<Asked> {
        let trace = self
            .trace
            .as_deref()
            .map(|path| trace_file::read_trace(path, self.skip_bad));
        let trace = trace.transpose()?;
        let skipped = trace.as_ref().map_or(0, |trace| trace.skipped.len());
        let out_of_order = trace.as_ref().map_or(0, |trace| trace.out_of_order);
        let lengths = match &trace {
            Some(trace) => Lengths::Sampled(Lengths::pairs_of(trace)),
            None => Lengths::Independent {
                prompt: self.input_tokens.clone(),
                output: self.output_tokens.clone(),
            },
        };
        let traffic = match (self.users, self.rate, trace) {
            (Some(users), _, _) => Traffic::Users {
                users,
                think: self.think_time.unwrap_or_default(),
                lengths,
            },
            (None, Some(per_second), _) => Traffic::Rate {
                per_second,
                lengths,
            },
            (None, None, trace) => {
                // The parser asks for a trace where there are neither users nor a rate.
                Traffic::Trace(trace.context("expected --users, --rate or --trace")?)
            }
        };
        Ok(Asked {
            traffic,
            skipped,
            out_of_order,
        })
    }
}
