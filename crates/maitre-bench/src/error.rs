//! Why a measurement cannot be made. A request that fails during one is counted, not an error.

use std::path::PathBuf;

use maitre_workload::{Burst, SettingError};

/// What is wrong with the question, the target or the place for the report.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The target's address has no known form.
    #[error(
        "`{given}` is not a target: expected grpc://HOST:PORT, http://HOST:PORT/v1 (without TLS: measure where the server \
         runs), or in-process"
    )]
    Address {
        /// What was given.
        given: String,
    },
    /// The list of concurrencies is not a list of positive numbers.
    #[error("`{given}` is not a list of concurrencies: expected positive numbers such as 1,4,16")]
    Concurrency {
        /// What was given.
        given: String,
    },
    /// A number of the workload is outside its range.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// The requests are longer than the target accepts.
    #[error(
        "{input_tokens} input and {output_tokens} output tokens make {total}, but the model's context \
         holds {max_model_len}: choose a smaller input-tokens, output-tokens or length-scale",
        total = .input_tokens.saturating_add(*.output_tokens)
    )]
    TooLong {
        /// Tokens of a prompt.
        input_tokens: usize,
        /// Tokens of an answer.
        output_tokens: usize,
        /// Tokens of prompt and answer together.
        max_model_len: usize,
    },
    /// The file of prompts is of no use.
    #[error(
        "cannot use the prompts in {file}: {reason}; expected one JSON text a line, or an object with a \
         text under `prompt`"
    )]
    Prompts {
        /// The file.
        file: String,
        /// What is wrong, with the number of the line.
        reason: String,
    },
    /// The recorded conversations are of no use.
    #[error("cannot use the conversations: {reason}")]
    Chats {
        /// What is wrong.
        reason: String,
    },
    /// No server answers there, or it does not answer as the address says.
    #[error(
        "cannot use {address} as a target ({reason}): is `maitre serve`, or another server with that API, running there?"
    )]
    Connect {
        /// The target's address.
        address: String,
        /// What the transport or the server said.
        reason: String,
    },
    /// Random prompts need to know which tokens there are.
    #[error(
        "{address} does not say how many tokens its model knows: give --vocab-size, --prompts with texts to ask, or --warmup-requests 0 with recorded conversations"
    )]
    VocabSize {
        /// The target's address.
        address: String,
    },
    /// The report cannot be written.
    #[error("cannot write {path} ({error}): choose another output folder", path = .path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// A file is no report.
    #[error("{path} is no report of this version ({reason}): expected a report.json of `maitre bench --out`", path = .path.display())]
    Report {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// No request was answered, and not since there were too many.
    #[error(
        "no request was answered under {load} ({errors}): look at the server's log, and try `maitre bench` with one user"
    )]
    NothingAnswered {
        /// The load.
        load: String,
        /// The errors by code.
        errors: String,
    },
    /// Requests of a burst failed: its time says nothing.
    #[error("a burst of {} users with {} input and {} output tokens failed:\n{report}", burst.users, burst.prompt_tokens, burst.output_tokens)]
    BurstFailed {
        /// What was asked.
        burst: Burst,
        /// What came of it.
        report: String,
    },
    /// The measurement was stopped before there was anything to tell.
    #[error("interrupted before anything was known; run it again")]
    Interrupted,
    /// The plot cannot be drawn.
    #[error("cannot draw the plot: {reason}")]
    Plot {
        /// What the drawing library said.
        reason: String,
    },
}
