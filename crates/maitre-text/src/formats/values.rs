//! Arguments that are not JSON, read character by character until they are complete.

use super::description::Parameters;
use super::json::{Json, JsonStep};
use super::literal::Dialect;
use super::marks::Written;
use super::schema::Kinds;

/// Longest name of an argument that is read, in bytes.
const MAX_KEY_BYTES: usize = 256;

/// Whether an element can have this name: it ends before the mark after it, and on its line.
pub(super) fn can_be_key(name: &str, parameters: &Parameters) -> bool {
    (1..=MAX_KEY_BYTES).contains(&name.len())
        && name.trim() == name
        && !name.contains(['\n', '<', '>'])
        && !name.contains(parameters.key_close.chars().next().unwrap_or('>'))
}

/// An argument's value as the text of an element.
#[derive(Debug, Clone)]
pub(super) struct ElementValue {
    /// What ends it.
    close: &'static str,
    own_lines: bool,
    pub(super) kinds: Kinds,
    pub(super) written: Written,
    /// What was read and not passed on.
    pub(super) text: String,
    begun: bool,
    /// Where in the JSON it is, if it is JSON so far and no text: what looks like the closing mark may stand in a
    /// string of it.
    json: Option<Json>,
    /// Whether a part of it was passed on.
    pub(super) is_open: bool,
}

impl ElementValue {
    pub(super) fn new(
        close: &'static str,
        own_lines: bool,
        kinds: Kinds,
        written: Written,
    ) -> Self {
        let is_json = match written {
            Written::Json => true,
            Written::Either => !kinds.is_unknown() && !kinds.has(Kinds::STRING),
            Written::Text => false,
        };
        Self {
            json: is_json.then(Json::new),
            close: close.trim(),
            own_lines,
            kinds,
            written,
            text: String::new(),
            begun: false,
            is_open: false,
        }
    }

    /// Whether it is a string whatever it contains, so that it can be passed on as it comes.
    pub(super) fn is_text(&self) -> bool {
        match self.written {
            Written::Text => true,
            Written::Either => self.kinds == Kinds::STRING,
            Written::Json => false,
        }
    }

    /// Takes the next character; true if it completes the value, which then is `text`.
    pub(super) fn push(&mut self, c: char) -> bool {
        let first = !std::mem::replace(&mut self.begun, true);
        if first && self.own_lines && c == '\n' {
            return false;
        }
        self.text.push(c);
        let step = self.json.as_mut().map(|json| json.step(c));
        if step.is_some_and(|step| step != JsonStep::More) {
            self.json = None;
        }
        let in_string = self.json.as_ref().is_some_and(Json::is_in_text);
        if in_string || !self.text.ends_with(self.close) {
            return false;
        }
        self.text.truncate(self.text.len() - self.close.len());
        if self.own_lines && self.text.ends_with('\n') {
            self.text.pop();
        }
        true
    }

    /// Takes out what certainly belongs to the value: all that the closing mark and the line break before it
    /// cannot reach.
    pub(super) fn take_certain(&mut self) -> Option<String> {
        let kept = self.close.len() + 1;
        if self.text.len() < 2 * kept {
            return None;
        }
        let end = self.text.floor_char_boundary(self.text.len() - kept);
        let rest = self.text.split_off(end);
        Some(std::mem::replace(&mut self.text, rest))
    }
}

/// What a character does to a list of literals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LiteralStep {
    More,
    /// It is the comma after an argument.
    Comma,
    /// It is the end of the arguments, and not one of them.
    End,
    /// Brackets do not match.
    Wrong,
}

/// An argument of a list of literals: finds its end, past strings and brackets.
#[derive(Debug, Clone)]
pub(super) struct LiteralItem {
    dialect: Dialect,
    /// The character that ends the arguments.
    end: char,
    pub(super) text: String,
    nesting: u32,
    /// The quote that ends the string that is open; for Gemma's mark, any.
    quote: Option<char>,
    escaped: bool,
    /// Bytes of `text` up to the last mark: marks do not overlap.
    mark_end: usize,
}

impl LiteralItem {
    pub(super) fn new(dialect: Dialect, end: char) -> Self {
        Self {
            dialect,
            end,
            text: String::new(),
            nesting: 0,
            quote: None,
            escaped: false,
            mark_end: 0,
        }
    }

    /// Takes the next character.
    pub(super) fn push(&mut self, c: char) -> LiteralStep {
        let in_text = self.quote.is_some();
        if !in_text {
            match c {
                ',' if self.nesting == 0 => return LiteralStep::Comma,
                _ if c == self.end && self.nesting == 0 => return LiteralStep::End,
                '(' | '[' | '{' => self.nesting += 1,
                ')' | ']' | '}' => match self.nesting.checked_sub(1) {
                    Some(nesting) => self.nesting = nesting,
                    None => return LiteralStep::Wrong,
                },
                _ => {}
            }
        }
        self.text.push(c);
        match self.dialect {
            Dialect::Gemma(mark) => self.mark(mark),
            Dialect::Python => self.python(c),
        }
        LiteralStep::More
    }

    fn mark(&mut self, mark: &str) {
        let new = self.text.get(self.mark_end..).unwrap_or("");
        if new.ends_with(mark) {
            self.mark_end = self.text.len();
            self.quote = match self.quote {
                Some(_) => None,
                None => Some('"'),
            };
        }
    }

    fn python(&mut self, c: char) {
        match self.quote {
            None if matches!(c, '"' | '\'') => self.quote = Some(c),
            None => {}
            Some(_) if self.escaped => self.escaped = false,
            Some(_) if c == '\\' => self.escaped = true,
            Some(quote) if c == quote => self.quote = None,
            Some(_) => {}
        }
    }
}
