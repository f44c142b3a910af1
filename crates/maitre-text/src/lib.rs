//! This crate turns text into token ids and back: it holds a model's tokenizer, its chat template, incremental
//! detokenizing, stop strings, the formats in which models write calls of tools and thoughts, and the forms that an
//! answer may have to keep to ([`grammar`]).
//!
//! This crate must never know about tensors, scheduling, or requests in flight; it reads no file, no
//! clock and no network. Everything in it is a function of bytes that a caller hands over.
//!
//! # Invariants
//! - Text inside a chat message never becomes a control token ([`Tokenizer::encode_chat`]).
//! - What a [`Detokenizer`] returns piece by piece is what [`Tokenizer::decode`] returns at once, and no
//!   piece ends inside a character.
//! - Which stop string ends a text does not depend on how the text was cut into pieces ([`StopStrings`]).
//! - Which parts an answer has does not depend on how its text was cut into pieces ([`PartParser`]), and what a
//!   format's grammar lets through is what its parser understands ([`CallGrammar`]).
//! - What comes under a grammar keeps to it, and does not depend on what was drafted; a grammar is bounded in
//!   size and work ([`grammar::limits`]).
//! - A template is bounded in instructions, recursion and output ([`TemplateLimits`]).
//!
//! # Example
//! ```
//! use maitre_text::{ChatMessage, ChatRequest, Detokenizer, Role, StopStrings, Tokenizer};
//!
//! # fn main() -> Result<(), maitre_text::TextError> {
//! let tokenizer_json = br#"{
//!   "added_tokens": [{"id": 4, "content": "<|end|>", "special": true, "normalized": false,
//!                     "single_word": false, "lstrip": false, "rstrip": false}],
//!   "decoder": {"type": "Fuse"},
//!   "model": {"type": "BPE", "vocab": {"h": 0, "i": 1, "hi": 2, "!": 3}, "merges": ["h i"]}}"#;
//! let template = b"{% for m in messages %}{{ m.content }}<|end|>{% endfor %}";
//! let tokenizer = Tokenizer::from_bytes(tokenizer_json, None, Some(template))?;
//!
//! let chat = ChatRequest::new(vec![ChatMessage::new(Role::User, "hi!")]);
//! assert_eq!(tokenizer.encode_chat(&chat)?, [2, 3, 4]);
//!
//! let mut detokenizer = Detokenizer::new(tokenizer, true);
//! let mut stop = StopStrings::new(vec!["!".into()]);
//! let text = detokenizer.push(2);
//! assert_eq!(stop.push(&text).text, "hi");
//! assert_eq!(stop.push(&detokenizer.push(3)).matched, Some(0));
//! # Ok(())
//! # }
//! ```

mod automaton;
mod byte_run;
mod bytes;
mod chat;
mod config;
mod culprit;
mod decoding;
mod detokenizer;
mod error;
mod files;
mod formats;
mod gguf;
pub mod grammar;
mod mask;
mod part;
mod python;
mod stop;
mod strftime;
mod template;
mod tokenizer;
mod vocabulary;

pub use chat::{ChatMessage, ChatRequest, Role};
pub use config::SpecialTokens;
pub use detokenizer::Detokenizer;
pub use error::TextError;
pub use files::TokenizerFiles;
pub use formats::{
    AnswerFormat, CallGrammar, MalformedCalls, PartParser, ReasoningFormat, Thought, Tool,
    ToolChoice, ToolFormat, Tools,
};
pub use part::Part;
pub use stop::{StopStep, StopStrings};
pub use template::{ChatTemplate, TemplateLimits};
pub use tokenizer::Tokenizer;
