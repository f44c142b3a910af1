//! What a request may ask of the form of its answer.

/// The form of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum GrammarSpec {
    /// A JSON value that a JSON schema accepts.
    JsonSchema {
        /// The schema, as JSON text.
        schema: String,
        /// Where the answer may have whitespace.
        whitespace: JsonWhitespace,
    },
    /// Any JSON object.
    JsonObject {
        /// Where the answer may have whitespace.
        whitespace: JsonWhitespace,
    },
    /// A text that a regular expression matches from its first character to its last, in the syntax of Rust's `regex`:
    /// no look-around and no back-references.
    Regex(String),
    /// A grammar, in Lark's notation as llguidance reads it, or in EBNF as llama.cpp does (`root ::= …`).
    Grammar(String),
    /// One of these texts.
    Choice(Vec<String>),
    /// Free text with parts in it whose form is fixed.
    StructuralTag(StructuralTag),
    /// A grammar in llguidance's own notation: Lark, or a JSON object with a list of `grammars`. For those that make
    /// grammars by program, such as tool formats.
    Llguidance(String),
}

/// Where JSON may have whitespace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum JsonWhitespace {
    /// Wherever JSON allows it, up to [`MAX_WHITESPACE`](super::limits::MAX_WHITESPACE) characters in one place.
    #[default]
    Flexible,
    /// Nowhere between the parts of a value.
    Compact,
}

/// Free text in which each of the triggers begins a part of fixed form.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct StructuralTag {
    /// The parts that may come.
    pub tags: Vec<Tag>,
    /// Texts that begin such parts. Each tag's `begin` starts with one of them, and no trigger occurs in free text.
    pub triggers: Vec<String>,
}

/// A part of fixed form: what it begins with, a JSON value, what it ends with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Tag {
    /// Text before the value.
    pub begin: String,
    /// The schema of the value, as JSON text.
    pub schema: String,
    /// Text behind the value.
    pub end: String,
}

impl GrammarSpec {
    /// The name of its kind, as the fields of requests have it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::JsonSchema { .. } => "json_schema",
            Self::JsonObject { .. } => "json_object",
            Self::Regex(_) => "regex",
            Self::Grammar(_) => "grammar",
            Self::Choice(_) => "choice",
            Self::StructuralTag(_) => "structural_tag",
            Self::Llguidance(_) => "llguidance",
        }
    }

    /// Bytes of text in it: what it costs to read.
    #[must_use]
    pub fn size_in_bytes(&self) -> usize {
        let each = |texts: &[String]| -> usize {
            let texts = texts.iter();
            texts.map(|text| size_of::<String>() + text.len()).sum()
        };
        match self {
            Self::JsonSchema { schema, .. } => schema.len(),
            Self::JsonObject { .. } => 0,
            Self::Regex(text) | Self::Grammar(text) | Self::Llguidance(text) => text.len(),
            Self::Choice(choices) => each(choices),
            Self::StructuralTag(tag) => {
                let tags = tag.tags.iter();
                let bytes = |tag: &Tag| {
                    size_of::<Tag>() + tag.begin.len() + tag.schema.len() + tag.end.len()
                };
                tags.map(bytes).sum::<usize>() + each(&tag.triggers)
            }
        }
    }
}
