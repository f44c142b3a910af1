//! What `/stats` shows of the last answer, and of the context.

use std::fmt;

use super::answer::{Answer, End, Pace};

/// Figures of an answer.
#[derive(Debug)]
pub(super) struct Stats {
    pace: Pace,
    prompt_tokens: usize,
    /// Known of an answer that came to its end.
    cached_tokens: Option<u32>,
    answer_tokens: usize,
    end: &'static str,
}

impl Stats {
    /// Of an answer to a prompt of so many tokens.
    pub(super) fn of(answer: &Answer, prompt_tokens: usize) -> Self {
        let pace = answer.pace;
        let counted = Self {
            pace,
            prompt_tokens,
            cached_tokens: None,
            answer_tokens: pace.tokens,
            end: "interrupted",
        };
        match &answer.end {
            End::Finished(finished) => Self {
                cached_tokens: Some(finished.usage.cached_prompt_tokens),
                answer_tokens: finished.usage.completion_tokens as usize,
                end: finished.reason.name(),
                ..counted
            },
            End::Interrupted => counted,
            End::Failed(_) => Self {
                end: "failed",
                ..counted
            },
        }
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pace.ttft {
            None => writeln!(f, "time to first token   none came")?,
            Some(ttft) => writeln!(
                f,
                "time to first token   {:.1} ms",
                1e3 * ttft.as_secs_f64()
            )?,
        }
        match self.pace.tokens_per_second() {
            None => writeln!(f, "tokens per second     too few to tell")?,
            Some(speed) => writeln!(f, "tokens per second     {speed:.1}")?,
        }
        write!(f, "prompt                {} tokens", self.prompt_tokens)?;
        if let Some(cached) = self.cached_tokens {
            write!(f, ", {cached} of them cached")?;
        }
        let tokens = self.answer_tokens;
        write!(
            f,
            "\nanswer                {tokens} tokens, ended by {}",
            self.end
        )
    }
}

/// How full the context is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Context {
    /// Tokens of the conversation; `None` where the model's template can't render it as it stands.
    pub(super) used: Option<usize>,
    pub(super) size: usize,
}

impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.used {
            None => write!(f, "context               {} tokens", self.size),
            Some(used) => write!(f, "context               {used} of {} tokens", self.size),
        }
    }
}
