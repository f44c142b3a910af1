//! Structured output: what an answer has to look like, as a grammar that says which tokens may come.
//!
//! A [`GrammarSpec`] is what a request asks for. With the feature `grammar`, a [`GrammarCompiler`], made once per
//! tokenizer, turns it into the source of a [`Constraint`](maitre_sampling::Constraint). The work is done by the
//! `llguidance` library: a lexer made of derivatives of regular expressions and an Earley parser walk a trie of all
//! tokens. Around it stand the limits that a hostile grammar meets ([`limits`]), and what an answer of ours needs:
//! masks behind drafts, the end of an answer, reasoning that comes first.
//!
//! # Whitespace in JSON
//! As vLLM does by default, JSON may have whitespace wherever JSON allows it ([`JsonWhitespace::Flexible`]), but in
//! one place never more than [`limits::MAX_WHITESPACE`] characters: a small model would otherwise write spaces until its
//! answer is full. [`JsonWhitespace::Compact`] allows none.

#[cfg(feature = "grammar")]
mod bounds;
#[cfg(feature = "grammar")]
mod compiler;
#[cfg(feature = "grammar")]
mod ebnf;
#[cfg(feature = "grammar")]
mod ecma;
mod error;
#[cfg(feature = "grammar")]
mod formats;
#[cfg(feature = "grammar")]
mod kept;
#[cfg(feature = "grammar")]
mod lark;
pub mod limits;
#[cfg(feature = "grammar")]
mod matcher;
#[cfg(feature = "grammar")]
mod multiples;
#[cfg(feature = "grammar")]
mod names;
#[cfg(feature = "grammar")]
mod nothing;
#[cfg(feature = "grammar")]
mod reasoning;
#[cfg(feature = "grammar")]
mod regex_size;
#[cfg(feature = "grammar")]
mod rewrite;
#[cfg(feature = "grammar")]
mod schema;
mod spec;
#[cfg(feature = "grammar")]
mod thinking;
#[cfg(feature = "grammar")]
mod trie;

#[cfg(feature = "grammar")]
pub use compiler::GrammarCompiler;
pub use error::GrammarError;
#[cfg(feature = "grammar")]
pub use lark::control_token;
#[cfg(feature = "grammar")]
pub use reasoning::{AfterReasoning, ReasoningEnd};
pub use spec::{GrammarSpec, JsonWhitespace, StructuralTag, Tag};
#[cfg(feature = "grammar")]
pub use thinking::ThinkingBudget;
