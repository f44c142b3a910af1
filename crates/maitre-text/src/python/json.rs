//! The `tojson` filter as transformers defines it: `json.dumps(x, ensure_ascii=False, indent=None,
//! separators=None, sort_keys=False)`, without the HTML escaping of Jinja's own.
//!
//! One deviation: Unicode noncharacters stay as they are under `ensure_ascii`, because masked control
//! tokens travel through templates as noncharacters.

use std::fmt::Write;

use minijinja::{Error, ErrorKind, Value};

use super::arguments::{Arguments, flag, integer, is_absent, size, text};
use super::budget::Context;
use super::compare::sorted_by;
use super::fail;
use super::items::iterate;
use super::number::float_repr;
use super::values::{View, type_name, view};

struct Options {
    ensure_ascii: bool,
    indent: Option<String>,
    item_separator: String,
    key_separator: String,
    sort_keys: bool,
}

/// The filter.
pub(super) fn to_json(
    context: &Context<'_, '_, '_>,
    value: &Value,
    arguments: &Arguments,
) -> Result<Value, Error> {
    let names = ["ensure_ascii", "indent", "separators", "sort_keys"];
    let [ensure_ascii, indent, separators, sort_keys] = arguments.bind("tojson", names, 0)?;
    let indent = match &indent {
        Some(indent) if !is_absent(&Some(indent.clone())) => Some(match indent.as_str() {
            Some(text) => text.to_owned(),
            None => {
                let width = size(integer("tojson", indent)?);
                context.build(width)?;
                " ".repeat(width)
            }
        }),
        _ => None,
    };
    let (item_separator, key_separator) = match &separators {
        Some(given) if !is_absent(&separators) => match iterate(context, given)?.as_slice() {
            [item, key] => (
                text("tojson", item)?.to_owned(),
                text("tojson", key)?.to_owned(),
            ),
            _ => return Err(fail("tojson: separators are a pair of strings")),
        },
        _ => {
            let item = if indent.is_some() { "," } else { ", " };
            (item.to_owned(), ": ".to_owned())
        }
    };
    let mut writer = Writer {
        context,
        options: Options {
            ensure_ascii: flag(&ensure_ascii, false),
            indent,
            item_separator,
            key_separator,
            sort_keys: flag(&sort_keys, false),
        },
        out: String::new(),
        charged: 0,
    };
    writer.value(value, 0)?;
    writer.charge()?;
    Ok(Value::from(writer.out))
}

struct Writer<'p, 'a, 'b, 'c> {
    context: &'p Context<'a, 'b, 'c>,
    options: Options,
    out: String,
    /// Bytes of `out` that are charged.
    charged: usize,
}

impl Writer<'_, '_, '_, '_> {
    fn charge(&mut self) -> Result<(), Error> {
        self.context.bound(self.out.len())?;
        self.context.read(self.out.len() - self.charged)?;
        self.charged = self.out.len();
        Ok(())
    }

    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        self.context.items(1)?;
        self.charge()?;
        match view(value) {
            View::None => self.out.push_str("null"),
            View::Bool(value) => self.out.push_str(if value { "true" } else { "false" }),
            View::Int(number) => self.out.push_str(&number.to_string()),
            View::Float(number) => self.out.push_str(&float_repr(number, "Infinity", "NaN")),
            View::Str(text) => self.text(text)?,
            View::List(sequence) | View::Tuple(sequence) => {
                self.out.push('[');
                for (index, item) in sequence.items.iter().enumerate() {
                    self.separate(index, depth + 1)?;
                    self.value(item, depth + 1)?;
                }
                self.close(sequence.items.is_empty(), depth, ']')?;
            }
            View::Dict(dict) => {
                let mut entries = dict.entries.clone();
                if self.options.sort_keys {
                    entries = sorted_by(self.context, entries, |(key, _)| Ok(key.clone()), false)?;
                }
                self.out.push('{');
                for (index, (key, value)) in entries.iter().enumerate() {
                    self.separate(index, depth + 1)?;
                    self.text(&json_key(key)?)?;
                    self.out.push_str(&self.options.key_separator);
                    self.value(value, depth + 1)?;
                }
                self.close(entries.is_empty(), depth, '}')?;
            }
            _ => {
                return Err(Error::new(
                    ErrorKind::BadSerialization,
                    format!("tojson: {} is not JSON serializable", value.kind()),
                ));
            }
        }
        Ok(())
    }

    /// What stands before an item: a separator, and a line break if there is an indent.
    fn separate(&mut self, index: usize, depth: usize) -> Result<(), Error> {
        if index > 0 {
            self.out.push_str(&self.options.item_separator);
        }
        self.new_line(depth)
    }

    fn close(&mut self, empty: bool, depth: usize, bracket: char) -> Result<(), Error> {
        if !empty {
            self.new_line(depth)?;
        }
        self.out.push(bracket);
        Ok(())
    }

    fn new_line(&mut self, depth: usize) -> Result<(), Error> {
        if let Some(indent) = &self.options.indent {
            let width = indent.len().saturating_mul(depth);
            self.context.bound(self.out.len().saturating_add(width))?;
            self.out.push('\n');
            self.out.extend(std::iter::repeat_n(indent.as_str(), depth));
        }
        Ok(())
    }

    fn text(&mut self, text: &str) -> Result<(), Error> {
        self.context
            .bound(self.out.len().saturating_add(text.len()))?;
        let out = &mut self.out;
        out.push('"');
        for c in text.chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{8}' => out.push_str("\\b"),
                '\u{c}' => out.push_str("\\f"),
                '\0'..='\u{1f}' => write!(out, "\\u{:04x}", u32::from(c))?,
                c if self.options.ensure_ascii
                    && !c.is_ascii()
                    && !crate::mask::is_noncharacter(c) =>
                {
                    let mut units = [0; 2];
                    for unit in c.encode_utf16(&mut units) {
                        write!(out, "\\u{unit:04x}")?;
                    }
                }
                c => out.push(c),
            }
        }
        out.push('"');
        Ok(())
    }
}

/// Python turns keys that are no strings into strings.
fn json_key(key: &Value) -> Result<String, Error> {
    Ok(match view(key) {
        View::None => "null".to_owned(),
        View::Bool(value) => if value { "true" } else { "false" }.to_owned(),
        View::Int(number) => number.to_string(),
        View::Float(number) => float_repr(number, "Infinity", "NaN"),
        View::Str(text) => text.to_owned(),
        _ => {
            let name = type_name(key);
            return Err(fail(format!(
                "tojson: keys must be str, int, float, bool or None, not {name}"
            )));
        }
    })
}
