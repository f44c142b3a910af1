//! The publisher: a thread that turns committed tokens into text events for the requests' receivers.
//!
//! It exists so that detokenizing and matching stop strings never delay a step. The step loop hands
//! it one list per step over a bounded channel; it hands stop-string matches and lost receivers
//! back as commands.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender};

use maitre_sampling::TokenLogprobs;
use maitre_scheduler::{RequestId, Time};

use crate::admission::command::{CancelledBy, Command};
use crate::output::text::{CommittedToken, Fate, Output};
use crate::{EngineError, FinishReason};

/// Steps' results that may wait for the publisher before the step loop waits for it.
pub(crate) const MAX_PENDING_STEPS: usize = 64;

/// One fact about one sequence, from the step loop.
#[derive(Debug)]
pub(crate) enum Publication {
    /// From now on there are tokens for this sequence.
    Open(RequestId, Box<Output>),
    /// Its first step began.
    Started {
        /// Which.
        request: RequestId,
        /// When.
        at: Time,
        /// Prompt tokens that it found in the prefix cache.
        cached_tokens: usize,
    },
    /// Its whole prompt has been scored.
    PromptLogprobs(RequestId, Vec<TokenLogprobs>),
    /// One more token.
    Token(RequestId, CommittedToken),
    /// Its own time limit ended it well.
    TimeIsUp(RequestId, Time),
    /// Its constraint says that it is complete as it is.
    Complete(RequestId, Time),
    /// It failed.
    Failed(RequestId, EngineError),
    /// The sequence has no receiver any more.
    Forget(RequestId),
}

impl Publication {
    fn key(&self) -> RequestId {
        match self {
            Self::Open(key, _)
            | Self::Started { request: key, .. }
            | Self::PromptLogprobs(key, _)
            | Self::Token(key, _)
            | Self::TimeIsUp(key, _)
            | Self::Complete(key, _)
            | Self::Failed(key, _)
            | Self::Forget(key) => *key,
        }
    }
}

type Outputs = HashMap<RequestId, Box<Output>>;

/// Runs until the step loop hangs up.
pub(crate) fn publish(publications: &Receiver<Vec<Publication>>, commands: &Sender<Command>) {
    let mut outputs = Outputs::new();
    while let Ok(step) = publications.recv() {
        let (mut stopped, mut lost) = (Vec::new(), Vec::new());
        for publication in step {
            let key = publication.key();
            match publish_alone(&mut outputs, publication) {
                Fate::Open | Fate::Closed => {}
                Fate::Stopped => stopped.push(key),
                Fate::Lost => lost.push(key),
            }
        }
        for (keys, why) in [
            (stopped, CancelledBy::StopString),
            (lost, CancelledBy::Departure),
        ] {
            if !keys.is_empty() {
                // The loop may be gone already; then there is nothing to stop.
                let _ = commands.send(Command::Cancel { keys, why });
            }
        }
    }
    // The step loop is gone: requests that still wait are told, rather than left waiting for ever.
    for output in outputs.values_mut() {
        output.fail(EngineError::Stopped);
    }
}

/// Delivers one fact. A panic on the way fails the sequence it was about, and no other.
fn publish_alone(outputs: &mut Outputs, publication: Publication) -> Fate {
    let key = publication.key();
    // Unwind safety: the only thing that may be left half done is this sequence's output, and it
    // is removed.
    let fate = catch_unwind(AssertUnwindSafe(|| publish_one(outputs, publication)));
    let fate = fate.unwrap_or_else(|_| {
        if let Some(output) = outputs.get_mut(&key) {
            let message = "its text could not be produced".to_owned();
            output.fail(EngineError::Failed { message });
        }
        Fate::Lost
    });
    if fate != Fate::Open {
        outputs.remove(&key);
    }
    fate
}

/// Delivers one fact. Facts about a sequence that has ended early are still on the way for a step
/// or two; they are dropped here.
fn publish_one(outputs: &mut Outputs, publication: Publication) -> Fate {
    let key = publication.key();
    if let Publication::Open(_, output) = publication {
        outputs.insert(key, output);
        return Fate::Open;
    }
    let Some(output) = outputs.get_mut(&key) else {
        return Fate::Closed;
    };
    match publication {
        Publication::Open(..) | Publication::Forget(_) => Fate::Closed,
        Publication::Started {
            at, cached_tokens, ..
        } => {
            output.started(at, cached_tokens);
            Fate::Open
        }
        Publication::PromptLogprobs(_, rows) => output.prompt_logprobs(&rows),
        Publication::Token(_, token) => output.token(token),
        Publication::TimeIsUp(_, now) => {
            output.end(FinishReason::Deadline, now);
            Fate::Closed
        }
        Publication::Complete(_, now) => {
            output.end(FinishReason::Stop, now);
            Fate::Closed
        }
        Publication::Failed(_, error) => {
            output.fail(error);
            Fate::Closed
        }
    }
}
