//! `str` and `repr`.

use minijinja::{Error, Value};

use super::budget::Context;
use super::number::float_repr;
use super::text::is_printable;
use super::values::{DictViewKind, View, type_name, view};
use super::{fail, unsupported};

/// `str(value)`.
pub(crate) fn to_str(context: &Context<'_, '_, '_>, value: &Value) -> Result<String, Error> {
    if let View::Str(text) = view(value) {
        context.build(text.len())?;
        return Ok(text.to_owned());
    }
    if value.is_undefined() {
        return Ok(String::new());
    }
    repr(context, value)
}

/// `repr(value)`.
pub(crate) fn repr(context: &Context<'_, '_, '_>, value: &Value) -> Result<String, Error> {
    let mut printer = Printer {
        context,
        out: String::new(),
        charged: 0,
    };
    printer.value(value)?;
    printer.charge()?;
    Ok(printer.out)
}

struct Printer<'p, 'a, 'b, 'c> {
    context: &'p Context<'a, 'b, 'c>,
    out: String,
    /// Bytes of `out` that are charged.
    charged: usize,
}

impl Printer<'_, '_, '_, '_> {
    fn charge(&mut self) -> Result<(), Error> {
        self.context.bound(self.out.len())?;
        self.context.read(self.out.len() - self.charged)?;
        self.charged = self.out.len();
        Ok(())
    }

    fn value(&mut self, value: &Value) -> Result<(), Error> {
        self.context.items(1)?;
        self.charge()?;
        match view(value) {
            View::Undefined => self.out.push_str("Undefined"),
            View::None => self.out.push_str("None"),
            View::Bool(value) => self.out.push_str(if value { "True" } else { "False" }),
            View::Int(value) => self.out.push_str(&value.to_string()),
            View::Float(value) => self.out.push_str(&float_repr(value, "inf", "nan")),
            View::Str(text) => self.text(text, value.is_safe())?,
            View::List(list) => self.items("[", &list.items, "]")?,
            View::Tuple(tuple) => {
                let close = if tuple.items.len() == 1 { ",)" } else { ")" };
                self.items("(", &tuple.items, close)?;
            }
            View::Dict(dict) => self.pairs("{", &dict.entries, "}")?,
            View::Entries(view) => {
                let open = match view.kind {
                    DictViewKind::Keys => "dict_keys([",
                    DictViewKind::Values => "dict_values([",
                    DictViewKind::Items => "dict_items([",
                };
                self.items(open, &view.items()?, "])")?;
            }
            View::Range(range) => {
                let step = match range.step {
                    1 => String::new(),
                    step => format!(", {step}"),
                };
                let text = format!("range({}, {}{step})", range.start, range.stop);
                self.out.push_str(&text);
            }
            View::Namespace(namespace) => {
                self.pairs("<Namespace {", &namespace.entries(), "}>")?;
            }
            View::Generator(generator) => {
                return Err(unsupported(format!(
                    "printing {generator:?} (make it a list, or join it)"
                )));
            }
            View::Other => self.other(value)?,
        }
        Ok(())
    }

    fn other(&mut self, value: &Value) -> Result<(), Error> {
        let text = value.to_string();
        let position = text
            .strip_prefix("<loop ")
            .and_then(|rest| rest.strip_suffix('>'));
        let name = text
            .strip_prefix("<macro ")
            .and_then(|rest| rest.strip_suffix('>'));
        match (position, name) {
            (Some(position), _) => {
                // minijinja counts from 0.
                let (index, length) = position.split_once('/').unwrap_or((position, "?"));
                let index = index
                    .parse::<usize>()
                    .map_or(0, |index| index.wrapping_add(1));
                self.out
                    .push_str(&format!("<LoopContext {index}/{length}>"));
            }
            (_, Some(name)) => self.out.push_str(&format!("<Macro '{name}'>")),
            _ => return Err(unsupported(format!("printing a {}", type_name(value)))),
        }
        Ok(())
    }

    fn items(&mut self, open: &str, items: &[Value], close: &str) -> Result<(), Error> {
        self.out.push_str(open);
        for (index, item) in items.iter().enumerate() {
            self.out.push_str(if index > 0 { ", " } else { "" });
            self.value(item)?;
        }
        self.out.push_str(close);
        Ok(())
    }

    fn pairs(&mut self, open: &str, pairs: &[(Value, Value)], close: &str) -> Result<(), Error> {
        self.out.push_str(open);
        for (index, (key, value)) in pairs.iter().enumerate() {
            self.out.push_str(if index > 0 { ", " } else { "" });
            self.value(key)?;
            self.out.push_str(": ");
            self.value(value)?;
        }
        self.out.push_str(close);
        Ok(())
    }

    fn text(&mut self, text: &str, is_markup: bool) -> Result<(), Error> {
        self.context
            .bound(self.out.len().saturating_add(text.len()))?;
        if is_markup {
            self.out.push_str("Markup(");
        }
        write_quoted(text, &mut self.out);
        if is_markup {
            self.out.push(')');
        }
        Ok(())
    }
}

/// A string as Python's `repr` quotes it.
fn write_quoted(text: &str, out: &mut String) {
    let quote = if text.contains('\'') && !text.contains('"') {
        '"'
    } else {
        '\''
    };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => out.extend(['\\', c]),
            c if is_printable(c) => out.push(c),
            c => write_escape(c, out),
        }
    }
    out.push(quote);
}

/// `\x…`, `\u…` or `\U…`.
fn write_escape(c: char, out: &mut String) {
    out.push_str(&match u32::from(c) {
        code @ 0..=0xff => format!("\\x{code:02x}"),
        code @ 0..=0xffff => format!("\\u{code:04x}"),
        code => format!("\\U{code:08x}"),
    });
}

/// `ascii(value)`: a `repr` without characters beyond ASCII.
pub(super) fn ascii(context: &Context<'_, '_, '_>, value: &Value) -> Result<String, Error> {
    let text = repr(context, value)?;
    context.build(text.len().saturating_mul(10))?;
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii() {
            out.push(c);
        } else {
            write_escape(c, &mut out);
        }
    }
    Ok(out)
}

/// The text of a value that must be a string, as `soft_str` makes it of any value.
pub(super) fn soft_str(context: &Context<'_, '_, '_>, value: &Value) -> Result<String, Error> {
    to_str(context, value)
}

/// An error for a value that cannot be walked.
pub(super) fn not_iterable(value: &Value) -> Error {
    fail(format!("'{}' object is not iterable", type_name(value)))
}
