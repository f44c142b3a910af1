//! The limits that a grammar meets before and while it is compiled. A request's grammar is a program that the server
//! runs, so all of it is bounded.

/// Bytes of a grammar, its schemas included.
pub const MAX_GRAMMAR_BYTES: usize = 256 << 10;
/// Bytes of a regular expression.
pub const MAX_REGEX_BYTES: usize = 16 << 10;
/// Bytes of a text that has to come as it is: a constant, a value of `enum`, the name of a property, a text of a choice. It is
/// tokenized again for each of its tokens.
pub const MAX_FIXED_BYTES: usize = 8 << 10;
/// Characters that a regular expression has once its repetitions are written out.
pub const MAX_REGEX_CHARS: usize = 20_000;
/// Levels of nesting in a schema.
pub const MAX_SCHEMA_DEPTH: usize = 64;
/// Levels of nesting in a schema where all references are followed, each once and one behind the other.
pub const MAX_SCHEMA_LEVELS: usize = 4096;
/// Values in all `enum` lists of a schema together.
pub const MAX_ENUM_VALUES: usize = 10_000;
/// Properties of one object.
pub const MAX_PROPERTIES: usize = 1_000;
/// Alternatives of one `oneOf`: each is compared with each.
pub const MAX_ONE_OF: usize = 128;
/// Patterns of one `patternProperties`: each is compared with each.
pub const MAX_PATTERN_PROPERTIES: usize = 16;
/// Texts of a choice.
pub const MAX_CHOICES: usize = 10_000;
/// Tags of a structural tag.
pub const MAX_TAGS: usize = 256;
/// Characters of whitespace in one place of a JSON answer.
pub const MAX_WHITESPACE: usize = 32;
/// Compiled grammars that are kept for later requests.
pub const MAX_KEPT: usize = 32;
/// Bytes of the grammars that are kept, as they were given; compiled they take a hundred times as much.
pub const MAX_KEPT_BYTES: usize = 512 << 10;

/// Bytes of stack for compiling: what the levels of a schema take, several times over. Only what is used exists.
#[cfg(feature = "grammar")]
pub(super) const COMPILE_STACK: usize = 128 << 20;
/// States of the lexer of one answer: 1 to 2 kB each.
#[cfg(feature = "grammar")]
pub(super) const MAX_LEXER_STATES: usize = 20_000;
/// Steps of building the lexer: about 50,000 a millisecond.
#[cfg(feature = "grammar")]
pub(super) const COMPILE_FUEL: u64 = 1_000_000;
/// Steps of the lexer for one mask: about 14,000 a millisecond.
#[cfg(feature = "grammar")]
pub(super) const MASK_FUEL: u64 = 200_000;
/// Items of the parser for one mask: about 20,000 a millisecond.
#[cfg(feature = "grammar")]
pub(super) const MASK_ITEMS: usize = 50_000;
/// Items of the parser for one character: several for each property that may come next.
#[cfg(feature = "grammar")]
pub(super) const MAX_ROW_ITEMS: usize = 5_000;
/// Symbols of a compiled grammar.
#[cfg(feature = "grammar")]
pub(super) const MAX_SYMBOLS: usize = 500_000;
