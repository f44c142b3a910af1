//! The requests of a simulation: a trace, arrivals at some rate, or users who wait for their answers.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use maitre_sim::workload::{
    ArrivalProcess, Arrivals, ClosedLoop, Length, Lengths, OpenLoop, Replay, ThinkTime, Trace,
};

use crate::cli::trace_file::{read_trace, time};

/// Requests where neither a trace nor a flag says how many.
const REQUESTS: u64 = 1000;

/// What comes when.
#[derive(Debug, Args)]
pub(super) struct RequestArgs {
    /// A trace: CSV with TIMESTAMP, ContextTokens and GeneratedTokens as Azure publishes it, or JSON lines with timestamp,
    /// input_length, output_length and hash_ids as Mooncake does. With --arrivals or --users only its lengths are used, a
    /// row drawn for each request.
    #[arg(long, value_name = "FILE", required_unless_present_any = ["arrivals", "users"])]
    trace: Option<PathBuf>,
    /// Leave out lines of the trace that are no requests, and say how many in the report.
    #[arg(long, requires = "trace")]
    skip_bad: bool,
    /// How many times as fast as it was recorded the trace is played.
    #[arg(long, default_value_t = 1.0, value_name = "FACTOR", requires = "trace")]
    speed: f64,
    /// Multiplies the lengths of a trace's prompts and answers.
    #[arg(long, default_value_t = 1.0, value_name = "FACTOR", requires = "trace")]
    length_scale: f64,
    /// Requests at this rate a second, whether or not earlier ones are answered: constant:RATE, poisson:RATE, or
    /// gamma:RATE,VARIATION for
    /// bursts, or a rate that changes: steps:RATExSECONDS,RATExSECONDS or ramp:FROM..TO,SECONDS.
    #[arg(long, value_name = "PROCESS", conflicts_with_all = ["users", "speed"])]
    arrivals: Option<ArrivalProcess>,
    /// Users who each send a request, read the answer, think, and send the next one.
    #[arg(long, value_name = "N", conflicts_with = "speed")]
    users: Option<u32>,
    /// How long a user thinks on average, exponentially distributed [default: not at all].
    #[arg(long, value_name = "TIME", requires = "users", value_parser = time)]
    think_time: Option<Duration>,
    /// How many requests [default: all of a trace that is played, else 1000].
    #[arg(long, value_name = "N")]
    requests: Option<u64>,
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

/// Requests that are ready to come.
pub(super) struct Asked {
    pub(super) arrivals: Box<dyn Arrivals + Send>,
    /// What they are, in words.
    pub(super) told: String,
    /// Lines of the trace that were left out.
    pub(super) skipped: usize,
    /// Of them, those that were out of the order of time.
    pub(super) out_of_order: usize,
}

impl RequestArgs {
    pub(super) fn seed(&self) -> u64 {
        self.seed
    }

    pub(super) fn read(&self) -> Result<Asked> {
        ensure!(
            self.requests != Some(0),
            "--requests is 0; expected at least 1"
        );
        let trace = self
            .trace
            .as_deref()
            .map(|path| read_trace(path, self.skip_bad));
        let scale = self.length_scale;
        ensure!(
            scale.is_finite() && scale > 0.0,
            "--length-scale is {scale}; expected a number above 0"
        );
        let trace = trace.transpose()?.map(|trace| trace.scaled(scale));
        let skipped = trace.as_ref().map_or(0, |trace| trace.skipped.len());
        let out_of_order = trace.as_ref().map_or(0, |trace| trace.out_of_order);
        let (arrivals, told): (Box<dyn Arrivals + Send>, String) =
            match (&self.arrivals, self.users) {
                (Some(process), _) => self.open(process.clone(), trace.as_ref())?,
                (None, Some(users)) => self.closed(users, trace.as_ref())?,
                (None, None) => self.replay(trace.as_ref())?,
            };
        Ok(Asked {
            arrivals,
            told,
            skipped,
            out_of_order,
        })
    }

    /// By what lengths are multiplied, if they are.
    fn scale(&self) -> String {
        match self.length_scale == 1.0 {
            true => String::new(),
            false => format!(", {} times as long", self.length_scale),
        }
    }

    /// Lengths by the flags, or those of a trace, and what to call them.
    fn lengths(&self, trace: Option<&Trace>) -> (Lengths, String) {
        let (prompt, output) = (self.input_tokens.clone(), self.output_tokens.clone());
        match (trace, &self.trace) {
            (Some(trace), Some(path)) => {
                let told = format!("lengths drawn from {}{}", path.display(), self.scale());
                (Lengths::Sampled(Lengths::pairs_of(trace)), told)
            }
            _ => {
                let told = format!("{prompt} input and {output} output tokens");
                (Lengths::Independent { prompt, output }, told)
            }
        }
    }

    fn open(
        &self,
        process: ArrivalProcess,
        trace: Option<&Trace>,
    ) -> Result<(Box<dyn Arrivals + Send>, String)> {
        let requests = self.requests.unwrap_or(REQUESTS);
        let (lengths, told) = self.lengths(trace);
        let open = OpenLoop::new(process.clone(), lengths, requests, self.seed)?;
        Ok((
            Box::new(open),
            format!("{requests} requests, {process} a second, {told}"),
        ))
    }

    fn closed(
        &self,
        users: u32,
        trace: Option<&Trace>,
    ) -> Result<(Box<dyn Arrivals + Send>, String)> {
        let requests = self.requests.unwrap_or(REQUESTS);
        let (lengths, told) = self.lengths(trace);
        let (think, thinking) = match self.think_time {
            None => (ThinkTime::Fixed(Duration::ZERO), String::new()),
            Some(mean) => (
                ThinkTime::Exponential(mean),
                format!(" who think for {mean:?} on average"),
            ),
        };
        let closed = ClosedLoop::new(users, think, lengths, requests, self.seed)?;
        let told = format!("{requests} requests of {users} users{thinking}, {told}");
        Ok((Box::new(closed), told))
    }

    fn replay(&self, trace: Option<&Trace>) -> Result<(Box<dyn Arrivals + Send>, String)> {
        // The parser asks for a trace where there are neither arrivals nor users.
        let (trace, path) = trace
            .zip(self.trace.as_ref())
            .context("expected --trace, --arrivals or --users")?;
        let replay = Replay::new(trace, self.speed, self.requests)?;
        let requests = self.requests.unwrap_or(trace.requests.len() as u64);
        let told = format!(
            "{requests} requests of {} at {} times its speed{}",
            path.display(),
            self.speed,
            self.scale()
        );
        Ok((Box::new(replay), told))
    }
}
