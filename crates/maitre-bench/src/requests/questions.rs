//! Where prompts come from.

use std::sync::Arc;

use maitre_workload::{Request, Trace};

use super::{Prompts, RecordedChats, Workload};
use crate::{BenchError, BenchRequest, ModelFacts};

/// Where prompts come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Questions {
    /// Random tokens. They cost a model what text costs and need no tokenizer, and no two prompts begin alike but where a
    /// conversation goes on.
    Random,
    /// Texts of a file, one after the other.
    InTurn(Prompts),
    /// Random tokens with the lengths of a trace, and with its shared beginnings where it is played again.
    Trace(Arc<Trace>),
    /// Recorded conversations with their texts.
    Chats(Arc<RecordedChats>),
}

impl Questions {
    /// In words.
    #[must_use]
    pub fn told(&self, workload: &Workload) -> String {
        let Workload {
            input_tokens,
            output_tokens,
            ..
        } = workload;
        let asked = match self {
            Self::Random => format!("{input_tokens} input and {output_tokens} output tokens"),
            Self::InTurn(prompts) => {
                let count = prompts.count();
                format!("{count} prompts in turn and {output_tokens} output tokens")
            }
            Self::Trace(trace) => return format!("a trace of {} requests", trace.requests.len()),
            Self::Chats(chats) => {
                return format!("turns of {} recorded conversations", chats.count());
            }
        };
        match &workload.turns {
            Some(turns) => format!("{asked} a request, {turns} turns a conversation"),
            None => format!("{asked} a request"),
        }
    }

    /// Lines of the file that were left out since they are no requests, and of them those that were out of the order of time.
    pub(crate) fn skipped_lines(&self) -> (usize, usize) {
        match self {
            Self::Random | Self::InTurn(_) => (0, 0),
            Self::Trace(trace) => (trace.skipped.len(), trace.out_of_order),
            // Conversations have no times.
            Self::Chats(chats) => (chats.skipped_lines(), 0),
        }
    }

    /// Tokens of the longest prompt, and of the answer that goes with it.
    fn longest(&self, workload: &Workload) -> (usize, usize) {
        let output = workload.output_tokens.most() as usize;
        match self {
            Self::Random => {
                // The last turn of a conversation has all the others before it.
                let turns = workload
                    .turns
                    .as_ref()
                    .map_or(1, |turns| turns.most() as usize);
                let before = (turns - 1) * (workload.input_tokens.most() as usize + output);
                (before + workload.input_tokens.most() as usize, output)
            }
            Self::InTurn(prompts) => (prompts.longest(), output),
            Self::Trace(trace) => {
                let rows = trace.requests.iter();
                let rows = rows.map(|row| (row.prompt_tokens as usize, row.output_tokens as usize));
                rows.max_by_key(|(input, output)| input + output)
                    .unwrap_or_default()
            }
            Self::Chats(chats) => chats.longest(),
        }
    }

    pub(crate) fn check(&self, workload: &Workload, model: &ModelFacts) -> Result<(), BenchError> {
        let (input_tokens, output_tokens) = self.longest(workload);
        let max_model_len = model.max_model_len;
        match input_tokens.saturating_add(output_tokens) > max_model_len {
            true => Err(BenchError::TooLong {
                input_tokens,
                output_tokens,
                max_model_len,
            }),
            false => Ok(()),
        }
    }

    /// What to send for a request; `before` have been asked in earlier runs.
    pub(crate) fn ask(
        &self,
        request: &Request,
        vocab_size: usize,
        seed: u64,
        before: usize,
    ) -> BenchRequest {
        let number = request.number as usize;
        let prompt = match self {
            Self::Random | Self::Trace(_) => request.random_tokens(vocab_size, seed),
            Self::InTurn(prompts) => prompts.prompt(before + number),
            Self::Chats(chats) => chats.prompt(request),
        };
        BenchRequest {
            prompt,
            output_tokens: request.output_tokens as usize,
        }
    }
}
