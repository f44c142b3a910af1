//! The publisher: a thread that turns committed tokens into text events for the requests' receivers.
//!
//! It exists so that detokenizing and matching stop strings never delay a step. The step loop hands
//! it one list per step over a bounded channel; it hands stop-string matches and lost receivers
//! back as commands, and the lists to be filled again. A token takes no new memory here, but for log-probabilities,
//! runs of byte tokens, and texts of more than 24 bytes.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, SyncSender, sync_channel};

use maitre_sampling::TokenLogprobs;
use maitre_scheduler::{RequestId, Time};

use crate::admission::command::{CancelledBy, Command};
use crate::observe::metrics::InterToken;
use crate::output::text::{CommittedToken, Fate, Output, Workspace};
use crate::{EngineError, FinishReason};

/// Steps' results that may wait for the publisher before the step loop waits for it.
const MAX_PENDING_STEPS: usize = 64;

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

/// The step loop's end: what has happened since it last handed it over.
#[derive(Debug)]
pub(crate) struct News {
    news: Vec<Publication>,
    publications: SyncSender<Vec<Publication>>,
    /// Lists that the publisher has read, to be filled again.
    spent: Receiver<Vec<Publication>>,
}

impl News {
    /// Adds a fact.
    pub(crate) fn push(&mut self, publication: Publication) {
        self.news.push(publication);
    }

    /// Hands over what there is; false when the publisher is gone.
    pub(crate) fn publish(&mut self) -> bool {
        if self.news.is_empty() {
            return true;
        }
        let next = self.spent.try_recv().unwrap_or_default();
        let news = std::mem::replace(&mut self.news, next);
        self.publications.send(news).is_ok()
    }
}

/// The publisher's end.
#[derive(Debug)]
pub(crate) struct NewsReader {
    publications: Receiver<Vec<Publication>>,
    spent: SyncSender<Vec<Publication>>,
}

/// The two ends of the way from the step loop to the publisher.
pub(crate) fn news() -> (News, NewsReader) {
    let (publications, received) = sync_channel(MAX_PENDING_STEPS);
    let (spent, returned) = sync_channel(MAX_PENDING_STEPS);
    let news = News {
        news: Vec::new(),
        publications,
        spent: returned,
    };
    let reader = NewsReader {
        publications: received,
        spent,
    };
    (news, reader)
}

type Outputs = HashMap<RequestId, Box<Output>>;

/// Runs until the step loop hangs up.
pub(crate) fn publish(news: &NewsReader, commands: &Sender<Command>) {
    let mut outputs = Outputs::new();
    let mut work = Workspace::default();
    while let Ok(mut step) = news.publications.recv() {
        work.inter_token = InterToken::default();
        let (mut stopped, mut lost) = (Vec::new(), Vec::new());
        for publication in step.drain(..) {
            let key = publication.key();
            match publish_alone(&mut outputs, publication, &mut work) {
                Fate::Open | Fate::Closed => {}
                Fate::Stopped => stopped.push(key),
                Fate::Lost => lost.push(key),
            }
        }
        // A list too many is let go.
        let _ = news.spent.try_send(step);
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
fn publish_alone(outputs: &mut Outputs, publication: Publication, work: &mut Workspace) -> Fate {
    let key = publication.key();
    // Unwind safety: the only things that may be left half done are this sequence's output, which is removed, and
    // the workspace, which is replaced.
    let fate = catch_unwind(AssertUnwindSafe(|| publish_one(outputs, publication, work)));
    let fate = fate.unwrap_or_else(|_| {
        *work = Workspace::default();
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
fn publish_one(outputs: &mut Outputs, publication: Publication, work: &mut Workspace) -> Fate {
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
        Publication::Token(_, token) => output.token(token, work),
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::{Context, Waker};

    use maitre_text::{
        AnswerFormat, Detokenizer, ReasoningFormat, StopStrings, Thought, Tokenizer, ToolFormat,
        Tools,
    };

    use super::*;
    use crate::output::byte_budget::ByteBudget;
    use crate::output::parts::PartReader;
    use crate::output::text::{TextStart, Times};
    use crate::output::unread::{EventReceiver, channel};
    use crate::request::parts::ResolvedParts;

    fn tokenizer() -> Tokenizer {
        let file = maitre_bundled::TARGET.file("tokenizer.json").unwrap();
        Tokenizer::from_bytes(file, None, None).unwrap()
    }

    /// What takes the text of a thought and of calls apart.
    fn reader() -> PartReader {
        let tools = [serde_json::json!({"type": "function", "function": {"name": "weather"}})];
        PartReader::new(&ResolvedParts {
            format: AnswerFormat {
                tool_format: ToolFormat::named("hermes"),
                tools: Arc::new(Tools::from_json(&tools).unwrap()),
                reasoning_format: ReasoningFormat::named("think"),
                thought: Thought::Unopened,
                whole_calls: false,
            },
            parallel_tool_calls: true,
            thinks: None,
        })
    }

    fn open(budget: &ByteBudget, text: TextStart) -> (Outputs, EventReceiver) {
        let (events, receiver) = channel(budget);
        let output = Output {
            index: 0,
            text,
            min_tokens: 0,
            exempt_bytes: 0,
            include_stop: false,
            prompt_tokens: 1,
            cached_prompt_tokens: 0,
            events,
            times: Times::default(),
            generated: 0,
            drafted: 0,
            accepted: 0,
        };
        (Outputs::from([(RequestId(1), Box::new(output))]), receiver)
    }

    #[test]
    fn a_token_takes_no_new_memory() {
        let tokenizer = tokenizer();
        let text =
            "One day, a little girl named Lucy went to the park. “Café”, she said, <tall>.\n";
        let ids = tokenizer.encode(text).unwrap();
        let plain = TextStart {
            detokenizer: Detokenizer::new(tokenizer, true),
            stops: None,
            parts: None,
            stop_permit: None,
            echo: None,
        };
        let with_stops = TextStart {
            stops: Some(StopStrings::new(vec!["Lucy ran".into(), "<tal|".into()])),
            ..plain.clone()
        };
        let with_parts = TextStart {
            parts: Some(reader()),
            ..with_stops.clone()
        };
        for (name, start) in [
            ("plain", plain),
            ("stops", with_stops),
            ("parts", with_parts),
        ] {
            let budget = ByteBudget::new(1 << 20);
            let (mut outputs, mut receiver) = open(&budget, start);
            let mut work = Workspace::default();
            let mut shown = 0;
            let mut context = Context::from_waker(Waker::noop());
            let mut publish_all = || {
                for &token in &ids {
                    let committed = CommittedToken {
                        token,
                        logprobs: None,
                        drafted: 0,
                        accepted: false,
                        finish: None,
                        at: Time::ZERO,
                    };
                    let publication = Publication::Token(RequestId(1), committed);
                    let fate = publish_alone(&mut outputs, publication, &mut work);
                    assert_eq!(fate, Fate::Open);
                    while receiver.poll_recv(&mut context).is_ready() {
                        shown += 1;
                    }
                }
            };
            // Until the channel has the blocks that it uses in turn.
            for _ in 0..20 {
                publish_all();
            }
            let counted = allocation_counter::measure(|| (0..20).for_each(|_| publish_all()));
            assert_eq!(counted.count_total, 0, "{name}");
            assert!(shown >= 40 * ids.len(), "{name}: {shown}");
        }
    }
}
