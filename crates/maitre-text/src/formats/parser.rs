//! The incremental parser of answers: what a model writes, piece by piece, comes out as parts.

use std::sync::Arc;

use super::ToolFormat;
use super::calls::MalformedCalls;
use super::channels::ChannelParser;
use super::description::Syntax;
use super::marked::MarkedParser;
use super::output::Output;
use super::reasoning::{ReasoningFormat, Thought};
use super::tools::Tools;
use crate::{Part, Tokenizer};

/// How an answer is to be taken apart. The default takes all of it for text.
#[derive(Debug, Clone, Default)]
pub struct AnswerFormat {
    /// How calls are written; nothing if calls are not looked for (no format is known, or `tool_choice` is none).
    pub tool_format: Option<&'static ToolFormat>,
    /// The request's tools. Without any, no calls are looked for.
    pub tools: Arc<Tools>,
    /// How thoughts are written; nothing if they are not told from the text.
    pub reasoning_format: Option<&'static ReasoningFormat>,
    /// Where the prompt leaves off: [`ReasoningFormat::after`].
    pub thought: Thought,
    /// Whether a call is released only when it is complete. Then a malformed call comes back as text as it was
    /// written: right for an answer that is not streamed. Otherwise its name is released as soon as it is
    /// complete, and its arguments as they come; what follows a mistake in them is text.
    pub whole_calls: bool,
}

impl AnswerFormat {
    /// The marks that are special tokens of this tokenizer. A detokenizer has to keep them
    /// ([`Detokenizer::keep`](crate::Detokenizer::keep)), or the parser never sees them.
    pub fn kept_tokens(&self, tokenizer: &Tokenizer) -> Vec<u32> {
        let of_tools = self.tool_format.map(|format| format.special_tokens);
        let of_thoughts = self.reasoning_format.map(|format| format.special_tokens);
        let marks = of_tools.into_iter().chain(of_thoughts).flatten();
        marks
            .filter_map(|mark| tokenizer.special_token_id(mark))
            .collect()
    }
}

/// Takes an answer apart while it arrives.
///
/// The parts, put together, do not depend on how the text was cut. Text is released as soon as it is certain
/// that it belongs to no mark. White space between marks and text is not part of the text. Whatever is no
/// well-formed call is text, as it was written.
///
/// ```
/// use std::sync::Arc;
///
/// use maitre_text::{AnswerFormat, Part, PartParser, ReasoningFormat, ToolFormat, Tools};
///
/// # fn main() -> Result<(), maitre_text::TextError> {
/// let tools = serde_json::json!([{"name": "weather", "parameters": {"type": "object"}}]);
/// let mut parser = PartParser::new(AnswerFormat {
///     tool_format: ToolFormat::named("hermes"),
///     tools: Arc::new(Tools::from_json(tools.as_array().unwrap())?),
///     reasoning_format: ReasoningFormat::named("think"),
///     ..AnswerFormat::default()
/// });
/// let mut parts = Vec::new();
/// for piece in ["<th", "ink>Hm", ".</think>\n\n<tool_call>\n{\"name\": \"weather\", \"argum", "ents\": {}}", "\n</tool_call>"] {
///     parser.push(piece, &mut parts);
/// }
/// parser.finish(&mut parts);
/// assert_eq!(parts, [
///     Part::Reasoning("Hm.".into()),
///     Part::ToolCall { index: 0, name: Some("weather".into()), arguments_delta: "{}".into() },
/// ]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct PartParser {
    parser: Parser,
}

#[derive(Debug, Clone)]
enum Parser {
    Marked(Box<MarkedParser>),
    Channels(Box<ChannelParser>),
}

impl PartParser {
    /// A parser for one answer.
    pub fn new(format: AnswerFormat) -> Self {
        let AnswerFormat {
            tool_format,
            tools,
            reasoning_format,
            thought,
            whole_calls,
        } = format;
        let has_channels = tool_format.is_some_and(ToolFormat::has_channels)
            || reasoning_format.is_some_and(ReasoningFormat::has_channels);
        let tool_format = tool_format.filter(|_| !tools.is_empty());
        let parser = match tool_format.map(|format| &format.syntax) {
            _ if has_channels => {
                let tools = tool_format.map(|_| tools);
                Parser::Channels(Box::new(ChannelParser::new(tools, whole_calls, thought)))
            }
            Some(Syntax::Marked(syntax)) => Parser::Marked(Box::new(MarkedParser::new(
                Some((syntax, tools, whole_calls)),
                reasoning_format,
                thought,
            ))),
            Some(Syntax::Channels) | None => {
                Parser::Marked(Box::new(MarkedParser::new(None, reasoning_format, thought)))
            }
        };
        Self { parser }
    }

    /// Takes the next piece of the answer, and appends to `parts` what it makes certain. A part that goes on
    /// where the last one in `parts` left off is put together with it.
    pub fn push(&mut self, text: &str, parts: &mut Vec<Part>) {
        let mut out = Output(parts);
        match &mut self.parser {
            Parser::Marked(parser) => parser.push(text, &mut out),
            Parser::Channels(parser) => parser.push(text, &mut out),
        }
    }

    /// How often what began as a call was none so far, and became text.
    pub fn malformed_calls(&self) -> MalformedCalls {
        match &self.parser {
            Parser::Marked(parser) => parser.malformed_calls(),
            Parser::Channels(parser) => parser.malformed_calls(),
        }
    }

    /// Whether what comes next is part of a thought, as far as is known.
    pub fn is_thinking(&self) -> bool {
        match &self.parser {
            Parser::Marked(parser) => parser.is_thinking(),
            Parser::Channels(parser) => parser.is_thinking(),
        }
    }

    /// The answer is over: appends to `parts` what was held back.
    pub fn finish(&mut self, parts: &mut Vec<Part>) {
        let mut out = Output(parts);
        match &mut self.parser {
            Parser::Marked(parser) => parser.finish(&mut out),
            Parser::Channels(parser) => parser.finish(&mut out),
        }
    }
}
