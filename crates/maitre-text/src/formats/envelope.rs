//! A call as one JSON object with the name and the arguments, in any order, read character by character.

use super::json::{Json, JsonStep};
use super::tools::is_name;

/// Longest key of an envelope that is looked at, in bytes.
const MAX_KEY_BYTES: usize = 256;

/// What a character adds to a call.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum EnvelopeStep {
    /// Nothing that is passed on.
    More,
    /// The name is complete, `Envelope::name`.
    Name,
    /// The character belongs to the arguments.
    Arguments,
    /// The object is complete.
    Last,
    /// This is no call.
    Wrong,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Field {
    Name,
    Arguments,
    Other,
}

#[derive(Debug, Clone)]
enum At {
    Open,
    /// A key or, if none came yet, the end.
    Key {
        may_end: bool,
    },
    InKey(Json),
    Colon(Field),
    Value(Field),
    InValue(Field, Json),
    Next,
}

/// A position in the object of a call.
#[derive(Debug, Clone)]
pub(super) struct Envelope {
    at: At,
    /// The JSON of the key or of the name, as it is read.
    text: String,
    /// The name, once it is complete.
    pub(super) name: String,
    has_arguments: bool,
}

impl Envelope {
    pub(super) fn new() -> Self {
        Self {
            at: At::Open,
            text: String::new(),
            name: String::new(),
            has_arguments: false,
        }
    }

    /// Takes the next character.
    pub(super) fn step(&mut self, c: char) -> EnvelopeStep {
        let blank = c.is_ascii_whitespace();
        match &mut self.at {
            At::InKey(json) => {
                let step = json.step(c);
                self.text.push(c);
                return self.key(step);
            }
            At::InValue(field, json) => {
                let step = json.step(c);
                let field = field.clone();
                return self.value(&field, step, c);
            }
            _ if blank => return EnvelopeStep::More,
            _ => {}
        }
        let next = match (std::mem::replace(&mut self.at, At::Next), c) {
            (At::Open, '{') => At::Key { may_end: true },
            (At::Key { .. }, '"') => {
                let mut json = Json::new();
                json.step(c);
                self.text = c.to_string();
                At::InKey(json)
            }
            (At::Colon(field), ':') => At::Value(field),
            (At::Value(field), c) => return self.begin(field, c),
            (At::Next, ',') => At::Key { may_end: false },
            (At::Next, '}') | (At::Key { may_end: true }, '}')
                if !self.name.is_empty() && self.has_arguments =>
            {
                return EnvelopeStep::Last;
            }
            _ => return EnvelopeStep::Wrong,
        };
        self.at = next;
        EnvelopeStep::More
    }

    fn key(&mut self, step: JsonStep) -> EnvelopeStep {
        match step {
            JsonStep::More if self.text.len() <= MAX_KEY_BYTES => return EnvelopeStep::More,
            JsonStep::Last => {}
            JsonStep::More | JsonStep::After | JsonStep::Wrong => return EnvelopeStep::Wrong,
        }
        let field = match self.text.trim_matches('"') {
            "name" if self.name.is_empty() => Field::Name,
            "arguments" | "parameters" if !self.has_arguments => Field::Arguments,
            "name" | "arguments" | "parameters" => return EnvelopeStep::Wrong,
            _ => Field::Other,
        };
        self.at = At::Colon(field);
        EnvelopeStep::More
    }

    /// The first character of a value.
    fn begin(&mut self, field: Field, c: char) -> EnvelopeStep {
        let fits = match field {
            Field::Name => c == '"',
            Field::Arguments => c == '{',
            Field::Other => true,
        };
        self.text.clear();
        let mut json = Json::new();
        let step = json.step(c);
        if !fits || step == JsonStep::Wrong {
            return EnvelopeStep::Wrong;
        }
        let is_arguments = field == Field::Arguments;
        self.has_arguments |= is_arguments;
        self.at = At::InValue(field, json);
        match is_arguments {
            true => EnvelopeStep::Arguments,
            false => EnvelopeStep::More,
        }
    }

    fn value(&mut self, field: &Field, step: JsonStep, c: char) -> EnvelopeStep {
        match (step, field) {
            (JsonStep::Wrong, _) => EnvelopeStep::Wrong,
            (JsonStep::After, _) => {
                self.at = At::Next;
                self.step(c)
            }
            (JsonStep::More | JsonStep::Last, Field::Arguments) => {
                if step == JsonStep::Last {
                    self.at = At::Next;
                }
                EnvelopeStep::Arguments
            }
            (JsonStep::More, Field::Name) => {
                self.text.push(c);
                match self.text.len() <= MAX_KEY_BYTES {
                    true => EnvelopeStep::More,
                    false => EnvelopeStep::Wrong,
                }
            }
            (JsonStep::Last, Field::Name) => {
                self.at = At::Next;
                // Names have no character that JSON escapes, except that `/` may be.
                self.name = self.text.replace("\\/", "/");
                match is_name(&self.name) {
                    true => EnvelopeStep::Name,
                    false => EnvelopeStep::Wrong,
                }
            }
            (JsonStep::More, Field::Other) => EnvelopeStep::More,
            (JsonStep::Last, Field::Other) => {
                self.at = At::Next;
                EnvelopeStep::More
            }
        }
    }
}
