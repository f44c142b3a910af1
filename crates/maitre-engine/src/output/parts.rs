//! Takes the text of one answer apart, and counts what comes of it.

use compact_str::CompactString;
use maitre_text::{MalformedCalls, Part, PartParser};

use crate::request::parts::ResolvedParts;

/// What reads the text of an answer. Its clones read other answers to the same prompt.
#[derive(Debug, Clone)]
pub(crate) struct PartReader {
    parser: PartParser,
    parallel_tool_calls: bool,
    reasoning_tokens: u32,
    /// How calls are written, if they are looked for.
    format: Option<&'static str>,
    malformed: MalformedCalls,
}

impl PartReader {
    pub(crate) fn new(parts: &ResolvedParts) -> Self {
        Self {
            parser: PartParser::new(parts.format.clone()),
            parallel_tool_calls: parts.parallel_tool_calls,
            reasoning_tokens: 0,
            format: parts.format.tool_format.map(|format| format.name),
            malformed: MalformedCalls::default(),
        }
    }

    /// Tokens of thoughts so far, the closing mark's included.
    pub(crate) fn reasoning_tokens(&self) -> u32 {
        self.reasoning_tokens
    }

    /// Takes the text that became certain with one more token; appends what comes of it to `parts`, which is empty.
    pub(crate) fn token(&mut self, text: &str, ends: bool, parts: &mut Vec<Part>) {
        let was_thinking = self.parser.is_thinking();
        self.reasoning_tokens += u32::from(was_thinking);
        self.read(text, ends, parts);
        if parts.is_empty() && was_thinking {
            parts.push(Part::Reasoning(CompactString::default()));
        }
    }

    /// Takes text that came with no token.
    pub(crate) fn read(&mut self, text: &str, ends: bool, parts: &mut Vec<Part>) {
        self.parser.push(text, parts);
        if ends {
            self.parser.finish(parts);
        }
        self.count_malformed();
        if !self.parallel_tool_calls {
            parts.retain(|part| !matches!(part, Part::ToolCall { index: 1.., .. }));
        }
        let begins = |part: &&Part| matches!(part, Part::ToolCall { name: Some(_), .. });
        crate::observe::metrics::tool_calls(parts.iter().filter(begins).count());
    }

    /// Counts what began as a call and became text since this was last called.
    fn count_malformed(&mut self) {
        let (now, before) = (self.parser.malformed_calls(), self.malformed);
        let Some(format) = self.format.filter(|_| now != before) else {
            return;
        };
        self.malformed = now;
        let mistaken = now.mistaken.saturating_sub(before.mistaken);
        let cut_off = now.cut_off.saturating_sub(before.cut_off);
        crate::observe::metrics::malformed_calls(format, mistaken, cut_off);
    }
}
