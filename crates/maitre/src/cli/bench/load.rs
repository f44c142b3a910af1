//! How hard `maitre bench` asks, and what.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;
use maitre::bench::workload::{ArrivalProcess, Chats, Length, OutOfOrder, Trace};
use maitre::bench::{
    ChatsNeeded, Load, PromptFile, Questions, RecordedChats, Target, Workload, parse_concurrency,
};

use super::refused::THINKING;
use crate::cli::trace_file::{Recorded, read_recorded, time};

/// Users at once where no flag says how hard to ask.
const CONCURRENCY: [u32; 3] = [1, 4, 16];

#[derive(Debug, Args)]
pub(super) struct LoadArgs {
    /// Users at once, one run for each: each sends its next request when the last is answered [default: 1,4,16].
    #[arg(long, value_name = "LIST", value_parser = list)]
    concurrency: Option<List>,
    /// Requests a second that come whether or not earlier ones are answered, independently of each other: --arrivals
    /// poisson:RATE.
    #[arg(long, value_name = "RATE", value_parser = poisson, conflicts_with_all = ["concurrency", "arrivals"])]
    rate: Option<ArrivalProcess>,
    /// Requests that come whether or not earlier ones are answered: constant:RATE, poisson:RATE, gamma:RATE,VARIATION for
    /// bursts, or a rate that changes: steps:RATExSECONDS,RATExSECONDS or ramp:FROM..TO,SECONDS.
    #[arg(long, value_name = "PROCESS", conflicts_with = "concurrency")]
    arrivals: Option<ArrivalProcess>,
    /// Recorded requests: CSV as Azure publishes it, JSON lines as Mooncake does, or conversations as JSON lines with
    /// `conversations` or `messages`. Requests come at the recorded times, unless --rate, --arrivals or --concurrency is
    /// given: then only their lengths are used. Conversations have no times.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["input_tokens", "output_tokens", "prompts", "turns"])]
    trace: Option<PathBuf>,
    /// Leave out lines of the trace that are no requests, and requests that are longer than the model's context.
    #[arg(long, requires = "trace")]
    skip_bad: bool,
    /// How many times as fast as it was recorded the trace is played.
    #[arg(long, default_value_t = 1.0, value_name = "FACTOR", requires = "trace",
        conflicts_with_all = ["rate", "arrivals", "concurrency"])]
    speed: f64,
    /// Multiplies the lengths of a trace's prompts and answers.
    #[arg(long, default_value_t = 1.0, value_name = "FACTOR", requires = "trace")]
    length_scale: f64,
    /// Tokens of each prompt, or a range such as 100..200; of each message where there are --turns.
    #[arg(long, default_value = "16", value_name = "N")]
    input_tokens: Length,
    /// Prompts to ask in turn instead of random ones of --input-tokens: one JSON text a line, or an
    /// object with a text under `prompt`. Control tokens such as <|im_start|> are parsed.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["input_tokens", "turns"])]
    prompts: Option<PathBuf>,
    /// Tokens of each answer, or a range.
    #[arg(long, default_value = "64", value_name = "N")]
    output_tokens: Length,
    /// Conversations of so many turns, or of a number in a range: each prompt is all that was said before and a new message.
    #[arg(long, value_name = "N")]
    turns: Option<Length>,
    /// How long users think before they ask again, on average, exponentially distributed [default: not at all].
    #[arg(long, value_name = "TIME", value_parser = time)]
    think_time: Option<Duration>,
    /// Requests of each run [default: four per user; 100 of arrivals without an end; all of a trace].
    #[arg(long, value_name = "N")]
    requests: Option<usize>,
}

/// A parsed list; a bare `Vec` would make clap take several values.
#[derive(Debug, Clone)]
struct List(Vec<u32>);

fn list(text: &str) -> Result<List, String> {
    parse_concurrency(text)
        .map(List)
        .map_err(|error| error.to_string())
}

fn poisson(text: &str) -> Result<ArrivalProcess, String> {
    let process = format!("poisson:{}", text.trim()).parse();
    process.map_err(|_| "expected requests a second, such as 2.5".to_owned())
}

/// What is asked, as far as it is known before there is a target.
pub(super) enum Files {
    None,
    Prompts(PromptFile),
    Trace(Trace),
    Chats(Chats),
}

impl Files {
    /// # Errors
    /// Recorded conversations: a search for the capacity asks more than there are.
    pub(super) fn check_for_search(&self) -> Result<()> {
        ensure!(
            !matches!(self, Self::Chats(_)),
            "--find-capacity asks more conversations than are recorded in a file; expected random prompts, --turns, --prompts, \
             or a trace of lengths: leave the conversations out of --trace, or measure them with --concurrency"
        );
        Ok(())
    }
}

