//! The plan of a run: which request comes when, for users who wait and for arrivals that do not.

use std::time::Duration;

use maitre_workload::{
    Arrivals, ClosedLoop, Conversations, Length, Lengths, OpenLoop, Replay, SettingError, Starts,
    ThinkTime, Turns,
};

use super::{Load, Questions, Workload};
use crate::BenchError;

/// Requests with their times.
pub(crate) struct Plan {
    pub(crate) arrivals: Box<dyn Arrivals + Send>,
    /// How many there are, about; `None` if that is not known before.
    pub(crate) expected: Option<usize>,
}

impl Plan {
    /// # Errors
    /// A load that these questions cannot have, and settings out of their ranges.
    pub(crate) fn new(
        workload: &Workload,
        questions: &Questions,
        load: &Load,
        seed: u64,
    ) -> Result<Self, BenchError> {
        let think = match workload.think_time {
            Some(mean) => ThinkTime::Exponential(mean),
            None => ThinkTime::Fixed(Duration::ZERO),
        };
        let requests = workload.requests_of(load);
        let most = requests.map_or(u64::MAX, |requests| requests as u64);
        let arrivals: Box<dyn Arrivals + Send> = match (turns(workload, questions), load) {
            (Some(turns), Load::Users(users)) => {
                let starts = Starts::Users(*users);
                Box::new(Conversations::new(starts, turns, think, most, seed)?)
            }
            (Some(turns), Load::Arrivals(process)) => {
                let starts = Starts::Arriving(process.clone());
                Box::new(Conversations::new(starts, turns, think, most, seed)?)
            }
            (None, Load::Users(users)) => {
                let lengths = lengths(workload, questions);
                Box::new(ClosedLoop::new(*users, think, lengths, most, seed)?)
            }
            (None, Load::Arrivals(process)) => {
                let lengths = lengths(workload, questions);
                Box::new(OpenLoop::new(process.clone(), lengths, most, seed)?)
            }
            (_, Load::Replay { speed }) => {
                let Questions::Trace(trace) = questions else {
                    let expected = "a trace with times; others need arrivals or users";
                    return Err(
                        SettingError::new("what is played again", "no trace", expected).into(),
                    );
                };
                let requests = requests.map(|requests| requests as u64);
                Box::new(Replay::new(trace, *speed, requests)?)
            }
        };
        let expected = requests.or_else(|| expected(questions, load));
        Ok(Self { arrivals, expected })
    }
}

fn expected(questions: &Questions, load: &Load) -> Option<usize> {
    match (questions, load) {
        (Questions::Chats(chats), _) => Some(chats.requests()),
        (Questions::Trace(trace), Load::Replay { .. }) => Some(trace.requests.len()),
        (_, Load::Arrivals(process)) => process.expected_requests().map(|it| it as usize),
        _ => None,
    }
}

fn turns(workload: &Workload, questions: &Questions) -> Option<Turns> {
    match questions {
        Questions::Chats(chats) => Some(Turns::Recorded(chats.turns())),
        _ => workload.turns.clone().map(|count| Turns::Drawn {
            count,
            lengths: lengths(workload, questions),
        }),
    }
}

fn lengths(workload: &Workload, questions: &Questions) -> Lengths {
    match questions {
        Questions::Trace(trace) => Lengths::Sampled(Lengths::pairs_of(trace)),
        // The prompts that are asked in turn have the lengths that they have.
        Questions::InTurn(_) => Lengths::Independent {
            prompt: Length::Fixed(1),
            output: workload.output_tokens.clone(),
        },
        _ => Lengths::Independent {
            prompt: workload.input_tokens.clone(),
            output: workload.output_tokens.clone(),
        },
    }
}
