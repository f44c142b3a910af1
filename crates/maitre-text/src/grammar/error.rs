//! Why a grammar is refused.

/// Why a grammar is refused. Every message says what was found, where, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GrammarError {
    /// There is more of something than is accepted.
    #[error("{what} {found}; at most {limit} are accepted")]
    TooLarge {
        /// What there is too much of, with its verb, such as "the schema has bytes:".
        what: &'static str,
        /// How much there is.
        found: usize,
        /// How much there may be.
        limit: usize,
    },
    /// A schema or a grammar does not parse, or what it says makes no sense.
    #[error("is not {expected}: {reason}")]
    Invalid {
        /// What was expected.
        expected: &'static str,
        /// What the reader stumbled over.
        reason: String,
    },
    /// Part of a schema is known, and not supported.
    #[error("{reason}; leave it out, or say the same with keywords that are supported")]
    Unsupported {
        /// The keyword or format, and where it stands.
        reason: String,
    },
    /// Compiling it, or its first token, takes more work than one grammar may.
    #[error("is too complex to be compiled: {reason}; make its patterns and bounds smaller")]
    TooComplex {
        /// Which bound was passed.
        reason: String,
    },
    /// The model's tokens do not say what bytes they stand for.
    #[error("can't be used with this model: {reason}")]
    Tokenizer {
        /// What is in the way.
        reason: String,
    },
    /// The system gave no thread to compile it on.
    #[error("could not be compiled: the system has no thread for it; try again later")]
    NoThread,
    /// The program has no compiler for grammars.
    #[error("can't be used: this program was built without the feature \"grammar\"")]
    NotBuiltIn,
}
