//! Recording what a scheduler was told, and telling it another one.
//!
//! A scheduler is a function of its configuration and its calls, so the calls, one line of text each, are the
//! whole story of a run: a [`Recorder`] keeps them, and [`replay`] gives the plans that were made then, to the
//! byte.
//!
//! ```text
//! add 7 prompt=100,101,102 max_tokens=4 tenant=2 deadline=1.500000000
//! schedule 0.010000000
//! commit 0 7=12
//! retract 1
//! settle 0 tokens=32
//! cancel 7
//! observe tokens=3 took=0.004000000 moved_blocks=0 moving=0.000000000
//! reset
//! ```
//!
//! In an outcome, the tokens stand behind the request's number, then how many the next step may draft if it may
//! (`7=12,15,drafts=4`), then `finished` or `failed` if it was (`7=12,finished`). Lines that are empty or begin with `#` are skipped.

mod text;

pub use text::BadCall;

use crate::{
    NewRequest, Outcome, Policy, RequestId, Scheduler, SchedulerConfig, SchedulerError, StepId,
    Time, TransferId,
};

/// A call that changes a scheduler. Its [`Display`](std::fmt::Display) form is one line of a recording;
/// [`FromStr`](std::str::FromStr) reads it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// [`Scheduler::add`].
    Add(NewRequest),
    /// [`Scheduler::cancel`].
    Cancel(RequestId),
    /// [`Scheduler::schedule`].
    Schedule {
        /// The time of the call.
        now: Time,
    },
    /// [`Scheduler::commit`].
    Commit {
        /// The step.
        step: StepId,
        /// What came of it.
        outcomes: Vec<Outcome>,
    },
    /// [`Scheduler::retract`].
    Retract {
        /// The step.
        step: StepId,
    },
    /// [`Scheduler::settle_transfer`].
    Settle {
        /// The transfer.
        transfer: TransferId,
        /// Tokens that came.
        tokens: usize,
    },
    /// [`Scheduler::observe`].
    Observe {
        /// Tokens of the step, drafted ones included.
        tokens: usize,
        /// How long it took.
        took: Time,
        /// Blocks it moved.
        moved_blocks: usize,
        /// How long that took.
        moving: Time,
    },
    /// [`Scheduler::reset_prefix_cache`].
    ResetPrefixCache,
}

/// Keeps the beginning of a run, as far as its limit goes: only from the beginning can a run be replayed.
#[derive(Debug, Clone)]
pub struct Recorder {
    text: String,
    max_bytes: usize,
    complete: bool,
}

impl Recorder {
    /// An empty recording that will not grow beyond `max_bytes`.
    pub fn new(max_bytes: usize) -> Self {
        Self {
            text: String::new(),
            max_bytes,
            complete: true,
        }
    }

    /// Appends `call`. The first one that does not fit ends the recording.
    pub fn record(&mut self, call: &Call) {
        if !self.complete {
            return;
        }
        let line = format!("{call}\n");
        self.complete = self.text.len() + line.len() <= self.max_bytes;
        if self.complete {
            self.text.push_str(&line);
        }
    }

    /// The calls so far, a line each.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether every call so far is in it.
    pub fn is_complete(&self) -> bool {
        self.complete
    }
}

/// Why a recording cannot be replayed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// No scheduler has this configuration.
    #[error(transparent)]
    Config(SchedulerError),
    /// A line is not a call.
    #[error("line {line} of the recording: {error}")]
    BadLine {
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        error: BadCall,
    },
    /// A commit does not answer its plan, a step cannot be taken back, or a transfer is not under way: the recording is of another
    /// configuration or was changed.
    #[error(
        "line {line} of the recording: {error}; replay it with the configuration it was made with"
    )]
    BadCommit {
        /// The line, from 1.
        line: usize,
        /// What the scheduler said.
        error: SchedulerError,
    },
}

/// The text of all plans that a new scheduler makes of the recorded calls.
///
/// # Errors
///
/// A [`ReplayError`] that names the first line that cannot be replayed. That a request is refused is not an
/// error: it was refused then, too.
///
/// # Examples
///
/// ```
/// use maitre_scheduler::{Call, KvConfig, NewRequest, Recorder, Scheduler, SchedulerConfig, Time, replay};
///
/// let config = SchedulerConfig::new(4, 8, 64, KvConfig::new(8, 4));
/// let mut scheduler = Scheduler::new(config.clone())?;
/// let mut recorder = Recorder::new(1 << 20);
///
/// let request = NewRequest::new(1, vec![100, 101, 102], 4);
/// recorder.record(&Call::Add(request.clone()));
/// scheduler.add(request)?;
/// let now = Time::from_millis(3);
/// recorder.record(&Call::Schedule { now });
/// let plan = scheduler.schedule(now);
///
/// assert_eq!(replay(config, recorder.text())?, plan.to_string());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn replay(config: SchedulerConfig, recording: &str) -> Result<String, ReplayError> {
    let policy = config.policy.build();
    replay_with(config, policy, recording)
}

/// The same for a scheduler whose policy is the caller's ([`Scheduler::with_policy`]): `policy` is a new one of
/// the kind it was recorded with.
///
/// # Errors
///
/// As for [`replay`].
pub fn replay_with(
    config: SchedulerConfig,
    policy: Box<dyn Policy>,
    recording: &str,
) -> Result<String, ReplayError> {
    let mut scheduler = Scheduler::with_policy(config, policy).map_err(ReplayError::Config)?;
    let mut plans = String::new();
    for (line, text) in (1..).zip(recording.lines()) {
        if text.trim().is_empty() || text.starts_with('#') {
            continue;
        }
        let call = text
            .parse()
            .map_err(|error| ReplayError::BadLine { line, error })?;
        let plan =
            make(&mut scheduler, call).map_err(|error| ReplayError::BadCommit { line, error })?;
        plans.push_str(&plan);
    }
    Ok(plans)
}

/// Makes one call and returns the text of the plan, if it was for one.
fn make(scheduler: &mut Scheduler, call: Call) -> Result<String, SchedulerError> {
    match call {
        Call::Add(request) => {
            // A refusal changes nothing.
            let _ = scheduler.add(request);
        }
        Call::Cancel(request) => {
            scheduler.cancel(request);
        }
        Call::Schedule { now } => return Ok(scheduler.schedule(now).to_string()),
        Call::Commit { step, outcomes } => scheduler.commit(step, &outcomes)?,
        Call::Retract { step } => scheduler.retract(step)?,
        Call::Settle { transfer, tokens } => scheduler.settle_transfer(transfer, tokens)?,
        Call::Observe {
            tokens,
            took,
            moved_blocks,
            moving,
        } => scheduler.observe(tokens, took, moved_blocks, moving),
        Call::ResetPrefixCache => {
            scheduler.reset_prefix_cache();
        }
    }
    Ok(String::new())
}
