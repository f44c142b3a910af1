//! Where messages come from: a line editor on a terminal, else plain lines.

use std::io::{self, BufRead, IsTerminal, StdinLock};
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Config, Context, Editor, Helper};

use super::{commands, message};

const PROMPT: &str = ">>> ";

/// What came in.
pub(super) enum Entered {
    /// A whole message, as it was typed.
    Typed(String),
    /// Ctrl-C at the prompt.
    Interrupted,
    End,
}

pub(super) enum Input {
    Terminal(Box<Terminal>),
    Lines(StdinLock<'static>),
}

/// A line editor, with the file that keeps its lines, if there is one.
pub(super) struct Terminal {
    editor: Editor<Rules, FileHistory>,
    history: Option<PathBuf>,
}

impl Input {
    /// The editor where a person sees what they type, else plain lines.
    pub(super) fn open(history: Option<PathBuf>) -> Result<Self> {
        if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
            return Ok(Self::Lines(io::stdin().lock()));
        }
        let config = Config::builder().auto_add_history(true).build();
        let mut editor = Editor::with_config(config).context("opening the terminal")?;
        editor.set_helper(Some(Rules));
        if let Some(file) = history.as_ref().filter(|file| file.exists()) {
            let loaded = editor.load_history(file);
            loaded.with_context(|| format!("reading the history in {}", file.display()))?;
        }
        Ok(Self::Terminal(Box::new(Terminal { editor, history })))
    }

    pub(super) fn is_terminal(&self) -> bool {
        matches!(self, Self::Terminal(_))
    }

    /// Waits for the next message. Blocks.
    pub(super) fn next(&mut self) -> Result<Entered> {
        match self {
            Self::Terminal(terminal) => terminal.next(),
            Self::Lines(lines) => next_of_lines(lines).context("reading stdin"),
        }
    }
}

impl Terminal {
    fn next(&mut self) -> Result<Entered> {
        let entered = match self.editor.readline(PROMPT) {
            Ok(typed) => Entered::Typed(typed),
            Err(ReadlineError::Eof) => Entered::End,
            Err(ReadlineError::Interrupted) => Entered::Interrupted,
            // Not UTF-8: the line is lost, as one that is taken back.
            Err(ReadlineError::Io(error)) if error.kind() == io::ErrorKind::InvalidData => {
                Entered::Interrupted
            }
            Err(error) => return Err(error).context("reading the terminal"),
        };
        if let Some(file) = &self.history {
            let saved = self.editor.append_history(file);
            saved.with_context(|| format!("writing the history to {}", file.display()))?;
        }
        Ok(entered)
    }
}

/// Lines until the message is whole, or the input ends.
fn next_of_lines(lines: &mut impl BufRead) -> io::Result<Entered> {
    let mut typed = String::new();
    loop {
        let mut line = Vec::new();
        if lines.read_until(b'\n', &mut line)? == 0 {
            return Ok(match typed.is_empty() {
                true => Entered::End,
                false => Entered::Typed(typed),
            });
        }
        let line = String::from_utf8_lossy(&line);
        let line = line.strip_suffix('\n').unwrap_or(&line);
        typed.push_str(line.strip_suffix('\r').unwrap_or(line));
        if message::is_whole(&typed) {
            return Ok(Entered::Typed(typed));
        }
        typed.push('\n');
    }
}

/// What the editor asks about a line: whether Enter ends it, and how Tab completes it.
struct Rules;

impl Validator for Rules {
    fn validate(&self, typed: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        Ok(match message::is_whole(typed.input()) {
            true => ValidationResult::Valid(None),
            false => ValidationResult::Incomplete,
        })
    }
}

impl Completer for Rules {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        at: usize,
        _context: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        let begun = line.get(..at).unwrap_or_default();
        let is_name = begun.starts_with('/');
        let names = commands::names().filter(|name| is_name && name.starts_with(begun));
        Ok((0, names.map(str::to_owned).collect()))
    }
}

impl Hinter for Rules {
    type Hint = String;
}
impl Highlighter for Rules {}
impl Helper for Rules {}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(input: &[u8]) -> Vec<String> {
        let mut input = input;
        let mut messages = Vec::new();
        while let Entered::Typed(typed) = next_of_lines(&mut input).unwrap() {
            messages.push(typed);
        }
        messages
    }

    #[test]
    fn piped_lines_are_messages() {
        assert!(messages(b"").is_empty());
        assert_eq!(messages(b"a\n\r\nb\r\nlast"), ["a", "", "b", "last"]);
        assert_eq!(messages(b"a\\\nb\nc\n"), ["a\\\nb", "c"]);
        let quoted = b"\"\"\"\na\n\nb\n\"\"\"\nc\n";
        assert_eq!(messages(quoted), ["\"\"\"\na\n\nb\n\"\"\"", "c"]);
        assert_eq!(messages(b"\"\"\"\nopen\n"), ["\"\"\"\nopen\n"]);
        assert_eq!(messages(b"caf\xe9\n"), ["caf\u{fffd}"]);
    }
}
