//! The public face, tested from the outside: a server on a free loopback port with the bundled
//! model, talked to by generated clients, and by hand where a generated client is too polite.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod bad_input;
mod bad_templates;
mod bounds;
mod constraints;
mod deadline;
mod drain;
mod full_server;
mod hostile;
mod leaving;
mod openai;
mod raw;
mod round_trip;
mod sharing;
mod speculation;
mod starting;
mod surroundings;
mod test_server;
mod tools;
