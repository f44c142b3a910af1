//! One answer, as it streams in.

use std::io;
use std::time::{Duration, Instant};

use maitre::{Engine, EngineError, Event, Finished, GenerateRequest};

use crate::cli::signals::Interrupts;

/// An answer, whole or not.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) text: String,
    pub(super) pace: Pace,
    pub(super) end: End,
}

/// Why there is no more of it.
#[derive(Debug)]
pub(super) enum End {
    Finished(Finished),
    /// By Ctrl-C.
    Interrupted,
    Failed(EngineError),
}

/// Tokens that came within less time came together, and have no pace.
const TOO_SHORT: Duration = Duration::from_millis(1);

/// When its tokens came.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pace {
    /// From the request to the first token, if one came.
    pub(super) ttft: Option<Duration>,
    /// Tokens that came so far.
    pub(super) tokens: usize,
    /// Tokens that came after the first step's, and how long they took.
    later: (usize, Duration),
}

impl Pace {
    fn count(&mut self, tokens: usize, since: Duration) {
        if tokens == 0 {
            return;
        }
        let ttft = *self.ttft.get_or_insert(since);
        if self.tokens > 0 {
            self.later = (self.later.0 + tokens, since.saturating_sub(ttft));
        }
        self.tokens += tokens;
    }

    /// After the first tokens; none for an answer of so few that they tell nothing.
    pub(super) fn tokens_per_second(&self) -> Option<f64> {
        let (tokens, took) = self.later;
        (took >= TOO_SHORT).then(|| tokens as f64 / took.as_secs_f64())
    }
}

/// Asks, and shows the text of the answer as it comes. A signal ends this answer alone.
///
/// # Errors
/// Those of `show`; what the engine says is a way to end.
pub(super) async fn stream(
    engine: &Engine,
    request: GenerateRequest,
    interrupts: &mut Interrupts,
    mut show: impl FnMut(&str) -> io::Result<()>,
) -> io::Result<Answer> {
    let begun = Instant::now();
    let mut answer = Answer {
        text: String::new(),
        pace: Pace::default(),
        end: End::Interrupted,
    };
    let mut generation = tokio::select! {
        () = interrupts.next() => return Ok(answer),
        generation = engine.generate(request) => match generation {
            Ok(generation) => generation,
            Err(error) => {
                answer.end = End::Failed(error);
                return Ok(answer);
            }
        },
    };
    loop {
        let event = tokio::select! {
            // Dropping the generation cancels it.
            () = interrupts.next() => return Ok(answer),
            event = generation.next() => event,
        };
        match event.unwrap_or(Err(EngineError::Stopped)) {
            Ok(Event::Delta(delta)) => {
                answer.pace.count(delta.token_ids.len(), begun.elapsed());
                show(delta.text())?;
                answer.text.push_str(delta.text());
            }
            Ok(Event::PromptLogprobs(_)) => {}
            Ok(Event::Finished(finished)) => {
                answer.end = End::Finished(finished);
                return Ok(answer);
            }
            Err(error) => {
                answer.end = End::Failed(error);
                return Ok(answer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_tokens_are_waited_for_and_the_later_ones_paced() {
        let ms = Duration::from_millis;
        let mut pace = Pace::default();
        pace.count(0, ms(10));
        assert_eq!((pace.ttft, pace.tokens_per_second()), (None, None));
        // Two tokens of one step, then three in half a second.
        pace.count(1, ms(100));
        pace.count(1, ms(100));
        assert_eq!((pace.ttft, pace.tokens_per_second()), (Some(ms(100)), None));
        pace.count(1, ms(350));
        pace.count(2, ms(600));
        pace.count(0, ms(900));
        assert_eq!(pace.ttft, Some(ms(100)));
        assert_eq!(pace.tokens, 5);
        assert_eq!(pace.tokens_per_second(), Some(8.0));
    }
}
