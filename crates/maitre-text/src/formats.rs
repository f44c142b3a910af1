//! How models write calls of tools and thoughts into their text, and how to get them out again.
//!
//! A model knows nothing but text. What an API shows as a call, `{"name": "weather", "arguments": {…}}`, the
//! model writes between marks that its family was trained on, and every family has its own. So there is one
//! **description** for each: the rows of `table`, in the terms of `description`. Two programs read a row.
//!
//! - The **parser** ([`PartParser`]) follows the answer, token by token, and takes it apart.
//! - The **grammar** ([`CallGrammar`]) makes a model write a call when the request requires one.
//!
//! As both read the same row, a call that the grammar lets through is one that the parser understands.
//!
//! # How the parser works
//! ```text
//!            trigger ──► calls: marks, name, arguments ──► closed ──┐
//!   text ──┤                     └─ not as described: back to text  ├──► text
//!            <think> ──► thought ──► </think> ──────────────────────┘
//! ```
//! In a text, an automaton looks for the first word of the marks and holds back what may still become one. From
//! there on the description says what may follow, so a state machine takes one character at a time and is
//! never in doubt: either the character fits or this is no call. JSON arguments pass through unchanged, checked
//! on the way; those of other syntaxes become JSON, by the types of the tool's schema. No character is looked at
//! twice but those of a mark that did not match: a megabyte of half marks costs what a megabyte of prose does.
//!
//! # A format of your own
//! Add a row to `table`, a template that writes it to `tests/formats/`, and the row to the guide's page on tools.
//! The tests then check it like all others.

mod calls;
mod channels;
mod constrain;
mod description;
mod envelope;
mod json;
mod literal;
mod marked;
mod marks;
mod output;
mod parser;
mod reasoning;
mod scanner;
mod schema;
mod table;
mod tools;
mod values;

pub use calls::MalformedCalls;
pub use constrain::CallGrammar;
pub use description::ToolFormat;
pub use parser::{AnswerFormat, PartParser};
pub use reasoning::{ReasoningFormat, Thought};
pub use tools::{Tool, ToolChoice, Tools};
