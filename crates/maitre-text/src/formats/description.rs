//! What a description of a format can say. The parser and the grammar both read it, so that what the grammar
//! lets through is what the parser understands.
//!
//! **White space in a mark** is what the family's template writes, and what the grammar makes the model write.
//! The parser takes any white space there, and none, since models are not that exact.

use super::literal::Dialect;

/// How a family of models writes tool calls.
#[derive(Debug, PartialEq, Eq)]
pub struct ToolFormat {
    /// Its name, as the flag `--tool-format` takes it.
    pub name: &'static str,
    /// The models that write it.
    pub models: &'static str,
    /// Marks that are special tokens in the family's tokenizers. Text without special tokens lacks them, so a
    /// detokenizer has to keep them.
    pub special_tokens: &'static [&'static str],
    /// How a chat template is known to be of this family: it contains all texts of one of the lists.
    pub(crate) recognised_by: &'static [&'static [&'static str]],
    pub(crate) syntax: Syntax,
}

/// The two kinds of syntax.
#[derive(Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "rows of a table are never moved")]
pub(crate) enum Syntax {
    /// Marks around calls in a text.
    Marked(Marked),
    /// An answer is a sequence of messages, each with a channel and perhaps a recipient: gpt-oss's harmony.
    Channels,
}

/// Calls between marks.
///
/// ```text
/// section.0  call_open  body  call_close  between  call_open  body  call_close  section.1
/// ```
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Marked {
    /// Marks around all calls, if there are any.
    pub(crate) section: Option<(&'static str, &'static str)>,
    pub(crate) call_open: &'static str,
    /// What models also begin a call with, against their template.
    pub(crate) short_open: &'static str,
    pub(crate) body: Body,
    pub(crate) call_close: &'static str,
    /// What stands between calls.
    pub(crate) between: &'static str,
    pub(crate) placement: Placement,
    /// Whether calls that begin in a thought end it: models of the family do not always close it first.
    pub(crate) ends_thought: bool,
}

/// Where in an answer calls may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Placement {
    /// Anywhere: the first mark is none that text contains.
    Anywhere,
    /// Only where the answer begins, and only with the name of one of the request's tools: the first mark is
    /// no more than a bracket. Between these marks, which are optional, it may stand anywhere.
    Start(Option<(&'static str, &'static str)>),
}

/// What a call consists of.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// A JSON object with the name and the arguments.
    Envelope {
        /// The key of the arguments that the family's template writes. The parser knows both that are in use.
        arguments: &'static str,
        /// Whether the model may add an `id`.
        id: bool,
    },
    /// The name, then the arguments.
    Named {
        /// What may stand around the name.
        suffix: NameSuffix,
        /// What stands between the name and the arguments.
        arguments_open: &'static str,
        /// What arguments look like.
        arguments: Arguments,
    },
}

/// What a family appends to a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NameSuffix {
    None,
    /// This before the name, and after it `:` and the number of the call in the conversation. Models leave out
    /// either.
    Index(&'static str),
    /// This mark and an id of letters and digits, both optional.
    Id(&'static str),
}

/// How arguments are written.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Arguments {
    /// A JSON object.
    Json,
    /// One element for each argument, its value without quotes.
    Parameters(Parameters),
    /// Literals with commas between them; the first character of `call_close` ends them.
    Literals(Dialect),
}

/// An argument as an element: `open NAME key_close VALUE value_close`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Parameters {
    pub(crate) open: &'static str,
    /// Its first character is in no name.
    pub(crate) key_close: &'static str,
    /// Instead of `key_close` before a value that is JSON, in families that tell; then `key_close` says that
    /// the value is a text.
    pub(crate) json_key_close: Option<&'static str>,
    pub(crate) value_close: &'static str,
    /// Whether the value stands on lines of its own: one line break before it and one after it are not its.
    pub(crate) own_lines: bool,
}

impl Marked {
    /// The first mark, up to its first white space: what starts a call in a text.
    pub(crate) fn trigger(&self) -> &'static str {
        let mark = match (self.placement, self.section) {
            (Placement::Start(marks), _) => marks.map_or("", |(open, _)| open),
            (Placement::Anywhere, Some((open, _))) => open,
            (Placement::Anywhere, None) => self.call_open,
        };
        mark.split_whitespace().next().unwrap_or("")
    }

    /// The character that calls without any mark begin with.
    pub(crate) fn bare_start(&self) -> Option<char> {
        match (self.placement, self.section) {
            (Placement::Anywhere, _) => None,
            (Placement::Start(_), Some((open, _))) => open.chars().next(),
            (Placement::Start(_), None) => Some('{'),
        }
    }
}
