//! Grammars from the outside: what comes is what was asked for, whatever the tokens are drafted from; what cannot be had
//! is refused by name, and what is too much in bounded time.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, missing_docs)]

mod exact;
mod hostile;
mod json_schema;
mod notations;
mod random;
mod reasoning;
mod walk;
