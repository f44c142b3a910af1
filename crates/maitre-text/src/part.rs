//! What an answer is made of, as callers tell it apart: text for the reader, reasoning before it, calls of tools.

use compact_str::CompactString;

/// A piece of one part of an answer. The pieces of a part, put together, are the part; pieces of another part may come
/// in between.
///
/// Texts of up to 24 bytes, as most pieces are, take no memory of their own.
///
/// ```
/// use maitre_text::Part;
///
/// let pieces = [Part::Reasoning("Is it".into()), Part::Text("Yes".into()), Part::Text(".".into())];
/// assert_eq!(pieces.iter().map(Part::text).collect::<String>(), "Yes.");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// More of the text that is for the reader.
    Text(CompactString),
    /// More of what the model thinks before it answers.
    Reasoning(CompactString),
    /// More of a call of a tool.
    ToolCall {
        /// Which of the answer's calls, counted from 0.
        index: u32,
        /// The tool, in the first piece of the call.
        name: Option<String>,
        /// More of the call's arguments, which together are a JSON object.
        arguments_delta: CompactString,
    },
}

impl Default for Part {
    fn default() -> Self {
        Self::Text(CompactString::default())
    }
}

impl Part {
    /// Its text for the reader; empty if it is of another part.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Reasoning(_) | Self::ToolCall { .. } => "",
        }
    }

    /// Bytes of text in it, of whichever part.
    #[must_use]
    pub fn size_in_bytes(&self) -> usize {
        match self {
            Self::Text(text) | Self::Reasoning(text) => text.len(),
            Self::ToolCall {
                name,
                arguments_delta,
                ..
            } => name.as_ref().map_or(0, String::len) + arguments_delta.len(),
        }
    }
}
