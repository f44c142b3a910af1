//! Why a template does not parse.

use minijinja::{Error, ErrorKind};

/// A message and the line it is about.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SyntaxError {
    message: String,
    line: usize,
}

impl SyntaxError {
    pub(super) fn new(message: impl Into<String>, line: usize) -> Self {
        Self {
            message: message.into(),
            line,
        }
    }

    /// In the words that the template engine uses for its own errors.
    pub(super) fn describe(&self, template: &str) -> String {
        format!(
            "syntax error: {} (in {template}:{})",
            self.message, self.line
        )
    }
}

impl From<SyntaxError> for Error {
    fn from(error: SyntaxError) -> Self {
        Self::new(ErrorKind::SyntaxError, error.message)
    }
}
