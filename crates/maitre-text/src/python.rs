//! Python's values and what Jinja2 lets a template do with them: chat templates are written for Jinja
//! on Python, and a model was trained on exactly the characters that come out there.
//!
//! Everything here either gives Python's result, or fails as Python would, or fails and names what is
//! not supported; never other text. Everything charges its work to the rendering's [`budget`].

pub(crate) mod arguments;
pub(crate) mod budget;
pub(crate) mod call;
mod checks;
mod compare;
mod containers;
pub(crate) mod filters;
mod format;
mod format_spec;
pub(crate) mod items;
mod json;
mod number;
pub(crate) mod operators;
mod percent;
pub(crate) mod repr;
mod string_methods;
pub(crate) mod text;
pub(crate) mod values;

pub(crate) use checks::check;
pub(crate) use compare::compare_named;
pub(crate) use number::parse_float;

use minijinja::{Error, ErrorKind};

/// What Python would raise.
pub(crate) fn fail(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}

/// What Python has and this crate does not.
pub(crate) fn unsupported(what: impl std::fmt::Display) -> Error {
    fail(format!(
        "{what} is not supported by this server's templates"
    ))
}