impl LoadArgs {
    /// Reads the files that are named: one of no use is told before a model is loaded.
    pub(super) fn files(&self) -> Result<Files> {
        for (flag, factor) in [
            ("--speed", self.speed),
            ("--length-scale", self.length_scale),
        ] {
            let is_positive = factor.is_finite() && factor > 0.0;
            ensure!(is_positive, "{flag} is {factor}; expected a number above 0");
        }
        if let Some(path) = &self.prompts {
            return Ok(Files::Prompts(PromptFile::read(path)?));
        }
        let Some(path) = &self.trace else {
            return Ok(Files::None);
        };
        match read_recorded(path, self.skip_bad)? {
            Recorded::Trace(trace) => {
                let order = OutOfOrder(trace.out_of_order);
                tell_skipped(
                    trace.skipped.len(),
                    &format!("lines of the trace that are no requests{order}"),
                );
                Ok(Files::Trace(trace.scaled(self.length_scale)))
            }
            Recorded::Chats(chats) => {
                ensure!(
                    self.length_scale == 1.0,
                    "--length-scale goes with traces of lengths; conversations have texts"
                );
                ensure!(
                    self.speed == 1.0,
                    "--speed goes with traces that have times; conversations have none: --concurrency or --rate says how hard to ask"
                );
                tell_skipped(chats.skipped.len(), "lines that are no conversations");
                Ok(Files::Chats(chats))
            }
        }
    }

    /// What is asked, in the target's tokens.
    pub(super) async fn questions(&self, files: Files, target: &dyn Target) -> Result<Questions> {
        Ok(match files {
            Files::None => Questions::Random,
            Files::Prompts(file) => Questions::InTurn(file.tokens(target).await?),
            Files::Trace(trace) if self.skip_bad => {
                let most = target.model().max_model_len;
                let (trace, left_out) = trace.up_to(most);
                tell_skipped(
                    left_out,
                    "requests that are longer than the model's context",
                );
                ensure!(
                    !trace.requests.is_empty(),
                    "all requests of the trace are longer than the model's context of {most} tokens: choose a smaller --length-scale"
                );
                Questions::Trace(Arc::new(trace))
            }
            Files::Trace(trace) => Questions::Trace(Arc::new(trace)),
            Files::Chats(chats) => {
                let chats = RecordedChats::read(&chats, target, self.needed()).await?;
                tell_skipped(
                    chats.left_out(),
                    "conversations that are longer than the model's context",
                );
                Questions::Chats(Arc::new(chats))
            }
        })
    }

    /// One run for each.
    ///
    /// # Errors
    /// A time to think where no load has a user who thinks.
    pub(super) fn loads(&self, questions: &Questions) -> Result<Vec<Load>> {
        let process = self.rate.as_ref().or(self.arrivals.as_ref());
        let loads: Vec<Load> = match (process, &self.concurrency, questions) {
            (Some(process), _, _) => vec![Load::Arrivals(process.clone())],
            (None, Some(List(users)), _) => users.iter().map(|it| Load::Users(*it)).collect(),
            (None, None, Questions::Trace(_)) => vec![Load::Replay { speed: self.speed }],
            (None, None, _) => CONCURRENCY.map(Load::Users).to_vec(),
        };
        let is_talk = self.turns.is_some() || matches!(questions, Questions::Chats(_));
        let has_users = loads.iter().any(|load| load.users().is_some());
        ensure!(self.think_time.is_none() || is_talk || has_users, THINKING);
        Ok(loads)
    }

    /// Recorded conversations that all runs need, where the number of requests is given; each run asks others.
    fn needed(&self) -> Option<ChatsNeeded> {
        let requests = self.requests?;
        let has_process = self.rate.is_some() || self.arrivals.is_some();
        let users: &[u32] = match &self.concurrency {
            Some(List(users)) => users,
            None => &CONCURRENCY,
        };
        let (runs, at_once) = match has_process {
            // Each request may begin one.
            true => (1, requests),
            false => (
                users.len(),
                users.iter().map(|it| *it as usize).sum::<usize>(),
            ),
        };
        Some(ChatsNeeded {
            requests: requests.saturating_mul(runs),
            at_once,
        })
    }

    pub(super) fn workload(&self, seed: u64) -> Workload {
        Workload {
            input_tokens: self.input_tokens.clone(),
            output_tokens: self.output_tokens.clone(),
            requests: self.requests,
            seed,
            turns: self.turns.clone(),
            think_time: self.think_time,
            prompt_seed: 0,
        }
    }
}

fn tell_skipped(count: usize, what: &str) {
    if count > 0 {
        tracing::warn!("left out {count} {what}");
    }
}
