//! Recorded conversations as the tokens of the target.

use std::sync::Arc;

use maitre_workload::{Chats, Request, Turn};

use crate::{BenchError, Target};

/// Conversations whose prompts are all that was said before, with the recorded answers, and the next message. Messages
/// and answers follow each other without a chat template: it is their lengths and their common beginnings that count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedChats {
    texts: Arc<[Vec<u32>]>,
    turns: Arc<[Vec<Turn>]>,
    left_out: usize,
    skipped_lines: usize,
}

/// How many recorded conversations a measurement needs: turns for all requests without those of the last conversations, which may have
/// asked only their first one when a run ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChatsNeeded {
    /// Requests of all runs.
    pub requests: usize,
    /// Conversations that go on at once, those of all runs added up: no two runs ask the same ones.
    pub at_once: usize,
}

impl RecordedChats {
    /// Turns texts into the target's tokens, for as many conversations as are `needed` if not for all. What does not fit into the model's
    /// context is left out.
    ///
    /// # Errors
    /// A text that the target can't turn into tokens; no conversation that fits.
    pub async fn read(
        chats: &Chats,
        target: &dyn Target,
        needed: Option<ChatsNeeded>,
    ) -> Result<Self, BenchError> {
        let most = target.model().max_model_len;
        let all = ChatsNeeded {
            requests: usize::MAX,
            at_once: 0,
        };
        let ChatsNeeded { requests, at_once } = needed.unwrap_or(all);
        let (mut texts, mut turns, mut left_out) = (Vec::new(), Vec::<Vec<Turn>>::new(), 0);
        // Turns of all conversations but the last ones.
        let mut ended = 0;
        for (index, chat) in chats.chats.iter().enumerate() {
            if ended >= requests.max(1) {
                break;
            }
            let (mut text, mut of_chat) = (Vec::new(), Vec::new());
            for turn in &chat.turns {
                let message = tokens(target, index, &turn.message).await?;
                let answer = tokens(target, index, &turn.answer).await?;
                of_chat.push(Turn {
                    message_tokens: message.len() as u32,
                    answer_tokens: answer.len() as u32,
                });
                text.extend(message.into_iter().chain(answer));
            }
            if text.len() > most {
                left_out += 1;
                continue;
            }
            texts.push(text);
            turns.push(of_chat);
            let last_ended = turns.iter().rev().nth(at_once);
            ended += last_ended.map_or(0, Vec::len);
        }
        if texts.is_empty() {
            let reason = format!("all conversations are longer than the context of {most} tokens");
            return Err(BenchError::Chats { reason });
        }
        Ok(Self {
            texts: texts.into(),
            turns: turns.into(),
            left_out,
            skipped_lines: chats.skipped.len(),
        })
    }

    /// Conversations that did not fit.
    #[must_use]
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    /// Lines of the file that are no conversations.
    pub(crate) fn skipped_lines(&self) -> usize {
        self.skipped_lines
    }

    pub(crate) fn count(&self) -> usize {
        self.texts.len()
    }

    pub(crate) fn turns(&self) -> Arc<[Vec<Turn>]> {
        Arc::clone(&self.turns)
    }

    /// Leaves so many behind: they have been asked, and come again after all others.
    pub(crate) fn advance(&mut self, count: usize) {
        let by = count % self.texts.len().max(1);
        Arc::make_mut(&mut self.texts).rotate_left(by);
        Arc::make_mut(&mut self.turns).rotate_left(by);
    }

    /// Requests in all.
    pub(crate) fn requests(&self) -> usize {
        self.turns.iter().map(Vec::len).sum()
    }

    pub(crate) fn longest(&self) -> (usize, usize) {
        let longest = self.texts.iter().zip(self.turns.iter());
        let longest = longest.max_by_key(|(text, _)| text.len());
        longest.map_or((0, 0), |(text, turns)| {
            let answer = turns.last().map_or(0, |turn| turn.answer_tokens as usize);
            (text.len() - answer, answer)
        })
    }

    pub(crate) fn prompt(&self, request: &Request) -> Vec<u32> {
        let number = request.session.unwrap_or(request.number) as usize;
        let text = self.texts.get(number % self.texts.len().max(1));
        let prompt = text.and_then(|text| text.get(..request.prompt_tokens as usize));
        prompt.unwrap_or_default().to_vec()
    }
}

async fn tokens(target: &dyn Target, index: usize, text: &str) -> Result<Vec<u32>, BenchError> {
    let failed = |reason: String| BenchError::Chats {
        reason: format!("conversation {}: {reason}", index + 1),
    };
    let tokens = target.tokenize(text).await;
    let tokens = tokens.map_err(|error| failed(error.message))?;
    match tokens.is_empty() {
        true => Err(failed("a text has no tokens".to_owned())),
        false => Ok(tokens),
    }
}
