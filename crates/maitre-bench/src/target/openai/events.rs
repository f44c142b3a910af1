//! Server-sent events of a streamed completion (the WHATWG's HTML standard, section 9.2), and the tokens they bring.

use serde::Deserialize;

use crate::{Arrival, RequestError};

/// What came of an answer so far.
#[derive(Debug, Default)]
pub(super) struct Events {
    /// A line whose end has not come.
    rest: Vec<u8>,
    /// Tokens that were told.
    told: usize,
    is_done: bool,
}

/// A piece of an answer. Servers add more.
#[derive(Debug, Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
    usage: Option<Usage>,
    error: Option<serde_json::Value>,
}

#[derive(Debug, Deserialize)]
struct Choice {
    #[serde(default)]
    text: String,
}

#[derive(Debug, Deserialize)]
struct Usage {
    completion_tokens: usize,
    prompt_tokens_details: Option<PromptDetails>,
}

#[derive(Debug, Deserialize)]
struct PromptDetails {
    cached_tokens: Option<u32>,
}

impl Events {
    /// The tokens that these bytes bring: one for each piece with text. Servers hold back a token whose text is not a whole
    /// character, and send it with the next; `usage` says how many there were, and what was missed counts then.
    ///
    /// # Errors
    /// What the server says went wrong, and what is no event.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<Arrival, RequestError> {
        let mut arrival = Arrival::default();
        self.rest.extend_from_slice(bytes);
        let buffer = std::mem::take(&mut self.rest);
        let mut lines = buffer.split(|byte| *byte == b'\n');
        let rest = lines.next_back().unwrap_or_default();
        for line in lines {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let Some(data) = line.strip_prefix(b"data:") else {
                continue;
            };
            match data.trim_ascii() {
                b"[DONE]" => self.is_done = true,
                data => {
                    let (tokens, cached) = self.chunk(data)?;
                    arrival.tokens += tokens;
                    arrival.cached_tokens = cached.or(arrival.cached_tokens);
                }
            }
        }
        self.rest = rest.to_vec();
        Ok(arrival)
    }

    /// The tokens of an event, and how many tokens of the prompt were cached, if it says so.
    fn chunk(&mut self, data: &[u8]) -> Result<(usize, Option<u32>), RequestError> {
        let chunk: Chunk = serde_json::from_slice(data).map_err(|error| {
            RequestError::new("INTERNAL", format!("an event cannot be read: {error}"))
        })?;
        if let Some(error) = chunk.error {
            let message = error.get("message").and_then(|it| it.as_str());
            let message = message.map_or_else(|| error.to_string(), str::to_owned);
            return Err(RequestError::new("INTERNAL", message));
        }
        let mut tokens = chunk
            .choices
            .iter()
            .filter(|it| !it.text.is_empty())
            .count();
        let mut cached = None;
        if let Some(usage) = chunk.usage {
            cached = usage.prompt_tokens_details.and_then(|it| it.cached_tokens);
            tokens = usage
                .completion_tokens
                .saturating_sub(self.told)
                .max(tokens);
        }
        self.told += tokens;
        Ok((tokens, cached))
    }

    /// What the end of the connection means.
    ///
    /// # Errors
    /// That the answer was not at its end.
    pub(super) fn end(&self) -> Result<usize, RequestError> {
        if self.is_done {
            return Ok(0);
        }
        let message = "the connection ended before the answer";
        Err(RequestError::new("UNAVAILABLE", message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = concat!(
        ": comment\n\n",
        "data: {\"choices\": [{\"text\": \"a\", \"index\": 0}]}\r\n\r\n",
        "event: x\ndata:{\"choices\": [{\"text\": \"\"}]}\n\n",
        "data: {\"choices\": [{\"text\": \"é\"}], \"usage\": null}\n\n",
        "data: {\"choices\": [], \"usage\": {\"completion_tokens\": 5, \"prompt_tokens\": 1}}\n\n",
        "data: [DONE]\n\n",
    );

    #[test]
    fn tokens_are_counted_however_the_bytes_are_cut() {
        for size in 1..ANSWER.len() {
            let mut events = Events::default();
            let pieces = ANSWER.as_bytes().chunks(size);
            let tokens = pieces.map(|piece| events.feed(piece).unwrap().tokens);
            assert_eq!(tokens.sum::<usize>(), 5, "by {size}");
            assert_eq!(events.end(), Ok(0));
        }
    }

    #[test]
    fn usage_with_a_piece_counts_what_was_held_back() {
        let mut events = Events::default();
        let piece = |n: usize| {
            format!(
                "data: {{\"choices\": [{{\"text\": \"a\"}}], \"usage\": {{\"completion_tokens\": {n}}}}}\n\n"
            )
        };
        let mut tokens = |n| events.feed(piece(n).as_bytes()).unwrap().tokens;
        assert_eq!((tokens(1), tokens(2), tokens(5)), (1, 1, 3));
    }

    #[test]
    fn usage_says_what_was_cached() {
        let mut events = Events::default();
        let usage = "data: {\"choices\": [], \"usage\": {\"completion_tokens\": 2, \"prompt_tokens_details\": {\"cached_tokens\": 7}}}\n";
        let arrival = events.feed(usage.as_bytes()).unwrap();
        assert_eq!((arrival.tokens, arrival.cached_tokens), (2, Some(7)));
    }

    #[test]
    fn what_goes_wrong_in_an_answer_is_told() {
        let failed = |text: &str| {
            let mut events = Events::default();
            let fed = events.feed(text.as_bytes());
            fed.map(|_| ())
                .and_then(|()| events.end().map(|_| ()))
                .unwrap_err()
        };
        for (text, code, message) in [
            (
                "data: {\"error\": {\"message\": \"too hot\", \"code\": 500}}\n",
                "INTERNAL",
                "too hot",
            ),
            ("data: {\"error\": \"why\"}\n", "INTERNAL", "\"why\""),
            ("data: {\"choices\n", "INTERNAL", "cannot be read"),
            (
                "data: {\"choices\": [{\"text\": \"a\"}]}\n",
                "UNAVAILABLE",
                "ended before",
            ),
            ("", "UNAVAILABLE", "ended before"),
        ] {
            let error = failed(text);
            assert_eq!(error.code, code, "{text}");
            assert!(error.message.contains(message), "{error:?}");
        }
    }
}
