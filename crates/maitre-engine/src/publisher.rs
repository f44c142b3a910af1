//! The pass between kitchen and guests: a thread that turns committed tokens into text events.
//!
//! It exists so that detokenizing and matching stop strings never delay a step. The step loop hands
//! it one list per step over a bounded channel; it hands stop-string matches and lost receivers
//! back as commands.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, Sender};

use maitre_sampling::TokenLogprobs;
use maitre_scheduler::{RequestId, Time};

use crate::EngineError;
use crate::command::Command;
use crate::output::{CommittedToken, Fate, Output};

/// Steps' results that may wait for the publisher before the step loop waits for it.
pub(crate) const MAX_PENDING_STEPS: usize = 64;

/// One fact about one sequence, from the step loop.
#[derive(Debug)]
pub(crate) enum Publication {
    /// From now on there are tokens for this sequence.
    Open(RequestId, Box<Output>),
    /// Its first step began.
    Started(RequestId, Time),
    /// Its whole prompt has been scored.
    PromptLogprobs(RequestId, Vec<TokenLogprobs>),
    /// One more token.
    Token(RequestId, CommittedToken),
    /// Its own time limit ended it well.
    TimeIsUp(RequestId, Time),
    /// It failed.
    Failed(RequestId, EngineError),
    /// Nobody is left to tell.
    Forget(RequestId),
}

/// Runs until the step loop hangs up.
pub(crate) fn publish(publications: &Receiver<Vec<Publication>>, commands: &Sender<Command>) {
    let mut outputs: HashMap<RequestId, Box<Output>> = HashMap::new();
    while let Ok(step) = publications.recv() {
        let closed_early: Vec<RequestId> = step
            .into_iter()
            .filter_map(|publication| publish_one(&mut outputs, publication))
            .collect();
        if !closed_early.is_empty() {
            // The loop may be gone already; then there is nothing to stop.
            let _ = commands.send(Command::Cancel {
                keys: closed_early,
                notify: false,
            });
        }
    }
    // The step loop is gone: whoever still waits learns it, rather than waiting for ever.
    for output in outputs.values_mut() {
        output.fail(EngineError::Stopped);
    }
}

/// Delivers one fact; returns the sequence if the step loop must be told that it is over.
fn publish_one(
    outputs: &mut HashMap<RequestId, Box<Output>>,
    publication: Publication,
) -> Option<RequestId> {
    // A sequence that ended early may have tokens on the way still: they are dropped here.
    let (key, fate) = match publication {
        Publication::Open(key, output) => {
            outputs.insert(key, output);
            return None;
        }
        Publication::Started(key, at) => {
            outputs.get_mut(&key)?.started(at);
            return None;
        }
        Publication::PromptLogprobs(key, rows) => {
            (key, outputs.get_mut(&key)?.prompt_logprobs(&rows))
        }
        Publication::Token(key, token) => (key, outputs.get_mut(&key)?.token(token)),
        Publication::TimeIsUp(key, now) => {
            outputs.get_mut(&key)?.time_is_up(now);
            (key, Fate::Closed)
        }
        Publication::Failed(key, error) => {
            outputs.get_mut(&key)?.fail(error);
            (key, Fate::Closed)
        }
        Publication::Forget(key) => (key, Fate::Closed),
    };
    if fate != Fate::Open {
        outputs.remove(&key);
    }
    (fate == Fate::ClosedEarly).then_some(key)
}
